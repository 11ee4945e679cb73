/* What a program gives the server that it is served by: responder.h, cgi.h. */
#ifndef PSAPI_SERVICE_H
#define PSAPI_SERVICE_H

#include "base/reply.h"
#include "base/request.h"

struct service {
	/* Fill in the reply to a request. Several threads call it at once. */
	void (*handle)(void *context, const struct request *request, struct reply *reply);
	/* What may be done after a reply was sent, which it must not delay; or NULL. */
	void (*after)(void *context);
	void *context;    /* for both */
	int threads;      /* requests in flight; classic CGI has one */
	int read_timeout; /* seconds within which a request must have arrived */
};

#endif
