/*
 * Owns the way of an event into the spool, whose order is the promise:
 *   1  an unnamed file is written, and its data reaches the disk
 *   2  it is linked into new/ (or failed/)
 *   3  that name reaches the disk
 *   4  it is linked into events/: it is committed
 * A crash before 3 leaves nothing, or a whole file whose sender has no answer: the sender's retry
 * finds the name in step 2 and goes on with that file. A crash after 3 leaves an event that
 * recovery commits. A writer that fails removes no name from new/ again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "store/spool/spool.h"

enum {
	ATTEMPTS_MAX = 5, /* at a name that other processes make and remove meanwhile */
	REPLACE_WAIT_MS = 2000 /* a thread of the receiver waits; the sender sends it again */
};

enum store_result
spool_find(void *engine, const char *name, struct error *error)
{
	struct spool *spool = engine;

	if (faccessat(spool->dir[SPOOL_EVENTS], name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return STORE_DUPLICATE;
	return errno == ENOENT ? STORE_ABSENT :
	                         spool_failed(spool, "look up the name", SPOOL_EVENTS, name, error);
}

bool
spool_is_full(void *engine, long long min_free)
{
	struct spool *spool = engine;
	struct statvfs st;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (atomic_load(&spool->checked) == now.tv_sec &&
	    atomic_load(&spool->available) / 2 >= min_free)
		return false;
	if (fstatvfs(spool->root, &st) != 0)
		return false;
	long long available = (long long)st.f_bavail * (long long)st.f_frsize;
	atomic_store(&spool->available, available);
	atomic_store(&spool->checked, now.tv_sec);
	return available < min_free;
}

static int
stop_at_once(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	(void)spool;
	(void)dir;
	(void)name;
	(void)data;
	return 1;
}

bool
spool_is_empty(void *engine)
{
	return spool_each(engine, SPOOL_EVENTS, stop_at_once, NULL) == 0;
}

/*
 * Store an event in events/ alone: a probe of doctor, or (known) an event that a consumer has
 * handled before it was committed. Then its name in the queue was synced, and that is enough.
 */
static enum store_result
archive(struct spool *spool, const struct store_intake *intake, bool known, struct error *error)
{
	const char *name = intake->name;
	struct spool_file file;
	enum store_result result = STORE_OK;

	if (spool_file_write(spool, &file, intake->record->iov, intake->record->count, true) != 0)
		return spool_failed(spool, "write a file", SPOOL_EVENTS, name, error);
	if (spool_file_link(spool, &file, SPOOL_EVENTS, name) != 0)
		result = errno == EEXIST ?
		    STORE_DUPLICATE : spool_failed(spool, "make a hard link", SPOOL_EVENTS, name, error);
	else if (!known && spool_sync(spool, SPOOL_EVENTS, file.fd) != 0)
		result = spool_failed(spool, "sync it", SPOOL_EVENTS, name, error);
	spool_file_close(spool, &file);
	return result;
}

/* Steps 3 and 4 with a file that has its name in the queue: ours, or the one that was there. */
static enum store_result
commit(struct spool *spool, const struct spool_file *file, enum spool_dir queue, bool ours,
    const struct store_intake *intake, struct error *error)
{
	const char *name = intake->name;

	if (spool_sync(spool, queue, file->fd) != 0)
		return spool_failed(spool, "sync it", queue, name, error);
	if (spool_file_link(spool, file, SPOOL_EVENTS, name) == 0)
		return ours ? STORE_OK : STORE_DUPLICATE;
	if (errno == ENOENT) {
		/* A consumer has handled it, and removed its only name. */
		enum store_result result = archive(spool, intake, true, error);
		return result == STORE_OK && !ours ? STORE_DUPLICATE : result;
	}
	if (errno != EEXIST)
		return spool_failed(spool, "make a hard link", SPOOL_EVENTS, name, error);
	int same = spool_file_is(spool, file, SPOOL_EVENTS, name);
	if (same < 0)
		return spool_failed(spool, "look up the name", SPOOL_EVENTS, name, error);
	if (same == 1)
		return ours ? STORE_OK : STORE_DUPLICATE;
	/* A concurrent duplicate was accepted and handled since the look into events/. */
	if (ours && spool_file_unlink(spool, file, queue, name) != 0)
		return spool_failed(spool, "remove the name", queue, name, error);
	return STORE_DUPLICATE;
}

/*
 * Replace a file in the queue that is no event. No program of ours leaves one (I1); a person or a
 * broken file system may. STORE_ABSENT: another delivery has replaced it: start again.
 */
static enum store_result
replace(struct spool *spool, const struct spool_file *ours, enum spool_dir queue, const char *name,
    struct error *error)
{
	enum store_result result = STORE_ABSENT;
	struct spool_file there;
	struct entry entry;
	const char *why;
	int lock = spool_lock_directory(spool, queue, REPLACE_WAIT_MS); /* one delivery at a time */

	if (lock < 0)
		return spool_failed(spool, "lock it", queue, "", error);
	enum entry_result found = spool_file_open(spool, &there, queue, name, &entry, &why);
	if (found == ENTRY_OK) {
		entry_free(&entry);
		spool_file_close(spool, &there);
	} else if (found == ENTRY_INVALID) {
		log_line("%s/%s/%s: %s: it is replaced by the event", spool->path, spool_dir_names[queue],
		    name, why);
		result = spool_file_replace(spool, ours, queue, name) == 0 ?
		    STORE_OK : spool_failed(spool, "replace the file", queue, name, error);
	}
	close(lock);
	return result;
}

/* Step 2 found a file of this name: commit that one. STORE_ABSENT: it is gone again. */
static enum store_result
commit_existing(struct spool *spool, const struct spool_file *ours, enum spool_dir queue,
    const struct store_intake *intake, struct error *error)
{
	struct spool_file there;
	struct entry entry;
	const char *why;

	/* Committed already: by I3 its name is on the disk. */
	enum store_result found = spool_find(spool, intake->name, error);
	if (found != STORE_ABSENT)
		return found;
	switch (spool_file_open(spool, &there, queue, intake->name, &entry, &why)) {
	case ENTRY_OK:
		break;
	case ENTRY_ABSENT:
		return STORE_ABSENT;
	case ENTRY_ERROR:
		return spool_failed(spool, "read the file", queue, intake->name, error);
	case ENTRY_INVALID:
		found = replace(spool, ours, queue, intake->name, error);
		return found == STORE_OK ? commit(spool, ours, queue, true, intake, error) : found;
	}
	entry_free(&entry);
	enum store_result result = commit(spool, &there, queue, false, intake, error);
	spool_file_close(spool, &there);
	return result;
}

/* On which mount a directory is; 0: the kernel does not tell. */
static uint64_t
mount_of(int directory)
{
	struct statx st;

	return statx(directory, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) == 0 ? st.stx_mnt_id : 0;
}

/* A link joins two directories: events/, where the file was made, may be what stands apart. */
static enum store_result
link_failed(struct spool *spool, enum spool_dir dir, const char *name, struct error *error)
{
	int number = errno;
	bool apart = number == EXDEV && mount_of(spool->dir[SPOOL_EVENTS]) != mount_of(spool->root);

	errno = number;
	return spool_failed(spool, "make a hard link", apart ? SPOOL_EVENTS : dir, apart ? "" : name,
	    error);
}

static enum store_result
publish(struct spool *spool, enum spool_dir queue, const struct store_intake *intake,
    struct error *error)
{
	enum store_result result = STORE_ABSENT;
	struct spool_file file;

	/* In events/ the file is made. */
	if (spool_file_write(spool, &file, intake->record->iov, intake->record->count, true) != 0)
		return spool_failed(spool, "write a file", SPOOL_EVENTS, intake->name, error);
	for (int i = 0; i < ATTEMPTS_MAX && result == STORE_ABSENT; i++) {
		if (spool_file_link(spool, &file, queue, intake->name) == 0)
			result = commit(spool, &file, queue, true, intake, error);
		else if (errno == EEXIST)
			result = commit_existing(spool, &file, queue, intake, error);
		else
			result = link_failed(spool, queue, intake->name, error);
	}
	if (result == STORE_ABSENT) {
		errno = EBUSY;
		result = spool_failed(spool, "make a hard link", queue, intake->name, error);
	}
	spool_file_close(spool, &file);
	return result;
}

/* A dead letter's reason is there before the event is. */
static enum store_result
put_dead_letter(struct spool *spool, const struct store_intake *intake, struct error *error)
{
	struct handler_state state = {.failed_at = intake->now.tv_sec};

	snprintf(state.reason, sizeof(state.reason), "%s", intake->reason);
	if (spool_state_put(spool, intake->name, &state) != 0)
		return spool_failed(spool, "write a file", SPOOL_STATE, intake->name, error);
	return publish(spool, SPOOL_FAILED, intake, error);
}

enum store_result
spool_put(void *engine, const struct store_intake *intake, struct error *error)
{
	struct spool *spool = engine;

	if (atomic_load(&spool->distrusted)) {
		error_set(error, EX_IOERR, "restart the receiver when the disk works again",
		    "%s: a sync has failed: nothing is accepted", spool->path);
		return STORE_FAILED;
	}
	switch (intake->destination) {
	case STORE_QUEUE:
		return publish(spool, SPOOL_NEW, intake, error);
	case STORE_DEAD_LETTER:
		return put_dead_letter(spool, intake, error);
	case STORE_ARCHIVE:
		break;
	}
	return archive(spool, intake, false, error);
}

/* ---- the way of an event, tried ---- */

/* NAME is that in tmp/, behind SPOOL_PROBE. */
static const char *
probe_in(enum spool_dir dir, const char *name)
{
	return dir == SPOOL_TMP ? name + strlen(SPOOL_PROBE) : name;
}

/*
 * Link the file into every directory, tmp/ first, so that recovery knows what a probe that was
 * killed has left; and have the names reach the disk as an event's does.
 */
static enum store_result
probe_directories(struct spool *spool, const struct spool_file *file, const char *name,
    struct error *error)
{
	for (int i = SPOOL_DIRS - 1; i >= 0; i--)
		if (spool_file_link(spool, file, (enum spool_dir)i, probe_in((enum spool_dir)i, name)) != 0)
			return link_failed(spool, (enum spool_dir)i, "", error);
	/* With one wait only the file is synced, once for all its names. */
	for (int i = 0; i < (spool->one_wait ? 1 : SPOOL_DIRS); i++)
		if (spool_sync(spool, (enum spool_dir)i, file->fd) != 0)
			return spool_failed(spool, "sync it", (enum spool_dir)i, "", error);
	if (spool_state_write(spool, name, "probe\n") != 0)
		return spool_failed(spool, "write a file", SPOOL_STATE, "", error);
	return STORE_OK;
}

enum store_result
spool_probe(void *engine, struct error *error)
{
	struct spool *spool = engine;
	struct iovec piece = {(char *)(uintptr_t)"probe\n", 6};
	char temporary[SPOOL_TEMPORARY_SIZE], name[sizeof(SPOOL_PROBE) + sizeof(temporary)];
	struct spool_file file;

	spool_file_temporary_name(spool, temporary);
	snprintf(name, sizeof(name), SPOOL_PROBE "%s", temporary);
	if (spool_file_write(spool, &file, &piece, 1, true) != 0)
		return spool_failed(spool, "write a file", SPOOL_EVENTS, "", error);
	enum store_result result = probe_directories(spool, &file, name, error);
	for (int i = 0; i < SPOOL_DIRS; i++)
		if (unlinkat(spool->dir[i], probe_in((enum spool_dir)i, name), 0) != 0 &&
		    errno != ENOENT && result == STORE_OK)
			result = spool_failed(spool, "remove the name", (enum spool_dir)i, "", error);
	spool_file_close(spool, &file);
	return result;
}
