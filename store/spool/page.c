/*
 * Owns pages of the spool: the newest events that wait or have failed, and how many there are,
 * without a look at everything. Names have no order, so the ones in new/ and failed/ are sorted
 * by their time, up to SORTED_MAX of them; the archive in events/ is never listed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "store/spool/spool.h"

enum { SORTED_MAX = 10000, LOOK_BACK = 2000 };

static enum store_result
invalid(struct error *error, const char *why)
{
	error_set(error, EX_DATAERR, NULL, "%s", why);
	return STORE_INVALID;
}

/* Where a page ends: "TIME.NAME" of its last event. */
struct cursor {
	int64_t time;
	const char *name;
};

static bool
read_cursor(const char *text, struct cursor *cursor)
{
	char *end;

	errno = 0;
	cursor->time = strtoll(text, &end, 10);
	cursor->name = end + 1;
	return errno == 0 && *end == '.' && store_name_valid(cursor->name);
}

/* Whether a listed event belongs to a page that ended with the cursor. */
static bool
is_reached(const struct spool_listing *l, size_t i, const struct cursor *cursor)
{
	const struct spool_listed *item = &l->items[i];

	if (item->time != cursor->time)
		return item->time > cursor->time;
	return strcmp(l->names + item->name, cursor->name) >= 0;
}

/* Visit a listed event. Returns whether it counts for the limit. */
static bool
visit_one(struct spool *spool, struct store_page *page, int64_t time, const char *name)
{
	struct store_item item;
	struct error ignored; /* it is gone, or is no event: psapi verify names it */
	bool counts = false;

	page->reached = time;
	if (spool_get(spool, name, &item, &ignored) != STORE_OK)
		return false;
	if (store_filter_matches(&page->filter, &item) &&
	    (page->until == 0 || item.entry.received < page->until)) {
		page->visit(&item, page->data);
		counts = true;
	}
	entry_free(&item.entry);
	return counts;
}

/* From the newest, which is the last of the listing. */
static void
visit_listed(struct spool *spool, struct store_page *page, const struct spool_listing *l,
    const struct cursor *cursor)
{
	long found = 0, looked = 0;
	size_t i = l->count;

	while (i > 0 && cursor != NULL && is_reached(l, i - 1, cursor))
		i--;
	while (i > 0 && found < page->limit && looked < LOOK_BACK &&
	    (page->deadline == 0 || looked == 0 || clock_milliseconds() < page->deadline)) {
		const struct spool_listed *item = &l->items[--i];
		if (page->until != 0 && item->time > page->until + NANOSECONDS)
			continue;
		found += visit_one(spool, page, item->time, l->names + item->name);
		looked++;
	}
	page->cursor[0] = '\0';
	if (i > 0 && i < l->count)
		snprintf(page->cursor, sizeof(page->cursor), "%lld.%s", (long long)l->items[i].time,
		    l->names + l->items[i].name);
}

enum store_result
spool_page(void *engine, struct store_page *page, struct error *error)
{
	struct spool *spool = engine;
	bool goes_on = page->cursor[0] != '\0';
	struct spool_listing l;
	struct cursor cursor;
	char text[STORE_CURSOR_SIZE];

	memcpy(text, page->cursor, sizeof(text)); /* the cursor is written to below */
	page->reached = 0;
	if (page->filter.statuses == 0 || (page->filter.statuses & 1U << STORE_HANDLED) != 0)
		return invalid(error, "the spool keeps no order of handled events");
	if (goes_on && !read_cursor(text, &cursor))
		return invalid(error, "no such cursor");
	enum store_result result = spool_list(spool, &page->filter, SORTED_MAX, &l, error);
	if (result == STORE_OK)
		visit_listed(spool, page, &l, goes_on ? &cursor : NULL);
	spool_listing_free(&l);
	return result;
}

/* ---- the tally ---- */

enum { NAMES_PER_LOOK = 256 };  /* at the clock */

struct tallying {
	int64_t deadline; /* clock_milliseconds(); 0: none */
	long count;
	int64_t oldest; /* Unix seconds; 0: none yet */
};

static bool
is_late(const struct tallying *t)
{
	return t->deadline != 0 && t->count % NAMES_PER_LOOK == 0 &&
	    clock_milliseconds() >= t->deadline;
}

/* spool_each()'s visit: 1: the time is over. */
static int
tally_name(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct tallying *t = data;

	(void)spool;
	t->count += dir == SPOOL_HOLD || store_name_valid(name);
	return is_late(t) ? 1 : 0;
}

/* spool_each()'s visit: 1: the time is over. */
static int
find_oldest(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct tallying *t = data;
	struct stat st;

	/* A replay gives an old file a new name, which is a change of its status. */
	if (store_name_valid(name) &&
	    fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (t->oldest == 0 || st.st_ctime < t->oldest))
		t->oldest = st.st_ctime;
	t->count++;
	return is_late(t) ? 1 : 0;
}

enum store_result
spool_tally(void *engine, int64_t now, int budget_ms, struct store_tally *tally,
    struct error *error)
{
	struct spool *spool = engine;
	static const enum spool_dir dirs[] = {SPOOL_NEW, SPOOL_FAILED, SPOOL_HOLD};
	struct tallying found[3] = {0}, aged = {0};
	int ended[3] = {0}, looked = 1;

	(void)now;
	memset(tally, 0, sizeof(*tally));
	for (int i = 0; i < 3; i++) {
		found[i].deadline = budget_ms != 0 ? clock_milliseconds() + budget_ms : 0;
		ended[i] = spool_each(spool, dirs[i], tally_name, &found[i]);
		aged.deadline = found[i].deadline;
		if (dirs[i] == SPOOL_NEW && ended[i] == 0 && found[i].count <= SORTED_MAX)
			looked = spool_each(spool, SPOOL_NEW, find_oldest, &aged);
		if (ended[i] < 0 || looked < 0)
			return spool_failed(spool, "list the names", dirs[i], "", error);
	}
	*tally = (struct store_tally){.waiting = found[0].count, .failed = found[1].count,
	    .held = found[2].count, .more_waiting = ended[0] != 0, .more_failed = ended[1] != 0,
	    .oldest = looked == 0 ? aged.oldest : 0};
	return STORE_OK;
}
