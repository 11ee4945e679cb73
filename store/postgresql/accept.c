/*
 * Owns the way of an event into the tables: group commit. A thread that brings an event puts it
 * into a list; one that finds an idle connection takes the list and sends it as one transaction
 * in one round trip, the others wait. The next list gathers meanwhile.
 *
 *   - A transaction's events are in the order of their names: of two transactions with the same
 *     events one waits for the other, without a deadlock.
 *   - ON CONFLICT DO UPDATE ... WHERE false, not DO NOTHING: it locks the event that is there, so
 *     the COMMIT waits for the standby. DO NOTHING would call an event a duplicate whose own
 *     COMMIT is still waiting, or was cancelled in its wait.
 *   - Where one value is refused, each event gets a transaction of its own.
 *   - A further connection that cannot be made delays nobody: a limit may be reached.
 *   - A transaction whose connection broke is tried again while there is time for each of its
 *     events; afterwards those with time left wait again. If the first try was committed, the
 *     second one finds duplicates.
 */
#define _GNU_SOURCE
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "store/postgresql/postgresql.h"

enum {
	EVENTS_MAX = 64,            /* of a transaction */
	BYTES_MAX = 8 * 1024 * 1024, /* of its records, unless a single one has more */
	PAUSE_MS = 50,
	LEAST_MS = 500,          /* for another transaction, or on another connection */
	FURTHER_MS = 1000,       /* to open a further connection, while others are in use */
	FURTHER_PAUSE_MS = 2000 /* after that has failed */
};

#define STATEMENT "psapi_accept"

/* A row: accepted. None: a duplicate. */
static const char accept_sql[] =
    "WITH e AS (INSERT INTO psapi_event"
    " (name, received_ns, type, npn, queued, lane, when_ns, record)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    " ON CONFLICT (name) DO UPDATE SET name = EXCLUDED.name WHERE false"
    " RETURNING name, lane, when_ns, queued),"
    " q AS (INSERT INTO psapi_queue (name, lane, when_ns, failed_at, reason)"
    " SELECT name, lane, when_ns, CASE WHEN $9 THEN now() END, $10 FROM e WHERE queued)"
    " SELECT 1 FROM e";

/* An event on its way in. Its thread waits until it is done. */
struct postgresql_put {
	const struct store_intake *intake;
	char *record;
	size_t size;
	int64_t deadline;
	bool taken, done;
	bool waits;     /* its thread waits for wake */
	bool explained; /* *error says why it was not done so far, for want of a connection */
	pthread_cond_t wake; /* it is done, or may send what waits */
	enum store_result result;
	struct error *error;
	struct postgresql_put *next;
};

/* One transaction. */
struct batch {
	struct postgresql_put *put[EVENTS_MAX];
	int count;
	int64_t deadline;
};

/* ---- one transaction ---- */

static int
by_name(const void *a, const void *b)
{
	const struct postgresql_put *const *one = a, *const *two = b;

	return strcmp((*one)->intake->name, (*two)->intake->name);
}

/* The parameters of accept_sql. */
static void
add_event(struct postgresql_parameters *p, const struct postgresql_put *put)
{
	const struct store_intake *intake = put->intake;
	struct entry times = {.event = *intake->event,
		.received = intake->now.tv_sec * NANOSECONDS + intake->now.tv_nsec};
	bool dead = intake->destination == STORE_DEAD_LETTER;

	postgresql_text(p, intake->name);
	postgresql_number(p, times.received);
	postgresql_text(p, intake->event->type);
	postgresql_text(p, intake->event->npn);
	postgresql_text(p, intake->destination != STORE_ARCHIVE ? "t" : "f");
	postgresql_number(p, (int64_t)entry_lane(intake->event));
	postgresql_number(p, entry_when(&times));
	postgresql_bytes(p, put->record, put->size);
	postgresql_text(p, dead ? "t" : "f");
	postgresql_text(p, dead && intake->reason != NULL ? intake->reason : "");
}

/* Returns 0 if libpq did not take it. */
static int
send_event(PGconn *pg, const struct postgresql_put *put)
{
	struct postgresql_parameters p = {0};

	add_event(&p, put);
	return PQsendQueryPrepared(pg, STATEMENT, p.count, p.value, p.length, p.format, 1);
}

