/*
 * Owns state/roster (no event has this name): what the events that were forgotten said of each
 * producer. It is replaced as a whole, and synced before an event is removed; so it is whole at
 * any moment, and what it lacks is in events/ still. store/roster.h has its format.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "store/spool/spool.h"

#define ROSTER_FILE "roster"

/* ---- read ---- */

static enum store_result
damaged(struct spool *spool, size_t good, struct error *error)
{
	error_set(error, EX_DATAERR,
	    "restore it from a backup; without it, psapi roster lacks what psapi prune removed",
	    "%s/state/roster: is damaged after line %zu", spool->path, good);
	return STORE_FAILED;
}

enum store_result
spool_forgotten(struct spool *spool, int64_t at, struct roster *roster, struct error *error)
{
	int fd = openat(spool->dir[SPOOL_STATE], ROSTER_FILE,
	    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	size_t good;

	if (fd < 0 && errno == ENOENT)
		return STORE_OK;
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	int read = file == NULL ? -1 : roster_read(file, at, roster, &good);
	int saved = errno;
	if (file != NULL)
		fclose(file);
	else if (fd >= 0)
		close(fd);
	if (read >= 0)
		return read == 1 ? STORE_OK : damaged(spool, good, error);
	errno = saved;
	spool_failed(spool, "read the file", SPOOL_STATE, ROSTER_FILE, error);
	return STORE_FAILED;
}

/* ---- write ---- */

/* The data reaches the disk before the file gets its name, the name before an event is removed. */
static int
write_file(struct spool *spool, struct spool_file *file, const struct roster *roster)
{
	if (spool_file_write(spool, file, NULL, 0, false) != 0)
		return -1;
	if (roster_write(file->fd, roster) == 0 && spool_sync(spool, SPOOL_DIRS, file->fd) == 0 &&
	    spool_file_replace(spool, file, SPOOL_STATE, ROSTER_FILE) == 0)
		return spool_sync(spool, SPOOL_STATE, -1);
	return -1;
}

enum store_result
spool_forgotten_write(struct spool *spool, const struct roster *roster, struct error *error)
{
	struct spool_file file = {.fd = -1};
	int result = write_file(spool, &file, roster);

	spool_file_close(spool, &file);
	return result == 0 ? STORE_OK :
	                     spool_failed(spool, "write a file", SPOOL_STATE, ROSTER_FILE, error);
}

/* ---- the whole roster ---- */

struct roster_reading {
	struct roster roster; /* what one thread has read */
	int64_t at;
	bool failed;
	struct error error;
};

/* A file that is no event counts for nothing: drain and verify name it. */
int
spool_roster_add(struct spool *spool, const char *name, int64_t at, struct roster *roster,
    bool *changed, struct error *error)
{
	struct spool_file file;
	struct entry entry;
	const char *why;
	bool active, counts = false;
	enum entry_result read = spool_file_open(spool, &file, SPOOL_EVENTS, name, &entry, &why);
	int result = read == ENTRY_ERROR ? -1 : 0;

	if (read == ENTRY_OK) {
		spool_file_close(spool, &file);
		if (roster_counts(&entry.event, &active) && entry_when(&entry) <= at)
			result = roster_add(roster, entry.event.npn, entry_when(&entry), active, &counts);
		entry_free(&entry);
	}
	*changed |= counts;
	if (result != 0)
		spool_failed(spool, "read the file", SPOOL_EVENTS, name, error);
	return result;
}

static int
read_event(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct roster_reading *r = data;
	bool changed = false;

	(void)dir;
	r->failed = store_name_valid(name) &&
	    spool_roster_add(spool, name, r->at, &r->roster, &changed, &r->error) != 0;
	return r->failed ? 1 : 0;
}

/* Add what a thread has read, and free it. Returns 0, or -1 without memory. */
static int
merge(struct roster *roster, struct roster *part)
{
	int result = 0;

	for (size_t i = 0; i < part->count && result == 0; i++)
		result = roster_add(roster, part->marks[i].npn, part->marks[i].when,
		    part->marks[i].active, NULL);
	roster_free(part);
	return result;
}

/* Returns 0, or -1 with *error. */
static int
read_events(struct spool *spool, struct roster_reading *readings, struct roster *roster,
    struct error *error)
{
	void *data[SPOOL_THREADS];

	for (int i = 0; i < SPOOL_THREADS; i++)
		data[i] = &readings[i];
	int result = spool_each_by_inode(spool, SPOOL_EVENTS, read_event, data, SPOOL_THREADS);
	for (int i = 0; i < SPOOL_THREADS; i++) {
		if (result > 0 && readings[i].failed)
			*error = readings[i].error;
		if (merge(roster, &readings[i].roster) != 0 && result == 0)
			result = -1;
	}
	if (result < 0)
		spool_failed(spool, "list the names", SPOOL_EVENTS, "", error);
	return result == 0 ? 0 : -1;
}

/*
 * The events first: one that is forgotten meanwhile, before it was read, is in state/roster by
 * then.
 */
enum store_result
spool_roster(void *engine, int64_t at, struct roster *roster, struct error *error)
{
	struct spool *spool = engine;
	struct roster_reading *readings = calloc(SPOOL_THREADS, sizeof(*readings));
	int result = -1;

	if (readings == NULL)
		spool_failed(spool, "list the names", SPOOL_EVENTS, "", error);
	for (int i = 0; i < SPOOL_THREADS && readings != NULL; i++)
		readings[i].at = at;
	if (readings != NULL)
		result = read_events(spool, readings, roster, error);
	free(readings);
	return result != 0 ? STORE_FAILED : spool_forgotten(spool, at, roster, error);
}
