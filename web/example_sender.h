/*
 * The process that sends an example to PSAPI_ENDPOINT_URL. The page's own process has no network;
 * this one is forked before that is given up, and takes nothing but the number of an example.
 */
#ifndef PSAPI_EXAMPLE_SENDER_H
#define PSAPI_EXAMPLE_SENDER_H

#include <stdbool.h>

#include "base/config.h"
#include "base/reply.h"
#include "base/request.h"

/* Whether the configuration asks for it. */
bool example_sender_configured(const struct config *config);

/*
 * Start it, before threads and before the sandbox, if the configuration asks for it. Returns a
 * socket to it, or -1: there is none. It ends when the socket is closed.
 */
int example_sender_start(const struct config *config);

/* Whether there is an example of this type. */
bool example_sender_knows(const char *type);

/*
 * Send the example. Returns what came back as JSON, which the caller frees: {"id","status","ms",
 * "body"} or {"id","failed"}; NULL if the process does not answer: then it never does again.
 */
char *example_sender_send(int sender, const char *type);

/* GET /api/1/examples */
void example_sender_answer_examples(const struct request *request, struct reply *reply);

#endif