/* Send all of it. Returns how many results there will be, or 0 if libpq did not take it. */
static int
send_batch(struct postgresql_connection *connection, const struct batch *batch)
{
	PGconn *pg = connection->pg;
	int sent = connection->prepared ? 0 : PQsendPrepare(pg, STATEMENT, accept_sql, 0, NULL);
	int good = connection->prepared || sent == 1;

	good = good && PQsendQueryParams(pg, "BEGIN", 0, NULL, NULL, NULL, NULL, 1);
	for (int i = 0; good && i < batch->count; i++)
		good = send_event(pg, batch->put[i]);
	good = good && PQsendQueryParams(pg, "COMMIT", 0, NULL, NULL, NULL, NULL, 1) &&
	    PQpipelineSync(pg);
	return good ? sent + batch->count + 2 : 0;
}

/* What one statement of the pipeline gave: rows of its result, or -1 and *outcome. */
static int
rows_of(struct postgresql *pg, const struct postgresql_connection *connection, PGresult *result,
    enum postgresql_outcome *outcome, struct error *error)
{
	ExecStatusType status = PQresultStatus(result);

	if (status == PGRES_TUPLES_OK)
		return PQntuples(result);
	if (status == PGRES_COMMAND_OK) /* of COMMIT: one that became a ROLLBACK has no such tag */
		return strcmp(PQcmdStatus(result), "ROLLBACK") != 0 ? 0 : -1;
	if (status != PGRES_PIPELINE_ABORTED && *outcome == POSTGRESQL_DONE)
		*outcome = postgresql_explain(pg, connection, result, error);
	return -1;
}

/* Read the results of all statements, and of the sync that ends them. rows[]: of each event. */
static enum postgresql_outcome
read_batch(struct postgresql *pg, struct postgresql_connection *connection, int results,
    int64_t deadline, int *rows, struct error *error)
{
	enum postgresql_outcome outcome = POSTGRESQL_DONE;
	bool good = true;
	PGresult *result;

	for (int n = 0; n <= results;) {
		if (!postgresql_result(pg, connection, deadline, &result, error))
			return POSTGRESQL_BROKEN;
		if (result == NULL) { /* the end of one statement */
			if (++n == results - 1) /* the next one is COMMIT */
				connection->warnings = 0;
			if (PQstatus(connection->pg) == CONNECTION_BAD)
				return POSTGRESQL_BROKEN;
			continue;
		}
		bool end = PQresultStatus(result) == PGRES_PIPELINE_SYNC;
		if (!end && n < results)
			rows[n] = rows_of(pg, connection, result, &outcome, error);
		good = good && (end || (n < results && rows[n] >= 0));
		PQclear(result);
		if (end)
			break;
	}
	if (good && outcome == POSTGRESQL_DONE)
		return POSTGRESQL_DONE;
	return outcome == POSTGRESQL_DONE ? POSTGRESQL_BROKEN : outcome;
}

/* The whole batch, in one transaction. POSTGRESQL_DONE: each put has its result. */
static enum postgresql_outcome
run_batch(struct postgresql *pg, struct postgresql_connection *connection, struct batch *batch,
    struct error *error)
{
	int rows[EVENTS_MAX + 3], results;

	error_set(error, EX_TEMPFAIL, NULL, "PostgreSQL at %s: the connection is lost",
	    postgresql_host_text(pg, connection->host));
	if (PQenterPipelineMode(connection->pg) != 1 || (results = send_batch(connection, batch)) == 0)
		return POSTGRESQL_BROKEN;
	enum postgresql_outcome outcome = read_batch(pg, connection, results, batch->deadline, rows,
	    error);
	if (outcome == POSTGRESQL_BROKEN || PQexitPipelineMode(connection->pg) != 1)
		return POSTGRESQL_BROKEN;
	if (outcome == POSTGRESQL_DONE && postgresql_unconfirmed(pg, connection, error))
		return POSTGRESQL_BROKEN;
	/* The first result is that of the PREPARE, which stays also when the transaction does not. */
	connection->prepared |= results > batch->count + 2 && rows[0] == 0;
	if (outcome == POSTGRESQL_REFUSED) {
		postgresql_roll_back(pg, connection, batch->deadline);
		return outcome;
	}
	const int *first = rows + results - batch->count - 1;
	for (int i = 0; i < batch->count; i++)
		batch->put[i]->result = first[i] > 0 ? STORE_OK : STORE_DUPLICATE;
	return POSTGRESQL_DONE;
}

