/*
 * psapi list --gaps: of the past days those that are the runDate of no daily event. What was
 * before the oldest event that is kept and before the first runDate, or was pruned, is not known.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "base/log.h"
#include "base/terminal.h"
#include "commands/list.h"
#include "events.h"

enum { DAY = 86400 };

/*
 * Days from a runDate to the last possible arrival: the sender can send an event again for 90 days
 * (docs.svix.com/retention). The portal's "Send Example" has the runDate 2025-07-24 for ever.
 */
enum { LATEST_DAYS = 91 };

/* Days are counted since 1970, UTC. */
struct gaps {
	int64_t first, count;
	int64_t known; /* the first day that is judged */
	int64_t named; /* the first day that an event names, but no example; INT64_MAX: none does */
	bool *there;   /* by day - first */
};

/* store_each()'s visit: the oldest event that the sender sent. */
static int
find_oldest(const struct store_item *item, void *data)
{
	int64_t *received = data;

	if (item->invalid != NULL || item->entry.event.queue == QUEUE_NONE)
		return 0;
	*received = item->entry.received;
	return 1;
}

/* store_each()'s visit. */
static int
note_day(const struct store_item *item, void *data)
{
	struct gaps *gaps = data;
	const struct event *event = &item->entry.event;
	int64_t time;

	if (item->invalid != NULL || strcmp(event->type, EVENTS_DAILY_TYPE) != 0 ||
	    !datetime_is_date(event->run_date) || !datetime_parse(event->run_date, &time))
		return 0;
	int64_t day = time / NANOSECONDS / DAY - gaps->first;
	if (day < 0 || day >= gaps->count)
		return 0;
	gaps->there[day] = true;
	day += gaps->first;
	if (day < gaps->named && item->entry.received / NANOSECONDS / DAY - day <= LATEST_DAYS)
		gaps->named = day;
	return 0;
}

/*
 * Fill in gaps->known, after gaps->named. Of events that came late, several at once, the runDates
 * say that the sender had begun. Returns an exit status (logged).
 */
static int
find_known(struct command_line *line, struct gaps *gaps)
{
	const struct store_filter any = {.statuses = 1U << STORE_NEW | 1U << STORE_WAITING |
		    1U << STORE_DEAD | 1U << STORE_HANDLED};
	struct roster forgotten = {0};
	int64_t oldest = INT64_MAX;
	struct error error;
	int status = command_status(store_forgotten(line->store, &forgotten, &error), &error);

	if (status == EX_OK)
		status = command_status(
		    store_each(line->store, &any, find_oldest, &oldest, &error), &error);
	gaps->known = oldest == INT64_MAX ? INT64_MAX : oldest / NANOSECONDS / DAY + 1;
	if (gaps->named < gaps->known)
		gaps->known = gaps->named;
	if (forgotten.forgotten != 0 && forgotten.forgotten / DAY >= gaps->known)
		gaps->known = forgotten.forgotten / DAY + 1;
	roster_free(&forgotten);
	return status;
}

static int
find_days(struct command_line *line, struct gaps *gaps)
{
	const struct store_filter daily = {.type = EVENTS_DAILY_TYPE,
		.since = (gaps->first - 1) * DAY * NANOSECONDS};
	struct error error;

	return command_status(store_each(line->store, &daily, note_day, gaps, &error), &error);
}

/* ---- print ---- */

static const char *
date_of(int64_t day, char text[DATETIME_TEXT_SIZE])
{
	datetime_text(day * DAY, text);
	text[strcspn(text, "T")] = '\0';
	return text;
}

/* 0 is a Thursday. */
static const char *
weekday_of(int64_t day, bool *weekend)
{
	static const char *const names[] = {"Thursday", "Friday", "Saturday", "Sunday", "Monday",
		"Tuesday", "Wednesday"};

	*weekend = day % 7 == 2 || day % 7 == 3;
	return names[day % 7];
}

static void
print_gap(int64_t day, bool json)
{
	char date[DATETIME_TEXT_SIZE];
	bool weekend;
	const char *weekday = weekday_of(day, &weekend);

	if (json)
		terminal_print_json(json_pack("{s:s,s:s,s:s,s:b}", "date", date_of(day, date), "status",
		    "missing", "weekday", weekday, "weekend", weekend));
	else
		printf("%s  %s%s\n", date_of(day, date), weekday, weekend ? " (weekend)" : "");
}

static void
print_unknown(int64_t first, int64_t last, bool json)
{
	char from[DATETIME_TEXT_SIZE], to[DATETIME_TEXT_SIZE];

	date_of(first, from);
	date_of(last, to);
	if (json)
		terminal_print_json(
		    json_pack("{s:s,s:s,s:s}", "from", from, "to", to, "status", "unknown"));
	else
		printf("%s to %s: not known, for the events that are kept begin later\n", from, to);
}

/* Returns how many days are missing. */
static int64_t
print_gaps(const struct gaps *gaps, bool json)
{
	int64_t unknown = gaps->known - gaps->first, missing = 0, weekends = 0;
	bool weekend;

	unknown = unknown < 0 ? 0 : unknown > gaps->count ? gaps->count : unknown;
	while (unknown > 0 && gaps->there[unknown - 1])
		unknown--;
	for (int64_t i = unknown; i < gaps->count; i++)
		missing += !gaps->there[i];
	/* cron mails what is printed: only with a gap. */
	if (unknown > 0 && (json || missing > 0 || isatty(STDOUT_FILENO)))
		print_unknown(gaps->first, gaps->first + unknown - 1, json);
	for (int64_t i = unknown; i < gaps->count; i++) {
		if (gaps->there[i])
			continue;
		weekday_of(gaps->first + i, &weekend);
		weekends += weekend;
		print_gap(gaps->first + i, json);
	}
	if (!json && missing > 0)
		printf("%lld of %lld days have no daily event, %lld of them on a weekend\n",
		    (long long)missing, (long long)(gaps->count - unknown), (long long)weekends);
	return missing;
}

int
list_gaps(struct command_line *line, int64_t days)
{
	struct gaps gaps = {
		.count = days, .named = INT64_MAX, .there = calloc((size_t)days, sizeof(bool))};

	gaps.first = (clock_unix() - EVENTS_DAILY_LATE_SECONDS) / DAY - days + 1;
	if (gaps.there == NULL) {
		log_line("out of memory");
		return EX_OSERR;
	}
	int status = command_open(line);
	if (status == EX_OK)
		status = find_days(line, &gaps);
	if (status == EX_OK)
		status = find_known(line, &gaps);
	if (status == EX_OK && print_gaps(&gaps, line->json) > 0)
		status = 1;
	free(gaps.there);
	return status;
}
