/*
 * Owns the work queue: what waits, leases on lanes, an event in work, where an outcome takes it.
 *
 * A lane, not an event, is what a drain claims: so the order holds when an earlier event
 * arrives while a handler runs. A lease ends by the database's clock. Each outcome is written
 * only while the lease is still ours, in the same statement. A claim and a release
 * do not wait for a standby: if the primary dies, at worst the database has forgotten which drain
 * had a lane, and the event is handled again.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "store/postgresql/postgresql.h"

enum { PAUSE_MS = 200, DIRECTORY_MODE = 0750, FILE_MODE = 0640, DIRECTORY_TRIES = 20 };

/* ---- files for handlers ---- */

/*
 * Each process has a directory in the local spool's tmp/: so a file in it has the event's own
 * name. It holds a lock on its directory; one without a lock is of a drain that was killed, or
 * of one that has not locked it yet and makes another if it is removed.
 */
#define DIRECTORY "drain."

/* Remove the directory and what is in it, if nobody holds its lock. */
static void
remove_abandoned(int tmp, const char *name)
{
	int fd = openat(tmp, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	DIR *stream = fd < 0 || flock(fd, LOCK_EX | LOCK_NB) != 0 ? NULL : fdopendir(fd);

	if (stream == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	for (struct dirent *entry; (entry = readdir(stream)) != NULL;)
		unlinkat(fd, entry->d_name, 0);
	unlinkat(tmp, name, AT_REMOVEDIR);
	closedir(stream);
}

static void
tidy(const struct postgresql *pg)
{
	char path[PATH_MAX];

	snprintf(path, sizeof(path), "%s/tmp", pg->config->spool);
	DIR *stream = opendir(path);
	for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;)
		if (strncmp(entry->d_name, DIRECTORY, strlen(DIRECTORY)) == 0)
			remove_abandoned(dirfd(stream), entry->d_name);
	if (stream != NULL)
		closedir(stream);
}

/* Never busy: lanes are shared one by one. */
enum store_result
postgresql_work_begin(void *engine, bool wait, struct error *error)
{
	(void)wait;
	(void)error;
	tidy(engine);
	return STORE_OK;
}

void
postgresql_work_end(void *engine)
{
	(void)engine;
}

/* A transaction is there or is not. */
enum store_result
postgresql_recover(void *engine, long *committed, struct error *error)
{
	(void)engine;
	(void)error;
	*committed = 0;
	return STORE_OK;
}

/* ---- what waits ---- */

/* Ages, not times: each host has a clock of its own. A second more, for ours has no fractions. */
static const char pending_sql[] =
    "SELECT name, when_ns::text, lane::text,"
    " ceil(extract(epoch FROM clock_timestamp() - tried_at))::bigint::text,"
    " (CASE WHEN due_at > clock_timestamp()"
    " THEN ceil(extract(epoch FROM due_at - clock_timestamp())) + 1 END)::bigint::text"
    " FROM psapi_queue WHERE failed_at IS NULL";

struct waiting_list {
	struct store_pending *pending;
	size_t rows;
};

static void
visit_row(const PGresult *row, void *data)
{
	struct waiting_list *list = data;
	struct store_pending *pending = list->pending;
	struct store_waiting waiting = {.name = PQgetvalue(row, 0, 0), .when = postgresql_integer(row,
	    0, 1),
		.lane = (uint64_t)postgresql_integer(row, 0, 2)};

	list->rows++;
	if (!PQgetisnull(row, 0, 3))
		waiting.tried = pending->now - postgresql_integer(row, 0, 3);
	if (!PQgetisnull(row, 0, 4))
		waiting.due = pending->now + postgresql_integer(row, 0, 4);
	if (pending->stopped == 0)
		pending->stopped = pending->visit(&waiting, pending->data);
}

enum store_result
postgresql_pending(void *engine, struct store_pending *pending, struct error *error)
{
	int64_t deadline = postgresql_deadline(POSTGRESQL_PATIENCE_MS);
	static const struct postgresql_parameters none = {0};
	struct waiting_list list = {.pending = pending};
	struct postgresql *pg = engine;

	pending->stopped = 0;
	pending->refused = EX_OK;
	pending->arriving = false;
	for (;;) {
		struct postgresql_connection *connection = postgresql_take(pg, deadline, error);
		enum postgresql_outcome outcome = POSTGRESQL_BROKEN;
		if (connection != NULL) {
			outcome = postgresql_stream(pg, connection, pending_sql, &none, visit_row, &list,
			    error);
			postgresql_give(pg, connection, outcome == POSTGRESQL_BROKEN);
		}
		if (outcome == POSTGRESQL_DONE)
			return STORE_OK;
		/* What was visited cannot be visited again. */
		if (outcome == POSTGRESQL_REFUSED || list.rows > 0 || error->status != EX_TEMPFAIL ||
		    clock_milliseconds() + PAUSE_MS >= deadline)
			return STORE_FAILED;
		poll(NULL, 0, PAUSE_MS);
	}
}

/* ---- lanes ---- */

/*
 * One statement of a lane, with $1 its number and $2 our name; patience: milliseconds. Returns
 * rows, or -1 with *error.
 */
static int
run_on_lane(struct postgresql *pg, const char *sql, uint64_t lane, int64_t patience,
    struct error *error)
{
	struct postgresql_parameters p = {0};

	postgresql_number(&p, (int64_t)lane);
	postgresql_text(&p, pg->owner);
	PGresult *result = postgresql_run(pg, sql, &p, postgresql_deadline(patience), error);
	int rows = result == NULL ? -1 : PQntuples(result);
	PQclear(result);
	return rows;
}

enum store_result
postgresql_claim(void *engine, uint64_t lane, struct error *error)
{
	static const char sql[] = POSTGRESQL_WITHOUT_WAIT
	    "INSERT INTO psapi_lane AS l (lane, owner, until)"
	    " SELECT $1::bigint, $2, " POSTGRESQL_LEASE " FROM s"
	    " ON CONFLICT (lane) DO UPDATE SET owner = EXCLUDED.owner, until = EXCLUDED.until"
	    " WHERE l.until <= clock_timestamp() OR l.owner = EXCLUDED.owner RETURNING lane";
	((struct postgresql *)engine)->patient = true;
	int rows = run_on_lane(engine, sql, lane, POSTGRESQL_PATIENCE_MS, error);
	return rows < 0 ? STORE_FAILED : rows > 0 ? STORE_OK : STORE_BUSY;
}

enum store_result
postgresql_renew(void *engine, uint64_t lane, struct error *error)
{
	static const char sql[] = POSTGRESQL_WITHOUT_WAIT
	    "UPDATE psapi_lane SET until = " POSTGRESQL_LEASE " FROM s WHERE lane = $1 AND owner = $2"
	    " RETURNING lane";
	/* Short, for the drain waits: the next renewal comes in time. */
	int rows = run_on_lane(engine, sql, lane, POSTGRESQL_ACCEPT_MS, error);
	return rows < 0 ? STORE_FAILED : rows > 0 ? STORE_OK : STORE_ABSENT;
}

/* One that cannot be released ends by itself. */
void
postgresql_release(void *engine, uint64_t lane)
{
	static const char sql[] = POSTGRESQL_WITHOUT_WAIT
	    "DELETE FROM psapi_lane USING s WHERE lane = $1 AND owner = $2";
	struct error error;

	if (run_on_lane(engine, sql, lane, POSTGRESQL_PATIENCE_MS, &error) < 0)
		error_log(&error);
}

/* ---- an event in work ---- */

/*
 * A directory that this process has locked. Returns its descriptor, or -1 with errno; path is
 * changed. EAGAIN: another drain has taken it for an abandoned one, before it was locked.
 */
static int
try_directory(char *path)
{
	struct stat made, there;

	if (mkdtemp(path) == NULL)
		return -1;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0 && fchmod(fd, DIRECTORY_MODE) == 0 &&
	    fstat(fd, &made) == 0 && stat(path, &there) == 0 && there.st_ino == made.st_ino)
		return fd;
	int saved = fd < 0 && errno != ENOENT ? errno : EAGAIN;
	if (fd >= 0)
		close(fd);
	errno = saved;
	return -1;
}