static void
fail_batch(struct batch *batch, const struct error *error)
{
	bool full = error->status == POSTGRESQL_FULL;

	if (full) /* nobody else logs it, and it is not this host's disk */
		error_log(error);
	for (int i = 0; i < batch->count; i++) {
		batch->put[i]->result = full ? STORE_FULL : STORE_FAILED;
		*batch->put[i]->error = *error;
	}
}

/* One value is refused, or the tables are missing: whose it is shows when each goes alone. */
static enum postgresql_outcome
run_each(struct postgresql *pg, struct postgresql_connection *connection, const struct batch *batch)
{
	enum postgresql_outcome outcome = POSTGRESQL_DONE;
	struct error error;

	for (int i = 0; i < batch->count; i++) {
		struct batch one = {.put = {batch->put[i]}, .count = 1, .deadline = batch->deadline};
		if (outcome != POSTGRESQL_BROKEN)
			outcome = run_batch(pg, connection, &one, &error);
		if (outcome != POSTGRESQL_DONE)
			fail_batch(&one, &error);
	}
	return outcome;
}

/*
 * The batch, again on a new connection if it broke and there is time. POSTGRESQL_BROKEN: there
 * was none, and the connection is closed.
 */
static enum postgresql_outcome
commit_batch(struct postgresql *pg, struct postgresql_connection *connection, struct batch *batch)
{
	enum postgresql_outcome outcome;
	struct error error;

	qsort(batch->put, (size_t)batch->count, sizeof(void *), by_name);
	for (;;) {
		outcome = run_batch(pg, connection, batch, &error);
		if (outcome == POSTGRESQL_REFUSED && batch->count > 1)
			outcome = run_each(pg, connection, batch);
		else if (outcome != POSTGRESQL_DONE)
			fail_batch(batch, &error);
		if (outcome != POSTGRESQL_BROKEN)
			return outcome;
		postgresql_leave(pg, connection);
		do {
			if (clock_milliseconds() + PAUSE_MS >= batch->deadline)
				return POSTGRESQL_BROKEN;
			poll(NULL, 0, PAUSE_MS);
		} while (postgresql_connect(pg, connection, -1, batch->deadline, &error) != 0);
	}
}

/* ---- the list ---- */

/*
 * With the lock held: a connection is idle, so the first that waits may send the list. A thread
 * that opens a connection does not wait, though its put is in the list.
 */
void
postgresql_put_next(struct postgresql *pg)
{
	struct postgresql_put *put = pg->first;

	while (put != NULL && !put->waits)
		put = put->next;
	if (put != NULL)
		pthread_cond_signal(&put->wake);
}

static void
append(struct postgresql *pg, struct postgresql_put *put)
{
	put->next = NULL;
	*pg->last = put;
	pg->last = &put->next;
}

static void
take_off(struct postgresql *pg, const struct postgresql_put *put)
{
	struct postgresql_put **link = &pg->first;

	while (*link != put)
		link = &(*link)->next;
	*link = put->next;
	if (pg->last == &put->next)
		pg->last = link;
}

/* Take waiting events off the list, as many as one transaction may have. */
static void
take_batch(struct postgresql *pg, struct batch *batch)
{
	size_t bytes = 0;

	batch->count = 0;
	batch->deadline = INT64_MAX;
	while (pg->first != NULL && batch->count < EVENTS_MAX) {
		struct postgresql_put *put = pg->first;
		bytes += put->size;
		if (batch->count > 0 && bytes > BYTES_MAX)
			break;
		take_off(pg, put);
		put->taken = true;
		batch->put[batch->count++] = put;
		if (put->deadline < batch->deadline)
			batch->deadline = put->deadline;
	}
}

/* ---- who sends the list ---- */

/* Whether a thread uses a connection that is open already. */
static bool
is_one_in_use(const struct postgresql *pg)
{
	int busy = 0;

	for (int i = 0; i < POSTGRESQL_CONNECTIONS; i++)
		busy += pg->connections[i].busy;
	return busy > pg->connecting;
}

