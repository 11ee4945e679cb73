/*
 * Owns which checks are quick, how severe each is, the numbers with their limits, and the line of a
 * plugin.
 */
#define _GNU_SOURCE
#include "doctor/monitor.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "base/terminal.h"
#include "doctor/doctor.h"
#include "events.h"
#include "metrics/runs.h"
#include "metrics/totals.h"
#include "secrets/secrets.h"
#include "send/fastcgi_client.h"

#define TEXT_OF(number) #number
#define TEXT_OF_MACRO(macro) TEXT_OF(macro)

enum {
	PING_MS = 3000,
	MAILS_SECONDS = 3600, /* so long a verdict of check --mail stays; its timer has 300 */
	LINE_SIZE = 2048 /* of a plugin */
};

/* What the checks of one run share. */
struct monitor {
	struct doctor doctor;
	const struct monitor_limits *limits;
	struct monitor_report *report;
	struct totals totals;
	struct runs runs;
	bool counted;    /* the totals are known */
	bool awaits;     /* the first secret: it is not set up yet */
	bool daily_unknown; /* another host may have it, in a store that cannot be read */
	bool no_daily;    /* none was ever accepted: its age is that of the first event */
	bool no_handlers; /* a script of the user's own takes the events */
	enum health_status severity; /* of the next failed finding */
};

/* ---- findings ---- */

static void
add(struct monitor *run, const struct finding *f, enum health_status status)
{
	struct health *health = &run->report->health;

	if (health->count == HEALTH_FINDINGS_MAX)
		return;
	struct health_finding *one = &health->finding[health->count++];
	snprintf(one->name, sizeof(one->name), "%s", f->name);
	snprintf(one->text, sizeof(one->text), "%.511s", f->text);
	if (status != HEALTH_OK)
		snprintf(one->remedy, sizeof(one->remedy), "%s", f->remedy);
	one->status = status;
	if (status > health->status)
		health->status = status;
}

/* The doctor's report. Remarks count as OK; skipped checks are left out. */
static void
take(const struct finding *f, void *user)
{
	struct monitor *run = user;

	if (f->result == DOCTOR_FAILED)
		add(run, f, run->severity);
	else if (f->result == DOCTOR_OK || f->result == DOCTOR_REMARK)
		add(run, f, HEALTH_OK);
}

/* ---- the numbers ---- */

/* A name, its unit (of performance data), the limits without -w and -c, and the remedy. */
static const struct number {
	const char *name, *unit, *warning, *critical, *format, *remedy;
	double scale; /* of the value in the text */
} numbers[MONITOR_NUMBERS] = {
	[MONITOR_WAITING] = {"waiting", "", "", "", "%.0f event(s) wait to be handled",
	    "does cron run psapi drain, or your script? psapi drain -v shows what happens", 1},
	[MONITOR_RETRYING] = {"retrying", "", "", "", "%.0f event(s) wait for a retry",
	    "psapi list --waiting says why", 1},
	[MONITOR_FAILED] = {"failed", "", "0", "", "%.0f event(s) in failed/",
	    "psapi list --failed says why; fix the handler, then psapi retry --all, or psapi done ID",
	    1},
	[MONITOR_HELD] = {"held", "", "0", "",
	    "%.0f request(s) that arrived before the secret was added wait in hold/",
	    "add the endpoint's secret (psapi secret add), then psapi adopt; psapi adopt --discard "
	    "removes those that match none", 1},
	[MONITOR_OLDEST] = {"oldest", "s", "3600", "", "the oldest event that waits arrived %.1f h ago",
	    "psapi list --waiting says why a handler is tried again; does cron, or "
	    "psapi-drain.timer, run psapi drain?", 3600},
	[MONITOR_DAILY] = {"daily", "s", "",
	    TEXT_OF_MACRO(EVENTS_DAILY_LATE_SECONDS),
	    "the last " EVENTS_DAILY_TYPE " came %.1f h ago",
	    "look at the endpoint in the portal: is it enabled (after 5 days of failures it is not), "
	    "is it subscribed to producersync, what do its Message Attempts say?", 3600},
	[MONITOR_DRAIN] = {"drain", "s", "", TEXT_OF_MACRO(MONITOR_DRAIN_LATE_SECONDS),
	    "psapi drain was not at work for %.1f min",
	    "systemctl enable --now psapi-drain.path psapi-drain.timer; or, with cron, "
	    "examples/cron/psapi.cron as /etc/cron.d/psapi", 60},
	[MONITOR_FREE] = {"free", "B", "", "", "%.0f MiB free on the spool's file system",
	    "remove some MiB of other files, such as old logs; then psapi prune --older-than 90d",
	    1 << 20},
	[MONITOR_SKEW] = {"skew", "s", "-60:60", "",
	    "the clock is %.0f s off the sender's, in the median of the last deliveries",
	    "synchronise the clock by NTP: apt install chrony, or timedatectl set-ntp true", 1},
	[MONITOR_SECRETS] = {"secrets", "", "", "", "%.0f usable secret(s)", "psapi secret list", 1},
};

