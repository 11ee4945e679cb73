/*
 * Owns the secret file. A keyring is immutable and counted: a request keeps the
 * one it began with while another thread puts a new one in force.
 */
#define _GNU_SOURCE
#include "secrets/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/path.h"
#include "base/securemem.h"
#include "base/user.h"
#include "secrets/secrettext.h"

enum {
	FILE_MAX = 64 * 1024, /* bytes of the file that are read */
	GROWTH = 1024,        /* bytes by which it may grow while it is */
	TICK_MS = 20          /* more than a tick of the kernel's clock, by which files are dated */
};

/* A keyring in use: freed when the last borrower is done and another is in force. */
struct generation {
	struct keyring *keyring;
	unsigned borrowers;
	struct generation *next;
};

struct secrets {
	const char *path;
	pthread_mutex_t lock;
	struct generation *newest; /* in force; older ones behind it are still borrowed */
	struct stat seen;          /* of the file when it was last read; all zero: absent */
	bool read;                 /* at least once: seen is valid */
	bool awaited;              /* see secrets_awaited() */
	atomic_ulong generation;   /* keyrings put in force so far */
	bool unsettled;            /* it could not be read for a cause that may pass: try again */
};

/*
 * What mends owner or mode. A secret that a container gets is mounted read-only: there nobody can
 * change it, but who mounts it can.
 */
static const char *
remedy_for(const char *path, const char *command)
{
	struct statvfs st;

	return statvfs(path, &st) == 0 && (st.f_flag & ST_RDONLY) != 0 ?
	    "it is mounted read-only, so say it where it is mounted: mode 0440 and the receiver's "
	    "group (Docker: mode and gid; Kubernetes: defaultMode 0440 and fsGroup)" : command;
}

/* A remedy that keeps the file readable to the receiver, whatever its mode is. */
static void
refuse_owner(const struct stat *st, const char *path, struct error *error)
{
	char owner[USER_NAME_SIZE], user[USER_NAME_SIZE], group[USER_NAME_SIZE], remedy[160];

	if (geteuid() != 0)
		snprintf(remedy, sizeof(remedy), "chown root:%s, and chmod 0640",
		    user_group_name(getegid(), group));
	else
		snprintf(remedy, sizeof(remedy),
		    "chown root:GROUP, and chmod 0640, with the receiver's group");
	error_set(error, EX_NOPERM, remedy_for(path, remedy),
	    "%s: owned by user %s, neither root nor the running user %s", path,
	    user_name(st->st_uid, owner), user_name(geteuid(), user));
}

void
secrets_refuse_path(const char *path, int number, struct error *error)
{
	error_set(error, EX_NOPERM, "move it away: then psapi secret add makes a file",
	    number == ELOOP ? "%s: is a link that leads in a circle" : "%s: is not a regular file",
	    path);
}

/* Whether owner and mode of the file can be trusted; else with an error. */
static bool
check_trust(const struct stat *st, const char *path, struct error *error)
{
	if (!S_ISREG(st->st_mode))
		secrets_refuse_path(path, 0, error);
	else if (st->st_uid != 0 && st->st_uid != geteuid())
		refuse_owner(st, path, error);
	else if ((st->st_mode & 07777 & ~0640U) != 0)
		error_set(error, EX_NOPERM, remedy_for(path, "chmod 0640"),
		    "%s: mode %04o lets other users read or write the secrets", path,
		    (unsigned)st->st_mode & 07777);
	else
		return true;
	return false;
}

/* How the file is read, and further results. */
struct reading {
	bool log;       /* each line that is no secret */
	bool unsettled; /* it failed for a cause that may pass (EMFILE, EIO, memory) */
	bool empty;     /* the file can be trusted and waits for its first secret */
	long bad;       /* lines that are no secret; the error is about the first */
};

static void
refuse_line(const char *path, int number, enum secret_kind kind, struct error *error,
    struct reading *reading)
{
	if (reading->bad++ == 0 || reading->log)
		error_set(error, EX_DATAERR, NULL, "%s:%d: %s", path, number,
		    verify_secret_kind_text(kind));
	if (reading->log)
		error_log(error);
}

/* Returns whether there was no line that is meant to be a secret. */
static bool
read_lines(struct keyring *keyring, char *text, const char *path, struct error *error,
    struct reading *reading)
{
	bool empty = true;
	int number = 0;

	for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;) {
		number++;
		line += strspn(line, " \t\r");
		if (*line == '\0' || *line == '#')
			continue;
		empty = false;
		enum secret_kind kind = verify_keyring_add(keyring, line, strlen(line));
		if (kind != SECRET_GOOD)
			refuse_line(path, number, kind, error, reading);
	}
	return empty;
}

