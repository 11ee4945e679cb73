/* A classic CGI program that reads its input and prints a reply: the least that CGI costs. */
#include <unistd.h>

int
main(void)
{
	static const char answer[] =
	    "Status: 200 OK\r\nContent-Type: application/json\r\nContent-Length: 22\r\n"
	    "Cache-Control: no-store\r\n\r\n{\"status\":\"accepted\"}\n";
	char body[4096];

	while (read(STDIN_FILENO, body, sizeof(body)) > 0)
		continue;
	return write(STDOUT_FILENO, answer, sizeof(answer) - 1) == sizeof(answer) - 1 ? 0 : 1;
}