/*
 * An idle connection, an open one if there is one. Which threads may open one:
 *   - While others are in use, one thread at a time, and not soon after that has failed.
 *   - While none is in use, each thread.
 *   - But a thread for whose put that has failed already: only while no other thread opens one.
 *     Otherwise each would wait for the others, and none would give up.
 */
static struct postgresql_connection *
find_usable(struct postgresql *pg, const struct postgresql_put *put)
{
	struct postgresql_connection *idle = postgresql_idle(pg);

	if (idle == NULL || idle->pg != NULL)
		return idle;
	if (!is_one_in_use(pg) && (!put->explained || pg->connecting == 0))
		return idle;
	int64_t now = clock_milliseconds();
	bool may = pg->connecting == 0 && now >= pg->connect_at && now + LEAST_MS < put->deadline;
	return may ? idle : NULL;
}

static void
give_up(struct postgresql *pg, struct postgresql_put *put)
{
	take_off(pg, put);
	put->taken = put->done = true;
	put->result = STORE_FAILED;
}

/*
 * Open a connection that is ours; with the lock held, which is released meanwhile. If it fails,
 * the put waits for another connection if there is one. Returns whether it is open.
 */
static bool
open_connection(struct postgresql *pg, struct postgresql_connection *connection,
    struct postgresql_put *put)
{
	int64_t deadline = put->deadline, soon = postgresql_deadline(FURTHER_MS);
	int64_t last = put->deadline - LEAST_MS;
	struct error error; /* another thread may take the put meanwhile, and has put->error then */

	pg->connecting++;
	if (is_one_in_use(pg)) /* another may be idle afterwards */
		deadline = soon < last ? soon : last;
	pthread_mutex_unlock(&pg->lock);
	int connected = postgresql_connect(pg, connection, -1, deadline, &error);
	pthread_mutex_lock(&pg->lock);
	pg->connecting--;
	pg->connect_at = connected == 0 ? 0 : postgresql_deadline(FURTHER_PAUSE_MS);
	if (connected == 0 || put->taken)
		return connected == 0;
	*put->error = error;
	put->explained = true;
	if (!postgresql_has_other(pg, connection))
		give_up(pg, put);
	return false;
}

/*
 * With the lock held: the puts of a batch are done. broken: the oldest had no more time, and those
 * that have some left wait in the list again.
 */
static void
end_batch(struct postgresql *pg, struct batch *batch, bool broken)
{
	int64_t least = clock_milliseconds() + LEAST_MS;

	for (int i = 0; i < batch->count; i++) {
		struct postgresql_put *put = batch->put[i];
		if (broken && put->result == STORE_FAILED && put->deadline > least) {
			put->taken = false;
			put->explained = true;
			append(pg, put);
		} else {
			put->done = true;
		}
		pthread_cond_signal(&put->wake);
	}
}

/* With the lock held, which is released meanwhile: send what waits. put: the thread's own. */
static void
lead(struct postgresql *pg, struct postgresql_connection *connection, struct postgresql_put *put)
{
	enum postgresql_outcome outcome = POSTGRESQL_DONE;
	struct batch batch;

	connection->busy = true;
	if (connection->pg != NULL || open_connection(pg, connection, put)) {
		take_batch(pg, &batch);
		pthread_mutex_unlock(&pg->lock);
		if (batch.count > 0)
			outcome = commit_batch(pg, connection, &batch);
		pthread_mutex_lock(&pg->lock);
		end_batch(pg, &batch, outcome == POSTGRESQL_BROKEN);
	}
	connection->busy = false;
	postgresql_put_next(pg);
	pthread_cond_broadcast(&pg->changed);
}

/* Why a put had no connection until its deadline. */
static void
explain_wait(const struct postgresql *pg, struct error *error)
{
	bool connected = false;

	for (int i = 0; i < POSTGRESQL_CONNECTIONS; i++)
		connected |= pg->connections[i].busy && atomic_load(&pg->connections[i].connected);
	if (connected)
		error_set(error, EX_TEMPFAIL,
		    "is a synchronous standby connected (psapi store status), or is the host frozen?",
		    "PostgreSQL: all %d connections wait for an answer", POSTGRESQL_CONNECTIONS);
	else
		error_set(error, EX_TEMPFAIL,
		    "is PostgreSQL running, is its host frozen, or is a firewall in the way?",
		    "PostgreSQL: no connection could be made in time");
}

