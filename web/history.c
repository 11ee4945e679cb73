/*
 * Owns the counts of this hour and the 24 before it. From the first count on, lines are counted as
 * they are appended: by a reader that follows the log, in a shared store by serial number. Older
 * lines are read backwards in parts, until the hours are counted and a daily event was found.
 */
#define _GNU_SOURCE
#include "web/history.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "events.h"
#include "web/deliveries.h"
#include "web/walk.h"

#define HOUR (3600 * NANOSECONDS)
enum {
	HOURS = 24,
	SLOTS = HOURS + 1,
	LINES_MAX = 500000,
	LINES_PER_LOOK = 64, /* at the clock */
	COPIES_PER_LOOK = 1000
};

static const char *const outcomes[] = {
	"accepted", "duplicate", "held", "ignored", "rejected", "error"};
enum { OUTCOMES = sizeof(outcomes) / sizeof(outcomes[0]) };

/* The latest line of a kind. */
struct latest {
	int64_t at;
	json_t *row; /* owned; NULL: none */
};

struct history {
	struct web *web;
	pthread_mutex_t lock;
	struct attempts_reader *follower; /* of the local log; NULL: not open */
	struct store_attempts_follow follow; /* of a shared store */
	long copies;                      /* of a shared store: so many were counted */
	bool begun, complete;
	bool behind; /* there are new lines that are not counted */
	char cursor[WALK_CURSOR_SIZE]; /* where the walk back goes on */
	int64_t since;             /* nanoseconds: from here on all is counted */
	long lines;                /* that walks back have seen */
	struct {
		int64_t hour; /* since 1970 */
		long count[OUTCOMES];
	} slots[SLOTS];
	struct latest accepted, daily;
};

struct history *
history_open(struct web *web)
{
	struct history *h = calloc(1, sizeof(*h));

	if (h == NULL)
		return NULL;
	h->web = web;
	pthread_mutex_init(&h->lock, NULL);
	return h;
}

void
history_close(struct history *h)
{
	if (h == NULL)
		return;
	attempts_reader_close(h->follower);
	json_decref(h->accepted.row);
	json_decref(h->daily.row);
	pthread_mutex_destroy(&h->lock);
	free(h);
}

/* ---- counting ---- */

static void
note_latest(struct latest *latest, const struct attempts_line *line, const char *host, int64_t at)
{
	if (latest->row != NULL && at <= latest->at)
		return;
	json_decref(latest->row);
	latest->row = deliveries_row(line, host);
	latest->at = at;
}

static void
count_line(struct history *h, const struct attempts_line *line, const char *host)
{
	int64_t at;

	if (!line->whole || !attempts_reader_time(line, &at))
		return;
	int64_t hour = at / HOUR;
	size_t slot = (size_t)(hour % SLOTS + SLOTS) % SLOTS;
	if (h->slots[slot].hour < hour) {
		memset(&h->slots[slot], 0, sizeof(h->slots[slot]));
		h->slots[slot].hour = hour;
	}
	for (int i = 0; i < OUTCOMES && h->slots[slot].hour == hour; i++)
		h->slots[slot].count[i] += attempts_reader_is(line, ATTEMPTS_OUTCOME, outcomes[i]);
	if (!attempts_reader_is(line, ATTEMPTS_OUTCOME, "accepted") || attempts_reader_is_test(line))
		return;
	note_latest(&h->accepted, line, host, at);
	if (attempts_reader_is(line, ATTEMPTS_TYPE, EVENTS_DAILY_TYPE))
		note_latest(&h->daily, line, host, at);
}

/* ---- new lines ---- */

static int
count_copy(const char *host, const char *text, void *data)
{
	struct history *h = data;
	struct attempts_line line;

	attempts_reader_parse(&line, text);
	count_line(h, &line, host);
	h->copies++;
	return 0;
}

/* The first time: where the log ends now. */
static void
begin(struct history *h)
{
	struct store_attempts none = {.last = 0, .follow = &h->follow, .visit = count_copy, .data = h};
	struct error ignored;

	if (store_is_shared(h->web->store)) {
		/* Nothing was logged: begin again, so that the first lines are not missed. */
		h->complete = store_attempts(h->web->store, &none, &ignored) == STORE_OK &&
		    h->follow.after == 0;
		h->begun = h->follow.after != 0;
		return;
	}
	h->follower = attempts_reader_open(h->web->config->spool, ATTEMPTS_NEWEST_FIRST, false);
	if (h->follower == NULL)
		return;
	attempts_reader_cursor(h->follower, h->cursor);
	/* Without a log there is no place: a walk begins at the newest, of which there is none. */
	if (!attempts_reader_exists(h->follower))
		h->cursor[0] = '\0';
	attempts_reader_follow(h->follower);
	h->begun = true;
}

