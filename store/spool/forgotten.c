/*
 * Owns state/roster (no event has this name): what the events that were forgotten said of each
 * producer. It is replaced as a whole, and synced before an event is removed; so it is whole at
 * any moment, and what it lacks is in events/ still.
 *
 *   roster 1 2026-08-30T04:17:00Z 2
 *   15645555 2025-07-25T15:53:01.579000000Z activated
 *   19855109 2025-07-26T09:00:00.000000000Z deactivated
 *
 * The first line: format; until when events that are forgotten were received; how many lines
 * follow. A line: NPN, time of its last forgotten event, what that said. psapi-spool(5) has it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/datetime.h"
#include "base/io.h"
#include "store/spool/spool.h"

#define ROSTER_FILE "roster"
#define HEAD "roster 1 "

enum { CHUNK = 64 * 1024, LINE_MAX_SIZE = 128 };

/* ---- read ---- */

/* The next word of a line, which it ends there; NULL if there is none. */
static char *
word(char **line)
{
	char *text = strsep(line, " ");

	return text != NULL && *text != '\0' ? text : NULL;
}

/* "activated" or "deactivated". */
static bool
parse_state(const char *text, bool *active)
{
	*active = text != NULL && strcmp(text, "activated") == 0;
	return *active || (text != NULL && strcmp(text, "deactivated") == 0);
}

/* 1: added; 0: it is no line of ours; -1: no memory. */
static int
read_mark(char *line, int64_t at, struct roster *roster)
{
	char *npn = word(&line), *time = word(&line);
	int64_t when;
	bool active;

	if (npn == NULL || strspn(npn, "0123456789") != strlen(npn) || strlen(npn) > ROSTER_NPN_MAX ||
	    time == NULL || !datetime_parse(time, &when) || !parse_state(line, &active))
		return 0;
	return roster_add_forgotten(roster, npn, when, active, at) == 0 ? 1 : -1;
}

static bool
read_head(char *line, struct roster *roster, size_t *count)
{
	char *rest = line + strlen(HEAD), *end;
	int64_t until;

	if (strncmp(line, HEAD, strlen(HEAD)) != 0)
		return false;
	char *time = word(&rest);
	if (time == NULL || !datetime_parse(time, &until) || rest == NULL || *rest < '0' || *rest > '9')
		return false;
	errno = 0;
	*count = strtoull(rest, &end, 10);
	roster->forgotten = until / NANOSECONDS;
	return errno == 0 && *end == '\0';
}

struct lines {
	size_t good; /* lines that were read, the first among them */
	bool all;    /* as many as the first one says, and nothing behind them */
	int number;  /* errno of what failed */
};

static struct lines
read_lines(FILE *file, int64_t at, struct roster *roster)
{
	struct lines l = {0};
	size_t size = 0, count = 0;
	char *line = NULL;
	int added = 1;
	ssize_t n = 0;

	while (added > 0 && (n = getline(&line, &size, file)) > 0 && line[n - 1] == '\n') {
		line[n - 1] = '\0';
		added = l.good > 0 ? read_mark(line, at, roster) : read_head(line, roster, &count);
		l.good += added > 0;
	}
	l.all = added > 0 && n < 0 && l.good > 0 && l.good - 1 == count;
	l.number = ferror(file) ? errno : added < 0 ? ENOMEM : 0;
	free(line);
	return l;
}

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
	struct lines l = {.number = errno};

	if (fd < 0 && errno == ENOENT)
		return STORE_OK;
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	if (file != NULL) {
		l = read_lines(file, at, roster);
		fclose(file);
	} else if (fd >= 0) {
		l.number = errno;
		close(fd);
	}
	if (l.number == 0)
		return l.all ? STORE_OK : damaged(spool, l.good, error);
	errno = l.number;
	spool_failed(spool, "read the file", SPOOL_STATE, ROSTER_FILE, error);
	return STORE_FAILED;
}

