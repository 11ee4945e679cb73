/*
 * Owns the use of libfcgi. Its FCGX_Accept_r() waits until a request has arrived, in the
 * thread that calls it. So it reads a request that has arrived already (fastcgi_reader.c),
 * from a pair of sockets that this thread has to itself; the response goes to the connection.
 * For that it is given a request that already has a connection (FCGX_Request.ipcFd; fcgiapp.h
 * says not to use that and what follows it, and there is no other way).
 */
#define _GNU_SOURCE
#include "server/fastcgi.h"

#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include <fcgiapp.h>

enum { CHUNK_MAX = 1 << 20 }; /* libfcgi counts in int */

struct fastcgi {
	FCGX_Request request;
	int head[2]; /* we write to the first, libfcgi reads from the second; -1: not open */
};

int
fastcgi_init(void)
{
	return FCGX_Init() == 0 ? 0 : -1;
}

/* Returns 0, or -1 with errno. */
static int
open_head(struct fastcgi *fastcgi)
{
	int result = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fastcgi->head);

	if (result != 0)
		fastcgi->head[0] = fastcgi->head[1] = -1;
	return result;
}

struct fastcgi *
fastcgi_new(void)
{
	struct fastcgi *fastcgi = calloc(1, sizeof(struct fastcgi));

	if (fastcgi == NULL || open_head(fastcgi) == 0)
		return fastcgi;
	free(fastcgi);
	return NULL;
}

static void
close_head(struct fastcgi *fastcgi)
{
	for (int i = 0; i < 2; i++) {
		if (fastcgi->head[i] >= 0)
			close(fastcgi->head[i]);
		fastcgi->head[i] = -1;
	}
}

void
fastcgi_free(struct fastcgi *fastcgi)
{
	close_head(fastcgi);
	free(fastcgi);
}

/* A head fits into the buffer of a socket as a whole: it has 64 KiB at most. */
static bool
send_head(struct fastcgi *fastcgi, const unsigned char *head, size_t length)
{
	if (fastcgi->head[0] < 0 && open_head(fastcgi) != 0)
		return false;
	return send(fastcgi->head[0], head, length, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)length;
}

bool
fastcgi_begin(struct fastcgi *fastcgi, int connection, const unsigned char *head, size_t length)
{
	FCGX_Request *request = &fastcgi->request;

	if (!send_head(fastcgi, head, length)) {
		close_head(fastcgi);
		return false;
	}
	FCGX_InitRequest(request, -1, 0);
	request->ipcFd = fastcgi->head[1];
	request->keepConnection = 1; /* or FCGX_Accept_r() begins by closing it */
	if (FCGX_Accept_r(request) != 0) {
		fastcgi->head[1] = -1; /* it was closed */
		close_head(fastcgi);
		return false;
	}
	request->ipcFd = connection;
	request->detached = 1; /* close at once: by then all was read, nothing lingers */
	return true;
}

char **
fastcgi_variables(struct fastcgi *fastcgi)
{
	return fastcgi->request.envp;
}

void
fastcgi_write(struct fastcgi *fastcgi, const void *data, size_t length)
{
	const char *text = data;

	while (length > 0) {
		int n = length < CHUNK_MAX ? (int)length : CHUNK_MAX;
		if (FCGX_PutStr(text, n, fastcgi->request.out) < n)
			return;
		text += n;
		length -= (size_t)n;
	}
}

bool
fastcgi_end(struct fastcgi *fastcgi)
{
	FCGX_Finish_r(&fastcgi->request);
	return fastcgi->request.ipcFd >= 0;
}