/* Returns 0, or -1 with *error. */
static int
make_directory(struct postgresql *pg, struct error *error)
{
	char path[PATH_MAX];

	if (pg->directory != NULL)
		return 0;
	int fd = -1;
	for (int i = 0; i < DIRECTORY_TRIES && fd < 0 && (i == 0 || errno == EAGAIN); i++) {
		snprintf(path, sizeof(path), "%s/tmp/" DIRECTORY "XXXXXX", pg->config->spool);
		fd = try_directory(path);
	}
	if (fd >= 0 && (pg->directory = strdup(path)) != NULL) {
		pg->directory_lock = fd;
		return 0;
	}
	if (fd >= 0)
		close(fd);
	error_set(error, EX_IOERR, NULL, "%s/tmp: cannot make a directory: %s", pg->config->spool,
	    strerror(errno));
	return -1;
}

void
postgresql_queue_close(struct postgresql *pg)
{
	if (pg->directory == NULL)
		return;
	rmdir(pg->directory);
	close(pg->directory_lock);
	free(pg->directory);
	pg->directory = NULL;
}

/* The record as a file, for the handler. Returns 0, or -1 with *error. */
static int
make_file(struct postgresql *pg, struct store_work *work, struct error *error)
{
	if (make_directory(pg, error) != 0)
		return -1;
	snprintf(work->path, sizeof(work->path), "%s/%s", pg->directory, work->name);
	int fd = open(work->path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
	int result = fd < 0 ? -1 : io_write_all(fd, work->entry.text, work->entry.size);
	if (fd >= 0 && close(fd) != 0)
		result = -1;
	if (result == 0)
		return 0;
	error_set(error, EX_IOERR, "make room on its file system", "%s: cannot be written: %s",
	    work->path,
	    strerror(errno));
	unlink(work->path);
	return -1;
}

/* The first of the lane, and its record only if it is the one that is asked for. */
static const char load_sql[] =
    "SELECT q.name, (coalesce(q.due_at <= clock_timestamp(), true))::int::text,"
    " CASE WHEN q.name = $1 THEN (SELECT record FROM psapi_event e WHERE e.name = q.name) END,"
    " " POSTGRESQL_STATE
    " FROM psapi_queue q WHERE q.failed_at IS NULL AND q.lane ="
    " (SELECT lane FROM psapi_queue WHERE name = $1 AND failed_at IS NULL)"
    " ORDER BY q.when_ns, q.name LIMIT 1";

enum store_result
postgresql_load_row(struct postgresql *pg, const PGresult *result, int row, int column,
    const char *name, struct store_work *work, struct error *error)
{
	work->file = -1;
	work->parked = false;
	snprintf(work->name, sizeof(work->name), "%s", name);
	if (strcmp(PQgetvalue(result, row, column), name) != 0 ||
	    postgresql_integer(result, row, column + 1) == 0)
		return STORE_BUSY;
	const char *why = postgresql_record(result, row, column + 2, &work->entry);
	if (why == postgresql_no_memory) {
		error_set(error, EX_OSERR, NULL, "%s: %s", work->name, why);
		return STORE_FAILED;
	}
	if (why != NULL) {
		error_set(error, EX_DATAERR, "restore its record in psapi_event from a backup; or "
		    "psapi done takes it out of the queue", "%s: no event: %s", work->name, why);
		return STORE_INVALID;
	}
	postgresql_state(result, row, column + 3, &work->state);
	if (make_file(pg, work, error) == 0)
		return STORE_OK;
	entry_free(&work->entry);
	return STORE_FAILED;
}

enum store_result
postgresql_load(void *engine, const char *name, struct store_work *work, struct error *error)
{
	struct postgresql_parameters p = {0};

	postgresql_text(&p, name);
	PGresult *result = postgresql_run(engine, load_sql, &p,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);
	if (result == NULL)
		return STORE_FAILED;
	enum store_result taken = PQntuples(result) == 0 ? STORE_ABSENT :
	    postgresql_load_row(engine, result, 0, 0, name, work, error);
	PQclear(result);
	return taken;
}

void
postgresql_unload(void *engine, struct store_work *work)
{
	(void)engine;
	unlink(work->path);
	entry_free(&work->entry);
}

/* ---- outcomes ---- */

/*
 * The lock on the lease keeps another drain from claiming the lane until this is committed. The
 * third column is what was before: whether an earlier try has done it, of which nobody knew.
 */
#define MINE \
	"WITH l AS (SELECT 1 FROM psapi_lane WHERE lane = $2 AND owner = $3 FOR UPDATE), c AS ("
#define COUNTED \
	" AND EXISTS (SELECT 1 FROM l) RETURNING 1)" \
	" SELECT (SELECT count(*) FROM l)::text, (SELECT count(*) FROM c)::text, "
#define NO_ROW "(NOT EXISTS (SELECT 1 FROM psapi_queue WHERE name = $1))::int::text"
#define ROW_WITH_STATE \
	"(EXISTS (SELECT 1 FROM psapi_queue WHERE name = $1 AND tries = $4 AND handler = $5" \
	" AND reason = $6 AND "

static void
begin_outcome(const struct postgresql *pg, const struct store_work *work,
    struct postgresql_parameters *p)
{
	*p = (struct postgresql_parameters){0};
	postgresql_text(p, work->name);
	postgresql_number(p, (int64_t)entry_lane(&work->entry.event));
	postgresql_text(p, pg->owner);
}

void
postgresql_report_lost(const struct store_work *work)
{
	log_line("%.*s: its lane is not ours any more: the handler's result does not count, and "
	         "another drain handles it", (int)strlen(work->name) - 5, work->name);
}

/* What is known of an outcome after its tries. */
struct written {
	bool unsure; /* one may be committed that nobody knows of */
	bool mine, changed, already;
};

/* Returns whether the statement ran; else *error. */
static bool
run_outcome(struct postgresql *pg, const char *sql, const struct postgresql_parameters *p,
    struct written *written, struct error *error)
{
	bool unsure;
	PGresult *result = postgresql_run_outcome(pg, sql, p,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), &unsure, error);

	if (result == NULL)
		return false;
	written->unsure |= unsure;
	written->already = written->unsure && postgresql_integer(result, 0, 2) > 0;
	written->mine = written->already || postgresql_integer(result, 0, 0) > 0;
	written->changed = written->already || postgresql_integer(result, 0, 1) > 0;
	PQclear(result);
	return true;
}

