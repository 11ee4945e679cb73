/* The first view: is all well? */
#ifndef PSAPI_OVERVIEW_H
#define PSAPI_OVERVIEW_H

#include <jansson.h>

#include "web/context.h"

/* GET /api/1/overview */
void overview_answer(struct web *web, const struct request *request, struct reply *reply);

/* The last verdict, as `psapi check --json` prints it, which the caller frees; NULL: none yet. */
json_t *overview_verdict(struct web *web);

#endif
