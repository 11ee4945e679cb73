/*
 * Owns attempts.jsonl: the form of its lines, when one is left out, and the
 * descriptor that follows rotation.
 *
 * Any client can cause a refusal. So each process has a bucket of ten such lines, into which
 * one comes back each 0.1 s. Other processes may write to the log as well, and under CGI each
 * request has a process of its own: where the log is not as this one left it, the lines of
 * the last second are counted, too.
 */
#define _GNU_SOURCE
#include "receiver/attempts.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "base/json_line.h"
#include "base/log.h"
#include "base/user.h"
#include "receiver/attempts_reader.h"
#include "store/store.h"

enum {
	TEXT_MAX_BYTES = 256,    /* of one text from outside, before escaping */
	LINE_MAX_BYTES = 8192,   /* four such texts, each byte as \\uXXXX, and the rest */
	REFUSALS_MAX = 10,       /* at once, and a second; also in docs/design.md */
	REFUSAL_MS = 1000 / REFUSALS_MAX,
	SECOND_NS = 1000000000,
	LOOK_BACK = 100, /* lines: more are not looked at for those of the last second */
	TORN_CHECKS = 50, /* of a line that seems torn, a millisecond apart */
	FILE_MODE = 0640
};

struct attempts {
	char *path; /* of the spool */
	int dir;
	pthread_mutex_t lock;
	int fd; /* -1: not open */
	dev_t device;
	ino_t inode;
	off_t size;   /* after our last line: another one means that others write, too */
	bool torn;    /* the last line has no newline: write one first */
	bool failing; /* it could not be written, and that was logged */
	int64_t full_ms; /* clock_milliseconds() at which the bucket is full again */
	unsigned long suppressed;
	struct store *store; /* that is given copies; or NULL */
};

/* Whether the receiver, which runs as the spool's owner, can write the log. */
static bool
is_written_by_owner(const struct stat *log, const struct stat *spool)
{
	if (log->st_uid == spool->st_uid)
		return (log->st_mode & 0600) == 0600;
	return log->st_gid == spool->st_gid && (log->st_mode & 0060) == 0060;
}

static void
explain_owner(const char *path, const struct stat *log, const struct stat *spool,
    struct error *error)
{
	char owner[USER_NAME_SIZE], other[USER_NAME_SIZE], remedy[512];

	user_name(spool->st_uid, owner);
	if (log->st_uid == spool->st_uid)
		snprintf(remedy, sizeof(remedy), "chmod 0640 %.400s", path);
	else
		snprintf(remedy, sizeof(remedy), "chown %s %.150s; chmod 0640 %.150s; and logrotate needs: "
		    "su %s GROUP, nocreate", owner, path, path, owner);
	error_set(error, EX_NOPERM, remedy,
	    "%s: of user %s, mode %04o: the receiver, which runs as %s, cannot write it", path,
	    user_name(log->st_uid, other), (unsigned)log->st_mode & 07777, owner);
}

int
attempts_check(const char *directory, struct error *error)
{
	char path[PATH_MAX];
	struct stat log, spool;

	snprintf(path, sizeof(path), "%s/" ATTEMPTS_FILE, directory);
	if (user_of_spool(AT_FDCWD, directory, &spool) != 0 || lstat(path, &log) != 0)
		return 0; /* the check of the spool says more, or it is to be made */
	if (!S_ISREG(log.st_mode))
		error_set(error, EX_NOPERM, "move it away", "%s: no regular file", path);
	else if (!is_written_by_owner(&log, &spool))
		explain_owner(path, &log, &spool, error);
	else
		return 0;
	return -1;
}

struct attempts *
attempts_open(const char *directory)
{
	struct attempts *attempts = calloc(1, sizeof(*attempts));

	if (attempts == NULL)
		return NULL;
	attempts->dir = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	attempts->path = attempts->dir < 0 ? NULL : strdup(directory);
	if (attempts->path == NULL) {
		int saved = errno;
		if (attempts->dir >= 0)
			close(attempts->dir);
		free(attempts);
		errno = saved;
		return NULL;
	}
	attempts->fd = -1;
	pthread_mutex_init(&attempts->lock, NULL);
	return attempts;
}

bool
attempts_is_replaced(const struct attempts *attempts)
{
	struct stat used, named;

	if (stat(attempts->path, &named) != 0)
		return errno == ENOENT || errno == ENOTDIR;
	return fstat(attempts->dir, &used) == 0 &&
	    (used.st_dev != named.st_dev || used.st_ino != named.st_ino);
}

void
attempts_copy_to(struct attempts *attempts, struct store *store)
{
	attempts->store = store;
}

