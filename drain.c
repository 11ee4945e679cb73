/*
 * Owns the passes of a run and its loop. A pass: recovery, the list of new/ in
 * order, sync of events/ (after the list: so each listed event is durably recorded
 * before it may leave new/), then the handlers. Passes go on until one starts
 * nothing, for what arrived during the last one.
 */
#define _GNU_SOURCE
#include "drain.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "job.h"
#include "log.h"
#include "moves.h"
#include "strays.h"

enum {
	PROGRESS_EVERY_MS = 100,
	ARRIVAL_MS = 50, /* how long an event on its way in is given, and how often */
	ARRIVAL_LOOKS = 20
};

struct drain {
	struct job_context context;
	struct spool *spool;
	const struct drain_options *options;
	struct strays *strays;
	struct schedule *schedule; /* of this pass */
	struct job *jobs;
	int running;
	bool stop;     /* no further handler: the spool or the system fails */
	int status;    /* the exit status, so far */
	bool arriving; /* an event on its way in was seen in this pass */
	bool started;  /* this pass started a handler, or ended an event without */
	bool probed;   /* check_owner() */
	size_t done, later, failed;
	bool progress; /* standard error is a terminal */
	bool visible;  /* so is the progress line */
	int64_t shown; /* when it last was, child_clock() */
	char refused[sizeof(((struct job *)0)->why)]; /* the last handler complained of */
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

/* A signal that came while none was waited for is pending: take note of it. */
static bool
is_stopping(const struct drain *d)
{
	sigset_t pending;

	if (d->stop || signals > 0)
		return true;
	sigpending(&pending);
	return sigismember(&pending, SIGTERM) == 1 || sigismember(&pending, SIGINT) == 1 ||
	    sigismember(&pending, SIGHUP) == 1;
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
	int64_t now = child_clock();

	if (!d->progress || now - d->shown < PROGRESS_EVERY_MS)
		return;
	d->shown = now;
	d->visible = true;
	fprintf(stderr, "\r%zu of %zu handled, %zu to be tried again, %zu failed; %d running\033[K",
	    d->done, schedule_size(d->schedule), d->later, d->failed, d->running);
}

static void
show_end(struct drain *d)
{
	clear_progress(d);
	if (d->progress)
		fprintf(stderr, "%zu handled, %zu to be tried again, %zu failed\n", d->done, d->later,
		    d->failed);
}

static void
report_stray(struct drain *d, const char *name, const char *why)
{
	if (strays_report(d->strays, name))
		log_line("new/%s: no event: %s; left alone", name, why);
}

/* ---- the list ---- */

/* Where nothing can be written down, no handler runs: it would run again and again. */
static int
check_writable(struct drain *d)
{
	static const enum spool_dir dirs[] = {SPOOL_NEW, SPOOL_FAILED, SPOOL_STATE, SPOOL_TMP};
	char why[1024];

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		if (faccessat(d->spool->dir[dirs[i]], ".", W_OK | X_OK, AT_EACCESS) == 0)
			continue;
		fail(d, errno == EACCES ? EX_NOPERM : EX_IOERR);
		move_explain(d->spool, dirs[i], ".", why, sizeof(why));
		log_line("%s", why);
		return -1;
	}
	return 0;
}

/* A move that the kernel would refuse for another user's file is no surprise for the end. */
static int
check_owner(struct drain *d, const char *name, const struct stat *st)
{
	char probe[64], why[1024];

	if (d->probed || st->st_uid == geteuid())
		return 0;
	d->probed = true;
	snprintf(probe, sizeof(probe), "link.%ld", (long)getpid());
	if (linkat(d->spool->dir[SPOOL_NEW], name, d->spool->dir[SPOOL_TMP], probe, 0) == 0) {
		unlinkat(d->spool->dir[SPOOL_TMP], probe, 0);
		return 0;
	}
	if (errno == ENOENT)
		return 0;
	move_explain(d->spool, SPOOL_NEW, name, why, sizeof(why));
	log_line("%s", why);
	fail(d, errno == EPERM || errno == EACCES ? EX_NOPERM : EX_IOERR);
	return 1;
}

