/*
 * Owns hold/: the names of its files, and how much may be held. A file is a record (record.h)
 * with the whole webhook-signature header in it and the body as base64: nothing unproven is
 * parsed on its way in.
 *
 * A name consists of the arrival in nanoseconds, the process id and a serial number, so that the
 * names sort by arrival. It does not contain the webhook-id: a forger could occupy that.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/io.h"
#include "store/spool/spool.h"

enum {
	NAME_SIZE = 64,
	LOCK_WAIT_MS = 2000, /* a thread of the receiver waits; the sender sends it again */
	ARRIVAL_DIGITS = 19 /* of the arrival in nanoseconds, until the year 2286 */
};

/* ---- holding ---- */

struct sum {
	long requests;
	long long bytes;
};

static int
add_up(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct sum *sum = data;
	struct stat st;

	if (fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return 0;
	sum->requests++;
	sum->bytes += st.st_size;
	return 0;
}

static enum store_result
look_for_room(struct spool *spool, const struct record *record, struct error *error)
{
	struct sum sum = {.requests = 1};

	for (int i = 0; i < record->count; i++)
		sum.bytes += (long long)record->iov[i].iov_len;
	if (spool_each(spool, SPOOL_HOLD, add_up, &sum) != 0)
		return spool_failed(spool, "list the names", SPOOL_HOLD, "", error);
	if (sum.requests <= STORE_HELD_MAX && sum.bytes <= STORE_HELD_BYTES_MAX)
		return STORE_OK;
	error_set(error, EX_IOERR, "psapi secret add", "%s/hold is full", spool->path);
	return STORE_FULL;
}

static enum store_result
hold(struct spool *spool, const struct record *record, struct timespec arrival, struct error *error)
{
	enum store_result result = look_for_room(spool, record, error);
	struct spool_file file;
	char name[NAME_SIZE];

	if (result != STORE_OK)
		return result;
	snprintf(name, sizeof(name), "%0*lld-%ld-%u.json", ARRIVAL_DIGITS,
	    (long long)arrival.tv_sec * 1000000000 + arrival.tv_nsec, (long)getpid(),
	    atomic_fetch_add(&spool->serial, 1));
	if (spool_file_write(spool, &file, record->iov, record->count, true) != 0)
		return spool_failed(spool, "write a file", SPOOL_EVENTS, "", error);
	bool linked = spool_file_link(spool, &file, SPOOL_HOLD, name) == 0;
	if (!linked || spool_sync(spool, SPOOL_HOLD, file.fd) != 0) {
		result = spool_failed(spool, "store the request", SPOOL_HOLD, name, error);
		/* The sender sends it again, and then it has another name. */
		if (linked)
			unlinkat(spool->dir[SPOOL_HOLD], name, 0);
	}
	spool_file_close(spool, &file);
	return result;
}

enum store_result
spool_hold(struct spool *spool, const struct record *record, struct timespec arrival,
    struct error *error)
{
	int lock = spool_lock_directory(spool, SPOOL_HOLD, LOCK_WAIT_MS);
	enum store_result result = lock >= 0 ? hold(spool, record, arrival, error) :
	                                       spool_failed(spool, "lock it", SPOOL_HOLD, "", error);

	io_close(lock);
	return result;
}

/* ---- what is held ---- */

static bool
is_name(const char *name)
{
	static const char digits[] = "0123456789";

	if (strspn(name, digits) != ARRIVAL_DIGITS)
		return false;
	for (int i = 0; i < 2; i++) {
		name += strspn(name, digits);
		if (*name != '-' || strspn(name + 1, digits) == 0)
			return false;
		name++;
	}
	return strcmp(name + strspn(name, digits), ".json") == 0;
}

static int
is_name_of(const struct dirent *entry)
{
	return is_name(entry->d_name) ? 1 : 0;
}

int
spool_held(struct spool *spool, char ***names, struct error *error)
{
	struct dirent **entries;
	int count = scandirat(spool->dir[SPOOL_HOLD], ".", &entries, is_name_of, alphasort);
	bool whole = count >= 0;

	*names = whole ? calloc((size_t)count + 1, sizeof(**names)) : NULL;
	for (int i = 0; i < count; i++) {
		whole = whole && *names != NULL && ((*names)[i] = strdup(entries[i]->d_name)) != NULL;
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	if (whole && *names != NULL)
		return count;
	spool_failed(spool, "list the names", SPOOL_HOLD, "", error);
	store_held_free(*names);
	*names = NULL;
	return -1;
}

enum store_result
spool_held_read(struct spool *spool, const char *name, struct entry *entry, struct error *error)
{
	const char *why;
	int fd = -1;
	enum entry_result result = entry_open(spool->dir[SPOOL_HOLD], name, &fd, &why);

	if (result == ENTRY_OK) {
		result = entry_read(fd, entry, &why);
		close(fd);
	}
	if (result == ENTRY_OK)
		return STORE_OK;
	if (result == ENTRY_ABSENT)
		return STORE_ABSENT;
	error_set(error, EX_IOERR, NULL, "%s/hold/%s: %s", spool->path, name, why);
	return STORE_FAILED;
}

enum store_result
spool_held_remove(struct spool *spool, const char *name, struct error *error)
{
	if (unlinkat(spool->dir[SPOOL_HOLD], name, 0) == 0 || errno == ENOENT)
		return STORE_OK;
	return spool_failed(spool, "remove the name", SPOOL_HOLD, name, error);
}