/* Put the secrets in length bytes of text into the keyring; with an error, or what was cleaned. */
static void
read_text(struct keyring *keyring, char *text, size_t length, const char *path,
    struct error *error, struct reading *reading)
{
	const char *found;
	bool blank;

	secrettext_clean(text, length, &found, &blank);
	error_set(error, EX_NOINPUT,
	    "paste the endpoint's signing secret from the portal: psapi secret add",
	    blank ? "%s: holds NUL bytes alone: its contents were lost" : "%s: holds no secret yet",
	    path);
	reading->empty = read_lines(keyring, text, path, error, reading) && !blank;
	size_t n = strlen(error->text);
	if (reading->bad > 1 && !reading->log)
		snprintf(error->text + n, sizeof(error->text) - n, ", and %ld more such line(s)",
		    reading->bad - 1);
	if (verify_keyring_size(keyring) == 0)
		return;
	if (reading->bad > 0 && !reading->log) {
		snprintf(error->remedy, sizeof(error->remedy),
		    "correct or remove that line: the other secrets are in force");
		return;
	}
	error_set(error, 0, NULL, "%s", "");
	if (found != NULL)
		error_set(error, 0, "it is read without; psapi secret add or drop writes it clean",
		    "%s: has %s", path, found);
}

/*
 * Read an open file that can be trusted into a keyring, which may stay empty. Returns NULL
 * with an error if it cannot be read.
 */
static struct keyring *
read_open(int fd, const char *path, off_t length, struct error *error, struct reading *reading)
{
	/* No more memory than needed: all of it is wiped, which takes time in a CGI program. */
	size_t room = length < FILE_MAX - GROWTH ? (size_t)length + GROWTH : FILE_MAX;
	char *text = securemem_new(room + 1);
	struct keyring *keyring = text != NULL ? verify_keyring_new() : NULL;
	ssize_t n = keyring != NULL ? io_read_all(fd, text, room) : -1;

	if (n < 0) {
		error_set(error, EX_IOERR, NULL, "%s: %s", path,
		    keyring != NULL ? strerror(errno) : "out of memory");
		verify_keyring_free(keyring);
		keyring = NULL;
	} else {
		reading->unsettled = false;
		read_text(keyring, text, (size_t)n, path, error, reading);
	}
	securemem_free(text, room + 1);
	return keyring;
}

/* As secrets_read(). */
static struct keyring *
read_keyring(const char *path, struct error *error, struct reading *reading)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct keyring *keyring = NULL;
	struct stat st;

	reading->unsettled = true;
	if (fd < 0 || fstat(fd, &st) != 0) {
		reading->unsettled = errno != ENOENT;
		int number = errno;
		char closed[PATH_REMEDY_SIZE];
		const char *remedy = number != EACCES ? NULL : path_remedy(path, remedy_for(path,
		    "the receiver must be able to read it: chgrp to its group, chmod 0640; where its "
		    "directory was replaced, restart the receiver"), closed);
		error_set(error, number == EACCES ? EX_NOPERM : EX_NOINPUT, remedy, "%s: %s", path,
		    strerror(number));
		if (number == ELOOP)
			secrets_refuse_path(path, number, error);
	} else if (!check_trust(&st, path, error)) {
		reading->unsettled = false;
	} else {
		keyring = read_open(fd, path, st.st_size, error, reading);
	}
	if (fd >= 0)
		close(fd);
	if (keyring != NULL && verify_keyring_size(keyring) == 0) {
		verify_keyring_free(keyring);
		keyring = NULL;
	}
	return keyring;
}

struct keyring *
secrets_read(const char *path, struct error *error)
{
	struct reading reading = {0};

	return read_keyring(path, error, &reading);
}

bool
secrets_is_empty(const char *path)
{
	struct reading reading = {0};
	struct error error;

	verify_keyring_free(read_keyring(path, &error, &reading));
	return reading.empty;
}

struct secrets *
secrets_open(const char *path)
{
	struct secrets *secrets = calloc(1, sizeof(*secrets));

	if (secrets == NULL)
		return NULL;
	secrets->path = path;
	pthread_mutex_init(&secrets->lock, NULL);
	return secrets;
}

