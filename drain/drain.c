/*
 * Owns the loop of a drain: its passes, signals, the handlers that run at the same time, the
 * exit status, the progress line. A pass reads the list of waiting events (backlog.c) and runs
 * their handlers (handler_run.c) in its order. Passes go on until one starts no handler, for
 * the events that arrived during the last one.
 */
#define _GNU_SOURCE
#include "drain/drain.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "receiver/adopt.h"
#include "drain/backlog.h"
#include "drain/batch.h"
#include "drain/handler_run.h"
#include "base/clock.h"
#include "base/log.h"
#include "metrics/runs.h"

enum {
	PROGRESS_EVERY_MS = 100,
	NOTE_EVERY_MS = 10000, /* for metrics and check: that it works, and what it has done */
	ARRIVAL_MS = 50,   /* pause before the list is read again for an event that was not ready */
	ARRIVAL_LOOKS = 20 /* how often that is done */
};

struct drain {
	struct handler_run_context context;
	const struct drain_options *options;
	struct backlog backlog;
	struct handler_run *runs;
	struct batch_run *batches; /* of each run */
	int running;
	bool stop;     /* start no further handler: the spool or the system fails */
	int status;    /* the exit status, so far */
	bool started;  /* this pass started a handler, or finished an event without one */
	bool again;    /* this pass found that its list is out of date */
	size_t done, later, failed;
	size_t earlier; /* sum of these three before this pass */
	struct runs noted; /* of these three, what is noted already */
	int64_t note_at;   /* clock_milliseconds() of the next note */
	bool progress; /* standard error is a terminal */
	bool visible;  /* so is the progress line */
	bool stop_told;
	int64_t shown; /* when it was last drawn, clock_milliseconds() */
	char **refused; /* texts of refusals that were logged: each once in a drain */
	size_t refusals;
};

/* ---- signals ---- */

static volatile sig_atomic_t signals; /* that asked the drain to end */

static void
on_signal(int number)
{
	if (number != SIGCHLD)
		signals++;
}

/* Signals arrive only while the drain waits in ppoll(2), with the mask *waiting. */
static void
take_signals(sigset_t *waiting)
{
	static const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal}, before;
	sigset_t ours;

	sigemptyset(&ours);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		sigaction(numbers[i], NULL, &before);
		/* nohup(1), and shells for their background jobs, have these ignored */
		if (before.sa_handler == SIG_IGN && (numbers[i] == SIGHUP || numbers[i] == SIGINT))
			continue;
		sigaction(numbers[i], &action, NULL);
		sigaddset(&ours, numbers[i]);
	}
	signal(SIGPIPE, SIG_IGN);
	sigprocmask(SIG_BLOCK, &ours, waiting);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		sigdelset(waiting, numbers[i]);
}

/* Whether a signal asked for the end. One that arrived outside ppoll(2) is pending. */
static bool
is_interrupted(void)
{
	sigset_t pending;

	if (signals > 0)
		return true;
	sigpending(&pending);
	return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1 ||
	    sigismember(&pending, SIGHUP) == 1;
}

static bool
is_stopping(const struct drain *d)
{
	return d->stop || is_interrupted();
}

/* ---- reports ---- */

/*
 * The place among what may happen, the worst first. One that is not in the list is worse. An event
 * that failed, once, hides none for which events wait, in each run.
 */
static int
rank(int status)
{
	static const int worst[] = {EX_IOERR, EX_OSERR, EX_TEMPFAIL, EX_DATAERR, EX_NOPERM, EX_CONFIG,
		1, EX_OK};
	int place = 0, places = sizeof(worst) / sizeof(*worst);

	while (place < places && worst[place] != status)
		place++;
	return place < places ? place : -1;
}

/* The exit status of a drain is the worst of what happened. */
static void
set_status(struct drain *d, int status)
{
	if (rank(status) < rank(d->status))
		d->status = status;
}

static void
fail(struct drain *d, int status)
{
	d->stop = true;
	set_status(d, status);
}

static void
clear_progress(struct drain *d)
{
	if (d->visible)
		fputs("\r\033[K", stderr);
	d->visible = false;
}

