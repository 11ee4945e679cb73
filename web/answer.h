/*
 * Replies of the page. Each function sets all headers, so that none can be left out, and no header
 * has a text of the request in it.
 */
#ifndef PSAPI_ANSWER_H
#define PSAPI_ANSWER_H

#include <stddef.h>

#include <jansson.h>

#include "base/reply.h"
#include "base/request.h"

/*
 * The headers that every reply has. The browser runs scripts of this page alone, sends nowhere
 * else, and shows the page in no frame.
 */
#define ANSWER_HEADERS                                                                             \
	"Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; "           \
	"connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; "                    \
	"frame-ancestors 'none'; require-trusted-types-for 'script'\r\n"                               \
	"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n"                          \
	"Cross-Origin-Resource-Policy: same-origin\r\nCross-Origin-Opener-Policy: same-origin\r\n"
#define ANSWER_NO_STORE "Cache-Control: no-store\r\n"

/* An error as the API says it: {"error":TEXT}. text is written by us, or escaped as JSON is. */
void answer_error(struct reply *reply, int status, const char *text);
/* The same for a method that the path does not take; allow: its methods, "GET, HEAD". */
void answer_method(struct reply *reply, const char *allow);

/* A body that malloc(3) made, which the reply owns from now on; NULL: 503, without memory. */
void answer_text(struct reply *reply, const char *type, const char *headers, char *body,
    size_t length);

/*
 * JSON that malloc(3) made, as above, with an ETag of its contents; 304 if the request has seen
 * the same.
 */
void answer_json_text(struct reply *reply, const struct request *request, char *body,
    size_t length);
/* The same for an object, which is freed. */
void answer_json(struct reply *reply, const struct request *request, json_t *object);

/* The same for static memory, with its headers: the ETag among them. */
void answer_static(struct reply *reply, const struct request *request, const char *type,
    const char *header, const char *etag, const char *body, size_t length);

/* Room for a quoted ETag and a NUL. */
#define ANSWER_ETAG_SIZE 20
/* The ETag of some bytes. */
void answer_etag(const void *data, size_t length, char etag[ANSWER_ETAG_SIZE]);

#endif