/* Of a shared store: a part of the copies at a time. */
static void
count_new_copies(struct history *h, int64_t deadline)
{
	struct store_attempts after = {.follow = &h->follow, .first = COPIES_PER_LOOK,
	    .visit = count_copy, .data = h};
	struct error ignored;
	long lines;

	do {
		lines = h->copies;
		if (store_attempts(h->web->store, &after, &ignored) != STORE_OK)
			return;
		h->behind = h->copies - lines == COPIES_PER_LOOK;
	} while (h->behind && clock_milliseconds() < deadline);
}

/* Count what was appended, until the deadline: clock_milliseconds(). */
static void
count_new(struct history *h, int64_t deadline)
{
	struct attempts_line line;

	if (store_is_shared(h->web->store)) {
		count_new_copies(h, deadline);
		return;
	}
	h->behind = false;
	for (long lines = 1; attempts_reader_next(h->follower, &line); lines++) {
		count_line(h, &line, NULL);
		h->behind = lines % LINES_PER_LOOK == 0 && clock_milliseconds() >= deadline;
		if (h->behind)
			return;
	}
}

/* ---- older lines ---- */

static bool
count_old(const struct attempts_line *line, const char *host, void *data)
{
	struct history *h = data;

	count_line(h, line, host);
	h->lines++;
	return true;
}

/* The beginning of the first hour that is shown: it is whole. */
static int64_t
first_hour(int64_t now)
{
	return (now / 3600 - HOURS) * HOUR;
}

/* Walk back until the deadline. A walk by itself takes no more than it must. */
static void
walk_back(struct history *h, int64_t now, int64_t deadline)
{
	const int64_t first = first_hour(now);
	struct log_walk walk = {.deadline = deadline, .visit = count_old, .data = h,
	    .since = h->daily.row == NULL ? 0 : first};
	struct error ignored;

	strcpy(walk.cursor, h->cursor);
	if (walk_newest(h->web, &walk, &ignored) != STORE_OK) {
		h->complete = true; /* rotated away: what is counted is what is known */
		return;
	}
	if (walk.reached != 0 && (h->since == 0 || walk.reached < h->since))
		h->since = walk.reached;
	strcpy(h->cursor, walk.cursor);
	h->complete = walk.cursor[0] == '\0' || h->lines > LINES_MAX ||
	    (h->since < first && h->daily.row != NULL);
	if (walk.cursor[0] == '\0' && (h->since == 0 || h->since > first))
		h->since = first;
}

bool
history_count(struct history *h, int64_t now, int budget_ms)
{
	int64_t deadline = clock_milliseconds() + budget_ms;

	if (pthread_mutex_trylock(&h->lock) != 0)
		return false;
	if (!h->begun)
		begin(h);
	if (h->begun)
		count_new(h, deadline);
	if (h->begun && !h->behind && !h->complete && budget_ms > 0)
		walk_back(h, now, deadline);
	bool more = h->begun && (h->behind || !h->complete);
	pthread_mutex_unlock(&h->lock);
	return more;
}

/* ---- what is known ---- */

static json_t *
hour_json(const struct history *h, int64_t hour)
{
	size_t slot = (size_t)(hour % SLOTS + SLOTS) % SLOTS;
	char text[DATETIME_TEXT_SIZE];
	json_t *object = json_object();

	datetime_text(hour * 3600, text);
	json_object_set_new(object, "hour", json_string(text));
	for (int i = 0; i < OUTCOMES; i++) {
		long count = h->slots[slot].hour == hour ? h->slots[slot].count[i] : 0;
		json_object_set_new(object, outcomes[i], json_integer(count));
	}
	return object;
}

json_t *
history_json(struct history *h, int64_t now)
{
	char since[DATETIME_TEXT_SIZE];
	json_t *hours = json_array();

	pthread_mutex_lock(&h->lock);
	for (int64_t hour = now / 3600 - HOURS; hour <= now / 3600; hour++)
		json_array_append_new(hours, hour_json(h, hour));
	datetime_text(h->since / NANOSECONDS, since);
	bool counted = h->complete || (h->since != 0 && h->since < first_hour(now));
	json_t *object = json_pack("{s:o,s:b,s:b,s:s*,s:O*,s:O*}", "hours", hours, "complete",
	    counted && !h->behind, "searching", h->behind || !h->complete, "since",
	    counted || h->behind || h->since == 0 ? NULL : since, "last_accepted", h->accepted.row,
	    "last_daily", h->daily.row);
	pthread_mutex_unlock(&h->lock);
	return object;
}
