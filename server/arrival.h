/*
 * What a connection has read of a request that is arriving. It belongs to the thread that
 * serves the connection.
 */
#ifndef PSAPI_ARRIVAL_H
#define PSAPI_ARRIVAL_H

#include <stddef.h>

#include "server/fastcgi_reader.h"

struct arrival {
	struct fastcgi_reader *reader;
	size_t bytes;        /* of the request that is arriving */
	unsigned char *rest; /* bytes behind a whole request; NULL: none */
	size_t rest_length;
	size_t counted;      /* its memory, as connections.c has it */
};

enum arrival_progress {
	ARRIVAL_UNFINISHED, /* more must arrive */
	ARRIVAL_WHOLE,      /* the request can be answered */
	ARRIVAL_CUT_OFF,    /* it can be answered; the rest of its body will not arrive */
	ARRIVAL_GONE        /* there is no request, and the connection must be closed */
};

/* See fastcgi_reader_new(). NULL without memory. */
struct arrival *arrival_new(size_t body_max, int connections);
void arrival_free(struct arrival *arrival);

/*
 * Read what has arrived at a connected socket, at most 1 MiB, without waiting. Records that are
 * about the connection are answered.
 */
enum arrival_progress arrival_read(struct arrival *arrival, int fd);

/* The peer sends no more of this request: ARRIVAL_CUT_OFF or ARRIVAL_GONE. */
enum arrival_progress arrival_cut_off(const struct arrival *arrival);

/* The request is answered: its memory is freed. arrival->rest may hold some of the next one. */
void arrival_next(struct arrival *arrival);

#endif
