/*
 * The open connections of the FastCGI server, by descriptor: which are idle, which have a request
 * that is arriving, and how long that may take. Several threads may call it.
 */
#ifndef PSAPI_CONNECTIONS_H
#define PSAPI_CONNECTIONS_H

#include <stdbool.h>
#include <stddef.h>

#include "server/arrival.h"

struct connections;

struct connections_limits {
	int capacity;     /* descriptors are below it */
	long most;        /* connections that may be open */
	int read_timeout; /* seconds within which a request must have arrived */
	size_t body_max;  /* bytes of a body that are kept */
	size_t memory;    /* bytes of all requests that are arriving; small ones are always kept */
};

/* NULL without memory. */
struct connections *connections_new(const struct connections_limits *limits);
void connections_free(struct connections *connections);

/* How many are open. */
long connections_count(struct connections *connections);
bool connections_have_room(struct connections *connections);

/* A connection was accepted: its request must have arrived in time. Returns 0, or an errno. */
int connections_add(struct connections *connections, int fd);

/*
 * A connection is readable: it is no longer idle. Returns what was read from it, and in *serial
 * its serial number, for connections_remove().
 */
struct arrival *connections_take(struct connections *connections, int fd,
    unsigned *serial);

/* The whole request has arrived: it has no deadline any more. */
void connections_arrived(struct connections *connections, int fd);

/*
 * The request is not whole: the rest must arrive in time. If no byte of one has arrived, the
 * connection is idle.
 */
void connections_wait(struct connections *connections, int fd,
    const struct arrival *arrival);

/* The connection is idle: its request was answered. */
void connections_idle(struct connections *connections, int fd);

/*
 * The connection was closed; another connection may have its descriptor already. Frees the
 * arrival.
 */
void connections_remove(struct connections *connections, int fd, unsigned serial,
    struct arrival *arrival);

/*
 * Account for the memory of an arrival. Returns false if it is large and the limit is reached:
 * it must not grow.
 */
bool connections_may_grow(struct connections *connections, struct arrival *arrival);

/*
 * Cut off each request that arrives too slowly: one that takes longer than the read timeout; one
 * that after 5 seconds has sent less than 512 bytes a second; and, if one REMOTE_ADDR has more than
 * 32 requests that take over a second, the oldest of these. A reader of a request that was cut off
 * finds the end of the stream. Returns whether any request is arriving.
 */
bool connections_cut_off(struct connections *connections);

/*
 * The server stops: from now on a connection that becomes idle is shut down for reading. What was
 * sent before can still be read, and then the end of the stream. Idle connections of which a
 * request was answered are shut down at once; all: new ones, too.
 */
void connections_hang_up(struct connections *connections, bool all);

#endif
