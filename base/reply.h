/* The reply that a program gives to a request, whichever server sends it. */
#ifndef PSAPI_REPLY_H
#define PSAPI_REPLY_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of a body that needs no memory of its own. */
#define REPLY_TEXT_SIZE 768

/* The strings are static memory, or in heap. A reply must not be copied: body may point into it. */
struct reply {
	int status;         /* of HTTP */
	const char *phrase; /* its reason phrase, RFC 9110 */
	const char *type;   /* Content-Type */
	const char *header; /* further header lines, each with CRLF; or "" */
	const char *body;   /* in text, in heap, or static memory */
	size_t length;      /* of body, bytes */
	bool bodiless;      /* to HEAD: only the length of the body is sent. The server clears it */
	void *heap;         /* freed by reply_free(); or NULL */
	char text[REPLY_TEXT_SIZE];
};

/* Free what a reply that was filled in holds. The server calls it when the reply is sent. */
void reply_free(struct reply *reply);

#endif
