/*
 * Owns the checks of what the attempts log says: whether the receiver writes it, whether real
 * deliveries were accepted, the sender's clock, and the daily event. Test deliveries of psapi
 * itself do not count.
 */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/datetime.h"
#include "base/terminal.h"
#include "events.h"
#include "metrics/totals.h"
#include "receiver/attempts.h"
#include "receiver/attempts_reader.h"

enum {
	LINES_MAX = 5000000,     /* of the logs: a bound for the time that a check takes */
	PROBE_LINES = 1000,      /* in which our own probe of a moment ago is looked for */
	SKEWS_MAX = 5,           /* three wrong ones decide; some days have one event only */
	SKEW_LIMIT = 60,         /* seconds */
	REFUSED_MIN = 3,         /* anybody can send one with an id; the sender repeats */
	REASONS_MAX = 3,         /* that are named */
	DAY_SECONDS = 24 * 3600,
	COPIES_SECONDS = 7 * 86400 /* how far back the other hosts' attempts are read */
};

/* ---- the log itself ---- */

/* Whether the receiver has logged the probe that it has just accepted. */
static bool
has_probe(struct doctor *d, struct attempts_reader *reader)
{
	struct attempts_line line;

	for (int i = 0; i < PROBE_LINES && attempts_reader_next(reader, &line); i++)
		if (attempts_reader_is(&line, ATTEMPTS_WEBHOOK_ID, d->direct_id))
			return true;
	return *d->direct_id == '\0';
}

static void
describe_log(struct doctor *d, struct finding *f)
{
	char at[TERMINAL_TIME_SIZE], unread[64] = "";
	int64_t begins = 0;
	int compressed;

	bool known = attempts_reader_begins(d->config->spool, &begins, &compressed);
	terminal_time(begins / NANOSECONDS, at);
	if (compressed > 0)
		snprintf(unread, sizeof(unread), "; %d compressed one(s) are not read", compressed);
	if (known)
		doctor_ok(f, "begins at %s%s", at, unread);
	else
		doctor_ok(f, "is empty%s", unread);
}

static void
check_log(struct doctor *d, struct finding *f)
{
	char path[PATH_MAX];
	struct error error;
	struct stat log;

	snprintf(path, sizeof(path), "%s/" ATTEMPTS_FILE, d->config->spool);
	if (d->store == NULL) {
		doctor_skipped(f, "the spool cannot be opened");
		return;
	}
	struct attempts_reader *reader =
	    attempts_reader_open(d->config->spool, ATTEMPTS_NEWEST_FIRST, false);
	d->log_is_read = reader != NULL && (lstat(path, &log) != 0 || S_ISREG(log.st_mode));
	if (attempts_check(d->config->spool, &error) != 0)
		doctor_failed_for(f, &error);
	else if (reader == NULL)
		doctor_failed(f, NULL, "%s: %s", path, strerror(errno));
	else if (!has_probe(d, reader))
		doctor_failed(f, NULL, "%s: the receiver did not write what it has just accepted", path);
	else
		describe_log(d, f);
	attempts_reader_close(reader);
}

static bool
has_log(struct doctor *d, struct finding *f)
{
	if (!d->log_is_read)
		doctor_skipped(f, "the attempts log cannot be read");
	return d->log_is_read;
}

/*
 * When the sender's last event of a type (NULL: of any) was accepted, nanoseconds, as psapi check
 * and metrics have counted it before its log was compressed; 0: never. One from the future was
 * logged under a wrong clock.
 */
static int64_t
counted_accepted(const struct doctor *d, const char *type)
{
	int64_t last = 0, latest = ((int64_t)d->now + 3600) * NANOSECONDS;
	struct totals totals = {.count = 0};
	const char *known;

	if (d->store != NULL)
		totals_read(d->store, &totals);
	for (size_t i = 0; i < TOTALS_TYPES_MAX && (known = totals_type(i)) != NULL; i++)
		if ((type == NULL || strcmp(type, known) == 0) && totals.accepted[i] > last &&
		    totals.accepted[i] <= latest)
			last = totals.accepted[i];
	return last;
}

/* ---- deliveries ---- */

