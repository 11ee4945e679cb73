/*
 * The handling of one event: its handler is chosen and started, and the outcome is written
 * into the store.
 */
#ifndef PSAPI_HANDLER_RUN_H
#define PSAPI_HANDLER_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "base/error.h"
#include "drain/child.h"
#include "drain/handler.h"
#include "drain/schedule.h"
#include "store/store.h"

/* What all handler runs of a drain share. Borrowed. */
struct handler_run_context {
	const struct config *config;
	struct store *store;
	char *const *command;   /* for all events: NULL-terminated, [0] a path; NULL: handlers */
	int64_t (*clock)(void); /* Unix seconds */
	bool verbose;
	size_t batch; /* the most events that the command takes at once; 0: one by one */
};

struct handler_run {
	const struct task *task; /* NULL: this place is free */
	struct store_work work;
	struct handler handler; /* for a command only its path */
	struct error refusal;   /* of RUN_WAITS, RUN_BROKEN and RUN_DAMAGED */
	struct child child;
	bool batch;      /* its handler takes many events: batch.h */
	bool aborted;    /* its handler is ended early because the drain is told to end at once */
	bool lost;       /* another drain has taken its lane over: the result does not count */
	int64_t renewal; /* clock_milliseconds() when the lane is to be renewed */
	int64_t started; /* clock_milliseconds() */
};

enum handler_run_result {
	RUN_STARTED, /* a handler runs */
	RUN_BATCH,   /* the handler takes many: the event is in work, for batch_start() */
	RUN_DONE,
	RUN_LATER,  /* the event waits for its retry */
	RUN_BROKEN, /* the same, for its handler lacks a program: run->refusal; no try was counted */
	RUN_FAILED, /* the event went to failed/ (logged) */
	RUN_GONE,   /* another process has handled the event meanwhile; nothing was written */
	RUN_BUSY,   /* another drain works on its lane; nothing was written */
	RUN_AGAIN,  /* another drain has changed its lane: the list must be read again */
	RUN_WAITS,  /* the handler must not or cannot run: run->refusal; nothing was written */
	RUN_DAMAGED, /* it is no event: run->refusal; its lane waits; nothing was written */
	RUN_STOP,   /* the store or the system fails (logged): the drain must end */
	RUN_AWAY    /* the same, for the database cannot be used at the moment */
};

/*
 * Begin with the event `name` of run->task. RUN_STARTED: the caller calls handler_run_renew(),
 * child_read(), child_enforce_deadline() and child_ended(), and at the end
 * handler_run_finish(). Any other result: the run is over already.
 */
enum handler_run_result handler_run_start(
    struct handler_run *run, const struct handler_run_context *context, const char *name);

/*
 * While its handler runs: if it is time at now (clock_milliseconds()), renew the lane. A handler
 * whose lane is lost is ended, for another drain runs one for the same event.
 */
void handler_run_renew(
    struct handler_run *run, const struct handler_run_context *context, int64_t now);

/* The handler ended with wait(2)'s status: write the outcome into the store, and free the run. */
enum handler_run_result handler_run_finish(
    struct handler_run *run, const struct handler_run_context *context, int status);

/* ---- for batch.c ---- */

/* RUN_STOP or RUN_AWAY. */
enum handler_run_result handler_run_stop(const struct error *error);

/*
 * Start run->handler with input as standard input and file as last argument (NULL: none), and
 * close the handler. RUN_STARTED, RUN_WAITS or RUN_STOP.
 */
enum handler_run_result handler_run_execute(struct handler_run *run,
    const struct handler_run_context *context, int input, char *file);

/* Into state->reason: why the handler did not succeed, in words. */
void handler_run_describe(const struct handler_run *run, const struct handler_run_context *context,
    int status, struct handler_state *state);

/* Into state->stderr_end: the end of its standard error, as text. */
void handler_run_copy_stderr(const struct handler_run *run, struct handler_state *state);

/* Print the end of its standard error, as whole lines; escaped on a terminal. */
void handler_run_show_stderr(const struct handler_run *run);

/* Log that an event went to failed/. */
void handler_run_report_failure(const struct store_work *work, const struct handler_state *state);

#endif