void
monitor_limits_default(struct monitor_limits *limits)
{
	for (int i = 0; i < MONITOR_NUMBERS; i++) {
		range_parse(&limits->warning[i], numbers[i].warning, strlen(numbers[i].warning));
		range_parse(&limits->critical[i], numbers[i].critical, strlen(numbers[i].critical));
	}
}

static int
find_number(const char *name, size_t length)
{
	for (int i = 0; i < MONITOR_NUMBERS; i++)
		if (strlen(numbers[i].name) == length && memcmp(numbers[i].name, name, length) == 0)
			return i;
	return -1;
}

const char *
monitor_limits_parse(struct range ranges[MONITOR_NUMBERS], const char *text)
{
	for (const char *rest = text; rest != NULL;) {
		const char *comma = strchrnul(rest, ',');
		const char *equals = memchr(rest, '=', (size_t)(comma - rest));
		const char *range = equals != NULL ? equals + 1 : rest;
		int i = equals != NULL ? find_number(rest, (size_t)(equals - rest)) : MONITOR_WAITING;
		if (i < 0)
			return "no such number; these are waiting, retrying, failed, held, oldest, daily, "
			       "drain, free, skew and secrets";
		if ((equals == NULL && comma == range) ||
		    !range_parse(&ranges[i], range, (size_t)(comma - range)))
			return "no range: 10, 10:, ~:10, 5:10 or @5:10";
		rest = *comma == ',' ? comma + 1 : NULL;
	}
	return NULL;
}

static void
set_number(struct monitor *run, enum monitor_number which, double value)
{
	run->report->number[which].known = true;
	run->report->number[which].value = value;
}

/* A time on this clock, as an age; a clock that was set back makes none that is negative. */
static double
age(const struct monitor *run, int64_t then)
{
	return then < run->doctor.now ? (double)(run->doctor.now - then) : 0;
}

/* ---- reading the numbers ---- */

/*
 * A script without drain empties new/ by itself: what waits is late only once it waits for long.
 * While the machine was down, nothing could run.
 */
static void
read_drain(struct monitor *run)
{
	const struct store_counts *c = &run->doctor.counts;
	double waits = age(run, c->oldest_waiting), idle = age(run, c->drained);
	double up = (double)clock_since_boot();

	run->no_handlers = !doctor_has_handlers(run->doctor.config);
	if (c->waiting == 0 && (run->no_handlers || c->drained == 0))
		return;
	if (c->drained == 0 && run->no_handlers)
		return;
	if (c->drained == 0 || (run->no_handlers && waits < idle))
		idle = waits;
	set_number(run, MONITOR_DRAIN, idle < up ? idle : up);
}

static void
read_counts(struct monitor *run)
{
	const struct store_counts *c = &run->doctor.counts;

	set_number(run, MONITOR_WAITING, (double)c->waiting);
	set_number(run, MONITOR_RETRYING, (double)c->retrying);
	set_number(run, MONITOR_FAILED, (double)c->failed);
	set_number(run, MONITOR_HELD, (double)c->held);
	if (c->oldest_waiting != 0)
		set_number(run, MONITOR_OLDEST, age(run, c->oldest_waiting));
	read_drain(run);
}

/*
 * The daily event's last time, nanoseconds: here, or on another host of a shared store; -1: late
 * here, and the others are not known. One from the future was logged under a wrong clock.
 */
