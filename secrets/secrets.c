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
#include <time.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/securemem.h"

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
	bool looked;
	bool awaited;              /* see secrets_awaited() */
	atomic_ulong generation;   /* keyrings put in force so far */
	bool unsettled;            /* it could not be read for want of something: try again */
};

/* "" or what is wrong with who owns the file and who may use it. */
static bool
may_be_trusted(const struct stat *st, const char *path, char *why, size_t size)
{
	if (!S_ISREG(st->st_mode))
		snprintf(why, size, "%s: no regular file", path);
	else if (st->st_uid != 0 && st->st_uid != geteuid())
		snprintf(why, size,
		    "%s: owned by user %u, neither root nor the running user %u: mend with chown root",
		    path, (unsigned)st->st_uid, (unsigned)geteuid());
	else if ((st->st_mode & 07777 & ~0640U) != 0)
		snprintf(why, size, "%s: mode %04o lets others at the secrets: mend with chmod 0640",
		    path, (unsigned)st->st_mode & 07777);
	else
		return true;
	return false;
}

/* Returns whether there was no line that is meant to be a secret. */
static bool
read_lines(struct keyring *keyring, char *text, const char *path, char *why, size_t size)
{
	bool empty = true;
	int number = 0;

	for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL;) {
		number++;
		line += strspn(line, " \t\r");
		if (*line == '\0' || *line == '#')
			continue;
		empty = false;
		enum secret_look look = verify_keyring_add(keyring, line, strlen(line));
		if (look == SECRET_GOOD)
			continue;
		snprintf(why, size, "%s:%d: %s", path, number, verify_secret_look_text(look));
		log_line("%s", why);
	}
	return empty;
}

/* What else there is to say of a reading. */
struct reading {
	bool unsettled; /* it failed for what may pass (EMFILE, EIO, memory) */
	bool empty;     /* the file may be trusted and waits for its first secret */
};

/* As secrets_read(). */
static struct keyring *
read_keyring(const char *path, char *why, size_t size, struct reading *reading)
{
	struct keyring *keyring = NULL;
	char *text = NULL;
	size_t room = 0;
	struct stat st;

	*reading = (struct reading){.unsettled = true};
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 || fstat(fd, &st) != 0) {
		reading->unsettled = errno != ENOENT;
		snprintf(why, size, "%s: %s%s", path, strerror(errno), errno != EACCES ? "" :
		    ": the running user must be in its group; where its directory was replaced, restart the "
		    "receiver");
		goto out;
	}
	if (!may_be_trusted(&st, path, why, size)) {
		reading->unsettled = false;
		goto out;
	}
	/* No more than it takes: all of it is wiped, which is time for a CGI program. */
	room = st.st_size < FILE_MAX - GROWTH ? (size_t)st.st_size + GROWTH : FILE_MAX;
	keyring = verify_keyring_new();
	text = securemem_new(room + 1);
	if (keyring == NULL || text == NULL) {
		snprintf(why, size, "%s: out of memory", path);
		goto out;
	}
	ssize_t n = io_read_all(fd, text, room);
	if (n < 0) {
		snprintf(why, size, "%s: %s", path, strerror(errno));
		goto out;
	}
	reading->unsettled = false;
	text[n] = '\0';
	snprintf(why, size, "%s: holds no secret yet: paste the endpoint's signing secret from the portal",
	    path);
	reading->empty = read_lines(keyring, text, path, why, size);
out:
	if (keyring != NULL && verify_keyring_size(keyring) == 0) {
		verify_keyring_free(keyring);
		keyring = NULL;
	}
	securemem_free(text, room + 1);
	if (fd >= 0)
		close(fd);
	return keyring;
}

struct keyring *
secrets_read(const char *path, char *why, size_t size)
{
	struct reading reading;

	return read_keyring(path, why, size, &reading);
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

/* Free what is neither in force nor borrowed. */
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

/* Put what the file now says in force, or say why the old secrets stay. */
static void
reload(struct secrets *secrets)
{
	char why[512] = "out of memory";
	bool again = secrets->unsettled;
	struct reading reading = {.unsettled = true};
	struct generation *g = calloc(1, sizeof(*g));
	struct keyring *keyring = NULL;

	if (g != NULL)
		keyring = read_keyring(secrets->path, why, sizeof(why), &reading);
	secrets->unsettled = reading.unsettled;
	secrets->awaited = reading.empty && secrets->newest == NULL;
	if (keyring == NULL && again) {
		free(g); /* said before */
		return;
	}
	if (keyring == NULL) {
		log_line("%s; %s", why,
		    secrets->newest != NULL ? "the secrets read before stay in force" :
		    secrets->awaited ? "no request can be verified: what comes is held while nothing was "
		                       "ever accepted, else 503 is answered" :
		                       "no request can be verified, 503 is answered");
		free(g);
		return;
	}
	if (secrets->newest != NULL)
		log_line("%s: changed, %zu secret(s) in force", secrets->path,
		    verify_keyring_size(keyring));
	g->keyring = keyring;
	g->next = secrets->newest;
	secrets->newest = g;
	atomic_fetch_add(&secrets->generation, 1);
	sweep(secrets, false);
}

/* What the file is now; all zero: absent. */
static void
look(struct secrets *secrets, struct stat *st)
{
	if (stat(secrets->path, st) != 0)
		memset(st, 0, sizeof(*st));
}

/*
 * Changes within one tick of the kernel's clock share their time: let the tick of this
 * one pass before the file is read, or a second change would never be noticed.
 */
static void
let_it_settle(struct secrets *secrets, struct stat *st)
{
	struct timespec tick;

	for (int waited = 0; waited < TICK_MS; waited++) {
		clock_gettime(CLOCK_REALTIME_COARSE, &tick);
		look(secrets, st);
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
	look(secrets, &st);
	bool changed = !secrets->looked || !same_file(&st, &secrets->seen);
	if (changed)
		let_it_settle(secrets, &st);
	if (changed || secrets->unsettled) {
		if (changed)
			secrets->unsettled = false;
		/* The stat comes before the reading: a change in between is seen next time. */
		secrets->looked = true;
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
