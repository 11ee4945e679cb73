/*
 * Owns recovery: it syncs and commits events that a crash left in a queue, but not in events/.
 * It repairs nothing: by I1 a file that has a name is whole. Beside receivers at work it does
 * what a concurrent duplicate does.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "store/spool/spool.h"

enum { BATCH = 64 }; /* files that are open at once, and share a sync of the directory */

struct recovery {
	struct error *error;
	long committed;
	bool found;         /* any name, in either queue */
	long left;          /* files that cannot be read or linked */
	struct error first; /* about the first of them */
	int count;
	struct spool_file file[BATCH];
};

/* One file does not stop the others; the error about the first is kept. errno says why. */
static void
leave(struct spool *spool, const char *step, enum spool_dir queue, const char *name,
    struct recovery *r)
{
	struct error error;

	spool_failed(spool, step, queue, name, r->left++ == 0 ? &r->first : &error);
}

/* Sync the files' names, then commit each. Returns 0, or 1 with *error. */
static int
commit_batch(struct spool *spool, enum spool_dir queue, struct recovery *r)
{
	int failed = spool_sync(spool, queue, -1) != 0;

	if (failed)
		spool_failed(spool, "sync it", queue, "", r->error);
	for (int i = 0; i < r->count; i++) {
		struct spool_file *file = &r->file[i];
		if (!failed && (spool_sync(spool, SPOOL_DIRS, file->fd) != 0 ||
		        spool_file_link(spool, file, SPOOL_EVENTS, file->name) != 0)) {
			/* EEXIST, ENOENT: another process committed or handled it. */
			failed = errno != EEXIST && errno != ENOENT && errno != EPERM;
			if (failed)
				spool_failed(spool, "commit the event", queue, file->name, r->error);
			else if (errno == EPERM)
				leave(spool, "commit the event", queue, file->name, r);
		} else if (!failed) {
			r->committed++;
		}
		spool_file_close(spool, file);
	}
	r->count = 0;
	return failed;
}

/* A file that is no event is left alone: committed, it would keep out the event of its name. */
static int
collect(struct spool *spool, enum spool_dir queue, const char *name, void *data)
{
	struct recovery *r = data;
	struct entry entry;
	const char *why;

	r->found = true;
	if (!store_name_valid(name) || spool_has(spool, SPOOL_EVENTS, name))
		return 0;
	switch (spool_file_open(spool, &r->file[r->count], queue, name, &entry, &why)) {
	case ENTRY_OK:
		break;
	case ENTRY_ABSENT:
	case ENTRY_INVALID:
		return 0;
	case ENTRY_ERROR:
		if (spool_is_one_file(errno)) {
			leave(spool, "read the file", queue, name, r); /* another user's, or a bad block */
			return 0;
		}
		spool_failed(spool, "read the file", queue, name, r->error);
		return 1;
	}
	entry_free(&entry);
	r->count++;
	return r->count == BATCH ? commit_batch(spool, queue, r) : 0;
}

/* Returns 0, or 1 with *error. */
static int
recover_queue(struct spool *spool, enum spool_dir queue, struct recovery *r)
{
	int result = spool_each(spool, queue, collect, r);

	if (result < 0)
		spool_failed(spool, "list the names", queue, "", r->error);
	/* Also if all are committed: one may be here by a link of a move that was not synced. */
	if (result == 0)
		return r->found ? commit_batch(spool, queue, r) : 0;
	while (r->count > 0)
		spool_file_close(spool, &r->file[--r->count]);
	return 1;
}

static void
remove_probe(struct spool *spool, const char *temporary)
{
	char name[sizeof(SPOOL_PROBE) + SPOOL_TEMPORARY_SIZE];

	snprintf(name, sizeof(name), SPOOL_PROBE "%.*s", SPOOL_TEMPORARY_SIZE, temporary);
	for (int i = 0; i < SPOOL_TMP; i++)
		unlinkat(spool->dir[i], name, 0);
}

/* Nothing but what a process of ours may have left: PSAPI_SPOOL=/ makes /tmp this directory. */
static int
remove_if_old(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	const time_t *now = data;
	struct stat st;

	if (spool_file_is_temporary(name) &&
	    fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	    *now - st.st_mtime > SPOOL_LEFTOVER_SECONDS) {
		remove_probe(spool, name);
		unlinkat(spool->dir[dir], name, 0);
	}
	return 0;
}

static enum store_result
recover(struct spool *spool, struct recovery *r)
{
	time_t now = time(NULL);

	if (recover_queue(spool, SPOOL_NEW, r) != 0 || recover_queue(spool, SPOOL_FAILED, r) != 0)
		return STORE_FAILED;
	if (r->found && spool_sync(spool, SPOOL_EVENTS, -1) != 0) {
		spool_failed(spool, "sync it", SPOOL_EVENTS, "", r->error);
		return STORE_FAILED;
	}
	spool_each(spool, SPOOL_TMP, remove_if_old, &now);
	return STORE_OK;
}

enum store_result
spool_commit(struct spool *spool, struct error *error)
{
	struct recovery r = {.error = error};

	return recover(spool, &r);
}

enum store_result
spool_recover(void *engine, long *committed, struct error *error)
{
	struct recovery r = {.error = error};
	enum store_result result = recover(engine, &r);
	char line[1600];

	if (r.left == 1)
		log_line("%s", error_line(&r.first, line, sizeof(line)));
	else if (r.left > 1)
		log_line("%s; and %ld more like it",
		    error_line(&r.first, line, sizeof(line)), r.left - 1);
	*committed = result == STORE_OK ? r.committed : 0;
	return result;
}
