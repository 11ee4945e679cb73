/*
 * Owns statements of drains and commands that are tried again, for a failover takes some seconds.
 *
 * When the connection breaks, nobody knows whether the try was committed. Most statements may
 * simply be done twice. One whose answer the second time differs (a row that it has changed does
 * not match any more) must know that: see postgresql_run_outcome() and postgresql_run_change().
 */
#define _GNU_SOURCE
#include <poll.h>
#include <string.h>
#include <sysexits.h>

#include "base/clock.h"
#include "store/postgresql/postgresql.h"

enum { PAUSE_MS = 100, LEAST_MS = 1000, RETRY_MS = 3000 };

/* A statement, and what is known of its earlier tries. */
struct job {
	const char *sql;
	const struct postgresql_parameters *parameters;
	int64_t deadline;
	enum postgresql_outcome (*try)(struct postgresql *pg, struct postgresql_connection *connection,
	    struct job *job, PGresult **result, struct error *error);
	bool unsure;       /* one may have been committed */
	PGresult *earlier; /* what such tries returned; NULL: nothing */
};

/* Try it until it is done or refused, or there is no time left. Returns NULL with *error. */
static PGresult *
repeat(struct postgresql *pg, struct job *job, struct error *error)
{
	int64_t enough = clock_milliseconds() + (pg->patient ? POSTGRESQL_PATIENCE_MS : RETRY_MS);
	PGresult *result = NULL;

	for (;;) {
		struct postgresql_connection *connection = postgresql_take(pg, job->deadline, error);
		enum postgresql_outcome outcome = POSTGRESQL_BROKEN;
		if (connection != NULL) {
			outcome = job->try(pg, connection, job, &result, error);
			postgresql_give(pg, connection, outcome == POSTGRESQL_BROKEN);
		} else if (error->status != EX_TEMPFAIL) {
			return NULL;
		}
		/* Another try needs its time: with less, it would only replace the reason. */
		int64_t next = clock_milliseconds() + LEAST_MS;
		if (outcome != POSTGRESQL_BROKEN || next >= job->deadline || next >= enough)
			return result;
		poll(NULL, 0, PAUSE_MS);
	}
}

/* ---- one statement ---- */

static enum postgresql_outcome
try_statement(struct postgresql *pg, struct postgresql_connection *connection, struct job *job,
    PGresult **result, struct error *error)
{
	return postgresql_execute(pg, connection, job->sql, job->parameters, job->deadline, result,
	    error);
}

PGresult *
postgresql_run(struct postgresql *pg, const char *sql,
    const struct postgresql_parameters *parameters, int64_t deadline, struct error *error)
{
	struct job job = {.sql = sql, .parameters = parameters, .deadline = deadline,
		.try = try_statement};

	return repeat(pg, &job, error);
}

/* It is committed by itself, so one that broke is one that may be committed. */
static enum postgresql_outcome
try_outcome(struct postgresql *pg, struct postgresql_connection *connection, struct job *job,
    PGresult **result, struct error *error)
{
	connection->warnings = 0;
	enum postgresql_outcome outcome = try_statement(pg, connection, job, result, error);
	if (outcome == POSTGRESQL_DONE && postgresql_unconfirmed(pg, connection, error)) {
		PQclear(*result);
		*result = NULL;
		outcome = POSTGRESQL_BROKEN;
	}
	job->unsure |= outcome == POSTGRESQL_BROKEN;
	return outcome;
}

PGresult *
postgresql_run_outcome(struct postgresql *pg, const char *sql,
    const struct postgresql_parameters *parameters, int64_t deadline, bool *unsure,
    struct error *error)
{
	struct job job = {.sql = sql, .parameters = parameters, .deadline = deadline,
		.try = try_outcome};
	PGresult *result = repeat(pg, &job, error);

	*unsure = job.unsure;
	return result;
}

/* ---- a transaction ---- */

bool
postgresql_has_row(const PGresult *result, const char *key)
{
	for (int i = 0; i < PQntuples(result); i++)
		if (strcmp(PQgetvalue(result, i, 0), key) == 0)
			return true;
	return false;
}