/* Each reason has its remedy. */
static const struct {
	const char *reason, *remedy;
} causes[] = {
	{"signature_mismatch",
	    "is the secret of exactly this endpoint in the file? psapi secret list; copy it again from "
	    "the endpoint's page: psapi secret add.\n"
	    "Or a program on the way changes the body: psapi doctor URL"},
	{"stale_timestamp", "set the clock: timedatectl; see the check of the clock"},
	{"future_timestamp", "set the clock: timedatectl; see the check of the clock"},
	{"missing_header", "a program on the way drops headers: psapi doctor URL says which"},
	{"malformed_header", "a program on the way changes or doubles headers: psapi doctor URL"},
	{"unsupported_encoding",
	    "a program on the way compresses requests: turn that off for this path"},
	{"truncated_body",
	    "the web server ends uploads early: its limits of time and size; psapi doctor URL (size)"},
	{"body_too_large", "raise PSAPI_MAX_BODY, and the web server's limit with it"},
	{"no_secret", "psapi secret add; the check of the secret says more"},
	{"spool_full", "make room; the check of the space says more"},
	{"spool_error", "the check of storing says more, and the receiver's log"},
};

/* Hours from a time in nanoseconds to now, Unix seconds. */
static double
hours_since(time_t now, int64_t nanoseconds)
{
	int64_t seconds = now - nanoseconds / NANOSECONDS;

	return (double)seconds / 3600;
}

/* The results of the deliveries since the last accepted one, the newest first. */
struct deliveries {
	long refused;
	bool proven;      /* one of them had a good signature */
	int64_t first;    /* of these, nanoseconds */
	int64_t accepted; /* the last one; 0: none */
	int count;        /* of reasons */
	char reason[REASONS_MAX][32];
};

static void
note_reason(struct deliveries *all, const struct attempts_line *line)
{
	char reason[sizeof(all->reason[0])];

	snprintf(reason, sizeof(reason), "%.*s", (int)line->member[ATTEMPTS_REASON].length,
	    line->member[ATTEMPTS_REASON].text != NULL ? line->member[ATTEMPTS_REASON].text : "");
	for (int i = 0; i < all->count; i++)
		if (strcmp(all->reason[i], reason) == 0)
			return;
	if (all->count < REASONS_MAX && *reason != '\0')
		memcpy(all->reason[all->count++], reason, sizeof(reason));
}

/* A request with an id counts as a delivery. False: the older lines are not needed. */
static bool
note_delivery(struct deliveries *all, const struct attempts_line *line)
{
	bool proven = line->member[ATTEMPTS_KEY].text != NULL;
	int64_t at;

	if (line->member[ATTEMPTS_WEBHOOK_ID].text == NULL || attempts_reader_is_test(line) ||
	    !attempts_reader_time(line, &at))
		return true;
	if (attempts_reader_is(line, ATTEMPTS_OUTCOME, "accepted") ||
	    attempts_reader_is(line, ATTEMPTS_OUTCOME, "duplicate")) {
		all->accepted = proven ? at : 0;
		return !proven;
	}
	if (attempts_reader_is(line, ATTEMPTS_OUTCOME, "rejected") ||
	    attempts_reader_is(line, ATTEMPTS_OUTCOME, "error")) {
		all->refused++;
		all->proven |= proven;
		all->first = at;
		note_reason(all, line);
	}
	return true;
}

static void
read_deliveries(struct doctor *d, struct deliveries *all)
{
	struct attempts_reader *reader =
	    attempts_reader_open(d->config->spool, ATTEMPTS_NEWEST_FIRST, true);
	struct deliveries day = {0};
	struct attempts_line line;
	bool old = false;

	for (long i = 0; reader != NULL && i < LINES_MAX && attempts_reader_next(reader, &line); i++) {
		int64_t at;
		/* Refusals that are over a day old count only if nothing was ever accepted. */
		if (!old && attempts_reader_time(&line, &at) &&
		    at < (d->now - DAY_SECONDS) * NANOSECONDS) {
			old = true;
			day = *all;
		}
		if (!note_delivery(all, &line))
			break;
	}
	attempts_reader_close(reader);
	if (all->accepted == 0)
		all->accepted = counted_accepted(d, NULL);
	if (old && all->accepted != 0) {
		day.accepted = all->accepted;
		*all = day;
	}
}

/* "09:12 UTC", or with the offset of local time; of another day with the date. */
static void
clock_text(int64_t seconds, time_t now, char *text, size_t size)
{
	char at[TERMINAL_TIME_SIZE], today[TERMINAL_TIME_SIZE];
	bool is_today = strncmp(terminal_time(seconds, at), terminal_time(now, today), 10) == 0;

	snprintf(text, size, "%.*s%s%.5s %.6s", is_today ? 0 : 10, at, is_today ? "" : " ", at + 11,
	    at[19] == 'Z' ? "UTC" : at + 19);
}

