/*
 * Owns hold/: what a file there is called, how much may wait, and how it is read
 * back. A file is a spool file (events.h) with the whole webhook-signature header
 * in it and the body as base64: nothing unproven is parsed as JSON.
 *
 * Names are SECONDS and nanoseconds of the arrival, process and a serial number,
 * so that the order of the names is the order of arrival.
 */
#define _GNU_SOURCE
#include "hold.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "log.h"
#include "verify.h"

enum {
	NAME_SIZE = 64,
	ARRIVAL_DIGITS = 19, /* of the arrival in nanoseconds, until the year 2286 */
	/* Of a file that is read back: escapes may make the evidence longer than what came. */
	FILE_MAX = 2 * HOLD_BYTES_MAX
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

/* When in doubt it is not empty: 503 makes the sender try again, a 200 does not. */
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

/* ---- keeping ---- */

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
hold_keep(struct spool *spool, const struct evidence *evidence, const void *body, size_t length)
{
	struct record record;

	/* Bytes of the signatures' list that are no text become '?': no signature has them. */
	if (record_make(&record, evidence, body, length, false) != 0)
		return SPOOL_ERROR;
	enum spool_result result = store_if_room(spool, &record, evidence->received_at);
	record_free(&record);
	return result;
}

/* ---- reading back ---- */

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

/* The whole file with a NUL at its end, or NULL. */
static char *
read_whole(int dir, const char *name, size_t *length)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	struct stat st;
	char *text = NULL;

	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size <= FILE_MAX)
		text = malloc((size_t)st.st_size + 1);
	*length = 0;
	for (ssize_t n; text != NULL && *length < (size_t)st.st_size; *length += (size_t)n) {
		n = read(fd, text + *length, (size_t)st.st_size - *length);
		if (n <= 0)
			break;
	}
	if (text != NULL)
		text[*length] = '\0';
	if (fd >= 0)
		close(fd);
	return text;
}

/* The bytes under name, or in base64 under name_base64. NULL if there are none. */
static char *
bytes_of(const json_t *file, const char *name, size_t *length)
{
	const json_t *plain = json_object_get(file, name);
	char encoded[64];

	if (json_is_string(plain)) {
		*length = json_string_length(plain);
		return strndup(json_string_value(plain), *length);
	}
	snprintf(encoded, sizeof(encoded), "%s_base64", name);
	const json_t *base64 = json_object_get(file, encoded);
	if (!json_is_string(base64))
		return NULL;
	size_t room = json_string_length(base64) + 1;
	char *bytes = malloc(room);
	long n = bytes == NULL ? -1 :
	    base64_decode(json_string_value(base64), room - 1, bytes, room - 1);
	if (n < 0) {
		free(bytes);
		return NULL;
	}
	bytes[n] = '\0';
	*length = (size_t)n;
	return bytes;
}

/* What iso_time() wrote. */
static bool
read_time(const char *text, struct timespec *time)
{
	struct tm tm = {0};
	const char *rest = text == NULL ? NULL : strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
	int ms = 0;

	if (rest == NULL || sscanf(rest, ".%3dZ", &ms) != 1 || ms < 0)
		return false;
	*time = (struct timespec){.tv_sec = timegm(&tm), .tv_nsec = ms * 1000000L};
	return true;
}

int
hold_read(struct spool *spool, const char *name, struct held *held)
{
	size_t length;
	char *text = read_whole(spool->dir[SPOOL_HOLD], name, &length);
	json_t *file = text == NULL ? NULL : json_loadb(text, length, JSON_REJECT_DUPLICATES, NULL);
	struct evidence *e = &held->evidence;

	free(text);
	*held = (struct held){.length = 0};
	e->id = bytes_of(file, "webhook_id", &e->id_length);
	e->timestamp = bytes_of(file, "webhook_timestamp", &e->timestamp_length);
	e->signature = bytes_of(file, "webhook_signature", &e->signature_length);
	held->body = (unsigned char *)bytes_of(file, "body", &held->length);
	bool whole = e->id != NULL && e->timestamp != NULL && e->signature != NULL &&
	    held->body != NULL &&
	    read_time(json_string_value(json_object_get(file, "received_at")), &e->received_at);
	json_decref(file);
	if (whole)
		return 0;
	held_free(held);
	return -1;
}

void
held_free(struct held *held)
{
	free((char *)(uintptr_t)held->evidence.id);
	free((char *)(uintptr_t)held->evidence.timestamp);
	free((char *)(uintptr_t)held->evidence.signature);
	free(held->body);
	*held = (struct held){.length = 0};
}

int
hold_remove(struct spool *spool, const char *name)
{
	return unlinkat(spool->dir[SPOOL_HOLD], name, 0) == 0 || errno == ENOENT ? 0 : -1;
}
