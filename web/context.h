/* What the modules of the page share: the state of the process, and who asks. */
#ifndef PSAPI_CONTEXT_H
#define PSAPI_CONTEXT_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

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
	bool alone;             /* classic CGI, one request: nothing is counted after the answer */
	int sender;             /* socket to the process that sends examples; -1: there is none */
	pthread_mutex_t acting; /* one action at a time */
	pthread_mutex_t sending;
	pthread_mutex_t measuring;
};

/* Who has signed in, as the web server says; NULL: nobody. Never from an HTTP header. */
const char *context_user(const struct request *request);

/* One answer may look for so long at logs and events, milliseconds: the rest is another page's. */
#define CONTEXT_BUDGET_MS 80

#endif
