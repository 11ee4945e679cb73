/*
 * A FastCGI client for one request: with it doctor asks the receiver directly, with no web
 * server in between. FastCGI 1.0, sections 3 and 5.
 */
#ifndef PSAPI_FASTCGI_CLIENT_H
#define PSAPI_FASTCGI_CLIENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/error.h"

struct fastcgi_client_request {
	const char *const *params; /* name, value, name, value, …, NULL */
	const void *body;
	size_t length;
};

struct fastcgi_client_answer {
	int status;        /* of the CGI response; 200 without a Status line */
	char text[4096];   /* the whole CGI response, with a NUL */
	const char *body;  /* of it, in text */
	int64_t us;        /* from the connect to the end */
	uid_t user;        /* of the process that listens; (uid_t)-1 if it is no unix socket */
};

/*
 * Send one request to a PSAPI_LISTEN ("unix:/path", "127.0.0.1:port", "[::1]:port") and read the
 * answer, with at most timeout_ms for each step. Returns 0; or -1 with error filled in
 * (EX_UNAVAILABLE) and errno of the step that failed.
 */
int fastcgi_client_exchange(const char *where, const struct fastcgi_client_request *request,
    int timeout_ms, struct fastcgi_client_answer *answer, struct error *error);

/*
 * Ask it for a management record (FCGI_GET_VALUES, section 4.1): a FastCGI server answers, and it
 * is no request. Returns as above.
 */
int fastcgi_client_ping(const char *where, int timeout_ms, struct error *error);

#endif
