/*
 * A FastCGI responder that does nothing: null THREADS, its socket on descriptor 0. Threads in
 * libfcgi's own accept, the request read to its end, the answer of the same size as the
 * receiver's. What is left is the price of the protocol.
 */
#include <pthread.h>
#include <stdlib.h>

#include <fcgiapp.h>

static void *
serve(void *unused)
{
	static const char answer[] =
	    "Status: 200 OK\r\nContent-Type: application/json\r\nContent-Length: 22\r\n"
	    "Cache-Control: no-store\r\n\r\n{\"status\":\"accepted\"}\n";
	FCGX_Request request;
	char body[4096];

	FCGX_InitRequest(&request, 0, 0);
	while (FCGX_Accept_r(&request) == 0) {
		while (FCGX_GetStr(body, sizeof(body), request.in) > 0)
			continue;
		FCGX_PutStr(answer, sizeof(answer) - 1, request.out);
		FCGX_Finish_r(&request);
	}
	return unused;
}

int
main(int argc, char **argv)
{
	pthread_t thread;

	FCGX_Init();
	for (int i = 1; i < (argc > 1 ? atoi(argv[1]) : 1); i++)
		pthread_create(&thread, NULL, serve, NULL);
	serve(NULL);
	return 0;
}
