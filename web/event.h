/* One event, with all that is known of it. */
#ifndef PSAPI_EVENT_H
#define PSAPI_EVENT_H

#include "web/context.h"

/* GET /api/1/event?id=ID: as `psapi show --json`, and its deliveries, its proof, its payload. */
void event_answer(struct web *web, const struct request *request, const struct web_query *query,
    struct reply *reply);
/* GET /api/1/show?id=ID: exactly what `psapi show --json` prints. */
void event_answer_shown(struct web *web, const struct request *request,
    const struct web_query *query, struct reply *reply);

#endif
