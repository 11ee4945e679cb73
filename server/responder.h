/*
 * The FastCGI server: connections, threads, signals.
 */
#ifndef PSAPI_RESPONDER_H
#define PSAPI_RESPONDER_H

#include "base/error.h"
#include "server/listener.h"
#include "server/service.h"

/*
 * Block the signals that end the process, until responder_run() waits for them: from the
 * moment that a socket of ours listens, none may end the process in between. To be called
 * first, and before responder_run(), whose libfcgi would install handlers of its own.
 */
void responder_own_signals(void);

/*
 * How many of so many threads the hard limit of open files allows: each needs descriptors, and a
 * connection of its own. Fewer, also 0: with an error that says so, and names a setting only if
 * the number is not fixed.
 */
int responder_threads(int wanted, bool fixed, struct error *error);

/*
 * Serve the requests that come in through the listener with service->threads threads, or fewer
 * where responder_threads() allows no more (logged), until SIGTERM, SIGINT or SIGUSR1 (which
 * FastCGI servers send to ask for the same). Then no connection is accepted except those in the
 * backlog of a socket of our own, requests in flight are answered, and within 5 seconds it returns
 * 0. A second signal ends the process at once. Returns -1 with an error if it cannot start.
 */
int responder_run(const struct service *service, struct listener *listener, struct error *error);

#endif
