/*
 * The decision on one request: the order of the checks, the reason, the reply.
 * Knows no server: FastCGI, CGI and the tests are callers.
 */
#ifndef PSAPI_RECEIVE_H
#define PSAPI_RECEIVE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "receiver/attempts.h"
#include "base/config.h"
#include "secrets/secrets.h"
#include "store/spool/spool.h"

/* What all requests share. Borrowed; may be used by several threads. */
struct receiver {
	const struct config *config;
	struct spool *spool; /* NULL: could not be opened, which a CGI program finds out too late */
	struct secrets *secrets;
	struct attempts *attempts; /* NULL without a spool */
	atomic_ulong adopted; /* secrets_generation() at the last adoption, see adopt.h */
};

/* The request's meta-variables (RFC 3875, section 4.1) that decide. */
enum variable {
	REQUEST_METHOD,
	CONTENT_LENGTH,
	REMOTE_ADDR,
	HTTP_CONTENT_ENCODING,
	HTTP_WEBHOOK_ID,
	HTTP_WEBHOOK_TIMESTAMP,
	HTTP_WEBHOOK_SIGNATURE,
	VARIABLES
};

struct request {
	const char *value[VARIABLES]; /* NULL: not there */
	bool differs[VARIABLES];      /* it was there twice, with different values */
	/*
	 * Read up to size bytes of the body. Returns how many, 0 at its end, -1 if the
	 * stream was cut off before.
	 */
	ssize_t (*read)(void *stream, void *buffer, size_t size);
	void *stream;
};

/*
 * Take one meta-variable into the request if it is one of those that decide;
 * value is borrowed. The same name again with another value is remembered as such.
 */
void receive_request_set(struct request *request, const char *name, size_t length, const char *value);

struct reply {
	int status;             /* of HTTP */
	const char *phrase;     /* its reason phrase, RFC 9110 */
	const char *header;     /* a further header line with CRLF, or "" */
	char body[768];         /* JSON, one line with its newline */
};

/*
 * Decide on one request at the time now (CLOCK_REALTIME), store the event if it is
 * authentic and new, log the attempt, and fill the reply. The body may not have
 * been read to its end if the request is refused.
 */
void receive(struct receiver *receiver, struct request *request, struct timespec now,
    struct reply *reply);

/* The reply of a program that could not even be configured: 503, spool_error. */
void receive_unconfigured(struct reply *reply);

#endif