static int64_t
due_at(struct drain *d, const char *name, const struct entry *entry)
{
	struct state state;
	struct stat recorded;
	int64_t now = d->context.clock();
	bool same = fstatat(d->spool->dir[SPOOL_EVENTS], name, &recorded, AT_SYMLINK_NOFOLLOW) == 0 &&
	    recorded.st_ino == entry->st.st_ino && recorded.st_dev == entry->st.st_dev;

	if (!schedule_accepted(same, entry->st.st_mtime, now)) {
		d->arriving = true;
		return INT64_MAX;
	}
	/* A state that says "failed" is of an event that was moved back by hand. */
	if (!state_read(d->spool, name, &state) || state.failed_at != 0)
		return 0;
	return state.due_at;
}

static int
list_entry(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct drain *d = data;
	struct entry entry;
	const char *why;
	int result = 0;

	switch (entry_read_named(spool, dir, name, &entry, &why)) {
	case ENTRY_OK:
		break;
	case ENTRY_ABSENT:
		return 0;
	case ENTRY_ODD:
		report_stray(d, name, why);
		return 0;
	case ENTRY_ERROR:
		/* Its lane is not known, so whoever is handled now might overtake it. */
		log_line("new/%s: cannot be read: %s; nothing is handled until it can, or psapi done has "
		         "taken it out", name, why);
		fail(d, EX_IOERR);
		return 1;
	}
	if (check_owner(d, name, &entry.st) != 0) {
		result = 1;
	} else if (schedule_add(d->schedule, name, entry_when(&entry), due_at(d, name, &entry),
	               entry_lane(&entry.event)) != 0) {
		log_line("out of memory for the list of events");
		fail(d, EX_OSERR);
		result = 1;
	}
	entry_free(&entry);
	return is_stopping(d) ? 1 : result;
}

/* Recovery, list, sync: what is in the schedule then may be handled. Returns 0 or -1. */
static int
prepare_pass(struct drain *d)
{
	schedule_free(d->schedule);
	d->schedule = schedule_new();
	if (d->schedule == NULL) {
		fail(d, EX_OSERR);
		return -1;
	}
	if (check_writable(d) != 0)
		return -1;
	if (spool_recover(d->spool) < 0) {
		if (errno == EPERM)
			log_line("run it as the user that owns the spool: sudo -u USER psapi drain");
		fail(d, errno == EPERM ? EX_NOPERM : EX_IOERR);
		return -1;
	}
	int listed = spool_each(d->spool, SPOOL_NEW, list_entry, d);
	if (listed < 0) {
		log_line("%s/new: %s", d->spool->path, strerror(errno));
		fail(d, EX_IOERR);
	} else if (listed == 0 && schedule_size(d->schedule) > 0 &&
	    (schedule_sort(d->schedule) != 0 || spool_sync(d->spool, SPOOL_EVENTS) != 0)) {
		fail(d, EX_IOERR);
		listed = -1;
	}
	return listed == 0 ? 0 : -1;
}

/* ---- the handlers ---- */

static void
record(struct drain *d, struct job *job, enum job_result result)
{
	const struct task *task = job->task;

	if (result != JOB_GONE && result != JOB_WAITS)
		d->started = true;
	switch (result) {
	case JOB_STARTED:
		d->running++;
		return;
	case JOB_DONE:
		d->done++;
		break;
	case JOB_LATER:
		d->later++;
		break;
	case JOB_FAILED:
		d->failed++;
		set_status(d, 1);
		break;
	case JOB_WAITS:
		if (strcmp(d->refused, job->why) != 0)
			log_line("refused: %s; its events wait until that is mended", job->why);
		memcpy(d->refused, job->why, sizeof(d->refused));
		set_status(d, EX_CONFIG);
		break;
	case JOB_STOP:
		fail(d, EX_IOERR);
		break;
	case JOB_GONE:
		break;
	}
	job->task = NULL;
	schedule_release(d->schedule, task,
	    result == JOB_DONE || result == JOB_FAILED || result == JOB_GONE);
}