static void
show_progress(struct drain *d)
{
	int64_t now = clock_milliseconds();

	if (!d->progress || now - d->shown < PROGRESS_EVERY_MS)
		return;
	d->shown = now;
	d->visible = true;
	fprintf(stderr, "\r%zu of %zu handled, %zu to be tried again, %zu failed; %d running\033[K",
	    d->done, d->earlier + schedule_size(d->backlog.schedule), d->later, d->failed, d->running);
}

static void
show_end(struct drain *d)
{
	clear_progress(d);
	if (d->progress)
		fprintf(stderr, "%zu handled, %zu to be tried again, %zu failed\n", d->done, d->later,
		    d->failed);
}

/* After ^C a terminal would show nothing, for as long as a handler may run. */
static void
tell_stop(struct drain *d)
{
	if (signals == 0 || d->stop_told || !isatty(STDERR_FILENO))
		return;
	d->stop_told = true;
	clear_progress(d);
	log_line("waiting for %d running handler(s) to end; a second signal ends them", d->running);
}

static const char until_fixed[] = "its events wait until that is fixed";
static const char again_later[] = "events without a valid result are tried again later";

/*
 * Log what is wrong with a handler, and what that means for its events; once in a drain. Without
 * memory it may be logged again.
 */
static void
report_refusal(struct drain *d, const char *word, const struct error *refusal, const char *events)
{
	for (size_t i = 0; i < d->refusals; i++)
		if (strcmp(d->refused[i], refusal->text) == 0)
			return;
	log_line("%s: %s%s%s; %s", word, refusal->text, *refusal->remedy != '\0' ? ": " : "",
	    refusal->remedy, events);
	char **refused = reallocarray(d->refused, d->refusals + 1, sizeof(*refused));
	if (refused == NULL)
		return;
	d->refused = refused;
	if ((refused[d->refusals] = strdup(refusal->text)) != NULL)
		d->refusals++;
}

static void
forget_refusals(struct drain *d)
{
	while (d->refusals > 0)
		free(d->refused[--d->refusals]);
	free(d->refused);
}

/* What is to be noted of a total: one never goes down, and waits for what was noted too early. */
static int64_t
more_than(int64_t noted, size_t total)
{
	return (int64_t)total > noted ? (int64_t)total - noted : 0;
}

/* Note for metrics and check what was done since the last note, and that the drain works. */
static void
note_runs(struct drain *d, int status)
{
	struct runs more = {.done = more_than(d->noted.done, d->done),
	    .later = more_than(d->noted.later, d->later),
	    .failed = more_than(d->noted.failed, d->failed)};
	int64_t now = d->context.clock();

	more.chosen = d->context.command == NULL ? now : 0;
	d->note_at = clock_milliseconds() + NOTE_EVERY_MS;
	store_note_run(d->context.store, now);
	if (runs_add(d->context.store, &more, status, now) != 0)
		return;
	d->noted.done += more.done;
	d->noted.later += more.later;
	d->noted.failed += more.failed;
}

/* ---- the handlers ---- */

/* Whether it is no reason for another pass. */
static bool
has_done_nothing(enum handler_run_result result)
{
	return result == RUN_GONE || result == RUN_WAITS || result == RUN_BUSY || result == RUN_AGAIN ||
	    result == RUN_DAMAGED;
}

static void
record(struct drain *d, struct handler_run *run, enum handler_run_result result)
{
	const struct task *task = run->task;

	d->started |= !has_done_nothing(result);
	switch (result) {
	case RUN_STARTED:
		d->running++;
		return;
	case RUN_DONE:
		d->done++;
		break;
	case RUN_LATER:
		d->later++;
		break;
	case RUN_BROKEN:
		d->later++;
		report_refusal(d, "broken", &run->refusal, until_fixed);
		set_status(d, EX_CONFIG);
		break;
	case RUN_FAILED:
		d->failed++;
		set_status(d, 1);
		break;
	case RUN_WAITS:
		report_refusal(d, "refused", &run->refusal, until_fixed);
		set_status(d, EX_CONFIG);
		break;
	case RUN_DAMAGED:
		report_refusal(d, "damaged", &run->refusal, "its lane waits");
		set_status(d, EX_DATAERR);
		break;
	case RUN_STOP:
		fail(d, EX_IOERR);
		break;
	case RUN_AWAY:
		fail(d, EX_TEMPFAIL);
		break;
	case RUN_AGAIN:
		d->again = true;
		break;
	case RUN_BATCH: /* start_batch() has it */
	case RUN_BUSY:  /* its events are the other drain's */
	case RUN_GONE:
		break;
	}
	run->task = NULL;
	schedule_release(d->backlog.schedule, task,
	    result == RUN_DONE || result == RUN_FAILED || result == RUN_GONE);
}

