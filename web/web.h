/*
 * The operator's page: web_handle() is the service of psapi-web.c. context.h has what its modules
 * share.
 *
 * The server's side reads, and moves events where a user who signed in asks for it. It makes no
 * HTML: the files of web/static/ are constant, and the browser puts texts in their places.
 */
#ifndef PSAPI_WEB_H
#define PSAPI_WEB_H

#include "web/context.h"

/* Open what all requests share. Returns 0, or -1 with *error: then web_close() as well. */
int web_open(struct web *web, const struct config *config, struct error *error);
void web_close(struct web *web);

/*
 * struct service: answer a request, also after web_open() failed; what is left to count is counted
 * after an answer.
 */
void web_handle(void *web, const struct request *request, struct reply *reply);
void web_after(void *web);

#endif
