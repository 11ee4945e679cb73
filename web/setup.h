/* How the receiver is set up: secrets by their fingerprints, checks, what is held. */
#ifndef PSAPI_SETUP_H
#define PSAPI_SETUP_H

#include "web/context.h"

/* GET /api/1/setup */
void setup_answer(struct web *web, const struct request *request, struct reply *reply);

/* GET /api/1/session: who has signed in, and what the page may do. */
void setup_answer_session(struct web *web, const struct request *request, struct reply *reply);

#endif