static int64_t
last_daily(struct monitor *run)
{
	int64_t now = (int64_t)run->doctor.now * NANOSECONDS;
	int64_t last = totals_accepted(&run->totals, EVENTS_DAILY_TYPE);

	if (last > now + 3600 * NANOSECONDS)
		last = 0;
	if (last < now - EVENTS_DAILY_LATE_SECONDS * NANOSECONDS) {
		int64_t elsewhere = doctor_copied_daily(&run->doctor, EVENTS_DAILY_LATE_SECONDS);
		last = elsewhere > last || elsewhere < 0 ? elsewhere : last;
	}
	return last;
}

/* Where none ever came, since the first event of another type. */
static void
read_daily(struct monitor *run)
{
	int64_t last = last_daily(run);

	run->daily_unknown = last < 0;
	if (last < 0)
		return;
	run->no_daily = last == 0;
	if (last == 0)
		last = doctor_first_accepted(&run->doctor);
	if (last == 0)
		return;
	set_number(run, MONITOR_DAILY, age(run, last / NANOSECONDS));
}

static void
read_numbers(struct monitor *run)
{
	struct doctor *d = &run->doctor;
	struct statvfs st;
	int64_t skew;

	if (statvfs(d->config->spool, &st) == 0)
		set_number(run, MONITOR_FREE, (double)st.f_bavail * (double)st.f_frsize);
	if (d->keyring != NULL)
		set_number(run, MONITOR_SECRETS, (double)verify_keyring_size(d->keyring));
	if (d->counted)
		read_counts(run);
	if (!run->counted)
		return;
	read_daily(run);
	if (totals_skew(&run->totals, &skew))
		set_number(run, MONITOR_SKEW, (double)skew);
}

/* A number that breaks its range is a finding; of the others, those that say something. */
static void
judge_number(struct monitor *run, enum monitor_number which)
{
	const struct number *number = &numbers[which];
	struct finding f = {.name = number->name};
	double value = run->report->number[which].value;
	enum health_status status = HEALTH_OK;

	if (!run->report->number[which].known)
		return;
	if (range_alarms(&run->limits->critical[which], value))
		status = HEALTH_CRITICAL;
	else if (range_alarms(&run->limits->warning[which], value))
		status = HEALTH_WARNING;
	const char *format = number->format, *remedy = number->remedy;
	if (which == MONITOR_DRAIN && run->no_handlers) {
		format = "an event waits, and nothing was done for %.1f min";
		remedy = "does your script run, or cron psapi drain -- PROGRAM?";
	}
	if (which == MONITOR_DAILY && run->no_daily) {
		run->report->number[which].known = status != HEALTH_OK;
		format = "no " EVENTS_DAILY_TYPE " in the %.1f h since the first accepted event";
	}
	if (!run->report->number[which].known)
		return;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	snprintf(f.text, sizeof(f.text), format, value / number->scale);
#pragma GCC diagnostic pop
	snprintf(f.remedy, sizeof(f.remedy), "%s", remedy);
	add(run, &f, status);
}

/* ---- further checks ---- */

/* Without PSAPI_LISTEN a web server starts the receiver; only a real request can test it. */
static void
check_answers(struct doctor *d, struct finding *f)
{
	struct error error;

	if (*d->listen == '\0')
		doctor_skipped(f, "no PSAPI_LISTEN");
	else if (fastcgi_client_ping(d->listen, PING_MS, &error) == 0)
		doctor_ok(f, "the receiver answers");
	else if (errno == EACCES && geteuid() != 0)
		doctor_skipped(f, "%s", error.text);
	else
		doctor_failed_for(f, &error);
}

static const struct doctor_check ping[] = {
	{"receiver", check_answers,
	    "start the receiver (systemctl start psapi-fcgi.socket psapi-fcgi); psapi-fcgi -t says "
	    "what keeps it from starting"},
	{0},
};

