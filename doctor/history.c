/*
 * Owns the checks of what has happened so far: the sender's clock and its daily event, from the
 * attempts log; events that wait or failed, held requests and leftovers, in the spool.
 */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <stdlib.h>

#include "receiver/attempts_reader.h"
#include "base/datetime.h"

enum {
	LINES_MAX = 10000,       /* of the attempts log: older ones tell nothing of the clock now */
	SKEWS_MAX = 5,           /* so three wrong ones decide: a day may have one event alone */
	SKEW_LIMIT = 60,         /* seconds */
	DAILY_LOOK_SECONDS = 7 * 86400, /* how far back the other hosts' attempts are read */
	UPDATES_SECONDS = 26 * 3600 /* a day, and two hours more */
};

static bool
has_store(struct doctor *d, struct finding *f)
{
	if (d->store == NULL)
		doctor_skipped(f, "the spool cannot be opened");
	return d->store != NULL;
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

	for (int i = 0; reader != NULL && i < LINES_MAX && count < SKEWS_MAX; i++) {
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

	if (!has_store(d, f))
		return;
	int count = read_skews(d, skews);
	if (count == 0) {
		doctor_skipped(f, "no authentic attempt yet to compare with");
		return;
	}
	qsort(skews, (size_t)count, sizeof(skews[0]), compare);
	long long median = skews[count / 2];
	if (median > SKEW_LIMIT || median < -SKEW_LIMIT)
		doctor_failed(f, NULL,
		    "%lld s %s the sender's, in the median of %d attempts; %lld s are tolerated",
		    median < 0 ? -median : median, median < 0 ? "behind" : "ahead of", count,
		    d->config->tolerance);
	else
		doctor_ok(f, "%lld s off the sender's, in the median of %d attempts", median, count);
}

/* ---- events, by their status ---- */

/* False: it is not known, and the finding says why. */
static bool
count(struct doctor *d, struct finding *f, struct store_counts *counts)
{
	struct error error;

	if (!has_store(d, f))
		return false;
	if (store_count(d->store, d->now, counts, &error) == STORE_OK)
		return true;
	doctor_failed_for(f, &error);
	return false;
}

static void
check_leftovers(struct doctor *d, struct finding *f)
{
	struct store_counts c;

	if (!count(d, f, &c))
		return;
	if (c.leftovers > 0)
		doctor_failed(f, NULL,
		    "%ld file(s) in tmp/ that were not written to for over an hour", c.leftovers);
	else
		doctor_ok(f, "none");
}

static void
check_backlog(struct doctor *d, struct finding *f)
{
	struct store_counts c;

	if (!count(d, f, &c))
		return;
	if (c.overdue > 0)
		doctor_failed(f, NULL,
		    "%ld of %ld event(s) in new/ wait for over an hour, the oldest for %.1f h", c.overdue,
		    c.waiting, (double)(d->now - c.oldest) / 3600);
	else
		doctor_ok(f, "%ld event(s) in new/", c.waiting);
}

static void
check_failed(struct doctor *d, struct finding *f)
{
	struct store_counts c;

	if (!count(d, f, &c))
		return;
	if (c.failed > 0)
		doctor_failed(f, NULL, "%ld event(s) in failed/", c.failed);
	else
		doctor_ok(f, "none");
}

static void
check_hold(struct doctor *d, struct finding *f)
{
	struct store_counts c;

	if (!count(d, f, &c))
		return;
	if (c.held > 0)
		doctor_failed(f, NULL,
		    "%ld request(s) that arrived before the secret was added wait in hold/", c.held);
	else
		doctor_ok(f, "nothing is held");
}

/* ---- the daily event ---- */

/* The daily event in the attempts log. */
struct daily {
	int64_t first, last; /* nanoseconds: the log's first line; the event's last one. 0: none */
};

static void
take_line(struct daily *daily, const struct attempts_line *line)
{
	/* The type is logged of authentic requests alone, so it cannot be forged. */
	bool wanted = attempts_reader_is(line, ATTEMPTS_TYPE, "producersync.updates_available") &&
	    !attempts_reader_is_test(line);
	int64_t at;

	if ((daily->first != 0 && !wanted) || !attempts_reader_time(line, &at))
		return;
	daily->first = daily->first == 0 ? at : daily->first;
	daily->last = wanted && at > daily->last ? at : daily->last;
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

static void
read_log(struct doctor *d, struct daily *daily)
{
	struct attempts_reader *reader =
	    attempts_reader_open(d->config->spool, ATTEMPTS_OLDEST_FIRST, true);
	struct store_attempts copies = {.since = (d->now - DAILY_LOOK_SECONDS) * NANOSECONDS,
	    .last = -1, .visit = take_copy, .data = daily};
	struct attempts_line line;
	struct error error;

	while (reader != NULL && attempts_reader_next(reader, &line))
		take_line(daily, &line);
	attempts_reader_close(reader);
	/* It may have come to another host. */
	if (store_is_shared(d->store))
		store_attempts(d->store, &copies, &error);
}

static void
check_daily(struct doctor *d, struct finding *f)
{
	struct daily daily = {0};
	int64_t limit = ((int64_t)d->now - UPDATES_SECONDS) * NANOSECONDS;

	if (!has_store(d, f))
		return;
	read_log(d, &daily);
	int64_t seconds = d->now - (daily.last != 0 ? daily.last : daily.first) / NANOSECONDS;
	double hours = (double)seconds / 3600;
	if (daily.last >= limit && daily.last != 0)
		doctor_ok(f, "the last producersync.updates_available came %.1f h ago", hours);
	else if (daily.last != 0)
		doctor_failed(f, NULL,
		    "the last producersync.updates_available came %.1f h ago; it is sent once a day",
		    hours);
	else if (daily.first != 0 && daily.first < limit)
		doctor_failed(f, NULL,
		    "no producersync.updates_available in the %.1f h that the attempts log covers", hours);
	else
		doctor_skipped(f, "no producersync.updates_available yet; it is sent once a day");
}

const struct check doctor_history_checks[] = {
	{"clock", check_clock,
	    "synchronise the clock by NTP: apt install chrony, or timedatectl set-ntp true"},
	{"leftovers", check_leftovers,
	    "a receiver was killed while it wrote: see its log. psapi drain and the receiver's start "
	    "remove them"},
	{"backlog", check_backlog,
	    "does cron run psapi drain, or your script? psapi drain -v shows what happens"},
	{"failed", check_failed,
	    "psapi list --failed says why; fix the handler, then psapi retry --all, or psapi done ID"},
	{"hold", check_hold,
	    "add the endpoint's secret (psapi secret add), then psapi adopt; psapi adopt --discard "
	    "removes the requests\n"
	    "that match no secret"},
	{"daily", check_daily,
	    "look at the endpoint in the portal: is it enabled (after 5 days of failures it is not), "
	    "is it\n"
	    "subscribed to producersync, what do its Message Attempts say?"},
	{0},
};
