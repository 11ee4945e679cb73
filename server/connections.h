/*
 * The open connections of the FastCGI server, by descriptor: which are idle, which have a
 * request that is arriving, and for how long that is put up with. Safe from several threads.
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
 * A connection is readable: it is no longer idle. Returns what it has read, and in *serial its
 * mark for connections_remove().
 */
struct arrival *connections_take(struct connections *connections, int fd,
    unsigned *serial);

/* All of a request has arrived: it has no deadline any more. */
void connections_arrived(struct connections *connections, int fd);

/* More of the request must arrive, in time; or nothing of one has: the connection is idle. */
void connections_wait(struct connections *connections, int fd,
    const struct arrival *arrival);

/* The connection is idle: its request was answered. */
void connections_idle(struct connections *connections, int fd);

/*
 * The connection was closed; by now the descriptor may be another connection's. Frees the
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
 * Cut off each request that arrives too slowly: that is over the read timeout, comes at less
 * than 512 bytes a second after 5 seconds, or is one of more than 32 of one REMOTE_ADDR that
 * take over a second, of which the oldest go. Reading then meets the end of the stream.
 * Returns whether any request is arriving.
 */
bool connections_cut_off(struct connections *connections);

/*
 * From now on (the server stops) a connection that becomes idle is hung up: what was sent can
 * still be read, and after it the end of the stream. The idle ones that have had a request are
 * hung up at once, with all the new ones, too.
 */
void connections_hang_up(struct connections *connections, bool all);

#endif
