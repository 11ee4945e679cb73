/*
 * print.c that stores a file before it prints, as the spool does for a single event: the rate of
 * CGI when an event must be on the disk before the answer. The spool is $BENCH_SPOOL, the
 * name the webhook-id.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/spool/spool.h"

int
main(void)
{
	static const char answer[] =
	    "Status: 200 OK\r\nContent-Type: application/json\r\nContent-Length: 22\r\n"
	    "Cache-Control: no-store\r\n\r\n{\"status\":\"accepted\"}\n";
	const char *id = getenv("HTTP_WEBHOOK_ID"), *path = getenv("BENCH_SPOOL");
	char body[4096], name[SPOOL_NAME_SIZE], why[512], record[420];
	struct iovec piece = {record, sizeof(record)};
	struct spool spool;

	while (read(STDIN_FILENO, body, sizeof(body)) > 0)
		continue;
	memset(record, ' ', sizeof(record));
	memcpy(record, "{}", 2); /* the files are read back */
	if (id == NULL || path == NULL || spool_open(&spool, path, true, why, sizeof(why)) != 0 ||
	    spool_name(id, strlen(id), name) != 0 || spool_find(&spool, name) != SPOOL_ABSENT ||
	    spool_store(&spool, name, SPOOL_NEW, &piece, 1) != SPOOL_STORED)
		return 1;
	return write(STDOUT_FILENO, answer, sizeof(answer) - 1) == sizeof(answer) - 1 ? 0 : 1;
}
