/* The first view: is all well? */
#ifndef PSAPI_OVERVIEW_H
#define PSAPI_OVERVIEW_H

#include "web/web.h"

/* GET /api/1/overview */
void overview_answer(struct web *web, const struct request *request, struct reply *reply);

#endif
