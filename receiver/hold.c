/*
 * Owns hold/: the names of its files, and how much may wait. A file is a record
 * (store/record.h) with the whole webhook-signature header and the body as base64: nothing
 * unverified is parsed when it is stored. store/entry.h reads it back.
 *
 * A name is the nanoseconds of the arrival, the process and a serial number, so that
 * the order of the names is the order of arrival.
 */
#define _GNU_SOURCE
#include "receiver/hold.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "store/record.h"

enum {
	NAME_SIZE = 64,
	ARRIVAL_DIGITS = 19 /* of the arrival in nanoseconds, until the year 2286 */
};

/* ---- whether to hold ---- */

/* A directory's own stream: the spool's descriptor has one offset for all threads. */
static DIR *
open_stream(struct spool *spool, enum spool_dir dir)
{
	int fd = openat(spool->dir[dir], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);

	if (stream == NULL && fd >= 0)
		close(fd);
	return stream;
}

static bool
is_dot(const char *name)
{
	return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

/* An error counts as not empty: 503 makes the sender try again, a 200 does not. */
static bool
nothing_accepted(struct spool *spool)
{
	DIR *stream = open_stream(spool, SPOOL_EVENTS);
	struct dirent *entry;

	if (stream == NULL)
		return false;
	errno = 0;
	while ((entry = readdir(stream)) != NULL && is_dot(entry->d_name))
		errno = 0;
	bool empty = entry == NULL && errno == 0;
	closedir(stream);
	return empty;
}

bool
hold_applies(struct spool *spool, struct secrets *secrets)
{
	const struct keyring *keyring = secrets_borrow(secrets);
	bool in_force = keyring != NULL;

	secrets_return(secrets, keyring);
	return !in_force && secrets_awaited(secrets) && nothing_accepted(spool);
}

/* ---- storing ---- */

/* Whether length more bytes may wait. stream is hold/, locked. */
static bool
has_room(DIR *stream, size_t length)
{
	long long requests = 1, bytes = (long long)length;
	struct stat st;

	errno = 0;
	for (struct dirent *entry; (entry = readdir(stream)) != NULL; errno = 0) {
		if (is_dot(entry->d_name) ||
		    fstatat(dirfd(stream), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		requests++;
		bytes += st.st_size;
	}
	return errno == 0 && requests <= HOLD_REQUESTS_MAX && bytes <= HOLD_BYTES_MAX;
}

static enum spool_result
store(struct spool *spool, const struct record *record, struct timespec arrival)
{
	static atomic_uint serial;
	char name[NAME_SIZE];

	snprintf(name, sizeof(name), "%0*lld-%ld-%u.json", ARRIVAL_DIGITS,
	    (long long)arrival.tv_sec * 1000000000 + arrival.tv_nsec, (long)getpid(),
	    atomic_fetch_add(&serial, 1));
	return spool_store(spool, name, SPOOL_HOLD, record->iov, record->count);
}

static enum spool_result
store_if_room(struct spool *spool, const struct record *record, struct timespec arrival)
{
	enum spool_result result = SPOOL_ERROR;
	size_t length = 0;
	/* flock(2) belongs to the open file: a descriptor of our own excludes threads, too. */
	DIR *stream = open_stream(spool, SPOOL_HOLD);

	if (stream == NULL) {
		log_line("%s/hold: %s", spool->path, strerror(errno));
		return SPOOL_ERROR;
	}
	for (int i = 0; i < record->count; i++)
		length += record->iov[i].iov_len;
	int locked;
	do
		locked = flock(dirfd(stream), LOCK_EX);
	while (locked != 0 && errno == EINTR);
	if (locked != 0)
		log_line("%s/hold: flock: %s", spool->path, strerror(errno));
	else if (!has_room(stream, length))
		result = SPOOL_FULL;
	else
		result = store(spool, record, arrival);
	closedir(stream);
	return result;
}

enum spool_result
hold_store(struct spool *spool, const struct evidence *evidence, const void *body, size_t length)
{
	struct record record;

	/* Bytes of the header that are no UTF-8 become '?': no signature has such bytes. */
	if (record_make(&record, evidence, body, length, false) != 0)
		return SPOOL_ERROR;
	enum spool_result result = store_if_room(spool, &record, evidence->received_at);
	record_free(&record);
	return result;
}

/* ---- listing ---- */

/* Whether name is one that store() makes. */
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
hold_names(struct spool *spool, char ***names)
{
	struct dirent **entries;
	int count = scandirat(spool->dir[SPOOL_HOLD], ".", &entries, is_name_of, alphasort);

	*names = count < 0 ? NULL : calloc((size_t)count + 1, sizeof(**names));
	for (int i = 0; i < count; i++) {
		if (*names != NULL)
			(*names)[i] = strdup(entries[i]->d_name);
		free(entries[i]);
	}
	if (count >= 0)
		free(entries);
	return *names == NULL ? -1 : count;
}

void
hold_names_free(char **names)
{
	for (char **name = names; name != NULL && *name != NULL; name++)
		free(*name);
	free(names);
}

int
hold_remove(struct spool *spool, const char *name)
{
	return unlinkat(spool->dir[SPOOL_HOLD], name, 0) == 0 || errno == ENOENT ? 0 : -1;
}
