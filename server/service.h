/* The functions and limits that a program gives to the server: responder.h, cgi.h. */
#ifndef PSAPI_SERVICE_H
#define PSAPI_SERVICE_H

#include "base/reply.h"
#include "base/request.h"

struct service {
	/* Fill in the reply to a request. Several threads call it at once. */
	void (*handle)(void *context, const struct request *request, struct reply *reply);
	/* Called after a reply was sent; or NULL. For work that must not delay the reply. */
	void (*after)(void *context);
	void *context;    /* for both */
	int threads;      /* requests in flight; classic CGI has one */
	bool threads_fixed; /* no setting changes their number */
	int read_timeout; /* seconds within which a request must have arrived */
	size_t body_max;  /* bytes of a body that handle reads, and one more */
};

#endif
