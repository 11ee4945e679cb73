/*
 * Owns the tables. They are made in one transaction, in the first schema of the user's
 * search_path; a second run finds them.
 *
 *   psapi_meta     one row: the format
 *   psapi_event    what was ever accepted, never updated; record is a file of the spool, byte for
 *                  byte; the name is the deduplication record
 *   psapi_queue    a row while an event waits, or is a dead letter; none: it was handled
 *   psapi_lane     a row while a drain works on a lane
 *   psapi_attempt  copies of the attempts logs of all hosts
 *   psapi_roster   what forgotten events said of each producer, and for which time; the row of the
 *                  NPN '' has when the last event that is forgotten was received
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "store/postgresql/postgresql.h"

/* Rows that are updated and deleted all the time: dead ones are removed by their number. */
#define OFTEN_CHANGED \
	" WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0," \
	" autovacuum_vacuum_threshold = 2000)"

/* One at a time: two hosts may be set up together. */
static const char *const statements[] = {
	"SELECT pg_advisory_xact_lock(7370617069)",
	"CREATE TABLE psapi_meta (format int NOT NULL, made_at timestamptz NOT NULL DEFAULT now())",
	"CREATE TABLE psapi_event (name text COLLATE \"C\" PRIMARY KEY, received_ns bigint NOT NULL,"
	" type text NOT NULL, npn text NOT NULL, queued boolean NOT NULL, lane bigint NOT NULL,"
	" when_ns bigint NOT NULL, record bytea NOT NULL)",
	"CREATE INDEX psapi_event_received ON psapi_event (received_ns, name)",
	"CREATE TABLE psapi_queue (name text COLLATE \"C\" PRIMARY KEY REFERENCES psapi_event,"
	" lane bigint NOT NULL, when_ns bigint NOT NULL, tries int NOT NULL DEFAULT 0,"
	" tried_at timestamptz, due_at timestamptz, failed_at timestamptz,"
	" alone boolean NOT NULL DEFAULT false, queued_at timestamptz NOT NULL DEFAULT now(),"
	" handler text NOT NULL DEFAULT '', reason text NOT NULL DEFAULT '',"
	" stderr_end text NOT NULL DEFAULT '')" OFTEN_CHANGED,
	"CREATE INDEX psapi_queue_lane ON psapi_queue (lane, when_ns, name) WHERE failed_at IS NULL",
	"CREATE TABLE psapi_lane (lane bigint PRIMARY KEY, owner text NOT NULL,"
	" until timestamptz NOT NULL)" OFTEN_CHANGED,
	"CREATE TABLE psapi_attempt (serial bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,"
	" at_ns bigint NOT NULL, host text NOT NULL, line text NOT NULL)",
	"CREATE INDEX psapi_attempt_at ON psapi_attempt (at_ns)",
	"CREATE TABLE psapi_roster (npn text COLLATE \"C\" NOT NULL, when_ns bigint NOT NULL,"
	" active boolean NOT NULL)",
	"CREATE UNIQUE INDEX psapi_roster_key ON psapi_roster " POSTGRESQL_ROSTER_KEY,
	"INSERT INTO psapi_meta (format) VALUES (1)",
};
_Static_assert(POSTGRESQL_FORMAT == 1, "psapi_meta");

enum { STATEMENTS = sizeof(statements) / sizeof(statements[0]) };

/* Another encoding has no place for some of the texts that an event may hold. */
static int
check_encoding(struct postgresql *pg, struct postgresql_connection *connection, struct error *error)
{
	PGresult *result;

	if (postgresql_execute(pg, connection,
	    "SELECT current_setting('server_encoding'), to_regclass('psapi_meta')::text",
	    NULL, postgresql_deadline(POSTGRESQL_PATIENCE_MS), &result, error) != POSTGRESQL_DONE)
		return -1;
	bool good = strcmp(PQgetvalue(result, 0, 0), "UTF8") == 0;
	if (!good)
		error_set(error, EX_CONFIG,
		    "make another database: createdb --encoding UTF8 --template template0 psapi",
		    "PostgreSQL at %s: the database has the encoding %s, and events are UTF-8",
		    postgresql_host_text(pg, connection->host), PQgetvalue(result, 0, 0));
	PQclear(result);
	return good ? 0 : -1;
}

/* In a transaction. *made: they were not there. */
static enum postgresql_outcome
make_tables(struct postgresql *pg, struct postgresql_connection *connection, bool *made,
    struct error *error)
{
	enum postgresql_outcome outcome = POSTGRESQL_DONE;
	PGresult *result;

	*made = true;
	for (int i = 0; i < STATEMENTS && outcome == POSTGRESQL_DONE && *made; i++) {
		outcome = postgresql_execute(pg, connection, statements[i], NULL,
		    postgresql_deadline(POSTGRESQL_PATIENCE_MS), &result, error);
		if (outcome != POSTGRESQL_DONE || i > 0) {
			PQclear(result);
			continue;
		}
		PQclear(result); /* now nobody else makes them */
		outcome = postgresql_execute(pg, connection,
		    "SELECT 1 WHERE to_regclass('psapi_meta') IS NOT NULL",
		    NULL, postgresql_deadline(POSTGRESQL_PATIENCE_MS), &result, error);
		*made = outcome == POSTGRESQL_DONE && PQntuples(result) == 0;
		PQclear(result);
	}
	return outcome;
}

static enum postgresql_outcome
run(struct postgresql *pg, struct postgresql_connection *connection, const char *sql,
    struct error *error)
{
	PGresult *result;
	enum postgresql_outcome outcome = postgresql_execute(pg, connection, sql, NULL,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), &result, error);

	PQclear(result);
	return outcome;
}

enum store_result
postgresql_init(void *engine, bool *made, struct error *error)
{
	struct postgresql *pg = engine;
	struct error ignored;
	struct postgresql_connection *connection =
	    postgresql_take(pg, postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);

	*made = false;
	if (connection == NULL)
		return STORE_FAILED;
	enum postgresql_outcome outcome = check_encoding(pg, connection, error) != 0 ?
	    POSTGRESQL_REFUSED :
	    run(pg, connection, "BEGIN", error);
	bool begun = outcome == POSTGRESQL_DONE;
	if (begun)
		outcome = make_tables(pg, connection, made, error);
	if (outcome == POSTGRESQL_DONE)
		outcome = run(pg, connection, "COMMIT", error);
	else if (outcome == POSTGRESQL_REFUSED && begun && run(pg, connection, "ROLLBACK",
	    &ignored) != POSTGRESQL_DONE)
		outcome = POSTGRESQL_BROKEN;
	connection->has_schema |= outcome == POSTGRESQL_DONE;
	postgresql_give(pg, connection, outcome == POSTGRESQL_BROKEN);
	*made &= outcome == POSTGRESQL_DONE;
	return outcome == POSTGRESQL_DONE ? STORE_OK : STORE_FAILED;
}
