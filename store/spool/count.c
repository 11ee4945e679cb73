/*
 * Owns the counts of what is in the spool. events/ is not looked at. state/ is read first: few
 * events have a state, and to look for one of each event in new/ would double the time.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/text.h"
#include "store/spool/spool.h"

enum {
	OLD_SECONDS = 3600,
	OPENED_MAX = 100 /* files of which only their contents say what they are */
};

struct counting {
	struct store_counts *counts;
	int64_t now;
	uint64_t *put_off; /* hashes of the names whose retry is not due yet, ascending */
	size_t size, room;
	int opened;
};

/* Two of a million names that have the same one: 1 in 40 million spools. */
static uint64_t
hash_of(const char *name)
{
	return text_hash(TEXT_HASH, name, strlen(name));
}

static int
compare(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a, two = *(const uint64_t *)b;

	return one < two ? -1 : one > two;
}

static int
add_put_off(struct counting *c, const char *name)
{
	if (c->size == c->room) {
		size_t room = c->room * 2 + 1024;
		uint64_t *grown = reallocarray(c->put_off, room, sizeof(*grown));
		if (grown == NULL)
			return -1;
		c->put_off = grown;
		c->room = room;
	}
	c->put_off[c->size++] = hash_of(name);
	return 0;
}

/* A state of an event in new/ that did not fail: it waits for its retry. */
static int
count_state(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct counting *c = data;
	struct handler_state state;

	(void)dir;
	if (!store_name_valid(name) || !spool_has(spool, SPOOL_NEW, name) ||
	    !spool_state_read(spool, name, &state) || state.failed_at != 0)
		return 0;
	c->counts->retrying++;
	return state.due_at > c->now ? add_put_off(c, name) : 0;
}

static bool
is_put_off(const struct counting *c, const char *name)
{
	uint64_t hash = hash_of(name);

	return c->size > 0 && bsearch(&hash, c->put_off, c->size, sizeof(hash), compare) != NULL;
}

/* A replay gives an old file a new name, which is a change of its status. */
static void
count_waiting(const struct counting *c, const char *name, const struct stat *st)
{
	struct store_counts *counts = c->counts;

	counts->waiting++;
	if (counts->oldest_waiting == 0 || st->st_ctime < counts->oldest_waiting)
		counts->oldest_waiting = st->st_ctime;
	if (c->now - st->st_ctime <= OLD_SECONDS || is_put_off(c, name))
		return;
	counts->overdue++;
	if (counts->oldest == 0 || st->st_ctime < counts->oldest)
		counts->oldest = st->st_ctime;
}

/*
 * Why a file in new/ is no event; NULL: it is one. An event has two names, here and in events/, so
 * few files need to be read.
 */
static const char *
why_no_event(struct spool *spool, struct counting *c, const char *name, const struct stat *st)
{
	bool plausible = store_name_valid(name) && S_ISREG(st->st_mode);
	struct spool_file file;
	struct entry entry;
	struct stat other;
	const char *why;

	if (plausible && st->st_nlink > 1)
		return NULL;
	if (plausible && fstatat(spool->dir[SPOOL_EVENTS], name, &other, AT_SYMLINK_NOFOLLOW) == 0)
		return other.st_ino == st->st_ino || c->now - st->st_mtime < SPOOL_SETTLED_SECONDS ? NULL :
		    "it is not the file of this name in events/";
	if (c->opened++ >= OPENED_MAX)
		return NULL;
	switch (spool_file_open(spool, &file, SPOOL_NEW, name, &entry, &why)) {
	case ENTRY_OK:
		entry_free(&entry);
		spool_file_close(spool, &file);
		return NULL;
	case ENTRY_INVALID:
		return why;
	case ENTRY_ABSENT:
	case ENTRY_ERROR:
		break;
	}
	return NULL;
}

/* In new/. */
static void
count_new(struct spool *spool, struct counting *c, const char *name, const struct stat *st)
{
	const char *why = why_no_event(spool, c, name, st);

	if (why == NULL) {
		count_waiting(c, name, st);
		return;
	}
	if (c->counts->unrecognised++ > 0)
		return;
	snprintf(c->counts->unrecognised_name, sizeof(c->counts->unrecognised_name), "%s", name);
	c->counts->unrecognised_why = why;
}

static int
count_name(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct counting *c = data;
	struct store_counts *counts = c->counts;
	struct stat st;

	if (fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return 0;
	counts->failed += dir == SPOOL_FAILED;
	counts->held += dir == SPOOL_HOLD;
	counts->leftovers += dir == SPOOL_TMP && spool_file_is_temporary(name) &&
	    c->now - st.st_mtime > SPOOL_LEFTOVER_SECONDS;
	if (dir == SPOOL_NEW)
		count_new(spool, c, name, &st);
	return 0;
}

enum store_result
spool_count(void *engine, int64_t now, struct store_counts *counts, struct error *error)
{
	struct spool *spool = engine;
	static const enum spool_dir dirs[] = {
	    SPOOL_STATE, SPOOL_NEW, SPOOL_FAILED, SPOOL_HOLD, SPOOL_TMP};
	struct counting counting = {.counts = counts, .now = now};
	enum store_result result = STORE_OK;

	memset(counts, 0, sizeof(*counts));
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]) && result == STORE_OK; i++) {
		bool states = dirs[i] == SPOOL_STATE;
		if (spool_each(spool, dirs[i], states ? count_state : count_name, &counting) != 0)
			result = spool_failed(spool, "list the names", dirs[i], "", error);
		if (states && counting.size > 0)
			qsort(counting.put_off, counting.size, sizeof(*counting.put_off), compare);
	}
	free(counting.put_off);
	counts->drained = spool_last_run(spool);
	counts->standbys = -1;
	return result;
}
