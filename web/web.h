/*
 * The operator's page: what its modules share. web_handle() is the service of psapi-web.c.
 *
 * The server's side reads, and moves events where a user who signed in asks for it. It makes no
 * HTML: the files of web/static/ are constant, and the browser puts texts in their places.
 */
#ifndef PSAPI_WEB_H
#define PSAPI_WEB_H

#include <pthread.h>
#include <stdbool.h>

#include "base/config.h"
#include "base/reply.h"
#include "base/request.h"
#include "store/store.h"
#include "web/query.h"

struct history;
struct tally;

struct web {
	const struct config *config;
	struct store *store;
	struct history *history;
	struct tally *tally;
	bool alone; /* classic CGI, one request: nothing is counted after the answer */
	int sender;             /* socket to the process that sends examples; -1: there is none */
	pthread_mutex_t acting; /* one action at a time */
	pthread_mutex_t sending;
	pthread_mutex_t measuring;
};

/* Open what all requests share. Returns 0, or -1 with *error: then web_close() as well. */
int web_open(struct web *web, const struct config *config, struct error *error);
void web_close(struct web *web);

/*
 * struct service: answer a request, also after web_open() failed; what is left to count is counted
 * after an answer.
 */
void web_handle(void *web, const struct request *request, struct reply *reply);
void web_after(void *web);

/* Who has signed in, as the web server says; NULL: nobody. Never from an HTTP header. */
const char *web_user(const struct request *request);

/* One answer may look for so long at logs and events, milliseconds: the rest is another page's. */
#define WEB_BUDGET_MS 80

#endif