/* Free the keyrings that are neither in force nor borrowed; or all. */
static void
sweep(struct secrets *secrets, bool all)
{
	struct generation **link = &secrets->newest;

	if (!all && *link != NULL)
		link = &(*link)->next;
	while (*link != NULL) {
		struct generation *g = *link;
		if (!all && g->borrowers > 0) {
			link = &g->next;
			continue;
		}
		*link = g->next;
		verify_keyring_free(g->keyring);
		free(g);
	}
}

void
secrets_close(struct secrets *secrets)
{
	if (secrets == NULL)
		return;
	sweep(secrets, true);
	pthread_mutex_destroy(&secrets->lock);
	free(secrets);
}

static bool
same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size &&
	    a->st_mode == b->st_mode && a->st_uid == b->st_uid &&
	    a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	    a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

/* Put the secrets of the file in force, or log why the old ones stay. */
static void
reload(struct secrets *secrets)
{
	struct error error;
	char line[640];
	bool again = secrets->unsettled;
	struct reading reading = {.log = true, .unsettled = true};
	struct generation *g = calloc(1, sizeof(*g));
	struct keyring *keyring = NULL;

	error_set(&error, EX_OSERR, NULL, "out of memory");
	if (g != NULL)
		keyring = read_keyring(secrets->path, &error, &reading);
	secrets->unsettled = reading.unsettled;
	secrets->awaited = reading.empty && secrets->newest == NULL;
	if (keyring == NULL && again) {
		free(g); /* it was logged before */
		return;
	}
	if (keyring == NULL) {
		log_line("%s; %s", error_line(&error, line, sizeof(line)),
		    secrets->newest != NULL ? "the secrets read before stay in force" :
		    secrets->awaited ? "no request can be verified: requests are held if no event was "
		                       "ever accepted, else 503 is answered" :
		                       "no request can be verified, 503 is answered");
		free(g);
		return;
	}
	if (*error.text != '\0')
		log_line("%s", error_line(&error, line, sizeof(line)));
	if (secrets->newest != NULL)
		log_line("%s: changed, %zu secret(s) in force", secrets->path,
		    verify_keyring_size(keyring));
	g->keyring = keyring;
	g->next = secrets->newest;
	secrets->newest = g;
	atomic_fetch_add(&secrets->generation, 1);
	sweep(secrets, false);
}

/* The file's status now; all zero: absent. */
static void
stat_file(struct secrets *secrets, struct stat *st)
{
	if (stat(secrets->path, st) != 0)
		memset(st, 0, sizeof(*st));
}

/*
 * Changes within one tick of the kernel's clock get the same time: wait for the end of
 * this tick before the file is read, or a second change would never be noticed.
 */
static void
wait_for_tick(struct secrets *secrets, struct stat *st)
{
	struct timespec tick;

	for (int waited = 0; waited < TICK_MS; waited++) {
		clock_gettime(CLOCK_REALTIME_COARSE, &tick);
		stat_file(secrets, st);
		if (st->st_ctim.tv_sec < tick.tv_sec ||
		    (st->st_ctim.tv_sec == tick.tv_sec && st->st_ctim.tv_nsec < tick.tv_nsec))
			return;
		poll(NULL, 0, 1);
	}
}

const struct keyring *
secrets_borrow(struct secrets *secrets)
{
	const struct keyring *keyring = NULL;
	struct stat st;

	pthread_mutex_lock(&secrets->lock);
	stat_file(secrets, &st);
	bool changed = !secrets->read || !same_file(&st, &secrets->seen);
	if (changed)
		wait_for_tick(secrets, &st);
	if (changed || secrets->unsettled) {
		if (changed)
			secrets->unsettled = false;
		/* The stat comes before the reading: a change in between is seen next time. */
		secrets->read = true;
		secrets->seen = st;
		reload(secrets);
	}
	if (secrets->newest != NULL) {
		secrets->newest->borrowers++;
		keyring = secrets->newest->keyring;
	}
	pthread_mutex_unlock(&secrets->lock);
	return keyring;
}

void
secrets_return(struct secrets *secrets, const struct keyring *keyring)
{
	if (keyring == NULL)
		return;
	pthread_mutex_lock(&secrets->lock);
	for (struct generation *g = secrets->newest; g != NULL; g = g->next)
		if (g->keyring == keyring)
			g->borrowers--;
	sweep(secrets, false);
	pthread_mutex_unlock(&secrets->lock);
}

bool
secrets_awaited(struct secrets *secrets)
{
	pthread_mutex_lock(&secrets->lock);
	bool awaited = secrets->awaited;
	pthread_mutex_unlock(&secrets->lock);
	return awaited;
}

unsigned long
secrets_generation(struct secrets *secrets)
{
	return atomic_load(&secrets->generation);
}
