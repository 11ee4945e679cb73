/*
 * What the last 24 hours brought: deliveries by hour and outcome, the last accepted one, the last
 * daily event. Lines are counted once: new ones when they come, older ones a part at a time.
 */
#ifndef PSAPI_HISTORY_H
#define PSAPI_HISTORY_H

#include <jansson.h>

#include "web/context.h"

/* NULL without memory. The store and configuration of web are borrowed. */
struct history *history_open(struct web *web);
void history_close(struct history *history);

/*
 * Count what is new, then older lines, for at most so many milliseconds. Returns at once if another
 * thread does. now: Unix seconds. Returns whether there is more to count.
 */
bool history_count(struct history *history, int64_t now, int budget_ms);

/*
 * What is known: {"hours":[{"hour":TIME,"accepted":N,...}],"since":TIME,"complete":BOOL,
 * "searching":BOOL,"last_accepted":{...},"last_daily":{...}}. "since": from when on all is counted;
 * absent while new lines are not counted yet. "complete": all of these hours are counted.
 * "searching": a last one that is absent may still be found.
 */
json_t *history_json(struct history *history, int64_t now);

#endif
