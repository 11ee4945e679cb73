/*
 * The FastCGI responder: connections, threads, signals. The only user of libfcgi.
 */
#ifndef PSAPI_RESPONDER_H
#define PSAPI_RESPONDER_H

#include "server/listener.h"
#include "receiver/receive.h"

/*
 * Block the signals that end a receiver, until responder_run() waits for them: from
 * the moment that a socket of ours listens, none may end the process in between. To
 * be called first, and before FCGX_Init(), which would install handlers of its own.
 */
void responder_own_signals(void);

/*
 * Serve requests that come in through the listener with receiver->config->threads
 * threads, until SIGTERM, SIGINT or SIGUSR1 (which FastCGI servers send to ask for
 * the same): then no connection is accepted but those that wait in the backlog of
 * a socket of our own, what is in flight is answered, and within 5 seconds it
 * returns 0. A second signal ends the process at once. Returns -1 with one line in
 * why (size bytes) if it cannot start.
 */
int responder_run(struct receiver *receiver, struct listener *listener, char *why, size_t size);

#endif