void
attempts_close(struct attempts *attempts)
{
	if (attempts == NULL)
		return;
	if (attempts->fd >= 0)
		close(attempts->fd);
	close(attempts->dir);
	free(attempts->path);
	pthread_mutex_destroy(&attempts->lock);
	free(attempts);
}

/* A member whose value is text from outside, cut; none if there is no text. */
static void
add_text(struct json_line *line, const char *key, const char *value, size_t length)
{
	if (value == NULL || length == 0)
		return;
	json_line_put(line, ",\"");
	json_line_put(line, key);
	json_line_put(line, "\":");
	json_line_add_string(line, value, length < TEXT_MAX_BYTES ? length : TEXT_MAX_BYTES);
}

static size_t
length_of(const char *text)
{
	return text != NULL ? strlen(text) : 0;
}

static void
add_milliseconds(struct json_line *line, long long us)
{
	char fraction[] = {'.', (char)('0' + us / 100 % 10), (char)('0' + us / 10 % 10),
		(char)('0' + us % 10), '\0'};

	json_line_put(line, ",\"ms\":");
	json_line_put_number(line, us / 1000);
	json_line_put(line, fraction);
}

/* The line into buffer, after a newline that ends a torn one. Returns the length of both. */
static size_t
format_line(const struct attempt *a, unsigned long suppressed, char buffer[LINE_MAX_BYTES])
{
	char at[DATETIME_ISO_SIZE];
	struct json_line line;

	datetime_iso(a->at, at);
	json_line_begin(&line, buffer, LINE_MAX_BYTES);
	json_line_put(&line, "\n{\"at\":\"");
	json_line_put(&line, at);
	json_line_put(&line, "\",\"outcome\":\"");
	json_line_put(&line, a->outcome);
	json_line_put(&line, "\",\"status\":");
	json_line_put_number(&line, a->status);
	add_text(&line, "reason", a->reason, length_of(a->reason));
	add_text(&line, "webhook_id", a->webhook_id, a->webhook_id_length);
	add_text(&line, "type", a->type, length_of(a->type));
	add_text(&line, "npn", a->npn, length_of(a->npn));
	add_text(&line, "event_id", a->event_id, length_of(a->event_id));
	add_text(&line, "remote_addr", a->remote_addr, length_of(a->remote_addr));
	json_line_put(&line, ",\"bytes\":");
	json_line_put_number(&line, (long long)a->bytes);
	if (a->skew_known) {
		json_line_put(&line, ",\"skew_s\":");
		json_line_put_number(&line, a->skew);
	}
	add_text(&line, "key", a->key, length_of(a->key));
	add_milliseconds(&line, a->us);
	if (suppressed > 0)
		json_line_add(&line, ",\"suppressed\":%lu", suppressed);
	json_line_put(&line, "}\n");
	return line.cut ? 0 : line.length;
}

/*
 * Find out whether the last line of the file is torn, that is, has no newline. st is the
 * file's status. While another process writes a line that crosses a page, only its first half
 * can be seen for a moment: so check again before the line counts as torn.
 */
static void
check_torn(struct attempts *attempts, struct stat *st)
{
	for (int i = 0; i < TORN_CHECKS; i++) {
		char last;
		attempts->torn = st->st_size > 0 &&
		    pread(attempts->fd, &last, 1, st->st_size - 1) == 1 && last != '\n';
		attempts->size = st->st_size;
		if (!attempts->torn)
			return;
		poll(NULL, 0, 1);
		if (fstat(attempts->fd, st) != 0)
			return;
	}
}

/*
 * A new log has mode and owner by rule, whichever process makes it: a command under another
 * umask, or root for the spool's owner. Where that is not possible it is written all the same.
 */
static void
settle(const struct attempts *attempts, const struct stat *st)
{
	struct stat spool;

	if ((st->st_mode & 07777) != FILE_MODE)
		(void)!fchmod(attempts->fd, FILE_MODE);
	if (geteuid() == 0 && user_of_spool(attempts->dir, ".", &spool) == 0 &&
	    spool.st_uid != st->st_uid)
		(void)!fchown(attempts->fd, spool.st_uid, (gid_t)-1);
}

/*
 * Open the file again if its name belongs to another one now, and find out whether its last
 * line is torn. there: the file exists, and st is its status. Returns 0, or -1 with errno.
 */
static int
reopen(struct attempts *attempts, bool there, struct stat *st)
{
	bool same = there && attempts->fd >= 0 && st->st_ino == attempts->inode &&
	    st->st_dev == attempts->device;

	if (!same) {
		if (attempts->fd >= 0)
			close(attempts->fd);
		attempts->fd = openat(attempts->dir, ATTEMPTS_FILE,
		    O_RDWR | O_APPEND | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, FILE_MODE);
		if (attempts->fd < 0 || fstat(attempts->fd, st) != 0)
			return -1;
		if (!there)
			settle(attempts, st);
		attempts->device = st->st_dev;
		attempts->inode = st->st_ino;
	}
	if (!same || st->st_size != attempts->size)
		check_torn(attempts, st);
	return 0;
}