/*
 * Wait to be woken, until the deadline of a put that nobody has taken; also until a further
 * connection may be opened, for nobody wakes a thread then.
 */
static void
wait_turn(struct postgresql *pg, struct postgresql_put *put)
{
	bool paused = pg->connect_at > clock_milliseconds() &&
	    pg->connect_at + LEAST_MS < put->deadline;
	int64_t end = paused ? pg->connect_at : put->deadline;
	struct timespec until = {.tv_sec = end / 1000, .tv_nsec = end % 1000 * 1000000};

	put->waits = true;
	if (put->taken) { /* the thread that has taken it keeps to the same deadline */
		pthread_cond_wait(&put->wake, &pg->lock);
	} else if (pthread_cond_timedwait(&put->wake, &pg->lock, &until) != 0 && !put->taken &&
	    !paused) {
		if (!put->explained)
			explain_wait(pg, put->error);
		give_up(pg, put);
	}
	put->waits = false;
}

/* Until the put is done; one that nobody takes until its deadline has failed. */
static void
wait_done(struct postgresql *pg, struct postgresql_put *put)
{
	while (!put->done) {
		struct postgresql_connection *usable = put->taken ? NULL : find_usable(pg, put);
		if (usable != NULL)
			lead(pg, usable, put);
		else
			wait_turn(pg, put);
	}
	/* It may have been woken to send what waits, and be done otherwise. */
	if (find_usable(pg, put) != NULL)
		postgresql_put_next(pg);
}

/* The pieces of a record as one value, which the caller frees. NULL without memory. */
static char *
join(const struct record *record, size_t *size)
{
	size_t n = 0;

	*size = 0;
	for (int i = 0; i < record->count; i++)
		*size += record->iov[i].iov_len;
	char *text = malloc(*size + 1);
	for (int i = 0; text != NULL && i < record->count; i++) {
		memcpy(text + n, record->iov[i].iov_base, record->iov[i].iov_len);
		n += record->iov[i].iov_len;
	}
	return text;
}

enum store_result
postgresql_put(void *engine, const struct store_intake *intake, struct error *error)
{
	struct postgresql *pg = engine;
	struct postgresql_put put = {.intake = intake, .error = error,
		.deadline = postgresql_deadline(POSTGRESQL_ACCEPT_MS)};

	put.record = join(intake->record, &put.size);
	if (put.record == NULL) {
		error_set(error, EX_OSERR, NULL, "out of memory");
		return STORE_FAILED;
	}
	pthread_cond_init(&put.wake, &pg->monotonic);
	pthread_mutex_lock(&pg->lock);
	append(pg, &put);
	wait_done(pg, &put);
	pthread_mutex_unlock(&pg->lock);
	pthread_cond_destroy(&put.wake);
	free(put.record);
	return put.result;
}

/* ---- what is asked before ---- */

/* An event that is seen may not be replicated yet: only postgresql_put() waits for that. */
enum store_result
postgresql_find(void *engine, const char *name, struct error *error)
{
	(void)engine;
	(void)name;
	(void)error;
	return STORE_ABSENT;
}

/* PSAPI_MIN_FREE is of this host's disk. A database without room refuses by itself. */
bool
postgresql_is_full(void *engine, long long min_free)
{
	(void)engine;
	(void)min_free;
	return false;
}

bool
postgresql_is_empty(void *engine)
{
	struct error error;
	PGresult *result = postgresql_run(engine, "SELECT 1 FROM psapi_event LIMIT 1", NULL,
	    postgresql_deadline(POSTGRESQL_ACCEPT_MS), &error);
	bool empty = result != NULL && PQntuples(result) == 0;

	PQclear(result);
	return empty;
}

/* ---- the way of an event, tried ---- */

