/* A request as a program sees it, whichever server it came through. */
#ifndef PSAPI_REQUEST_H
#define PSAPI_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Borrowed from the server, for as long as the program makes the reply. */
struct request {
	char *const *variables; /* RFC 3875, section 4.1: "NAME=VALUE", NULL at the end */
	/*
	 * Read up to size bytes of the body. Returns how many, 0 at its end, -1 if the
	 * body was cut off before. The server reads what the program leaves unread.
	 */
	ssize_t (*read)(void *stream, void *buffer, size_t size);
	void *stream;
};

/* The value of a variable; NULL if it is absent or empty. The first one, if there are several. */
const char *request_variable(const struct request *request, const char *name);

/*
 * Read a CONTENT_LENGTH of n bytes: decimal digits and nothing else. Returns false if it
 * is anything else. A number above 2^50 counts as a large one: some number above 2^50.
 */
bool request_length_parse(const char *text, size_t n, long long *length);

#endif
