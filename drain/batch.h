/*
 * A run of a batch handler: one process for many events, of as many lanes. So any of them may
 * succeed, in any order, and none overtakes another of its lane. Not reported is never done.
 */
#ifndef PSAPI_BATCH_H
#define PSAPI_BATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "drain/batch_protocol.h"
#include "drain/handler_run.h"
#include "drain/schedule.h"
#include "store/store.h"

/* The most bytes of standard input, but for a single event that is longer. */
#define BATCH_BYTES_MAX (8 * 1024 * 1024)

struct batch_item {
	const struct task *task;
	struct store_work work;
	enum batch_verdict verdict; /* what was reported, or decided at the end */
	bool recorded;              /* the store has it */
	bool gone;                  /* another program has moved it, or has its lane */
};

/* What has happened since the caller looked last: it sets it back to zero. */
struct batch_news {
	/* Below 0: the result of an event that was counted before has become worse. */
	ptrdiff_t done, later, failed;
	bool again; /* the list is out of date */
	enum handler_run_result stop; /* RUN_STOP or RUN_AWAY: the drain must end; 0: it goes on */
	bool wrong; /* the handler broke the protocol, or cannot do its work: `error` */
	bool unfit; /* of these: it cannot do its work, and no event that it has is done until it can */
	struct error error;
};

struct batch_run {
	const struct handler_run_context *context;
	struct schedule *schedule;
	struct handler_run *run; /* its process */
	struct batch_item *items;
	size_t count, room; /* of items */
	size_t *ok;         /* indices: reported and not recorded yet */
	size_t ok_count;
	struct batch_input input; /* until the process has it */
	struct batch_reader reader;
	bool heard;     /* there was a new result: the time-out starts again */
	bool complained; /* of the protocol */
	bool silence_told; /* that events were not reported; once in a run of drain */
	bool broken;    /* the store failed: nothing more is recorded */
	struct batch_news news;
};

/*
 * Begin with the event of run->task, which is in work and whose handler, run->handler, takes
 * many: take more of the schedule, as many as there are, and start the process. RUN_STARTED:
 * then as with handler_run_start(), with batch_renew() and batch_finish(). Anything else: the
 * batch is over, and its events wait.
 */
enum handler_run_result batch_start(struct batch_run *batch, struct handler_run *run,
    const struct handler_run_context *context, struct schedule *schedule);

/* While its process runs: if it is time at now (clock_milliseconds()), renew the lanes. */
void batch_renew(struct batch_run *batch, int64_t now);

/* Its process has ended with wait(2)'s status: decide on the events that it did not report. */
void batch_finish(struct batch_run *batch, int status);

/* Free what batches of this place used. */
void batch_free(struct batch_run *batch);

#endif
