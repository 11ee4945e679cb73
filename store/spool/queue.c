/*
 * Owns the work queue: the lock of the process that moves events, the list of what waits in new/,
 * and the moves after an outcome. A move is link, sync, unlink: without the sync a power cut could
 * keep the unlink and lose the link. rename(2) would not do: between two links of one file it does
 * nothing. A crash leaves an event where it was, where it goes to, or in both; new/ counts then.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "store/spool/spool.h"
#include "store/spool/unrecognised.h"

#define LOCK_FILE "lock"

enum {
	LOCK_MODE = 0640,
	NAMED_MAX = 10 /* files that are named in the log, of those that cannot be used */
};

/* ---- the lock ---- */

static enum store_result
lock_failed(struct spool *spool, struct error *error)
{
	enum store_result result = spool_failed(spool, "lock it", SPOOL_DIRS, LOCK_FILE, error);

	return result == STORE_FULL ? STORE_FAILED : result;
}

enum store_result
spool_work_begin(void *engine, bool wait, struct error *error)
{
	struct spool *spool = engine;
	/* For reading only, so that a member of the spool's group can lock it, too (mode 0640). */
	int fd = openat(spool->root, LOCK_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	int result;

	if (fd < 0 && errno == ENOENT) {
		fd = openat(spool->root, LOCK_FILE, O_RDONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, LOCK_MODE);
		if (fd >= 0 && spool_file_settle(spool, fd, LOCK_MODE) != 0 && errno != EPERM) {
			close(fd);
			fd = -1;
		}
	}
	if (fd < 0)
		return lock_failed(spool, error);
	result = io_lock(fd, wait ? spool->wait_ms : 0);
	if (result == 0) {
		spool->lock = fd;
		return STORE_OK;
	}
	io_close(fd);
	if (errno != EWOULDBLOCK)
		return lock_failed(spool, error);
	error_set(error, EX_TEMPFAIL, "fuser -v on that file shows which process",
	    "%s/" LOCK_FILE ": psapi drain or another command still has the lock", spool->path);
	return STORE_BUSY;
}

void
spool_work_end(void *engine)
{
	struct spool *spool = engine;

	if (spool->lock >= 0)
		close(spool->lock);
	spool->lock = -1;
}

/* ---- what waits ---- */

struct scan {
	struct store_pending *pending;
	struct unrecognised *unrecognised;
	struct error *error;
	bool failed;
	long refused; /* files that cannot be read or moved */
};

/* Whether an outcome can be recorded. If not, no handler runs: it would run again and again. */
static enum store_result
check_writable(struct spool *spool, struct error *error)
{
	static const enum spool_dir dirs[] = {
	    SPOOL_EVENTS, SPOOL_NEW, SPOOL_FAILED, SPOOL_STATE, SPOOL_TMP};

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (faccessat(spool->dir[dirs[i]], ".", W_OK | X_OK, AT_EACCESS) != 0)
			return spool_failed(spool, "write a file", dirs[i], "", error);
	return STORE_OK;
}

/* A file that cannot be used is named once, until it is changed; it does not stop the others. */
static void
refuse_file(struct scan *scan, const char *name, const struct error *error, const char *what)
{
	char line[1600];

	scan->pending->refused = error->status;
	if (unrecognised_report(scan->unrecognised, name) && ++scan->refused <= NAMED_MAX)
		log_line("%s; %s", error_line(error, line, sizeof(line)), what);
}

/* A move that the kernel refuses for another user's file is found out before a handler runs. */
static bool
can_be_moved(struct spool *spool, const struct spool_file *file, struct scan *scan)
{
	struct error error;
	char probe[SPOOL_TEMPORARY_SIZE];
	struct stat st;

	if (fstat(file->fd, &st) == 0 && st.st_uid == geteuid())
		return true;
	spool_file_temporary_name(spool, probe);
	if (linkat(spool->dir[SPOOL_NEW], file->name, spool->dir[SPOOL_TMP], probe, 0) == 0) {
		unlinkat(spool->dir[SPOOL_TMP], probe, 0);
		return true;
	}
	if (errno == ENOENT)
		return true;
	spool_failed(spool, "make a hard link", SPOOL_NEW, file->name, &error);
	refuse_file(scan, file->name, &error, "its lane waits");
	return false;
}

static bool
is_settled(const struct spool_file *file, int64_t now)
{
	struct stat st;

	return fstat(file->fd, &st) == 0 && now - st.st_mtime >= SPOOL_SETTLED_SECONDS;
}

enum standing {
	WORK,     /* the same file as in events/ */
	ARRIVING, /* on its way in */
	APART     /* another file than in events/, and not on its way */
};

static enum standing
standing_of(struct spool *spool, const struct spool_file *file, struct scan *scan)
{
	if (spool_file_is(spool, file, SPOOL_EVENTS, file->name) == 1)
		return WORK;
	if (!is_settled(file, scan->pending->now)) {
		scan->pending->arriving = true;
		return ARRIVING;
	}
	if (!spool_has(spool, SPOOL_EVENTS, file->name))
		return ARRIVING;
	return APART;
}

/* Of two files of one name: what they have in common. */
enum likeness {
	COPY,           /* all: a spool was copied, and its links became files */
	OTHER_DELIVERY, /* the event, but not the evidence */
	OTHER_EVENT     /* or it is not known */
};

static enum likeness
likeness_of(struct spool *spool, const struct entry *ours, const char *name)
{
	enum likeness likeness = OTHER_EVENT;
	struct spool_file file;
	struct entry entry;
	const char *why;

	if (spool_file_open(spool, &file, SPOOL_EVENTS, name, &entry, &why) != ENTRY_OK)
		return OTHER_EVENT;
	if (entry.body_length == ours->body_length &&
	    memcmp(entry.body, ours->body, ours->body_length) == 0)
		likeness = strcmp(entry.timestamp, ours->timestamp) == 0 &&
		        strcmp(entry.signature, ours->signature) == 0 &&
		        strcmp(entry.received_at, ours->received_at) == 0 ? COPY : OTHER_DELIVERY;
	entry_free(&entry);
	spool_file_close(spool, &file);
	return likeness;
}

/*
 * A file that stands apart. If it is another delivery of the event, its writer has met a duplicate
 * and died before it removed it: by I3 the one in events/ was queued, and once that name is on the
 * disk, this one may go. A copy may be of an event that is not handled yet: a person knows.
 */
static void
settle_apart(struct spool *spool, const struct spool_file *file, const struct entry *entry,
    struct scan *scan)
{
	enum likeness likeness = likeness_of(spool, entry, file->name);
	struct error error;

	if (likeness == OTHER_DELIVERY && spool_sync(spool, SPOOL_EVENTS, -1) == 0 &&
	    spool_file_unlink(spool, file, SPOOL_NEW, file->name) == 0)
		return;
	if (likeness == OTHER_DELIVERY) {
		spool_failed(spool, "remove the name", SPOOL_NEW, file->name, &error);
		refuse_file(scan, file->name, &error, "it is left alone");
	} else if (unrecognised_report(scan->unrecognised, file->name)) {
		log_line("new/%s: is not the file of this name in events/, but %s: left alone; if it was "
		         "not handled, psapi replay queues the one in events/; else psapi done removes "
		         "this one",
		    file->name, likeness == COPY ? "a copy" : "another event");
	}
}

static int
visit_event(struct spool *spool, const struct spool_file *file, const struct entry *entry,
    struct scan *scan)
{
	struct store_waiting waiting = {.name = file->name, .when = entry_when(entry),
	    .due = INT64_MAX, .lane = entry_lane(&entry->event)};
	struct handler_state state;

	switch (can_be_moved(spool, file, scan) ? standing_of(spool, file, scan) : ARRIVING) {
	case WORK:
		spool_state_read(spool, file->name, &state);
		waiting.tried = state.tried_at;
		waiting.due = state.due_at;
		break;
	case ARRIVING:
		break;
	case APART:
		settle_apart(spool, file, entry, scan);
		return 0; /* its event was accepted as the file in events/: its lane does not wait for it */
	}
	scan->pending->stopped = scan->pending->visit(&waiting, scan->pending->data);
	return scan->pending->stopped;
}

static int
visit_name(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct scan *scan = data;
	struct spool_file file;
	struct entry entry;
	const char *why;
	int result = 0;

	switch (spool_file_open(spool, &file, dir, name, &entry, &why)) {
	case ENTRY_OK:
		result = visit_event(spool, &file, &entry, scan);
		entry_free(&entry);
		spool_file_close(spool, &file);
		break;
	case ENTRY_ABSENT:
		break;
	case ENTRY_INVALID:
		if (unrecognised_report(scan->unrecognised, name))
			log_line("new/%s: no event: %s; left alone", name, why);
		break;
	case ENTRY_ERROR:
		/*
		 * Its lane is not known: an event that is handled now might overtake it. For a file of
		 * another user that is put up with, for it would last; not for an error of the disk.
		 */
		result = errno == EACCES || errno == EPERM ? 0 : 1;
		spool_failed(spool, "read the file", dir, name, scan->error);
		scan->failed = result != 0;
		if (!scan->failed)
			refuse_file(scan, name, scan->error, "it is left out");
		break;
	}
	return result;
}

enum store_result
spool_pending(void *engine, struct store_pending *pending, struct error *error)
{
	struct spool *spool = engine;
	struct scan scan = {.pending = pending, .error = error};
	enum store_result result = check_writable(spool, error);

	pending->stopped = 0;
	pending->arriving = false;
	pending->refused = EX_OK;
	if (result == STORE_OK)
		result = spool_commit(spool, error);
	if (result != STORE_OK)
		return STORE_FAILED;
	scan.unrecognised = unrecognised_open(spool);
	int visited = scan.unrecognised == NULL ? -1 : spool_each(spool, SPOOL_NEW, visit_name, &scan);
	int saved = errno;
	unrecognised_close(scan.unrecognised);
	errno = saved;
	if (scan.refused > NAMED_MAX)
		log_line("%s/new: %ld more files like these", spool->path, scan.refused - NAMED_MAX);
	if (scan.failed)
		return STORE_FAILED;
	if (visited < 0) {
		spool_failed(spool, "list the names", SPOOL_NEW, "", error);
		return STORE_FAILED;
	}
	if (spool_sync(spool, SPOOL_EVENTS, -1) == 0)
		return STORE_OK;
	spool_failed(spool, "sync it", SPOOL_EVENTS, "", error);
	return STORE_FAILED;
}

/* ---- an event in work ---- */

static struct spool_file
file_of(const struct store_work *work)
{
	struct spool_file file = {.fd = work->file, .dir = SPOOL_NEW,
	    .parked = work->parked ? &work->identity : NULL};

	memcpy(file.name, work->name, sizeof(file.name));
	return file;
}

void
spool_unload(void *engine, struct store_work *work)
{
	(void)engine;
	entry_free(&work->entry);
	if (work->file >= 0)
		close(work->file);
	work->file = -1;
}

enum store_result
spool_load(void *engine, const char *name, struct store_work *work, struct error *error)
{
	struct spool *spool = engine;
	struct spool_file file;
	const char *why;

	work->file = -1;
	work->parked = false;
	snprintf(work->name, sizeof(work->name), "%s", name);
	snprintf(work->path, sizeof(work->path), "%s/new/%s", spool->path, name);
	switch (spool_file_open(spool, &file, SPOOL_NEW, name, &work->entry, &why)) {
	case ENTRY_OK:
		break;
	case ENTRY_ABSENT:
	case ENTRY_INVALID: /* replaced since it was listed: the next run reports it */
		return STORE_ABSENT;
	case ENTRY_ERROR:
		spool_failed(spool, "read the file", SPOOL_NEW, name, error);
		return STORE_FAILED;
	}
	work->file = file.fd;
	/* A file that is not the one in events/: its writer met a duplicate, and will remove it. */
	int same = spool_file_is(spool, &file, SPOOL_EVENTS, name);
	if (same != 1) {
		enum store_result result = same == 0 ? STORE_ABSENT :
		    spool_failed(spool, "look up the name", SPOOL_EVENTS, name, error);
		spool_unload(spool, work);
		return result;
	}
	/* An event that failed and is in new/ again starts anew. */
	if (spool_state_read(spool, name, &work->state) && work->state.failed_at != 0)
		memset(&work->state, 0, sizeof(work->state));
	return STORE_OK;
}

/* ---- a parked one: its file is closed, and known by what does not change in it ---- */

void
spool_park(void *engine, struct store_work *work)
{
	struct stat st;

	(void)engine;
	if (work->file < 0 || fstat(work->file, &st) != 0)
		return; /* it stays open: that is only dearer */
	work->identity.device = st.st_dev;
	work->identity.inode = st.st_ino;
	work->identity.size = (uint64_t)st.st_size;
	work->identity.written = st.st_mtim;
	close(work->file);
	work->file = -1;
	work->parked = true;
}

/*
 * Open its file again. STORE_ABSENT: another program has removed it, and what is left of it is
 * removed, too.
 */
static enum store_result
unpark(struct spool *spool, struct store_work *work, struct error *error)
{
	const char *why;
	struct stat st;
	enum entry_result opened = entry_open(spool->dir[SPOOL_NEW], work->name, &work->file, &why);

	if (opened == ENTRY_ERROR || (opened == ENTRY_OK && fstat(work->file, &st) != 0)) {
		spool_failed(spool, "read the file", SPOOL_NEW, work->name, error);
		if (work->file >= 0)
			close(work->file);
		work->file = -1;
		return STORE_FAILED;
	}
	if (opened == ENTRY_OK && spool_file_is_parked(&work->identity, &st)) {
		work->parked = false;
		return STORE_OK;
	}
	if (opened == ENTRY_OK)
		close(work->file);
	work->file = -1;
	return spool_done(spool, work, error) == STORE_OK ? STORE_ABSENT : STORE_FAILED;
}

/* ---- outcomes ---- */

/* Remove the state, a name in failed/ that a retry left, and last the name in new/. */
enum store_result
spool_done(void *engine, struct store_work *work, struct error *error)
{
	struct spool *spool = engine;
	struct spool_file file = file_of(work);

	if (spool_state_remove(spool, work->name) == 0 &&
	    spool_file_unlink(spool, &file, SPOOL_FAILED, work->name) == 0 &&
	    spool_file_unlink(spool, &file, SPOOL_NEW, work->name) == 0)
		return STORE_OK;
	spool_failed(spool, "remove the name", SPOOL_NEW, work->name, error);
	return STORE_FAILED;
}

/* Whether another program (a script of the user) has removed it while its handler ran. */
static bool
is_gone(struct spool *spool, const struct spool_file *file)
{
	return spool_file_is(spool, file, SPOOL_NEW, file->name) == 0;
}

static enum store_result
put_later(struct spool *spool, struct store_work *work, const struct handler_state *state,
    struct error *error)
{
	struct spool_file file = file_of(work);

	if (is_gone(spool, &file))
		return spool_done(spool, work, error) == STORE_OK ? STORE_ABSENT : STORE_FAILED;
	if (spool_state_put(spool, work->name, state) == 0)
		return STORE_OK;
	spool_failed(spool, "write a file", SPOOL_STATE, work->name, error);
	return STORE_FAILED;
}

/* Replaces a file that was put into failed/ by hand: else the event would be in no queue. */
static int
link_into_failed(struct spool *spool, const struct spool_file *file)
{
	if (spool_file_link(spool, file, SPOOL_FAILED, file->name) == 0)
		return 0;
	if (errno != EEXIST)
		return -1;
	int same = spool_file_is(spool, file, SPOOL_FAILED, file->name);
	if (same == 0)
		return spool_file_replace(spool, file, SPOOL_FAILED, file->name);
	return same == 1 ? 0 : -1;
}

static enum store_result
put_failed(struct spool *spool, struct store_work *work, const struct handler_state *state,
    struct error *error)
{
	struct spool_file file = file_of(work);
	enum store_result result = put_later(spool, work, state, error);

	if (result != STORE_OK)
		return result;
	if (link_into_failed(spool, &file) != 0) {
		spool_failed(spool, "make a hard link", SPOOL_FAILED, work->name, error);
		return STORE_FAILED;
	}
	/* The link works while the file has any name, one in events/ for example. */
	if (is_gone(spool, &file))
		return spool_done(spool, work, error) == STORE_OK ? STORE_ABSENT : STORE_FAILED;
	if (spool_sync(spool, SPOOL_FAILED, work->file) == 0 &&
	    spool_file_unlink(spool, &file, SPOOL_NEW, work->name) == 0)
		return STORE_OK;
	spool_failed(spool, "move the event", SPOOL_NEW, work->name, error);
	return STORE_FAILED;
}

/* Put it, with its file open. */
static enum store_result
put(struct spool *spool, struct store_work *work, const struct handler_state *state,
    bool is_failure, struct error *error)
{
	bool parked = work->parked;
	enum store_result result = parked ? unpark(spool, work, error) : STORE_OK;

	if (result == STORE_OK)
		result = is_failure ? put_failed(spool, work, state, error) :
		                      put_later(spool, work, state, error);
	if (parked)
		spool_park(spool, work);
	return result;
}

enum store_result
spool_later(void *engine, struct store_work *work, const struct handler_state *state,
    struct error *error)
{
	return put(engine, work, state, false, error);
}

enum store_result
spool_fail(void *engine, struct store_work *work, const struct handler_state *state,
    struct error *error)
{
	return put(engine, work, state, true, error);
}
