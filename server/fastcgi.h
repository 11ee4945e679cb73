/*
 * The variables and the response of one FastCGI request that has arrived. The only user of
 * libfcgi, which never reads from a connection.
 */
#ifndef PSAPI_FASTCGI_H
#define PSAPI_FASTCGI_H

#include <stdbool.h>
#include <stddef.h>

/* Once, before threads. Returns 0, or -1 with errno. */
int fastcgi_init(void);

/*
 * A request; one at a time, of one thread. fastcgi_new() returns NULL with errno, without memory
 * or descriptors.
 */
struct fastcgi;
struct fastcgi *fastcgi_new(void);
void fastcgi_free(struct fastcgi *fastcgi);

/*
 * Begin with a request whose head is fastcgi_reader_head()'s; the response will go to the
 * connection, a connected socket. Returns false if it cannot be read: then the caller closes
 * the connection.
 */
bool fastcgi_begin(struct fastcgi *fastcgi, int connection, const unsigned char *head,
    size_t length);

/* Its variables, "NAME=VALUE" and NULL; valid, and the caller's to change, until fastcgi_end(). */
char **fastcgi_variables(struct fastcgi *fastcgi);

/* Write to the response. Errors are ignored: the peer has closed the connection. */
void fastcgi_write(struct fastcgi *fastcgi, const void *data, size_t length);

/* End the response. Returns whether the peer keeps the connection; else it is closed. */
bool fastcgi_end(struct fastcgi *fastcgi);

#endif
