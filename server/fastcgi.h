/*
 * One FastCGI request on a connection that was accepted elsewhere. The only user of
 * libfcgi, which would accept connections itself.
 */
#ifndef PSAPI_FASTCGI_H
#define PSAPI_FASTCGI_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Once, before threads. Returns 0, or -1 with errno. */
int fastcgi_init(void);

/* A request; one at a time, of one thread. fastcgi_new() returns NULL without memory. */
struct fastcgi;
struct fastcgi *fastcgi_new(void);
void fastcgi_free(struct fastcgi *fastcgi);

/*
 * Read a request from a connected socket until its variables are there. Returns false
 * if there is none: then the socket is closed.
 */
bool fastcgi_begin(struct fastcgi *fastcgi, int connection);

/* Its variables, "NAME=VALUE" and NULL; valid, and the caller's to change, until fastcgi_end(). */
char **fastcgi_variables(struct fastcgi *fastcgi);

/* Read from the request's body. Returns how many bytes, 0 at its end, -1 if it was cut off. */
ssize_t fastcgi_read(struct fastcgi *fastcgi, void *buffer, size_t size);

/* Write to the response. Errors are ignored: the peer has closed the connection. */
void fastcgi_write(struct fastcgi *fastcgi, const void *data, size_t length);

/*
 * End the response. The body must have been read to its end: on a connection that is kept,
 * the rest would be taken for the next request's begin. Returns whether the connection is
 * kept; else the socket is closed.
 */
bool fastcgi_end(struct fastcgi *fastcgi);

#endif