/* *changed: the event was there. STORE_ABSENT: the lane is lost (logged). */
static enum store_result
write_outcome(struct postgresql *pg, const char *sql, const struct store_work *work,
    const struct postgresql_parameters *p, bool *changed, struct error *error)
{
	struct written written = {0};

	if (!run_outcome(pg, sql, p, &written, error))
		return STORE_FAILED;
	/* It began before an earlier try was committed, and waited for that: it saw what was before. */
	if (written.unsure && written.mine && !written.changed &&
	    !run_outcome(pg, sql, p, &written, error))
		return STORE_FAILED;
	*changed = written.changed;
	if (!written.mine)
		postgresql_report_lost(work);
	return written.mine ? STORE_OK : STORE_ABSENT;
}

enum store_result
postgresql_done(void *engine, struct store_work *work, struct error *error)
{
	static const char sql[] = MINE "DELETE FROM psapi_queue WHERE name = $1" COUNTED NO_ROW;
	struct postgresql_parameters p;
	bool changed; /* or an administrator has called it done meanwhile */

	begin_outcome(engine, work, &p);
	return write_outcome(engine, sql, work, &p, &changed, error);
}

/* The event must be there still. */
static enum store_result
write_state(struct postgresql *pg, const char *sql, const struct store_work *work,
    const struct postgresql_parameters *p, struct error *error)
{
	bool changed;
	enum store_result result = write_outcome(pg, sql, work, p, &changed, error);

	return result == STORE_OK && !changed ? STORE_ABSENT : result;
}

