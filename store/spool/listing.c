/* Owns listings: names of the spool's files and when they arrived, about 50 bytes each. */
#define _GNU_SOURCE
#include "store/spool/listing.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "store/spool/moves.h"
#include "base/datetime.h"

struct item {
	int64_t time;
	uint32_t name;
	uint32_t dir;
};

struct listing {
	struct item *items;
	size_t count, room;
	char *names;
	size_t length, names_room;
	/* of the call of listing_add() */
	enum spool_dir unless;
	int64_t since;
};

/* ---- which ---- */

static bool
is_under(const char *type, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(type, prefix, length) == 0 && (type[length] == '\0' || type[length] == '.');
}

bool
listing_selection_matches(const struct selection *s, const struct entry *entry)
{
	return (s->type == NULL || is_under(entry->event.type, s->type)) &&
	    (s->npn == NULL || strcmp(entry->event.npn, s->npn) == 0) && entry->received >= s->since;
}

const char *
listing_status_text(enum status status)
{
	static const char *const texts[] = {"new", "waiting", "failed", "handled"};

	return texts[status];
}

enum status
listing_status_of(struct spool *spool, const char *name, struct handler_state *state)
{
	bool known = handler_state_read(spool, name, state);

	if (moves_has(spool, SPOOL_NEW, name)) {
		if (known && state->failed_at == 0)
			return STATUS_WAITING;
		memset(state, 0, sizeof(*state)); /* it was moved back by hand */
		return STATUS_NEW;
	}
	if (moves_has(spool, SPOOL_FAILED, name))
		return STATUS_FAILED;
	memset(state, 0, sizeof(*state)); /* left over */
	return STATUS_HANDLED;
}

/* ---- the list ---- */

struct listing *
listing_new(void)
{
	return calloc(1, sizeof(struct listing));
}

void
listing_free(struct listing *listing)
{
	if (listing == NULL)
		return;
	free(listing->items);
	free(listing->names);
	free(listing);
}

static int
make_room(struct listing *l, size_t size)
{
	if (l->count == l->room) {
		size_t room = l->room + l->room / 2 + 64;
		struct item *items = realloc(l->items, room * sizeof(*items));
		if (items == NULL)
			return -1;
		l->items = items;
		l->room = room;
	}
	if (l->length + size > l->names_room) {
		size_t room = l->names_room + l->names_room / 2 + 4096;
		char *names = room > UINT32_MAX ? NULL : realloc(l->names, room);
		if (names == NULL)
			return -1;
		l->names = names;
		l->names_room = room;
	}
	return 0;
}

static int
add(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct listing *l = data;
	size_t size = strlen(name) + 1;
	struct stat st;

	if (!spool_name_valid(name) || (l->unless != dir && moves_has(spool, l->unless, name)) ||
	    fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
		return 0;
	int64_t time = st.st_mtim.tv_sec * NANOSECONDS + st.st_mtim.tv_nsec;
	/* The kernel stamps files with a clock that lags by some milliseconds. */
	if (time < l->since - NANOSECONDS)
		return 0;
	if (make_room(l, size) != 0) {
		errno = ENOMEM;
		return -1;
	}
	l->items[l->count++] = (struct item){time, (uint32_t)l->length, dir};
	memcpy(l->names + l->length, name, size);
	l->length += size;
	return 0;
}

int
listing_add(struct listing *l, struct spool *spool, enum spool_dir dir, enum spool_dir unless,
    int64_t since)
{
	l->unless = unless;
	l->since = since;
	return spool_each(spool, dir, add, l);
}

static int
compare(const void *a, const void *b, void *names)
{
	const struct item *x = a, *y = b;

	if (x->time != y->time)
		return x->time < y->time ? -1 : 1;
	return strcmp((char *)names + x->name, (char *)names + y->name);
}

void
listing_sort(struct listing *l)
{
	if (l->count > 0)
		qsort_r(l->items, l->count, sizeof(*l->items), compare, l->names);
}

size_t
listing_size(const struct listing *l)
{
	return l->count;
}

const char *
listing_name(const struct listing *l, size_t i)
{
	return l->names + l->items[i].name;
}

enum spool_dir
listing_dir(const struct listing *l, size_t i)
{
	return (enum spool_dir)l->items[i].dir;
}