/* ---- write ---- */

/* Returns 0, or -1 with errno. */
static int
write_marks(int fd, const struct roster *roster)
{
	char *text = malloc(CHUNK);
	size_t length = 0;
	int result = text == NULL ? -1 : 0;

	for (size_t i = 0; i < roster->count && result == 0; i++) {
		const struct roster_mark *mark = &roster->marks[i];
		char when[DATETIME_EXACT_SIZE];
		datetime_exact(mark->when, when);
		length += (size_t)snprintf(text + length, LINE_MAX_SIZE, "%s %s %s\n", mark->npn, when,
		    mark->active ? "activated" : "deactivated");
		if (length < CHUNK - LINE_MAX_SIZE)
			continue;
		result = io_write_all(fd, text, length);
		length = 0;
	}
	if (result == 0)
		result = io_write_all(fd, text, length);
	int saved = errno;
	free(text);
	errno = saved;
	return result;
}

/* The data reaches the disk before the file gets its name, the name before an event is removed. */
static int
write_file(struct spool *spool, struct spool_file *file, const struct roster *roster)
{
	char until[DATETIME_TEXT_SIZE], head[LINE_MAX_SIZE];
	struct iovec piece = {.iov_base = head};

	datetime_text(roster->forgotten, until);
	piece.iov_len = (size_t)snprintf(head, sizeof(head), HEAD "%s %zu\n", until, roster->count);
	if (spool_file_write(spool, file, &piece, 1, false) != 0)
		return -1;
	if (write_marks(file->fd, roster) == 0 && spool_sync(spool, SPOOL_DIRS, file->fd) == 0 &&
	    spool_file_replace(spool, file, SPOOL_STATE, ROSTER_FILE) == 0)
		return spool_sync(spool, SPOOL_STATE, -1);
	return -1;
}

enum store_result
spool_forgotten_write(struct spool *spool, const struct roster *roster, struct error *error)
{
	struct spool_file file = {.fd = -1};
	int result = write_file(spool, &file, roster);
	int saved = errno;

	if (file.fd >= 0)
		spool_file_close(spool, &file);
	errno = saved;
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
static int
read_event(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct roster_reading *r = data;
	struct spool_file file;
	struct entry entry;
	const char *why;
	bool active;
	int result = 0;

	if (!store_name_valid(name))
		return 0;
	switch (spool_file_open(spool, &file, dir, name, &entry, &why)) {
	case ENTRY_OK:
		spool_file_close(spool, &file);
		if (roster_counts(&entry.event, &active) && entry_when(&entry) <= r->at)
			result = roster_add(&r->roster, entry.event.npn, entry_when(&entry), active, NULL);
		entry_free(&entry);
		break;
	case ENTRY_ABSENT:
	case ENTRY_INVALID:
		break;
	case ENTRY_ERROR:
		spool_failed(spool, "read the file", dir, name, &r->error);
		r->failed = true;
		result = 1;
		break;
	}
	return result;
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
	void *data[SPOOL_READERS];

	for (int i = 0; i < SPOOL_READERS; i++)
		data[i] = &readings[i];
	int result = spool_each_by_inode(spool, SPOOL_EVENTS, read_event, data, SPOOL_READERS);
	for (int i = 0; i < SPOOL_READERS; i++) {
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
spool_roster(struct spool *spool, int64_t at, struct roster *roster, struct error *error)
{
	struct roster_reading *readings = calloc(SPOOL_READERS, sizeof(*readings));
	int result = -1;

	if (readings == NULL)
		spool_failed(spool, "list the names", SPOOL_EVENTS, "", error);
	for (int i = 0; i < SPOOL_READERS && readings != NULL; i++)
		readings[i].at = at;
	if (readings != NULL)
		result = read_events(spool, readings, roster, error);
	free(readings);
	return result != 0 ? STORE_FAILED : spool_forgotten(spool, at, roster, error);
}
