/* Owns the reading from a connection. It never blocks: not for bytes, and not for a slow peer. */
#define _GNU_SOURCE
#include "server/arrival.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum {
	READ_BYTES = 8 * 1024, /* per call of recv(2); on the stack of each thread */
	READS_MAX = 64         /* per call of arrival_read(): others must be served, too */
};

struct arrival *
arrival_new(size_t body_max, int connections)
{
	struct arrival *a = calloc(1, sizeof(*a));

	if (a == NULL)
		return NULL;
	a->reader = fastcgi_reader_new(body_max, connections);
	if (a->reader != NULL)
		return a;
	free(a);
	return NULL;
}

void
arrival_free(struct arrival *a)
{
	fastcgi_reader_free(a->reader);
	free(a->rest);
	free(a);
}

void
arrival_next(struct arrival *a)
{
	fastcgi_reader_next(a->reader);
	a->bytes = 0;
}

enum arrival_progress
arrival_cut_off(const struct arrival *a)
{
	return fastcgi_reader_has_variables(a->reader) ? ARRIVAL_CUT_OFF : ARRIVAL_GONE;
}

/* Keep bytes of the next request; frees those that were kept before. False without memory. */
static bool
keep_rest(struct arrival *a, const unsigned char *data, size_t length)
{
	unsigned char *rest = length > 0 ? malloc(length) : NULL;

	if (rest != NULL)
		memcpy(rest, data, length);
	free(a->rest); /* data may point into it */
	a->rest = rest;
	a->rest_length = rest != NULL ? length : 0;
	return length == 0 || rest != NULL;
}

/*
 * Send an answer about the connection. It is short: if the socket does not take it at once, the
 * peer does not read. Returns false then.
 */
static bool
send_answer(const struct fastcgi_reader *reader, int fd)
{
	size_t length;
	const unsigned char *answer = fastcgi_reader_answer(reader, &length);

	return length == 0 || send(fd, answer, length, MSG_DONTWAIT | MSG_NOSIGNAL) == (ssize_t)length;
}

static enum arrival_progress
take(struct arrival *a, int fd, const unsigned char *data, size_t length)
{
	while (length > 0) {
		size_t before = length;
		enum fastcgi_reader_result result = fastcgi_reader_take(a->reader, &data, &length);
		a->bytes += before - length;
		if (result == FASTCGI_READER_WHOLE)
			return keep_rest(a, data, length) ? ARRIVAL_WHOLE : ARRIVAL_GONE;
		if (result != FASTCGI_READER_MORE &&
		    (!send_answer(a->reader, fd) || result == FASTCGI_READER_END))
			return ARRIVAL_GONE;
	}
	return ARRIVAL_UNFINISHED;
}

enum arrival_progress
arrival_read(struct arrival *a, int fd)
{
	unsigned char data[READ_BYTES];
	enum arrival_progress progress = ARRIVAL_UNFINISHED;

	if (a->rest != NULL)
		progress = take(a, fd, a->rest, a->rest_length);
	if (progress == ARRIVAL_UNFINISHED)
		keep_rest(a, NULL, 0);
	for (int i = 0; i < READS_MAX && progress == ARRIVAL_UNFINISHED; i++) {
		ssize_t n = recv(fd, data, sizeof(data), MSG_DONTWAIT);
		if (n < 0 && (errno == EAGAIN || errno == EINTR))
			break;
		if (n < 0)
			return ARRIVAL_GONE;
		progress = n == 0 ? arrival_cut_off(a) : take(a, fd, data, (size_t)n);
	}
	return progress;
}