/* Add rows of from that to has not, by their first column. Returns 0, or -1 without memory. */
static int
add_rows(PGresult *to, const PGresult *from)
{
	for (int i = 0; i < PQntuples(from); i++) {
		int row = PQntuples(to);
		if (postgresql_has_row(to, PQgetvalue(from, i, 0)))
			continue;
		for (int column = 0; column < PQnfields(from); column++)
			if (!PQsetvalue(to, row, column, PQgetvalue(from, i, column),
			    PQgetlength(from, i, column)))
				return -1;
	}
	return 0;
}

/* The rows of earlier tries, then those of this one, which is taken. NULL with *error. */
static PGresult *
join_rows(struct job *job, PGresult *result, struct error *error)
{
	PGresult *earlier = job->earlier;

	job->earlier = NULL;
	if (earlier == NULL)
		return result;
	int joined = add_rows(earlier, result);
	PQclear(result);
	if (joined == 0)
		return earlier;
	error_set(error, EX_OSERR, NULL, "out of memory");
	PQclear(earlier);
	return NULL;
}

/* A statement without a result of its own. */
static enum postgresql_outcome
step(struct postgresql *pg, struct postgresql_connection *connection, const struct job *job,
    const char *sql, struct error *error)
{
	PGresult *result;
	enum postgresql_outcome outcome = postgresql_execute(pg, connection, sql, NULL, job->deadline,
	    &result, error);

	PQclear(result);
	return outcome;
}

/*
 * A transaction that changes nothing waits for no standby. After a try that may be committed it
 * takes a lock, so that it waits for what the earlier try has left, too.
 */
static enum postgresql_outcome
begin(struct postgresql *pg, struct postgresql_connection *connection, const struct job *job,
    struct error *error)
{
	enum postgresql_outcome outcome = step(pg, connection, job, "BEGIN", error);

	if (outcome == POSTGRESQL_DONE && job->unsure)
		outcome = step(pg, connection, job, "SELECT 1 FROM psapi_meta FOR UPDATE", error);
	return outcome;
}

/* Commit, and wait for the standby. *result is what the transaction returned. */
static enum postgresql_outcome
commit(struct postgresql *pg, struct postgresql_connection *connection, struct job *job,
    PGresult **result, struct error *error)
{
	connection->warnings = 0;
	enum postgresql_outcome outcome = step(pg, connection, job, "COMMIT", error);
	if (outcome == POSTGRESQL_REFUSED) { /* the server has rolled it back */
		PQclear(*result);
		*result = NULL;
		return outcome;
	}
	bool good = outcome == POSTGRESQL_DONE && !postgresql_unconfirmed(pg, connection, error);
	*result = join_rows(job, *result, error);
	if (*result == NULL)
		return POSTGRESQL_REFUSED;
	if (good)
		return POSTGRESQL_DONE;
	job->unsure = true;
	job->earlier = *result;
	*result = NULL;
	return POSTGRESQL_BROKEN;
}

/*
 * What it returns is known before it is committed. So each row that a try has changed is known,
 * also where its COMMIT broke, and the next try finds that row changed.
 */
static enum postgresql_outcome
try_change(struct postgresql *pg, struct postgresql_connection *connection, struct job *job,
    PGresult **result, struct error *error)
{
	enum postgresql_outcome outcome = begin(pg, connection, job, error);
	if (outcome == POSTGRESQL_DONE)
		outcome = try_statement(pg, connection, job, result, error);
	if (outcome == POSTGRESQL_DONE)
		return commit(pg, connection, job, result, error);
	if (outcome == POSTGRESQL_REFUSED)
		postgresql_roll_back(pg, connection, job->deadline);
	return outcome;
}

PGresult *
postgresql_run_change(struct postgresql *pg, const char *sql,
    const struct postgresql_parameters *parameters, int64_t deadline, struct error *error)
{
	struct job job = {.sql = sql, .parameters = parameters, .deadline = deadline,
		.try = try_change};
	PGresult *result = repeat(pg, &job, error);

	PQclear(job.earlier);
	return result;
}
