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

struct dated {
	int64_t time;
	char name[STORE_NAME_SIZE];
};

struct sorted {
	struct dated *items;
	size_t count, room;
	int64_t since;
};

static enum store_result
invalid(struct error *error, const char *why)
{
	error_set(error, EX_DATAERR, NULL, "%s", why);
	return STORE_INVALID;
}

/* spool_each()'s visit: 1: there are too many to look at. */
static int
count_name(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	size_t *count = data;

	(void)spool;
	(void)dir;
	(void)name;
	return ++*count > SORTED_MAX ? 1 : 0;
}

/* spool_each()'s visit: 1: there are too many; -1 with errno. */
static int
add_name(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct sorted *s = data;
	struct stat st;

	if (!store_name_valid(name) ||
	    fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
		return 0;
	int64_t time = st.st_mtim.tv_sec * NANOSECONDS + st.st_mtim.tv_nsec;
	if (s->count == SORTED_MAX)
		return 1;
	/* The kernel stamps files with a clock that lags by some milliseconds. */
	if (time < s->since - NANOSECONDS)
		return 0;
	if (s->count == s->room) {
		s->room = s->room * 2 + 64;
		struct dated *items = reallocarray(s->items, s->room, sizeof(*items));
		if (items == NULL)
			return -1;
		s->items = items;
	}
	s->items[s->count].time = time;
	strcpy(s->items[s->count++].name, name);
	return 0;
}

/* The newest first. */
static int
compare(const void *a, const void *b)
{
	const struct dated *x = a, *y = b;

	if (x->time != y->time)
		return x->time > y->time ? -1 : 1;
	return strcmp(y->name, x->name);
}

/* "TIME.NAME" of the last event of a page. */
static bool
read_mark(const char *mark, struct dated *last)
{
	char *end;

	errno = 0;
	last->time = strtoll(mark, &end, 10);
	if (errno != 0 || *end != '.' || !store_name_valid(end + 1))
		return false;
	snprintf(last->name, sizeof(last->name), "%s", end + 1);
	return true;
}

/* Collect the names that may match. STORE_OK, or a result with *error. */
static enum store_result
collect(struct spool *spool, const struct store_filter *filter, struct sorted *s,
    struct error *error)
{
	static const struct {
		enum spool_dir dir;
		unsigned statuses;
	} places[] = {{SPOOL_NEW, 1U << STORE_NEW | 1U << STORE_WAITING},
	    {SPOOL_FAILED, 1U << STORE_DEAD}};

	for (int i = 0; i < 2; i++) {
		size_t count = 0;
		if ((filter->statuses & places[i].statuses) == 0)
			continue;
		int stop = spool_each(spool, places[i].dir, count_name, &count);
		if (stop == 0)
			stop = spool_each(spool, places[i].dir, add_name, s);
		if (stop < 0)
			return spool_failed(spool, "list the names", places[i].dir, "", error);
		if (stop > 0)
			return invalid(error, "too many events wait to be sorted");
	}
	if (s->count > 0)
		qsort(s->items, s->count, sizeof(*s->items), compare);
	return STORE_OK;
}

/* Visit the one at i. Returns whether it counts for the limit. */
static bool
visit_one(struct spool *spool, struct store_page *page, const struct dated *one)
{
	struct store_item item;
	struct error ignored; /* it is gone, or is no event: psapi verify names it */
	bool counts = false;

	page->reached = one->time;
	if (spool_get(spool, one->name, &item, &ignored) != STORE_OK)
		return false;
	if (store_filter_matches(&page->filter, &item) &&
	    (page->until == 0 || item.entry.received < page->until)) {
		page->visit(&item, page->data);
		counts = true;
	}
	entry_free(&item.entry);
	return counts;
}

static void
visit_sorted(struct spool *spool, struct store_page *page, const struct sorted *s,
    const struct dated *last)
{
	long found = 0, looked = 0;
	size_t i = 0;

	while (i < s->count && last != NULL && compare(&s->items[i], last) <= 0)
		i++;
	for (; i < s->count && found < page->limit && looked < LOOK_BACK; i++) {
		if (page->deadline != 0 && looked > 0 && clock_milliseconds() >= page->deadline)
			break;
		if (page->until != 0 && s->items[i].time > page->until + NANOSECONDS)
			continue;
		found += visit_one(spool, page, &s->items[i]);
		looked++;
	}
	page->mark[0] = '\0';
	if (i > 0 && i < s->count)
		snprintf(page->mark, sizeof(page->mark), "%lld.%s", (long long)s->items[i - 1].time,
		    s->items[i - 1].name);
}

enum store_result
spool_page(struct spool *spool, struct store_page *page, struct error *error)
{
	struct sorted s = {.since = page->filter.since};
	struct dated last;
	bool goes_on = page->mark[0] != '\0';

	page->reached = 0;
	if (page->filter.statuses == 0 || (page->filter.statuses & 1U << STORE_HANDLED) != 0)
		return invalid(error, "the spool keeps no order of handled events");
	if (goes_on && !read_mark(page->mark, &last))
		return invalid(error, "no such mark");
	enum store_result result = collect(spool, &page->filter, &s, error);
	if (result == STORE_OK)
		visit_sorted(spool, page, &s, goes_on ? &last : NULL);
	free(s.items);
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
	(void)dir;
	(void)name;
	t->count++;
	return is_late(t) ? 1 : 0;
}

/* spool_each()'s visit: 1: the time is over. */
static int
find_oldest(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct tallying *t = data;
	struct stat st;

	/* A replay gives an old file a new name, which is a change of its status. */
	if (fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    (t->oldest == 0 || st.st_ctime < t->oldest))
		t->oldest = st.st_ctime;
	t->count++;
	return is_late(t) ? 1 : 0;
}

enum store_result
spool_tally(struct spool *spool, int budget_ms, struct store_tally *tally, struct error *error)
{
	static const enum spool_dir dirs[] = {SPOOL_NEW, SPOOL_FAILED, SPOOL_HOLD};
	struct tallying found[3] = {0}, aged = {0};
	int ended[3] = {0}, looked = 1;

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
