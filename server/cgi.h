/*
 * RFC 3875: the variables of a request, the header of a response; and the classic CGI
 * program, one request on standard input.
 */
#ifndef PSAPI_CGI_H
#define PSAPI_CGI_H

#include <stdbool.h>
#include <stddef.h>

#include "server/service.h"

/* Whether the environment of this process is a CGI request. */
bool cgi_is_request(void);

/*
 * Correct what a server is known to say wrongly in its variables ("NAME=VALUE", NULL at
 * the end): Caddy says CONTENT_LENGTH=-1 for a length that it does not know. The texts are
 * changed in place: the pointers, which libfcgi frees, stay.
 */
void cgi_correct(char **variables);

/* Room for any header: up to 1,536 bytes of further lines, and the lines that are always there. */
#define CGI_HEADER_SIZE 2048
/*
 * The header of a document response (RFC 3875, section 6.2.1), up to the blank line before
 * the body. Returns its length in bytes; 0 if it does not fit.
 */
size_t cgi_header(const struct reply *reply, char text[CGI_HEADER_SIZE]);

/*
 * Serve the one request of this process: its environment and standard input, the response
 * to standard output. Returns 0 when a response was written, else -1 with errno.
 */
int cgi_serve(const struct service *service);

#endif
