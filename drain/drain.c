/*
 * Owns the passes of a run and its loop: signals, the handlers side by side, exit
 * status, progress. A pass is the list of what waits (backlog.c), then the handlers
 * (job.c) in its order. Passes go on until one starts nothing, for what arrived
 * during the last one.
 */
#define _GNU_SOURCE
#include "drain/drain.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "receiver/adopt.h"
#include "drain/backlog.h"
#include "drain/handler_run.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/spool/moves.h"

enum {
	PROGRESS_EVERY_MS = 100,
	ARRIVAL_MS = 50, /* how long an event on its way in is given, and how often */
	ARRIVAL_LOOKS = 20
};

struct drain {
	struct handler_run_context context;
	struct spool *spool;
	const struct drain_options *options;
	struct backlog backlog;
	struct handler_run *jobs;
	int running;
	bool stop;     /* no further handler: the spool or the system fails */
	int status;    /* the exit status, so far */
	bool started;  /* this pass started a handler, or ended an event without */
	size_t done, later, failed;
	size_t earlier; /* what these three made together before this pass */
	bool progress; /* standard error is a terminal */
	bool visible;  /* so is the progress line */
	int64_t shown; /* when it last was, clock_milliseconds() */
	char **refused; /* what was complained of, once in a run: a line for each handler */
	size_t refusals;
};

/* ---- signals ---- */

static volatile sig_atomic_t signals; /* that ask for the end */

static void
on_signal(int number)
{
	if (number != SIGCHLD)
		signals++;
}