static void
explain_refusals(struct doctor *d, struct finding *f, const struct deliveries *all)
{
	char since[40], reasons[REASONS_MAX * 34] = "", rest[64];
	const char *remedy = "psapi attempts --outcome rejected shows them";

	clock_text(all->first / NANOSECONDS, d->now, since, sizeof(since));
	for (int i = 0; i < all->count; i++)
		snprintf(reasons + strlen(reasons), sizeof(reasons) - strlen(reasons), "%s%s",
		    i > 0 ? ", " : "", all->reason[i]);
	for (size_t i = 0; all->count > 0 && i < sizeof(causes) / sizeof(causes[0]); i++)
		if (strcmp(causes[i].reason, all->reason[0]) == 0)
			remedy = causes[i].remedy;
	if (all->accepted == 0)
		snprintf(rest, sizeof(rest), "none accepted yet");
	else
		snprintf(rest, sizeof(rest), "the last one accepted came %.1f h ago",
		    hours_since(d->now, all->accepted));
	if (all->accepted == 0 || all->proven || all->refused >= REFUSED_MIN)
		doctor_failed(f, remedy, "%ld deliver%s since %s %s refused: %s; %s", all->refused,
		    all->refused == 1 ? "y" : "ies", since, all->refused == 1 ? "was" : "were", reasons,
		    rest);
	else
		doctor_remark(f, remedy, "%ld request(s) with an id since %s: refused, %s; %s. Anybody can "
		    "send such a one", all->refused, since, reasons, rest);
}

static void
check_deliveries(struct doctor *d, struct finding *f)
{
	struct deliveries all = {0};

	if (!has_log(d, f))
		return;
	read_deliveries(d, &all);
	if (all.refused > 0)
		explain_refusals(d, f, &all);
	else if (all.accepted != 0)
		doctor_ok(f, "the last delivery was accepted %.1f h ago",
		    hours_since(d->now, all.accepted));
	else
		doctor_skipped(f, "none yet, as far as the attempts log goes back");
}

/* ---- the clock ---- */

/*
 * The skews of the latest authentic attempts, in seconds. Those of psapi's own deliveries are
 * left out: they come from this machine's clock. Returns how many were found.
 */
static int
read_skews(struct doctor *d, int64_t skews[SKEWS_MAX])
{
	struct attempts_reader *reader =
	    attempts_reader_open(d->config->spool, ATTEMPTS_NEWEST_FIRST, true);
	struct attempts_line line;
	int count = 0;

	for (long i = 0; reader != NULL && i < LINES_MAX && count < SKEWS_MAX; i++) {
		if (!attempts_reader_next(reader, &line))
			break;
		if (line.member[ATTEMPTS_KEY].text != NULL && !attempts_reader_is_test(&line) &&
		    attempts_reader_number(&line, ATTEMPTS_SKEW, &skews[count]))
			count++;
	}
	attempts_reader_close(reader);
	return count;
}

static int
compare(const void *a, const void *b)
{
	int64_t one = *(const int64_t *)a, two = *(const int64_t *)b;

	return one < two ? -1 : one > two;
}

static void
check_clock(struct doctor *d, struct finding *f)
{
	int64_t skews[SKEWS_MAX];

	if (!has_log(d, f))
		return;
	int count = read_skews(d, skews);
	if (count == 0) {
		doctor_skipped(f, "no authentic delivery yet to compare with");
		return;
	}
	qsort(skews, (size_t)count, sizeof(skews[0]), compare);
	long long median = skews[count / 2];
	if (median > SKEW_LIMIT || median < -SKEW_LIMIT)
		doctor_failed(f, NULL,
		    "%lld s %s the sender's, in the median of %d deliveries; %lld s are tolerated",
		    median < 0 ? -median : median, median < 0 ? "behind" : "ahead of", count,
		    d->config->tolerance);
	else
		doctor_ok(f, "%lld s off the sender's, in the median of %d deliveries", median, count);
}

/* ---- the daily event ---- */

/* The daily event in the attempts log. */
struct daily {
	int64_t first, last; /* nanoseconds: the first event of any type; this one's last. 0: none */
	bool unknown;        /* whether other hosts had a later one */
};

