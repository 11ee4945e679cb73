/*
 * The decision on one request: the order of the checks, the reason, the reply.
 * Knows no server: FastCGI, CGI and the tests are callers.
 */
#ifndef PSAPI_RECEIVE_H
#define PSAPI_RECEIVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <time.h>

#include "base/config.h"
#include "base/reply.h"
#include "base/request.h"
#include "receiver/attempts.h"
#include "secrets/secrets.h"
#include "store/store.h"

/* Shared by all requests. Borrowed; may be used by several threads. */
struct receiver {
	const struct config *config;
	struct store *store; /* NULL: it could not be opened, which a CGI program finds out too late */
	struct secrets *secrets;
	struct attempts *attempts; /* NULL without a store */
	atomic_llong looked;    /* Unix seconds: when the spool's path was last looked at, */
	atomic_bool replaced;   /* and whether it does not name the directory in use */
	atomic_ulong adopted; /* secrets_generation() at the last adoption, see adopt.h */
};

/*
 * Decide on one request at the time now (CLOCK_REALTIME), store the event if it is
 * authentic and new, log the attempt, and fill in the reply. The body may not have
 * been read to its end if the request is refused.
 */
void receive(struct receiver *receiver, const struct request *request, struct timespec now,
    struct reply *reply);

/* The reply of a program whose configuration cannot be read: 503, spool_error. */
void receive_unconfigured(struct reply *reply);

#endif