/* They arrive while we wait in ppoll(2), and only there. *waiting is its mask. */
static void
take_signals(sigset_t *waiting)
{
	static const int numbers[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP};
	struct sigaction action = {.sa_handler = on_signal}, before;
	sigset_t ours;

	sigemptyset(&ours);
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		sigaction(numbers[i], NULL, &before);
		/* nohup(1), and shells for what is in their background */
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

/* Whether somebody asked for the end. A signal that came while none was waited for is pending. */
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

/* The worst of a run is its exit status: what is behind in this list gives way. */
static void
set_status(struct drain *d, int status)
{
	static const int worst[] = {EX_IOERR, EX_OSERR, 1, EX_NOPERM, EX_CONFIG, EX_OK};

	for (const int *s = worst; *s != d->status; s++) {
		if (*s != status)
			continue;
		d->status = status;
		return;
	}
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

/* Complain of a handler, unless this run did. Without memory: once more than needed. */
static void
report_refusal(struct drain *d, const char *why)
{
	for (size_t i = 0; i < d->refusals; i++)
		if (strcmp(d->refused[i], why) == 0)
			return;
	log_line("refused: %s; its events wait until that is mended", why);
	char **refused = reallocarray(d->refused, d->refusals + 1, sizeof(*refused));
	if (refused == NULL)
		return;
	d->refused = refused;
	if ((refused[d->refusals] = strdup(why)) != NULL)
		d->refusals++;
}

static void
forget_refusals(struct drain *d)
{
	while (d->refusals > 0)
		free(d->refused[--d->refusals]);
	free(d->refused);
}

/* ---- the handlers ---- */

static void
record(struct drain *d, struct handler_run *job, enum handler_run_result result)
{
	const struct task *task = job->task;

	if (result != RUN_GONE && result != RUN_WAITS)
		d->started = true;
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
	case RUN_FAILED:
		d->failed++;
		set_status(d, 1);
		break;
	case RUN_WAITS:
		report_refusal(d, job->why);
		set_status(d, EX_CONFIG);
		break;
	case RUN_STOP:
		fail(d, EX_IOERR);
		break;
	case RUN_GONE:
		break;
	}
	job->task = NULL;
	schedule_release(d->backlog.schedule, task,
	    result == RUN_DONE || result == RUN_FAILED || result == RUN_GONE);
}

/* Fill the free places. */
static void
start_jobs(struct drain *d)
{
	for (int i = 0; i < d->options->jobs && !is_stopping(d); i++) {
		struct handler_run *job = &d->jobs[i];
		while (job->task == NULL && !is_stopping(d)) {
			job->task = schedule_next(d->backlog.schedule, d->context.clock());
			if (job->task == NULL)
				return;
			clear_progress(d);
			record(d, job,
			    handler_run_start(job, &d->context, schedule_name(d->backlog.schedule, job->task)));
		}
	}
}

/* Wait until a handler writes, ends, or its time is over, or a signal comes. */
static void
wait_for_jobs(struct drain *d, const sigset_t *waiting)
{
	struct pollfd fds[2 * DRAIN_JOBS_MAX];
	int64_t deadline = INT64_MAX, now = clock_milliseconds();
	struct timespec timeout;
	nfds_t n = 0;

	for (int i = 0; i < d->options->jobs; i++) {
		const struct handler_run *job = &d->jobs[i];
		if (job->task == NULL)
			continue;
		fds[n++] = (struct pollfd){.fd = job->child.out, .events = POLLIN};
		fds[n++] = (struct pollfd){.fd = job->child.err, .events = POLLIN};
		if (job->child.deadline < deadline)
			deadline = job->child.deadline;
	}
	/* The progress line is due again; sooner, where something has just cleared it. */
	int64_t due = d->visible ? now + 1000 : d->shown + PROGRESS_EVERY_MS;
	if (d->progress && deadline > due)
		deadline = due;
	int64_t left = deadline > now ? deadline - now : 0;
	timeout.tv_sec = left / 1000;
	timeout.tv_nsec = left % 1000 * 1000000;
	if (ppoll(fds, n, deadline == INT64_MAX ? NULL : &timeout, waiting) > 0)
		clear_progress(d); /* a handler writes, perhaps to the same terminal */
}

/* Output, time-outs, ends. */
static void
attend_jobs(struct drain *d)
{
	int64_t now = clock_milliseconds();
	int status;

	for (int i = 0; i < d->options->jobs; i++) {
		struct handler_run *job = &d->jobs[i];
		if (job->task == NULL)
			continue;
		if (signals > 1 && !job->child.timed_out) {
			job->hurried = true;
			job->child.deadline = now;
		}
		child_read(&job->child);
		child_press(&job->child, now);
		if (!child_ended(&job->child, &status))
			continue;
		d->running--;
		clear_progress(d);
		record(d, job, handler_run_finish(job, &d->context, status));
	}
}

static void
run_pass(struct drain *d, const sigset_t *waiting)
{
	for (;;) {
		start_jobs(d);
		if (d->running == 0)
			return;
		show_progress(d);
		wait_for_jobs(d, waiting);
		attend_jobs(d);
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
		d->started = false;
		d->earlier = d->done + d->later + d->failed;
		int status = backlog_read(&d->backlog);
		if (status == EX_OK)
			run_pass(d, &waiting);
		else if (status != EX_TEMPFAIL)
			fail(d, status);
		/* Its writer is about to be done with it, and no later run may be due soon. */
		looks = d->started ? 0 : looks + 1;
		if (!d->started && d->backlog.arriving)
			ppoll(NULL, 0, &moment, &waiting);
	} while (!is_stopping(d) && (d->started || (d->backlog.arriving && looks < ARRIVAL_LOOKS)));
}

int
drain_run(const struct config *config, struct spool *spool, const struct drain_options *options,
    int64_t (*clock)(void))
{
	struct drain d = {
		.spool = spool, .options = options, .progress = isatty(STDERR_FILENO) && !options->verbose};
	int lock = moves_lock(spool, false);

	if (lock < 0 && errno == EWOULDBLOCK) {
		if (isatty(STDERR_FILENO))
			log_line("%s: another drain is at work, or a command that moves events; it is left to that", spool->path);
		return EX_OK;
	}
	if (lock < 0)
		return moves_lock_failed(spool);
	char *path = realpath(spool->path, NULL);
	d.context = (struct handler_run_context){config, spool, path, options->command, clock, options->verbose};
	d.jobs = calloc((size_t)options->jobs, sizeof(*d.jobs));
	if (path != NULL && d.jobs != NULL && backlog_open(&d.backlog, spool, clock, is_interrupted) == 0) {
		struct adoption adoption = {0}; /* of what stays in hold/, doctor reminds */
		adopt_now(config, spool, &adoption);
		run_passes(&d);
		show_end(&d);
	} else {
		log_line("%s: %s", spool->path, strerror(errno));
		d.status = EX_OSERR;
	}
	backlog_close(&d.backlog);
	forget_refusals(&d);
	free(d.jobs);
	free(path);
	close(lock);
	return d.status;
}
