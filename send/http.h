/*
 * HTTP requests as a webhook's sender makes them: no redirect is followed, nothing
 * is decompressed, a time-out is an error. The only user of libcurl.
 */
#ifndef PSAPI_HTTP_H
#define PSAPI_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

/* Bytes of an answer that the portal keeps and shows. */
#define HTTP_BODY_MAX 20000

struct http;

struct http_options {
	const char *ca_file; /* trust these certificates instead of the system's; NULL: the system's */
	bool insecure;       /* do not check certificates at all */
	int timeout_ms;      /* for the whole request */
};

/*
 * A client with no request in flight, or NULL without memory. Proxies are taken
 * from the environment as curl(1) does (https_proxy, http_proxy, no_proxy), but
 * never for a loopback address. The options are copied, ca_file is borrowed.
 */
struct http *http_open(const struct http_options *options);
/* Drop what is in flight, and free. */
void http_close(struct http *http);

/* One request. Everything is borrowed until its answer is there. */
struct http_request {
	const char *url;
	const char *method;         /* "POST" sends the body, others none */
	const char *const *headers; /* "name: value", NULL at the end */
	const void *body;
	size_t length;
	const char *address; /* of the host, in place of its own ones; NULL: these */
	void *tag; /* the caller's, handed back with the answer */
};

enum http_failure {
	HTTP_ANSWERED, /* there is a status */
	HTTP_NO_NAME,  /* the name does not resolve */
	HTTP_NO_CONNECTION,
	HTTP_NO_TLS,   /* no TLS at all, or a certificate that is not valid */
	HTTP_TIMEOUT,
	HTTP_BAD_URL,
	HTTP_BROKEN    /* the connection broke, or the answer is not HTTP */
};

struct http_answer {
	void *tag;
	enum http_failure failure;
	char error[256];  /* what failed, one line, if no status came */
	int status;
	int64_t us;       /* from the start of the request to the end of the answer */
	int64_t tls_us;   /* of that until the TLS handshake was done (without TLS: the connection) */
	char *body;       /* owned; with a NUL; at most HTTP_BODY_MAX bytes of it */
	size_t length;
	char location[512], server[128], content_type[128], authenticate[128]; /* headers, or "" */
	long retry_after;          /* seconds; 0: no such header */
	time_t certificate_expires; /* of the server's own certificate; 0: not known */
	char address[64];          /* of the server */
};

/* Start a request. Returns 0, or -1 if it cannot even be started. */
int http_start(struct http *http, const struct http_request *request);

/* How many are in flight. */
unsigned http_in_flight(const struct http *http);

/*
 * Wait up to timeout_ms for the next answer. Returns 1 with an answer, whose body
 * the caller frees; 0 if there was none in time, or nothing is in flight.
 */
int http_wait(struct http *http, int timeout_ms, struct http_answer *answer);

/* One request and its answer, as above. */
void http_exchange(struct http *http, const struct http_request *request,
    struct http_answer *answer);

/* The host of a URL, "" if it is none with http or https. */
void http_host(const char *url, char *host, size_t size);

/* Whether such a host is this machine: localhost, 127.*, [::1]. */
bool http_host_is_loopback(const char *host);

#endif