/* Events that failed are in failed/, which is counted. */
static void
check_drain_status(struct doctor *d, struct finding *f)
{
	const struct monitor *run = d->user;
	char at[TERMINAL_TIME_SIZE];

	/* One that was killed has noted its beginning alone. */
	int64_t last = run->runs.ended > d->counts.drained ? run->runs.ended : d->counts.drained;
	if (last > d->now + MONITOR_AHEAD_SECONDS)
		doctor_failed(f, MONITOR_AHEAD_REMEDY, "psapi drain last ran at %s, in the future",
		    terminal_time(last, at));
	else if (run->runs.ended == 0)
		doctor_skipped(f, "no drain has ended yet");
	else if (runs_are_good(&run->runs))
		doctor_ok(f, "the last psapi drain ended with exit status %d", run->runs.status);
	else
		doctor_failed(f, NULL, "the last psapi drain ended with exit status %d: events wait",
		    run->runs.status);
}

static const struct doctor_check drain_status[] = {
	{"drain-status", check_drain_status,
	    "run it by hand, it says why: sudo -u psapi psapi drain; journalctl -u psapi-drain"},
	{0},
};

/*
 * The database, then the counts. Each waits for a database that does not answer: what has failed is
 * not tried again, and is one finding.
 */
static void
check_store(struct doctor *d, struct finding *f)
{
	struct error error;

	doctor_skipped(f, "no fault, or an earlier check has named it");
	if (d->store == NULL)
		return;
	d->unreadable = store_check(d->store, doctor_report_store, d, &error) != STORE_OK;
	if (!d->unreadable)
		d->counted = store_count(d->store, d->now, &d->counts, &error) == STORE_OK;
	d->unreadable = !d->counted;
	if (d->unreadable && !d->store_failed)
		doctor_failed_for(f, &error);
}

static const struct doctor_check store_checks[] = {
	{"store", check_store, ""},
	{0},
};

/* ---- the checks ---- */

/*
 * In this order: the first request makes the spool, the log is found before it is judged, and
 * "unrecognised" is of the counts that "store" makes.
 */
static const struct {
	const struct doctor_check *table;
	const char *name;
	enum health_status severity;
	bool awaited; /* it says nothing while the first secret is awaited */
} checks[] = {
	{ping, "receiver", HEALTH_CRITICAL, false},
	{doctor_local_checks, "spool", HEALTH_CRITICAL, false},
	{doctor_local_checks, "storing", HEALTH_CRITICAL, false},
	{doctor_local_checks, "space", HEALTH_CRITICAL, false},
	{doctor_local_checks, "secret", HEALTH_CRITICAL, true},
	{doctor_local_checks, "handlers", HEALTH_WARNING, false},
	{doctor_log_checks, "log", HEALTH_WARNING, false},
	{doctor_log_checks, "deliveries", HEALTH_CRITICAL, true},
	{store_checks, "store", HEALTH_CRITICAL, false},
	{doctor_history_checks, "unrecognised", HEALTH_WARNING, false},
	{drain_status, "drain-status", HEALTH_WARNING, false},
};

static void
run_checks(struct monitor *run)
{
	struct doctor *d = &run->doctor;

	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
		run->severity = checks[i].severity;
		if (!checks[i].awaited || !run->awaits)
			doctor_run_table(d, checks[i].table, checks[i].name);
		if (strcmp(checks[i].name, "spool") != 0 || d->store == NULL)
			continue;
		run->awaits = secrets_is_empty(d->config->secret_file) && store_is_empty(d->store);
		runs_read(d->store, &run->runs);
	}
}

/* Count what is in the log. */
static void
count_log(struct monitor *run)
{
	struct doctor *d = &run->doctor;
	struct error ignored; /* the check "log" has failed for it, too */

	run->counted = d->store != NULL &&
	    totals_update(d->config, d->store, &run->totals, &ignored) == 0;
}

/* What depends on the store, its counts or the log was judged only if these can be read. */
static bool
is_partial(const struct monitor *run)
{
	return run->doctor.store == NULL || !run->doctor.counted || !run->doctor.log_is_read ||
	    !run->counted || run->daily_unknown;
}

/* Nobody has set it up yet: the package is installed, and no request has come. */
static bool
is_untouched(const struct config *config)
{
	return access(config->spool, F_OK) == 0 && store_is_new(config) &&
	    secrets_is_empty(config->secret_file);
}

