/*
 * Owns an administrator's view of the spool and moves in it: the status of an event, visits to
 * what was listed, retry, replay, finish.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/datetime.h"
#include "store/spool/spool.h"

static const char *const places[] = {[STORE_NEW] = "new", [STORE_WAITING] = "new",
	[STORE_DEAD] = "failed", [STORE_HANDLED] = "events"};

/* ---- status ---- */

static enum spool_dir
directory_of(enum store_status status)
{
	return status == STORE_HANDLED ? SPOOL_EVENTS : status == STORE_DEAD ? SPOOL_FAILED : SPOOL_NEW;
}

/* 1: there; 0: not there; -1: errno. spool_has() says "there" of what it cannot look up. */
static int
look_up(struct spool *spool, enum spool_dir dir, const char *name)
{
	if (faccessat(spool->dir[dir], name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return 1;
	return errno == ENOENT ? 0 : -1;
}

/* Returns 0, or -1 (errno). */
static int
status_of(struct spool *spool, struct store_item *item)
{
	bool known = spool_state_read(spool, item->name, &item->state);
	int waits = look_up(spool, SPOOL_NEW, item->name);
	int dead = waits != 0 ? 0 : look_up(spool, SPOOL_FAILED, item->name);

	if (waits < 0 || dead < 0)
		return -1;
	if (waits && known && item->state.failed_at == 0)
		item->status = STORE_WAITING;
	else
		item->status = waits ? STORE_NEW : dead ? STORE_DEAD : STORE_HANDLED;
	/* Of a dead letter that was moved back by hand, or that a crash left. */
	if (item->status == STORE_NEW || item->status == STORE_HANDLED)
		memset(&item->state, 0, sizeof(item->state));
	return 0;
}

/* Read an event from a directory; SPOOL_DIRS: from the one of its status. */
static enum entry_result
read_item(struct spool *spool, const char *name, enum spool_dir dir, struct store_item *item)
{
	struct spool_file file;

	*item = (struct store_item){.name = name, .status = STORE_HANDLED};
	if (status_of(spool, item) != 0)
		return ENTRY_ERROR;
	snprintf(item->path, sizeof(item->path), "%s/%s/%s", spool->path, places[item->status], name);
	if (dir == SPOOL_DIRS)
		dir = directory_of(item->status);
	enum entry_result result =
	    spool_file_open(spool, &file, dir, name, &item->entry, &item->invalid);
	if (result != ENTRY_OK)
		return result;
	item->invalid = NULL;
	spool_file_close(spool, &file);
	return ENTRY_OK;
}

enum store_result
spool_get(void *engine, const char *name, struct store_item *item, struct error *error)
{
	struct spool *spool = engine;

	switch (read_item(spool, name, SPOOL_DIRS, item)) {
	case ENTRY_OK:
		return STORE_OK;
	case ENTRY_ABSENT:
		return STORE_ABSENT;
	case ENTRY_INVALID:
		error_set(error, EX_DATAERR, NULL, "%s: %s", item->path, item->invalid);
		return STORE_INVALID;
	case ENTRY_ERROR:
		break;
	}
	spool_failed(spool, "read the file", directory_of(item->status), name, error);
	return STORE_FAILED;
}

static bool
is_known(struct spool *spool, const char *name)
{
	return spool_has(spool, SPOOL_NEW, name) || spool_has(spool, SPOOL_FAILED, name) ||
	    spool_has(spool, SPOOL_EVENTS, name);
}

enum store_result
spool_lookup(void *engine, const char *id, char name[STORE_NAME_SIZE], struct error *error)
{
	struct spool *spool = engine;
	const char *slash = strrchr(id, '/');

	if (*id != '\0' && store_name(id, strlen(id), name) == 0 && is_known(spool, name))
		return STORE_OK;
	slash = slash == NULL ? id : slash + 1;
	if (strlen(slash) < STORE_NAME_SIZE && store_name_valid(slash)) {
		strcpy(name, slash);
		if (is_known(spool, name))
			return STORE_OK;
	}
	error_set(error, EX_NOINPUT, "psapi list --all shows all", "%s: no such event in %s", id,
	    spool->path);
	return STORE_ABSENT;
}

/* ---- listings ---- */

enum store_result
spool_items(void *engine, const struct store_filter *filter,
    int (*visit)(const struct store_item *item, void *data), void *data, struct error *error)
{
	struct spool *spool = engine;
	struct store_item item;
	struct spool_listing l;
	int stop = 0;

	/* What was listed is visited, whatever failed. */
	enum store_result result = spool_list(spool, filter, SIZE_MAX, &l, error);
	if (result != STORE_OK)
		result = STORE_FAILED;
	for (size_t i = 0; i < l.count && stop == 0; i++) {
		/* From the directory that was listed: of all events, that is the archive. */
		enum entry_result read =
		    read_item(spool, l.names + l.items[i].name, l.items[i].dir, &item);
		if (read == ENTRY_ERROR) {
			spool_failed(spool, "read the file", directory_of(item.status), item.name, error);
			result = STORE_FAILED;
		}
		if (read != ENTRY_ABSENT && store_filter_matches(filter, &item))
			stop = visit(&item, data);
		if (read == ENTRY_OK)
			entry_free(&item.entry);
	}
	spool_listing_free(&l);
	return result;
}

/* ---- moves ---- */

static enum store_result
unfit(struct error *error, int status, const char *name, const char *why)
{
	error_set(error, status, NULL, "%.*s: %s", (int)strlen(name) - 5, name, why);
	return STORE_INVALID;
}

static bool
waits_for_retry(struct spool *spool, const char *name)
{
	struct handler_state state;

	return spool_has(spool, SPOOL_NEW, name) && spool_state_read(spool, name, &state) &&
	    state.failed_at == 0;
}

/* *waits: it is not in failed/, but waits for its retry. */
static enum store_result
check_retry(struct spool *spool, const char *name, bool *waits, struct error *error)
{
	bool failed = spool_has(spool, SPOOL_FAILED, name);

	*waits = !failed && waits_for_retry(spool, name);
	if (!failed && !*waits)
		return unfit(error, EX_DATAERR, name, spool_has(spool, SPOOL_NEW, name) ?
		        "has not failed: it waits in new/ already" :
		        "has not failed: it was handled; psapi replay handles it again");
	if (!spool_has(spool, SPOOL_EVENTS, name))
		return unfit(error, EX_TEMPFAIL, name,
		    "is not in events/: it is still arriving, or no event");
	return STORE_OK;
}

/* Whether new/ has another file than events/, which drain leaves alone; replay is the remedy. */
static bool
has_other_file(struct spool *spool, const char *name)
{
	struct stat a, b;

	return fstatat(spool->dir[SPOOL_NEW], name, &a, AT_SYMLINK_NOFOLLOW) == 0 &&
	    fstatat(spool->dir[SPOOL_EVENTS], name, &b, AT_SYMLINK_NOFOLLOW) == 0 &&
	    a.st_ino != b.st_ino;
}

static enum store_result
check_replay(struct spool *spool, const char *name, struct error *error)
{
	struct store_item item;

	if (has_other_file(spool, name))
		return STORE_OK;
	enum store_result result = spool_get(spool, name, &item, error);
	if (result != STORE_OK)
		return result;
	if (item.status == STORE_DEAD)
		result = unfit(error, EX_DATAERR, name,
		    "was not handled yet: it waits in failed/; psapi retry takes it");
	else if (item.status != STORE_HANDLED)
		result = unfit(error, EX_DATAERR, name, "was not handled yet: it waits in new/");
	else if (item.entry.event.queue == QUEUE_NONE)
		result = unfit(error, EX_DATAERR, name, "is a probe of psapi doctor, which nobody handles");
	entry_free(&item.entry);
	return result;
}

/*
 * Link the file in events/ into new/ again, and remove its old state. Not synced. A drain would
 * not take any other file: not a copy that somebody made of it in failed/ or new/.
 */
static enum store_result
link_again(struct spool *spool, const char *name, struct error *error)
{
	enum store_result result = STORE_OK;
	struct spool_file file;
	struct entry entry;
	const char *why;

	switch (spool_file_open(spool, &file, SPOOL_EVENTS, name, &entry, &why)) {
	case ENTRY_OK:
		break;
	case ENTRY_INVALID:
		return unfit(error, EX_DATAERR, name, why);
	case ENTRY_ABSENT:
	case ENTRY_ERROR:
		return spool_failed(spool, "read the file", SPOOL_EVENTS, name, error);
	}
	entry_free(&entry);
	if (spool_file_link(spool, &file, SPOOL_NEW, name) != 0 &&
	    (errno != EEXIST || (spool_file_is(spool, &file, SPOOL_NEW, name) != 1 &&
	                            spool_file_replace(spool, &file, SPOOL_NEW, name) != 0)))
		result = spool_failed(spool, "make a hard link", SPOOL_NEW, name, error);
	else if (spool_state_remove(spool, name) != 0)
		result = spool_failed(spool, "remove the name", SPOOL_STATE, name, error);
	spool_file_close(spool, &file);
	return result;
}

static bool
sync_moves(struct spool *spool, enum spool_dir dir, struct error *error)
{
	if (spool_sync(spool, dir, -1) == 0)
		return true;
	spool_failed(spool, "sync it", dir, "", error);
	return false;
}

/* An event that waits is in new/, or a consumer has handled it just now: it is not linked again. */
static enum store_result
forget_tries(struct spool *spool, const char *name, struct error *error)
{
	if (spool_state_remove(spool, name) == 0)
		return STORE_OK;
	return spool_failed(spool, "remove the name", SPOOL_STATE, name, error);
}

/* For retry and replay: link all, then sync once. linked: which of failed/ were; or NULL. */
static enum store_result
requeue(struct spool *spool, const char *const *names, size_t count, size_t *moved,
    enum spool_dir from, bool *linked, struct error *error)
{
	enum store_result result = STORE_OK;
	size_t waited = 0; /* those that only their state kept back */

	*moved = 0;
	for (size_t i = 0; i < count; i++) {
		struct error own;
		bool waits = false;
		enum store_result one = from == SPOOL_FAILED ?
		    check_retry(spool, names[i], &waits, &own) :
		    check_replay(spool, names[i], &own);
		if (one == STORE_OK)
			one = (waits ? forget_tries : link_again)(spool, names[i], &own);
		*moved += one == STORE_OK;
		waited += waits && one == STORE_OK;
		if (linked != NULL)
			linked[i] = one == STORE_OK && !waits;
		if (one == STORE_OK)
			continue;
		store_add_result(&result, error, one, &own);
		if (one == STORE_FULL || (one == STORE_FAILED && own.status != EX_NOPERM))
			break; /* the disk: it would fail for all */
	}
	if ((*moved > waited && !sync_moves(spool, SPOOL_NEW, error)) ||
	    (waited > 0 && !sync_moves(spool, SPOOL_STATE, error))) {
		*moved = 0;
		result = STORE_FAILED;
	}
	return result;
}

enum store_result
spool_replay(void *engine, const char *const *names, size_t count, size_t *moved,
    struct error *error)
{
	return requeue(engine, names, count, moved, SPOOL_EVENTS, NULL, error);
}

enum store_result
spool_retry(void *engine, const char *const *names, size_t count, size_t *moved,
    struct error *error)
{
	struct spool *spool = engine;
	bool *linked = calloc(count + 1, sizeof(*linked));
	struct error own;

	*moved = 0;
	if (linked == NULL)
		return spool_failed(spool, "list the names", SPOOL_FAILED, "", error);
	enum store_result result = requeue(spool, names, count, moved, SPOOL_FAILED, linked, error);
	/* By what was linked, not by what new/ has now: a consumer may have handled it already. */
	for (size_t i = 0; *moved > 0 && i < count; i++)
		if (linked[i] && unlinkat(spool->dir[SPOOL_FAILED], names[i], 0) != 0 && errno != ENOENT) {
			spool_failed(spool, "remove the name", SPOOL_FAILED, names[i], &own);
			store_add_result(&result, error, STORE_FAILED, &own);
		}
	free(linked);
	return result;
}

enum store_result
spool_finish(void *engine, const char *name, struct error *error)
{
	struct spool *spool = engine;
	static const enum spool_dir dirs[] = {SPOOL_FAILED, SPOOL_NEW};

	if (!spool_has(spool, SPOOL_NEW, name) && !spool_has(spool, SPOOL_FAILED, name))
		return unfit(error, EX_DATAERR, name, "is neither in new/ nor in failed/: it was handled");
	/* Only with a name in events/: without it the event would be new when it is sent again. */
	if (!spool_has(spool, SPOOL_EVENTS, name))
		return unfit(error, EX_TEMPFAIL, name,
		    "is not in events/: it is still arriving, or no event");
	if (spool_sync(spool, SPOOL_EVENTS, -1) != 0)
		return spool_failed(spool, "sync it", SPOOL_EVENTS, "", error);
	if (spool_state_remove(spool, name) != 0)
		return spool_failed(spool, "remove the name", SPOOL_STATE, name, error);
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		bool there = unlinkat(spool->dir[dirs[i]], name, 0) == 0;
		if (!there && errno != ENOENT)
			return spool_failed(spool, "remove the name", dirs[i], name, error);
		if (there && spool_sync(spool, dirs[i], -1) != 0)
			return spool_failed(spool, "sync it", dirs[i], "", error);
	}
	return STORE_OK;
}
