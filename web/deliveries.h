/* The deliveries, as `psapi attempts --json` has them. */
#ifndef PSAPI_DELIVERIES_H
#define PSAPI_DELIVERIES_H

#include <jansson.h>

#include "receiver/attempts_reader.h"
#include "web/context.h"

/* GET /api/1/attempts and /api/1/attempts.csv */
void deliveries_answer(struct web *web, const struct request *request,
    const struct web_query *query, struct reply *reply);
void deliveries_answer_csv(struct web *web, const struct request *request,
    const struct web_query *query, struct reply *reply);

/* What a query asks of a line; the texts as they are written in the log. */
struct deliveries_filter {
	const struct web_query *query;
	char id[6 * QUERY_VALUE_MAX + 3];
};
void deliveries_filter_make(struct deliveries_filter *filter, const struct web_query *query);
bool deliveries_filter_matches(const struct deliveries_filter *filter,
    const struct attempts_line *line);

/* The line as an object, with its host; NULL if it is no JSON. */
json_t *deliveries_row(const struct attempts_line *line, const char *host);

/*
 * The deliveries of one webhook-id around the time at which it was received (nanoseconds), the
 * oldest first: an array, which the caller frees. *whole: that are all that the log has.
 */
json_t *deliveries_of(struct web *web, const char *webhook_id, int64_t received, bool *whole);

#endif