static int
check_privileges(struct postgresql *pg, struct error *error)
{
	static const char sql[] =
	    "SELECT t FROM unnest(" POSTGRESQL_TABLES ") t"
	    " WHERE NOT has_table_privilege(t, 'SELECT') OR NOT has_table_privilege(t, 'INSERT')"
	    " OR NOT has_table_privilege(t, 'UPDATE') OR NOT has_table_privilege(t, 'DELETE')";
	PGresult *result = postgresql_run(pg, sql, NULL, postgresql_deadline(POSTGRESQL_ACCEPT_MS),
	    error);

	if (result == NULL)
		return -1;
	int missing = PQntuples(result);
	if (missing > 0)
		error_set(error, EX_NOPERM, "the user must own the tables, or have all privileges on them",
		    "PostgreSQL: permission denied: the user may not read and change the table %s",
		    PQgetvalue(result, 0, 0));
	PQclear(result);
	return missing > 0 ? -1 : 0;
}

/*
 * Put an event that nobody handles by the same statement, and remove it in the same transaction:
 * its COMMIT waits for the standby as each, and a process that is killed meanwhile leaves nothing.
 */
static enum postgresql_outcome
try_probe(struct postgresql *pg, struct postgresql_connection *connection,
    const struct postgresql_put *put, struct error *error)
{
	struct postgresql_parameters event = {0}, name = {0};
	enum postgresql_outcome outcome = POSTGRESQL_DONE;

	add_event(&event, put);
	postgresql_text(&name, put->intake->name);
	const struct {
		const char *sql;
		const struct postgresql_parameters *parameters;
	} steps[] = {{"BEGIN", NULL}, {accept_sql, &event},
	    {"DELETE FROM psapi_event WHERE name = $1", &name}, {"COMMIT", NULL}};
	for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]) && outcome == POSTGRESQL_DONE; i++) {
		PGresult *result = NULL;
		connection->warnings = 0;
		outcome = postgresql_execute(pg, connection, steps[i].sql, steps[i].parameters,
		    put->deadline, &result, error);
		PQclear(result);
	}
	if (outcome == POSTGRESQL_REFUSED)
		postgresql_roll_back(pg, connection, put->deadline);
	if (outcome == POSTGRESQL_DONE && postgresql_unconfirmed(pg, connection, error))
		outcome = POSTGRESQL_BROKEN;
	return outcome;
}

/* The same, again while there is time if the connection broke. */
static enum store_result
put_probe(struct postgresql *pg, const char *name, struct error *error)
{
	static const char contents[] = "probe\n";
	const struct event event = {.queue = QUEUE_NONE, .type = EVENTS_DOCTOR_TYPE};
	struct store_intake intake = {.name = name, .destination = STORE_ARCHIVE, .event = &event};
	const struct postgresql_put put = {.intake = &intake, .record = (char *)(uintptr_t)contents,
		.size = sizeof(contents) - 1, .deadline = postgresql_deadline(POSTGRESQL_ACCEPT_MS)};
	enum postgresql_outcome outcome;

	clock_gettime(CLOCK_REALTIME, &intake.now);
	do {
		struct postgresql_connection *connection = postgresql_take(pg, put.deadline, error);
		if (connection == NULL)
			return STORE_FAILED;
		outcome = try_probe(pg, connection, &put, error);
		postgresql_give(pg, connection, outcome == POSTGRESQL_BROKEN);
	} while (outcome == POSTGRESQL_BROKEN && clock_milliseconds() + PAUSE_MS < put.deadline &&
	    poll(NULL, 0, PAUSE_MS) == 0);
	return outcome == POSTGRESQL_DONE ? STORE_OK : STORE_FAILED;
}

enum store_result
postgresql_probe(void *engine, struct error *error)
{
	struct postgresql *pg = engine;
	char id[256], name[STORE_NAME_SIZE];
	struct timespec now;

	if (check_privileges(pg, error) != 0)
		return STORE_FAILED;
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(id, sizeof(id), EVENTS_TEST_ID "_probe_%s_%ld_%lld_%09ld", pg->computer,
	    (long)getpid(), (long long)now.tv_sec, now.tv_nsec);
	if (store_name(id, strlen(id), name) == 0)
		return put_probe(pg, name, error);
	error_set(error, EX_SOFTWARE, NULL, "mbedTLS failed to compute a name");
	return STORE_FAILED;
}