/* What a batch has to tell. */
static void
record_batch(struct drain *d, struct batch_run *batch)
{
	struct batch_news *news = &batch->news;

	d->done += (size_t)news->done;
	d->later += (size_t)news->later;
	d->failed += (size_t)news->failed;
	d->again |= news->again;
	if (news->failed > 0)
		set_status(d, 1);
	if (news->wrong) {
		report_refusal(d, "broken", &news->error, news->unfit ? until_fixed : again_later);
		set_status(d, EX_CONFIG);
	}
	if (news->stop != 0)
		fail(d, news->stop == RUN_AWAY ? EX_TEMPFAIL : EX_IOERR);
	*news = (struct batch_news){0};
}

/* The handler of this place takes many: give it more than the first. */
static void
start_batch(struct drain *d, struct handler_run *run, struct batch_run *batch)
{
	enum handler_run_result result = batch_start(batch, run, &d->context, d->backlog.schedule);

	record_batch(d, batch);
	if (result == RUN_STARTED) {
		d->running++;
		d->started = true;
	} else if (result == RUN_WAITS) {
		report_refusal(d, "refused", &run->refusal, until_fixed);
		set_status(d, EX_CONFIG);
	} else {
		fail(d, result == RUN_AWAY ? EX_TEMPFAIL : EX_IOERR);
	}
}

/* Start handlers in the free places. */
static void
start_runs(struct drain *d)
{
	for (int i = 0; i < d->options->jobs && !is_stopping(d); i++) {
		struct handler_run *run = &d->runs[i];
		while (run->task == NULL && !is_stopping(d)) {
			run->task = schedule_next(d->backlog.schedule, d->context.clock());
			if (run->task == NULL)
				return;
			clear_progress(d);
			enum handler_run_result result = handler_run_start(run, &d->context,
			    schedule_name(d->backlog.schedule, run->task));
			if (result == RUN_BATCH)
				start_batch(d, run, &d->batches[i]);
			else
				record(d, run, result);
		}
	}
}

/* Wait until a handler writes, ends or reaches its deadline, or a signal arrives. */
static void
wait_for_runs(struct drain *d, const sigset_t *waiting)
{
	struct pollfd fds[2 * DRAIN_JOBS_MAX];
	int64_t deadline = INT64_MAX, now = clock_milliseconds();
	struct timespec timeout;
	nfds_t n = 0;

	for (int i = 0; i < d->options->jobs; i++) {
		const struct handler_run *run = &d->runs[i];
		if (run->task == NULL)
			continue;
		fds[n++] = (struct pollfd){.fd = run->child.out, .events = POLLIN};
		fds[n++] = (struct pollfd){.fd = run->child.err, .events = POLLIN};
		if (run->child.deadline < deadline)
			deadline = run->child.deadline;
		if (run->renewal < deadline)
			deadline = run->renewal;
	}
	if (d->note_at < deadline)
		deadline = d->note_at;
	/* When to draw the progress line again; sooner if it was just cleared. */
	int64_t due = d->visible ? now + 1000 : d->shown + PROGRESS_EVERY_MS;
	if (d->progress && deadline > due)
		deadline = due;
	int64_t left = deadline > now ? deadline - now : 0;
	timeout.tv_sec = left / 1000;
	timeout.tv_nsec = left % 1000 * 1000000;
	if (ppoll(fds, n, deadline == INT64_MAX ? NULL : &timeout, waiting) > 0)
		clear_progress(d); /* a handler writes, maybe to the same terminal */
}

