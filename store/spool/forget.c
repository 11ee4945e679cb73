/*
 * Owns how events are forgotten: those that are old and were handled are removed from events/, a
 * batch at a time. What they say of producers is in state/roster before, durably (forgotten.c);
 * after a crash between the two, an event is in both, and counts once.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/spool/spool.h"

/* Some 50,000 names, for state/roster is written anew for each batch. */
enum { NAMES_SIZE = 2 * 1024 * 1024 };

struct going {
	struct store_forgetting *f;
	struct roster roster; /* of what was forgotten */
	bool changed;         /* since this process wrote it; true at first, see spool_forget() */
	int64_t until;        /* the last of the batch was received, Unix seconds */
	char *names;          /* one after the other, each with its NUL */
	size_t length;
	enum store_result result; /* of single files that cannot be read */
	struct error *error;
};

static bool
is_queued(struct spool *spool, const char *name)
{
	return spool_has(spool, SPOOL_NEW, name) || spool_has(spool, SPOOL_FAILED, name);
}

/* Write down what the batch says, then remove it. Returns 0, or 1 with *error. */
static int
remove_batch(struct spool *spool, struct going *b)
{
	const char *name = b->names;

	if (b->until > b->roster.forgotten) {
		b->roster.forgotten = b->until;
		b->changed = true;
	}
	if (b->changed && spool_forgotten_write(spool, &b->roster, b->error) != STORE_OK)
		return 1;
	b->changed = false;
	for (; name < b->names + b->length; name += strlen(name) + 1) {
		if (unlinkat(spool->dir[SPOOL_EVENTS], name, 0) != 0 && errno != ENOENT) {
			spool_failed(spool, "remove the name", SPOOL_EVENTS, "", b->error);
			return 1;
		}
		b->f->forgotten++;
	}
	b->length = 0;
	return 0;
}

static int
forget_old(struct spool *spool, const char *name, const struct stat *st, struct going *b)
{
	size_t size = strlen(name) + 1;

	if (b->f->visit != NULL)
		b->f->visit(name, st->st_mtime, b->f->data);
	if (b->f->dry_run) {
		b->f->forgotten++;
		return 0;
	}
	if (spool_roster_add(spool, name, INT64_MAX, &b->roster, &b->changed, b->error) != 0) {
		b->result = STORE_FAILED;
		b->f->kept++;
		return spool_is_one_file(errno) ? 0 : 1;
	}
	memcpy(b->names + b->length, name, size);
	b->length += size;
	b->until = st->st_mtime > b->until ? st->st_mtime : b->until;
	if (b->length <= NAMES_SIZE - STORE_NAME_SIZE)
		return 0;
	return remove_batch(spool, b);
}

static int
forget_event(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct going *b = data;
	struct stat st;

	if (!store_name_valid(name) ||
	    fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
		return 0;
	/* Written when it was received, and never since. */
	if (st.st_mtime <= b->f->before && !is_queued(spool, name))
		return forget_old(spool, name, &st, b);
	b->f->kept++;
	return 0;
}

/*
 * Remove a state that a crash left: its event is neither in new/ nor in failed/. Not a young one:
 * a receiver writes it just before the dead letter that it explains.
 */
static int
forget_state(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	const struct store_forgetting *f = data;
	struct stat st;

	if (store_name_valid(name) && !is_queued(spool, name) &&
	    fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_mtime < f->now - SPOOL_LEFTOVER_SECONDS)
		unlinkat(spool->dir[dir], name, 0);
	return 0;
}

static enum store_result
forget_events(struct spool *spool, struct going *b)
{
	if (b->names == NULL)
		return spool_failed(spool, "list the names", SPOOL_EVENTS, "", b->error);
	if (!b->f->dry_run &&
	    spool_forgotten(spool, INT64_MAX, &b->roster, b->error) != STORE_OK)
		return STORE_FAILED;
	void *const data[] = {b};
	int visited = spool_each_by_inode(spool, SPOOL_EVENTS, forget_event, data, 1);
	if (visited < 0)
		return spool_failed(spool, "list the names", SPOOL_EVENTS, "", b->error);
	if (visited > 0 || (b->length > 0 && remove_batch(spool, b) != 0))
		return STORE_FAILED;
	return b->result;
}

enum store_result
spool_forget(void *engine, struct store_forgetting *f, struct error *error)
{
	struct spool *spool = engine;
	/* A killed prune may have left a roster whose name is not on the disk: it is written anew. */
	struct going b = {.f = f, .roster.every = true, .changed = true, .error = error,
		.names = malloc(NAMES_SIZE)};
	enum store_result result = forget_events(spool, &b);

	free(b.names);
	roster_free(&b.roster);
	if (result == STORE_OK && !f->dry_run)
		spool_each(spool, SPOOL_STATE, forget_state, f);
	return result;
}
