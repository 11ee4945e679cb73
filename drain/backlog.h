/*
 * The work that waits: what is in new/, as a schedule, and everything that must be
 * true before a handler runs.
 */
#ifndef PSAPI_BACKLOG_H
#define PSAPI_BACKLOG_H

#include <stdbool.h>
#include <stdint.h>

#include "drain/schedule.h"
#include "store/spool/spool.h"
#include "drain/unrecognised.h"

struct backlog {
	struct spool *spool;
	int64_t (*clock)(void);       /* Unix seconds */
	bool (*is_interrupted)(void); /* asked between two events: is the list still wanted? */
	struct unrecognised *strays;
	struct schedule *schedule; /* what the last backlog_read() found */
	bool arriving;             /* it also saw an event on its way in: no work yet */
	bool probed;
};

/* Returns 0, or -1 without memory. */
int backlog_open(struct backlog *backlog, struct spool *spool, int64_t (*clock)(void),
    bool (*is_interrupted)(void));
void backlog_close(struct backlog *backlog);

/*
 * Recovery; the list of new/; then the sync of events/, after which each event of the
 * list is durably recorded and may leave new/. To be called under the lock, again for
 * each pass. Files that are no events are reported and left out. Returns EX_OK;
 * EX_TEMPFAIL if is_interrupted() ended it; or another of sysexits(3), logged. Nothing
 * may be handled then.
 */
int backlog_read(struct backlog *backlog);

#endif
