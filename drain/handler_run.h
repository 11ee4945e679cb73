/*
 * One event in work: its handler is chosen and started, and what came of it is
 * written into the spool.
 */
#ifndef PSAPI_HANDLER_RUN_H
#define PSAPI_HANDLER_RUN_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "drain/child.h"
#include "base/config.h"
#include "store/entry.h"
#include "drain/schedule.h"
#include "store/spool/spool.h"
#include "store/spool/handler_state.h"

/* What the jobs of a run share. Borrowed. */
struct handler_run_context {
	const struct config *config;
	struct spool *spool;
	const char *spool_path;   /* absolute, for $1 */
	char *const *command;     /* one for all, NULL-terminated, [0] a path; NULL: handlers */
	int64_t (*clock)(void);   /* Unix seconds */
	bool verbose;
};

struct handler_run {
	const struct task *task; /* NULL: not in use */
	char name[SPOOL_NAME_SIZE];
	struct entry entry;
	struct handler_state state; /* as it was before this try */
	char handler[PATH_MAX];
	char why[PATH_MAX + 256]; /* of RUN_WAITS: what is to be mended */
	struct child child;
	bool hurried;    /* its time is over because the run is to end */
	int64_t started; /* clock_milliseconds() */
};

enum handler_run_result {
	RUN_STARTED, /* a handler runs */
	RUN_DONE,
	RUN_LATER,   /* waits for its retry */
	RUN_FAILED,  /* went to failed/; logged */
	RUN_GONE,    /* somebody else has handled it meanwhile; nothing was written */
	RUN_WAITS,   /* its handler cannot be run: job->why; nothing was written */
	RUN_STOP     /* the spool or the system fails: logged, the run must end */
};

/*
 * Begin the event `name`. RUN_STARTED: it is to be fed to child_read(), child_press()
 * and child_ended(), and then handler_run_finish(). Anything else: it is over already.
 */
enum handler_run_result handler_run_start(struct handler_run *job, const struct handler_run_context *context, const char *name);

/* Its handler ended with wait(2)'s status: write that into the spool, free the job. */
enum handler_run_result handler_run_finish(struct handler_run *job, const struct handler_run_context *context, int status);

#endif
