/*
 * psapi check: its command line, its time-out, its output. The checks are in doctor/monitor.c,
 * alerts in doctor/alert.c.
 */
#define _GNU_SOURCE
#include "doctor/monitor.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/terminal.h"
#include "base/text.h"
#include "commands/command.h"
#include "doctor/alert.h"

enum { TIMEOUT_S = 10, TIMEOUT_MAIL_S = 60, TIMEOUT_MAX_S = 3600 };

struct check_options {
	struct monitor_limits limits;
	int seconds;
	bool mail;
};

/* The checks, in a thread that may hang for ever: in a call of the kernel, on a broken disk. */
struct check_thread {
	const struct config *config;
	const struct monitor_limits *limits;
	bool mails;
	struct monitor_report report;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool done;
};

static void *
work(void *data)
{
	struct check_thread *job = data;

	monitor_run(job->config, job->limits, job->mails, (time_t)clock_unix(), &job->report);
	pthread_mutex_lock(&job->lock);
	job->done = true;
	pthread_cond_signal(&job->changed);
	pthread_mutex_unlock(&job->lock);
	return NULL;
}

/* Wait for the checks. Returns whether they ended in time. */
static bool
wait_for(struct check_thread *job, int seconds)
{
	struct timespec end;
	int result = 0;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += seconds;
	pthread_mutex_lock(&job->lock);
	while (!job->done && result != ETIMEDOUT)
		result = pthread_cond_timedwait(&job->changed, &job->lock, &end);
	bool done = job->done;
	pthread_mutex_unlock(&job->lock);
	return done;
}

/* A report with one finding, UNKNOWN. */
static struct monitor_report *
report_unknown(const char *name, const char *text, const char *remedy)
{
	static struct monitor_report report;
	struct health *health = &report.health;
	struct health_finding *finding = &health->finding[0];

	health->at = clock_unix();
	health->status = HEALTH_UNKNOWN;
	health->partial = true;
	health->count = 1;
	finding->status = HEALTH_UNKNOWN;
	finding->since = health->at;
	snprintf(finding->name, sizeof(finding->name), "%s", name);
	snprintf(finding->text, sizeof(finding->text), "%s", text);
	snprintf(finding->remedy, sizeof(finding->remedy), "%s", remedy);
	return &report;
}

static const struct monitor_report *
timed_out(int seconds)
{
	char text[64];

	snprintf(text, sizeof(text), "no result within %d s", seconds);
	return report_unknown("time-out", text,
	    "look at the disk (dmesg), or at the database in PSAPI_STORE");
}

/* The checks in a thread of their own. Returns NULL if it cannot be started, and *why. */
static struct check_thread *
start(const struct config *config, const struct check_options *o, const char **why)
{
	struct check_thread *job = calloc(1, sizeof(*job));
	pthread_condattr_t attributes;
	pthread_t thread;

	*why = "out of memory";
	if (job == NULL)
		return NULL;
	job->config = config;
	job->limits = &o->limits;
	job->mails = o->mail;
	pthread_mutex_init(&job->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&job->changed, &attributes);
	if (pthread_create(&thread, NULL, work, job) != 0) {
		*why = "no thread can be started for the checks; the limit of processes (ulimit -u, "
		       "TasksMax=) may be reached";
		free(job);
		return NULL;
	}
	pthread_detach(thread);
	return job;
}

/* ---- the output ---- */

/* The checks did not begin. */
static int
unknown(const struct command_line *line, const char *text, const char *remedy)
{
	if (line->json)
		terminal_print_json(
		    health_json(&report_unknown("check", text, remedy)->health));
	else
		printf("PSAPI UNKNOWN - %s\n", text);
	return HEALTH_UNKNOWN;
}

/* After a time-out without the store: to open it on a disk that hangs would hang, too. */
static void
alert(const struct command_line *line, const struct health *health, bool in_time)
{
	struct error error;
	struct store *store = in_time ? store_open(&line->config, false, &error) : NULL;

	alert_run(&line->config, store, health);
	store_close(store);
}

static bool
parse_seconds(const char *text, int *seconds)
{
	char *end;
	long number = strtol(text, &end, 10);

	*seconds = (int)number;
	return *end == '\0' && number >= 1 && number <= TIMEOUT_MAX_S;
}

/* Returns 0, or HEALTH_UNKNOWN: a monitoring system reads our exit status. */
static int
read_options(struct command_line *line, int argc, char **argv, struct check_options *o)
{
	enum { OPTION_MAIL = OPTION_OWN };
	static const struct option names[] = {{"warning", required_argument, NULL, 'w'},
		{"critical", required_argument, NULL, 'c'}, {"timeout", required_argument, NULL, 't'},
		{"mail", no_argument, NULL, OPTION_MAIL}, COMMON_OPTIONS};
	const char *first = NULL; /* what is wrong; a later --json counts nevertheless */

	for (int option; (option = command_option(line, argc, argv, "w:c:t:", names)) != -1;) {
		const char *wrong = NULL;
		if (option == OPTION_MAIL)
			o->mail = true;
		else if (option == 't' && !parse_seconds(optarg, &o->seconds))
			wrong = "-t takes seconds, 1 to 3600";
		else if (option == 'w' || option == 'c')
			wrong = monitor_limits_parse(option == 'w' ? o->limits.warning : o->limits.critical,
			    optarg);
		if (wrong != NULL)
			command_misused(line, wrong, optarg);
		if (first == NULL)
			first = option == '?' ? "usage: psapi help check" : wrong;
	}
	if (optind < argc && first == NULL) {
		first = "check takes options alone";
		command_misused(line, first, argv[optind]);
	}
	return first == NULL ? 0 : unknown(line, first, "psapi help check");
}

int
check_main(struct command_line *line, int argc, char **argv)
{
	struct check_options o = {.seconds = 0};
	const char *why;

	monitor_limits_default(&o.limits);
	if (read_options(line, argc, argv, &o) != 0)
		return HEALTH_UNKNOWN;
	if (o.seconds == 0)
		o.seconds = o.mail ? TIMEOUT_MAIL_S : TIMEOUT_S;
	if (command_configure(line) != EX_OK || command_become_owner(line) != EX_OK)
		return unknown(line, "the settings cannot be used; standard error says why",
		    "correct them");
	struct check_thread *job = start(&line->config, &o, &why);
	if (job == NULL)
		return unknown(line, why, "look at the memory and the processes of the machine");
	bool in_time = wait_for(job, o.seconds);
	/* The job of a time-out is still in use by its thread. */
	const struct monitor_report *report = in_time ? &job->report : timed_out(o.seconds);
	if (line->json)
		terminal_print_json(health_json(&report->health));
	else if (!o.mail || isatty(STDOUT_FILENO))
		monitor_print(stdout, report, &o.limits);
	int status = io_finish((int)report->health.status);
	if (o.mail)
		alert(line, &report->health, in_time);
	/* A thread that hangs must keep nobody from the result. */
	_exit(status == EX_IOERR ? HEALTH_UNKNOWN : status);
}
