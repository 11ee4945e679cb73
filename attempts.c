/*
 * Owns attempts.jsonl: the form of its lines, when one is left out, and the
 * descriptor that follows rotation.
 */
#define _GNU_SOURCE
#include "attempts.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "events.h"
#include "log.h"

enum {
	LINE_MAX_BYTES = 4096,
	TEXT_MAX_BYTES = 256,    /* of one text from outside */
	REJECTED_EVERY_MS = 100, /* design: one rejected attempt in 0.1 s */
	FILE_MODE = 0640
};

struct attempts {
	int dir;
	pthread_mutex_t lock;
	int fd; /* -1: not open */
	dev_t device;
	ino_t inode;
	bool torn;    /* the last line has no end: begin the next one on a new line */
	bool failing; /* said so already */
	unsigned long suppressed;
};

struct attempts *
attempts_open(int dir)
{
	struct attempts *attempts = calloc(1, sizeof(*attempts));

	if (attempts == NULL)
		return NULL;
	attempts->dir = dir;
	attempts->fd = -1;
	pthread_mutex_init(&attempts->lock, NULL);
	return attempts;
}

void
attempts_close(struct attempts *attempts)
{
	if (attempts == NULL)
		return;
	if (attempts->fd >= 0)
		close(attempts->fd);
	pthread_mutex_destroy(&attempts->lock);
	free(attempts);
}

/* Text from outside, cut and made a JSON string whatever its bytes are. */
static json_t *
text(const char *bytes, size_t length)
{
	char copy[TEXT_MAX_BYTES];

	if (bytes == NULL)
		return NULL;
	if (length > sizeof(copy))
		length = sizeof(copy);
	json_t *string = json_stringn(bytes, length);
	if (string != NULL)
		return string;
	memcpy(copy, bytes, length);
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)copy[i] >= 0x80)
			copy[i] = '?';
	return json_stringn(copy, length);
}

static void
set_text(json_t *line, const char *key, const char *value)
{
	if (value != NULL && *value != '\0')
		json_object_set_new(line, key, text(value, strlen(value)));
}

/* The line into buffer, after one byte of room for a newline before it. Returns its length or 0. */
static size_t
format_line(const struct attempt *a, unsigned long suppressed, char buffer[LINE_MAX_BYTES])
{
	char at[ISO_TIME_SIZE];
	json_t *line = json_object();

	iso_time(a->at, at);
	json_object_set_new(line, "at", json_string(at));
	json_object_set_new(line, "outcome", json_string(a->outcome));
	json_object_set_new(line, "status", json_integer(a->status));
	set_text(line, "reason", a->reason);
	if (a->webhook_id != NULL)
		json_object_set_new(line, "webhook_id", text(a->webhook_id, a->webhook_id_length));
	set_text(line, "type", a->type);
	set_text(line, "event_id", a->event_id);
	set_text(line, "remote_addr", a->remote_addr);
	json_object_set_new(line, "bytes", json_integer((json_int_t)a->bytes));
	if (a->timed)
		json_object_set_new(line, "skew_s", json_integer(a->skew));
	set_text(line, "key", a->key);
	json_object_set_new(line, "ms", json_real(a->ms));
	if (suppressed > 0)
		json_object_set_new(line, "suppressed", json_integer((json_int_t)suppressed));
	/* ASCII alone: U+009B and the like would steer a terminal. */
	size_t n = json_dumpb(line, buffer + 1, LINE_MAX_BYTES - 2,
	    JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(4));
	json_decref(line);
	if (n == 0 || n > LINE_MAX_BYTES - 2)
		return 0;
	buffer[0] = '\n';
	buffer[1 + n] = '\n';
	return n + 1;
}

/* Open the file by its name; find out whether the last line in it has an end. */
static int
open_log(struct attempts *attempts)
{
	struct stat st;
	char last;

	if (attempts->fd >= 0)
		close(attempts->fd);
	attempts->fd = openat(attempts->dir, ATTEMPTS_FILE,
	    O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, FILE_MODE);
	if (attempts->fd < 0 || fstat(attempts->fd, &st) != 0)
		return -1;
	attempts->device = st.st_dev;
	attempts->inode = st.st_ino;
	attempts->torn = st.st_size > 0 &&
	    pread(attempts->fd, &last, 1, st.st_size - 1) == 1 && last != '\n';
	return 0;
}

static bool
written_lately(const struct stat *st, const struct timespec *now)
{
	long long age = (now->tv_sec - st->st_mtim.tv_sec) * 1000LL +
	    (now->tv_nsec - st->st_mtim.tv_nsec) / 1000000;

	return age >= 0 && age < REJECTED_EVERY_MS;
}

static void
append(struct attempts *attempts, const struct attempt *attempt)
{
	char buffer[LINE_MAX_BYTES];
	struct stat st;
	bool there = fstatat(attempts->dir, ATTEMPTS_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0;

	bool anyones = strcmp(attempt->outcome, "rejected") == 0 ||
	    strcmp(attempt->outcome, "ignored") == 0;
	if (there && anyones &&
	    written_lately(&st, &attempt->at)) {
		attempts->suppressed++;
		return;
	}
	size_t length = format_line(attempt, attempts->suppressed, buffer);
	if (length == 0)
		return;
	bool same = there && attempts->fd >= 0 && st.st_ino == attempts->inode &&
	    st.st_dev == attempts->device;
	bool written = false;
	if (same || open_log(attempts) == 0) {
		const char *from = attempts->torn ? buffer : buffer + 1;
		length += attempts->torn ? 1 : 0;
		ssize_t n = write(attempts->fd, from, length);
		written = n == (ssize_t)length;
		if (n > 0)
			attempts->torn = !written;
	}
	if (!written && !attempts->failing)
		log_line("%s: cannot be written: %s: attempts go unlogged", ATTEMPTS_FILE,
		    strerror(errno));
	attempts->failing = !written;
	if (written)
		attempts->suppressed = 0;
}

void
attempts_write(struct attempts *attempts, const struct attempt *attempt)
{
	pthread_mutex_lock(&attempts->lock);
	append(attempts, attempt);
	pthread_mutex_unlock(&attempts->lock);
}