/* The type is logged of authentic requests alone, so it cannot be forged. */
static void
take_line(struct daily *daily, const struct attempts_line *line)
{
	int64_t at;

	if (attempts_reader_is(line, ATTEMPTS_TYPE, EVENTS_DAILY_TYPE) &&
	    !attempts_reader_is_test(line) && attempts_reader_time(line, &at) && at > daily->last)
		daily->last = at;
}

/* store_attempts()'s visit. */
static int
take_copy(const char *host, const char *text, void *data)
{
	struct attempts_line line;

	(void)host;
	attempts_reader_parse(&line, text);
	take_line(data, &line);
	return 0;
}

/* Of a shared store: another host may have received it. */
int64_t
doctor_copied_daily(struct doctor *d, int64_t seconds)
{
	struct daily daily = {0};
	struct store_attempts copies = {.since = ((int64_t)d->now - seconds) * NANOSECONDS,
	    .last = -1, .outcome = "accepted", .visit = take_copy, .data = &daily};
	struct error ignored;

	if (d->store == NULL || !store_is_shared(d->store))
		return 0;
	if (d->unreadable || store_attempts(d->store, &copies, &ignored) != STORE_OK)
		return -1;
	return daily.last;
}

/* Lines before it are of any scanner, and of the time before the set-up. */
int64_t
doctor_first_accepted(const struct doctor *d)
{
	struct attempts_reader *reader =
	    attempts_reader_open(d->config->spool, ATTEMPTS_OLDEST_FIRST, true);
	struct attempts_line line;
	int64_t first = 0, at;

	for (long i = 0; reader != NULL && i < LINES_MAX && first == 0; i++) {
		if (!attempts_reader_next(reader, &line))
			break;
		if (attempts_reader_is(&line, ATTEMPTS_OUTCOME, "accepted") &&
		    !attempts_reader_is_test(&line) && attempts_reader_time(&line, &at))
			first = at;
	}
	attempts_reader_close(reader);
	return first;
}

static void
read_log(struct doctor *d, struct daily *daily)
{
	struct attempts_reader *reader =
	    attempts_reader_open(d->config->spool, ATTEMPTS_NEWEST_FIRST, true);
	struct attempts_line line;

	for (long i = 0; reader != NULL && i < LINES_MAX && daily->last == 0; i++) {
		if (!attempts_reader_next(reader, &line))
			break;
		take_line(daily, &line);
	}
	attempts_reader_close(reader);
	int64_t copied = doctor_copied_daily(d, COPIES_SECONDS);
	daily->unknown = copied < 0;
	if (copied > daily->last)
		daily->last = copied;
	int64_t counted = counted_accepted(d, EVENTS_DAILY_TYPE);
	if (counted > daily->last)
		daily->last = counted;
	if (daily->last == 0)
		daily->first = doctor_first_accepted(d);
}

static void
check_daily(struct doctor *d, struct finding *f)
{
	struct daily daily = {0};
	int64_t limit = ((int64_t)d->now - EVENTS_DAILY_LATE_SECONDS) * NANOSECONDS;

	if (!has_log(d, f))
		return;
	read_log(d, &daily);
	int64_t seconds = d->now - (daily.last != 0 ? daily.last : daily.first) / NANOSECONDS;
	double hours = (double)seconds / 3600;
	if (daily.last >= limit && daily.last != 0)
		doctor_ok(f, "the last " EVENTS_DAILY_TYPE " came %.1f h ago", hours);
	else if (daily.unknown)
		doctor_skipped(f, "the store cannot be read: another host may have received one");
	else if (daily.last != 0)
		doctor_failed(f, NULL,
		    "the last " EVENTS_DAILY_TYPE " came %.1f h ago; it is sent once a day",
		    hours);
	else if (daily.first != 0 && daily.first < limit)
		doctor_failed(f, NULL,
		    "no " EVENTS_DAILY_TYPE " in the %.1f h since the first accepted event", hours);
	else
		doctor_skipped(f, "no " EVENTS_DAILY_TYPE " yet; it is sent once a day");
}

const struct doctor_check doctor_log_checks[] = {
	{"log", check_log,
	    "the receiver's own log says why (attempts go unlogged): owner, mode, or a full disk"},
	{"deliveries", check_deliveries, ""},
	{"clock", check_clock,
	    "synchronise the clock by NTP: apt install chrony, or timedatectl set-ntp true"},
	{"daily", check_daily,
	    "look at the endpoint in the portal: is it enabled (after 5 days of failures it is not), "
	    "is it\n"
	    "subscribed to producersync, what do its Message Attempts say?"},
	{0},
};
