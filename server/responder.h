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
 * Serve the requests that come in through the listener with service->threads threads,
 * until SIGTERM, SIGINT or SIGUSR1 (which FastCGI servers send to ask for the same). Then
 * no connection is accepted except those in the backlog of a socket of our own, requests
 * in flight are answered, and within 5 seconds it returns 0. A second signal ends the
 * process at once. Returns -1 with an error if it cannot start.
 */
int responder_run(const struct service *service, struct listener *listener, struct error *error);

#endif