/* Whether any client can cause this line: no secret has matched. */
static bool
is_unauthenticated(const struct attempt *attempt)
{
	return strcmp(attempt->outcome, "rejected") == 0 ||
	    strcmp(attempt->outcome, "ignored") == 0 ||
	    (strcmp(attempt->outcome, "error") == 0 && attempt->key == NULL);
}

/* Take a line from the bucket. Without a look at the file: a flood costs no system call here. */
static bool
take_from_bucket(struct attempts *attempts)
{
	int64_t now = clock_milliseconds();

	if (attempts->full_ms < now)
		attempts->full_ms = now;
	if (attempts->full_ms - now > (REFUSALS_MAX - 1) * REFUSAL_MS)
		return false;
	attempts->full_ms += REFUSAL_MS;
	return true;
}

/* The time at which a line was written: the request began at "at", and took "ms". 0: not known. */
static int64_t
written_at(const struct attempts_line *line)
{
	int64_t at, ms = 0;

	if (!attempts_reader_time(line, &at))
		return 0;
	attempts_reader_number(line, ATTEMPTS_MS, &ms);
	return at + ms * (SECOND_NS / 1000);
}

/* Whether all processes together have logged as many refusals in the last second as they may. */
static bool
is_full_of_refusals(const struct attempts *attempts)
{
	struct attempts_reader *reader =
	    attempts_reader_open(attempts->path, ATTEMPTS_NEWEST_FIRST, false);
	struct attempts_line line;
	struct timespec clock;
	int refusals = 0;

	clock_gettime(CLOCK_REALTIME, &clock);
	int64_t now = clock.tv_sec * (int64_t)SECOND_NS + clock.tv_nsec;
	for (int i = 0; reader != NULL && i < LOOK_BACK && attempts_reader_next(reader, &line); i++) {
		int64_t at = written_at(&line);
		if (line.whole && (at < now - SECOND_NS || at > now))
			break;
		refusals += line.whole && line.member[ATTEMPTS_KEY].text == NULL &&
		    !attempts_reader_is(&line, ATTEMPTS_OUTCOME, "held");
	}
	attempts_reader_close(reader);
	return refusals >= REFUSALS_MAX;
}

/* Whether the line is left out. st is the status of the log, if it is there. */
static bool
is_suppressed(struct attempts *attempts, const struct attempt *attempt, bool there,
    const struct stat *st)
{
	if (!is_unauthenticated(attempt) || !there)
		return false;
	bool ours = attempts->fd >= 0 && st->st_ino == attempts->inode &&
	    st->st_dev == attempts->device && st->st_size == attempts->size;
	return !ours && is_full_of_refusals(attempts);
}

static void
append(struct attempts *attempts, const struct attempt *attempt)
{
	char buffer[LINE_MAX_BYTES];
	struct stat st;

	if (is_unauthenticated(attempt) && !take_from_bucket(attempts)) {
		attempts->suppressed++;
		return;
	}
	bool there = fstatat(attempts->dir, ATTEMPTS_FILE, &st, AT_SYMLINK_NOFOLLOW) == 0;

	if (is_suppressed(attempts, attempt, there, &st)) {
		attempts->suppressed++;
		return;
	}
	size_t length = format_line(attempt, attempts->suppressed, buffer);
	if (length == 0)
		return;
	bool written = false;
	if (reopen(attempts, there, &st) == 0) {
		const char *from = attempts->torn ? buffer : buffer + 1;
		length -= attempts->torn ? 0 : 1;
		ssize_t n = write(attempts->fd, from, length);
		written = n == (ssize_t)length;
		if (n > 0) {
			attempts->torn = !written;
			attempts->size += n;
		}
	}
	if (!written && !attempts->failing)
		log_line("%s/" ATTEMPTS_FILE ": cannot be written: %s: attempts go unlogged",
		    attempts->path, strerror(errno));
	attempts->failing = !written;
	if (!written)
		return;
	attempts->suppressed = 0;
	if (attempts->store != NULL) /* between the newlines */
		store_attempt(attempts->store, attempt->at.tv_sec * NANOSECONDS + attempt->at.tv_nsec,
		    buffer + 1, strlen(buffer + 1) - 1);
}

void
attempts_write(struct attempts *attempts, const struct attempt *attempt)
{
	pthread_mutex_lock(&attempts->lock);
	append(attempts, attempt);
	pthread_mutex_unlock(&attempts->lock);
}
