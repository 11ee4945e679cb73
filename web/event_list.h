/* The events, as `psapi list --json` has them. */
#ifndef PSAPI_EVENT_LIST_H
#define PSAPI_EVENT_LIST_H

#include "web/context.h"

/* GET /api/1/events and /api/1/events.csv */
void event_list_answer(struct web *web, const struct request *request,
    const struct web_query *query, struct reply *reply);
void event_list_answer_csv(struct web *web, const struct request *request,
    const struct web_query *query, struct reply *reply);

#endif