/* What was bad in the last verdict has been since then. */
static void
date_findings(struct health *health, const struct health *last)
{
	for (int i = 0; i < health->count; i++) {
		struct health_finding *f = &health->finding[i];
		const struct health_finding *before = health_find(last, f->name);
		bool lasting = before != NULL && before->status != HEALTH_OK && before->since > 0 &&
		    before->since < health->at;
		if (f->status != HEALTH_OK)
			f->since = lasting ? before->since : health->at;
	}
}

/* Whether this verdict is to be noted. A time in the future is of a wrong clock. */
static bool
replaces(const struct health *health, const struct health *last)
{
	return health->mails || !last->mails || last->at > health->at ||
	    health->at - last->at >= MAILS_SECONDS;
}

/* Complete the verdict from the last one, and note it. */
static void
note_verdict(struct store *store, struct health *health)
{
	struct health *last = calloc(1, sizeof(*last));

	if (last == NULL)
		return;
	if (store != NULL)
		health_read(store, last);
	date_findings(health, last);
	if (store != NULL && replaces(health, last))
		health_write(store, health);
	free(last);
}

void
monitor_run(const struct config *config, const struct monitor_limits *limits, bool mails,
    time_t now, struct monitor_report *report)
{
	struct monitor run = {.doctor = {.config = config, .listen = config->listen, .now = now,
		.report = take, .user = &run}, .limits = limits, .report = report};
	struct finding untouched = {
	    .name = "set-up", .text = "waits for its first secret and request"};

	memset(report, 0, sizeof(*report));
	report->health.at = now;
	report->health.mails = mails;
	if (is_untouched(config)) {
		add(&run, &untouched, HEALTH_OK);
	} else {
		run_checks(&run);
		count_log(&run);
		read_numbers(&run);
		for (int i = 0; i < MONITOR_NUMBERS; i++)
			judge_number(&run, (enum monitor_number)i);
		report->health.partial = is_partial(&run);
	}
	note_verdict(run.doctor.store, &report->health);
	verify_keyring_free(run.doctor.keyring);
	store_close(run.doctor.store);
}

/* ---- the line of a plugin ---- */

/* Append text: '|' begins performance data, and a line break the long output. */
static void
append(char *line, const char *text)
{
	size_t n = strlen(line);

	for (; *text != '\0' && n + 1 < LINE_SIZE; text++)
		line[n++] = *text == '|' ? '/' : *text < ' ' || *text >= 0x7f ? ' ' : *text;
	line[n] = '\0';
}

/* The findings that are bad, the worst first; of a good verdict what tells most. */
static void
append_findings(char *line, const struct health *health)
{
	static const char *const telling[] = {"set-up", "deliveries", "waiting", "daily"};
	bool first = true;

	for (int status = HEALTH_UNKNOWN; status > HEALTH_OK; status--)
		for (int i = 0; i < health->count; i++) {
			const struct health_finding *f = &health->finding[i];
			if ((int)f->status != status)
				continue;
			append(line, first ? "" : "; ");
			append(line, f->name);
			append(line, ": ");
			append(line, f->text);
			first = false;
		}
	for (size_t i = 0; health->status == HEALTH_OK && i < sizeof(telling) / sizeof(telling[0]);
	     i++) {
		const struct health_finding *f = health_find(health, telling[i]);
		append(line, f == NULL || first ? "" : "; ");
		append(line, f == NULL ? "" : f->text);
		first = first && f == NULL;
	}
}

void
monitor_print(FILE *stream, const struct monitor_report *report,
    const struct monitor_limits *limits)
{
	char line[LINE_SIZE] = "";
	bool first = true;

	append_findings(line, &report->health);
	fprintf(stream, "PSAPI %s - %s", health_text(report->health.status), line);
	for (int i = 0; i < MONITOR_NUMBERS; i++) {
		if (!report->number[i].known)
			continue;
		fprintf(stream, "%s%s=%.0f%s;%s;%s%s", first ? " | " : " ", numbers[i].name,
		    report->number[i].value, numbers[i].unit, limits->warning[i].text,
		    limits->critical[i].text, i == MONITOR_SKEW ? "" : ";0");
		first = false;
	}
	fputc('\n', stream);
}
