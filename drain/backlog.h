/*
 * The events that wait in new/, as a schedule, and all conditions that must hold before a
 * handler runs.
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
	bool (*is_interrupted)(void); /* called between two events: end the reading? */
	struct unrecognised *unrecognised;
	struct schedule *schedule; /* what the last backlog_read() found */
	bool arriving;             /* it also saw an event that is still being accepted */
	bool owner_checked;
};

/* Returns 0, or -1 without memory. */
int backlog_open(struct backlog *backlog, struct spool *spool, int64_t (*clock)(void),
    bool (*is_interrupted)(void));
void backlog_close(struct backlog *backlog);

/*
 * Run recovery, list new/, then sync events/: after that each listed event is durably committed
 * and may leave new/. Call it under the lock, for each pass. Unrecognised files are reported and
 * left out. Returns EX_OK; EX_TEMPFAIL if is_interrupted() ended it; or another of sysexits(3),
 * logged. Without EX_OK no handler may run.
 */
int backlog_read(struct backlog *backlog);

#endif
