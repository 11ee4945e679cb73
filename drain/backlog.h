/*
 * What waits to be handled: the store's list of it, as a schedule of lanes.
 */
#ifndef PSAPI_BACKLOG_H
#define PSAPI_BACKLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "drain/schedule.h"
#include "store/store.h"

struct backlog {
	struct store *store;
	int64_t (*clock)(void);       /* Unix seconds */
	bool (*is_interrupted)(void); /* asked between two events: is the list still wanted? */
	struct schedule *schedule;    /* what the last backlog_read() found */
	int refused;                  /* EX_OK, or an exit status: some files cannot be used */
	bool arriving;                /* it also saw an event on its way in: no work yet */
};

/*
 * Read the list, for each pass anew, between store_work_begin() and store_work_end().
 * Returns EX_OK; EX_TEMPFAIL if is_interrupted() ended it; or another of sysexits(3),
 * logged. Nothing may be handled then.
 */
int backlog_read(struct backlog *backlog);

void backlog_free(struct backlog *backlog);

#endif