/* Fill the free places. */
static void
start_jobs(struct drain *d)
{
	for (int i = 0; i < d->options->jobs && !is_stopping(d); i++) {
		struct job *job = &d->jobs[i];
		while (job->task == NULL && !is_stopping(d)) {
			job->task = schedule_next(d->schedule, d->context.clock());
			if (job->task == NULL)
				return;
			clear_progress(d);
			record(d, job,
			    job_start(job, &d->context, schedule_name(d->schedule, job->task)));
		}
	}
}

/* Wait until a handler writes, ends, or its time is over, or a signal comes. */
static void
wait_for_jobs(struct drain *d, const sigset_t *waiting)
{
	struct pollfd fds[2 * DRAIN_JOBS_MAX];
	int64_t deadline = INT64_MAX, now = child_clock();
	struct timespec timeout;
	nfds_t n = 0;

	for (int i = 0; i < d->options->jobs; i++) {
		const struct job *job = &d->jobs[i];
		if (job->task == NULL)
			continue;
		fds[n++] = (struct pollfd){.fd = job->child.out, .events = POLLIN};
		fds[n++] = (struct pollfd){.fd = job->child.err, .events = POLLIN};
		if (job->child.deadline < deadline)
			deadline = job->child.deadline;
	}
	if (d->progress && deadline > now + 1000)
		deadline = now + 1000;
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
	int64_t now = child_clock();
	int status;

	for (int i = 0; i < d->options->jobs; i++) {
		struct job *job = &d->jobs[i];
		if (job->task == NULL)
			continue;
		if (signals > 1 && !job->child.timed_out)
			job->child.deadline = now;
		child_read(&job->child);
		child_press(&job->child, now);
		if (!child_ended(&job->child, &status))
			continue;
		d->running--;
		clear_progress(d);
		record(d, job, job_finish(job, &d->context, status));
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
		d->started = d->arriving = false;
		if (prepare_pass(d) == 0)
			run_pass(d, &waiting);
		/* Its writer is about to be done with it, and no later run may be due soon. */
		looks = d->started ? 0 : looks + 1;
		if (!d->started && d->arriving)
			ppoll(NULL, 0, &moment, &waiting);
	} while (!is_stopping(d) && (d->started || (d->arriving && looks < ARRIVAL_LOOKS)));
}

int
drain_run(const struct config *config, struct spool *spool, const struct drain_options *options,
    int64_t (*clock)(void))
{
	struct drain d = {
		.spool = spool, .options = options, .progress = isatty(STDERR_FILENO) && !options->verbose};
	char *path = realpath(spool->path, NULL);
	int lock = lock_take(spool, false);

	if (lock < 0) {
		free(path);
		if (errno == EWOULDBLOCK)
			return EX_OK;
		log_line("%s/%s: %s", spool->path, LOCK_FILE, strerror(errno));
		return EX_CANTCREAT;
	}
	d.context = (struct job_context){config, spool, path, options->command, clock, options->verbose};
	d.strays = strays_open(spool);
	d.jobs = calloc((size_t)options->jobs, sizeof(*d.jobs));
	if (path != NULL && d.strays != NULL && d.jobs != NULL) {
		run_passes(&d);
		show_end(&d);
	} else {
		log_line("%s: %s", spool->path, strerror(errno));
		d.status = EX_OSERR;
	}
	strays_close(d.strays);
	schedule_free(d.schedule);
	free(d.jobs);
	free(path);
	close(lock);
	return d.status;
}
