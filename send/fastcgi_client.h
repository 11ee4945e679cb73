/*
 * A FastCGI client for one request: how doctor asks the receiver itself, with no
 * web server in between. FastCGI 1.0, sections 3 and 5.
 */
#ifndef PSAPI_FASTCGI_CLIENT_H
#define PSAPI_FASTCGI_CLIENT_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

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
	uid_t user;        /* whom the listener runs as, (uid_t)-1 if it is no unix socket */
	pid_t process;     /* who made it listen; 0: not known */
};

/*
 * One request to where, a PSAPI_LISTEN ("unix:/path", "127.0.0.1:port",
 * "[::1]:port"), within timeout_ms for each step. Returns 0; or -1 with one line in
 * why (size bytes), and errno of the step that failed.
 */
int fastcgi_client_exchange(const char *where, const struct fastcgi_client_request *request, int timeout_ms,
    struct fastcgi_client_answer *answer, char *why, size_t size);

#endif
