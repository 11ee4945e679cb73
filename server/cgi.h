/*
 * RFC 3875: meta-variables to a request, a reply to a response; and the classic
 * CGI program, one request on standard input.
 */
#ifndef PSAPI_CGI_H
#define PSAPI_CGI_H

#include <stddef.h>

#include "receiver/receive.h"

/* Take the meta-variables of envp ("NAME=VALUE", NULL at its end) into the request. */
void cgi_variables(struct request *request, char *const *envp);

/* Room for any response. */
#define CGI_RESPONSE_SIZE 1280
/*
 * The reply as a document response (RFC 3875, section 6.2.1). Returns its length
 * in bytes.
 */
size_t cgi_response(const struct reply *reply, char text[CGI_RESPONSE_SIZE]);

/*
 * Serve the one request of this process: its environment and standard input, the
 * response to standard output. receiver NULL: answer that it is not configured.
 * Returns 0 when a response was written, else -1 with errno.
 */
int cgi_serve(struct receiver *receiver);

#endif
