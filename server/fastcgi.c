/*
 * Owns the use of libfcgi. Its FCGX_Accept_r() accepts a connection, which cannot be
 * interrupted, and then waits in it for a request. So it is never given a listening socket,
 * but a request that already has a connection (FCGX_Request.ipcFd; fcgiapp.h says not to
 * use that and what follows it, and there is no other way). For a connection that is at its
 * end, or speaks no FastCGI, it closes the socket and then fails for want of a listener.
 */
#include "server/fastcgi.h"

#include <stdlib.h>

#include <fcgiapp.h>

enum { CHUNK_MAX = 1 << 20 }; /* libfcgi counts in int */

struct fastcgi {
	FCGX_Request request;
};

int
fastcgi_init(void)
{
	return FCGX_Init() == 0 ? 0 : -1;
}

struct fastcgi *
fastcgi_new(void)
{
	return calloc(1, sizeof(struct fastcgi));
}

void
fastcgi_free(struct fastcgi *fastcgi)
{
	free(fastcgi);
}

bool
fastcgi_begin(struct fastcgi *fastcgi, int connection)
{
	FCGX_Request *request = &fastcgi->request;

	FCGX_InitRequest(request, -1, 0);
	request->ipcFd = connection;
	request->keepConnection = 1; /* or FCGX_Accept_r() begins by closing it */
	request->detached = 1; /* close at once: by then all was read, nothing lingers */
	return FCGX_Accept_r(request) == 0;
}

char **
fastcgi_variables(struct fastcgi *fastcgi)
{
	return fastcgi->request.envp;
}

ssize_t
fastcgi_read(struct fastcgi *fastcgi, void *buffer, size_t size)
{
	int n = FCGX_GetStr(buffer, size < CHUNK_MAX ? (int)size : CHUNK_MAX, fastcgi->request.in);

	if (n > 0)
		return n;
	return FCGX_GetError(fastcgi->request.in) == 0 ? 0 : -1;
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