/* The handler of a place has ended. */
static void
end_run(struct drain *d, struct handler_run *run, int status)
{
	d->running--;
	clear_progress(d);
	if (run->batch)
		batch_finish(&d->batches[run - d->runs], status);
	else
		record(d, run, handler_run_finish(run, &d->context, status));
}

/* Read output, enforce deadlines, finish the runs whose handler has ended. */
static void
attend_runs(struct drain *d)
{
	int64_t now = clock_milliseconds();
	int status;

	for (int i = 0; i < d->options->jobs; i++) {
		struct handler_run *run = &d->runs[i];
		if (run->task == NULL)
			continue;
		if (signals > 1 && !run->child.timed_out) {
			run->aborted = true;
			run->child.deadline = now;
		}
		child_read(&run->child);
		if (run->batch)
			batch_renew(&d->batches[i], now);
		else
			handler_run_renew(run, &d->context, now);
		child_enforce_deadline(&run->child, now);
		bool ended = child_ended(&run->child, &status);
		if (ended)
			end_run(d, run, status);
		if (run->batch)
			record_batch(d, &d->batches[i]);
	}
}

static void
run_pass(struct drain *d, const sigset_t *waiting)
{
	for (;;) {
		start_runs(d);
		if (d->running == 0)
			return;
		tell_stop(d);
		show_progress(d);
		wait_for_runs(d, waiting);
		attend_runs(d);
		if (clock_milliseconds() >= d->note_at)
			note_runs(d, RUNS_GO_ON);
	}
}

static void
run_passes(struct drain *d)
{
	static const struct timespec moment = {.tv_nsec = ARRIVAL_MS * 1000000};
	sigset_t waiting;
	int looks = 0;

	take_signals(&waiting);
	do {
		d->started = d->again = false;
		d->earlier = d->done + d->later + d->failed;
		int status = backlog_read(&d->backlog);
		if (status == EX_OK && d->backlog.refused != EX_OK)
			set_status(d, d->backlog.refused);
		if (status == EX_OK)
			run_pass(d, &waiting);
		else if (!is_interrupted())
			fail(d, status);
		/*
		 * An event that is being accepted is complete in a moment; the next drain may be hours
		 * away.
		 */
		looks = d->started ? 0 : looks + 1;
		d->again |= d->backlog.arriving;
		if (!d->started && d->again)
			ppoll(NULL, 0, &moment, &waiting);
	} while (!is_stopping(d) && (d->started || (d->again && looks < ARRIVAL_LOOKS)));
}

int
drain_run(const struct config *config, struct store *store, const struct drain_options *options,
    int64_t (*clock)(void))
{
	struct drain d = {.options = options,
		.progress = isatty(STDERR_FILENO) && !options->verbose,
		.backlog = {.store = store, .clock = clock, .is_interrupted = is_interrupted},
		.context = {config, store, options->command, clock, options->verbose, options->batch}};
	struct adoption adoption = {0}; /* doctor reports the requests that stay held */
	struct error error;

	switch (store_work_begin(store, false, &error)) {
	case STORE_OK:
		break;
	case STORE_BUSY:
		if (isatty(STDERR_FILENO))
			log_line("%s: another drain is at work, or a command that moves events; this one ends",
			    config->spool);
		return EX_OK;
	default:
		return error_log(&error);
	}
	d.runs = calloc((size_t)options->jobs, sizeof(*d.runs));
	d.batches = calloc((size_t)options->jobs, sizeof(*d.batches));
	note_runs(&d, RUNS_GO_ON);
	if (d.runs != NULL && d.batches != NULL) {
		adopt_now(config, store, &adoption, &error);
		run_passes(&d);
		show_end(&d);
	} else {
		log_line("out of memory for %d handlers", options->jobs);
		d.status = EX_OSERR;
	}
	note_runs(&d, d.status);
	backlog_free(&d.backlog);
	forget_refusals(&d);
	for (int i = 0; d.batches != NULL && i < options->jobs; i++)
		batch_free(&d.batches[i]);
	free(d.batches);
	free(d.runs);
	store_work_end(store);
	return d.status;
}