static void
copy_text(char *to, size_t size, const char *text)
{
	text_copy(to, size, text, strlen(text));
}

/*
 * PostgreSQL refuses text that is not UTF-8, and a reason may end in half a character. texts: what
 * the parameters borrow.
 */
static void
add_state(struct postgresql_parameters *p, const struct handler_state *state,
    struct handler_state *texts)
{
	copy_text(texts->handler, sizeof(texts->handler), state->handler);
	copy_text(texts->reason, sizeof(texts->reason), state->reason);
	copy_text(texts->stderr_end, sizeof(texts->stderr_end), state->stderr_end);
	postgresql_number(p, state->tries);
	postgresql_text(p, texts->handler);
	postgresql_text(p, texts->reason);
	postgresql_text(p, texts->stderr_end);
	postgresql_text(p, state->tried_at != 0 ? "t" : "f");
	postgresql_text(p, state->alone ? "t" : "f");
}

#define SET_STATE \
	"UPDATE psapi_queue SET tries = $4, handler = $5, reason = $6, stderr_end = $7, alone = $9, "
#define TRIED "tried_at = CASE WHEN $8 THEN clock_timestamp() ELSE tried_at END, "

enum store_result
postgresql_later(void *engine, struct store_work *work, const struct handler_state *state,
    struct error *error)
{
	static const char sql[] = MINE SET_STATE TRIED
	    "due_at = clock_timestamp() + make_interval(secs => $10)"
	    " WHERE name = $1 AND failed_at IS NULL" COUNTED
	    ROW_WITH_STATE "failed_at IS NULL AND due_at IS NOT NULL))::int::text";
	struct postgresql_parameters p;
	struct handler_state texts;

	begin_outcome(engine, work, &p);
	add_state(&p, state, &texts);
	postgresql_number(&p, state->due_at > state->tried_at ? state->due_at - state->tried_at : 0);
	return write_state(engine, sql, work, &p, error);
}

enum store_result
postgresql_fail(void *engine, struct store_work *work, const struct handler_state *state,
    struct error *error)
{
	static const char sql[] = MINE SET_STATE TRIED
	    "due_at = NULL, failed_at = clock_timestamp()"
	    " WHERE name = $1 AND failed_at IS NULL" COUNTED
	    ROW_WITH_STATE "failed_at IS NOT NULL))::int::text";
	struct postgresql_parameters p;
	struct handler_state texts;

	begin_outcome(engine, work, &p);
	add_state(&p, state, &texts);
	return write_state(engine, sql, work, &p, error);
}
