/*
 * Owns listings: names of events in the order of their arrival, which the names themselves do not
 * have. It works for millions of events: a listing keeps names and times, about 50 bytes each, and
 * reads no file.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/datetime.h"
#include "store/spool/spool.h"

static int
make_room(struct spool_listing *l, size_t size)
{
	if (l->count == l->room) {
		size_t room = l->room + l->room / 2 + 64;
		struct spool_listed *items = reallocarray(l->items, room, sizeof(*items));
		if (items == NULL)
			return -1;
		l->items = items;
		l->room = room;
	}
	if (l->length + size > l->names_room) {
		size_t room = l->names_room + l->names_room / 2 + 4096;
		char *names = realloc(l->names, room);
		if (names == NULL)
			return -1;
		l->names = names;
		l->names_room = room;
	}
	return 0;
}

/* spool_each()'s visit: 1: there are more than l->most. */
static int
count_name(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct spool_listing *l = data;

	(void)spool;
	(void)dir;
	(void)name;
	return ++l->seen > l->most ? 1 : 0;
}

/* The same; -1 with errno. */
static int
add_name(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct spool_listing *l = data;
	size_t size = strlen(name) + 1;
	struct stat st;

	if (!store_name_valid(name) || (l->unless != dir && spool_has(spool, l->unless, name)) ||
	    fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
		return 0;
	int64_t time = st.st_mtim.tv_sec * NANOSECONDS + st.st_mtim.tv_nsec;
	/* The kernel stamps files with a clock that lags by some milliseconds. */
	if (time < l->since - NANOSECONDS)
		return 0;
	if (l->count == l->most)
		return 1;
	if (make_room(l, size) != 0)
		return -1;
	l->items[l->count++] = (struct spool_listed){time, l->length, dir};
	memcpy(l->names + l->length, name, size);
	l->length += size;
	return 0;
}

/* Add a directory. That there are too many is known before a name is looked at. */
static enum store_result
add_directory(struct spool *spool, enum spool_dir dir, struct spool_listing *l,
    struct error *error)
{
	l->seen = 0;
	int stop = l->most == SIZE_MAX ? 0 : spool_each(spool, dir, count_name, l);

	if (stop == 0)
		stop = spool_each(spool, dir, add_name, l);
	if (stop < 0)
		return spool_failed(spool, "list the names", dir, "", error);
	if (stop == 0)
		return STORE_OK;
	error_set(error, EX_DATAERR, NULL, "too many events wait to be sorted");
	return STORE_INVALID;
}

static int
compare(const void *a, const void *b, void *names)
{
	const struct spool_listed *x = a, *y = b;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	return strcmp((char *)names + x->name, (char *)names + y->name);
}

enum store_result
spool_list(struct spool *spool, const struct store_filter *filter, size_t most,
    struct spool_listing *l, struct error *error)
{
	unsigned wanted = filter->statuses != 0 ? filter->statuses : ~0U;
	bool all = (wanted & 1U << STORE_HANDLED) != 0;
	enum store_result result = STORE_OK;

	*l = (struct spool_listing){.unless = SPOOL_EVENTS, .since = filter->since, .most = most};
	if (all)
		result = add_directory(spool, SPOOL_EVENTS, l, error);
	/* An event that events/ lacks is being accepted, or was put there by hand. */
	l->unless = all ? SPOOL_EVENTS : SPOOL_NEW;
	if (result == STORE_OK && (wanted & (1U << STORE_NEW | 1U << STORE_WAITING)) != 0)
		result = add_directory(spool, SPOOL_NEW, l, error);
	if (result == STORE_OK && (wanted & 1U << STORE_DEAD) != 0)
		result = add_directory(spool, SPOOL_FAILED, l, error);
	if (l->count > 0)
		qsort_r(l->items, l->count, sizeof(*l->items), compare, l->names);
	return result;
}

void
spool_listing_free(struct spool_listing *l)
{
	free(l->items);
	free(l->names);
}
