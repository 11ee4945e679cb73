/*
 * Owns the import of another store's events, in a pipeline: many are sent before the answers are
 * read. An event that is there already stays as it is, so an import can be killed and
 * repeated. Handled events are committed 1,000 at a time; those that wait or failed all at once.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "base/text.h"
#include "store/postgresql/postgresql.h"

enum { UNREAD_MAX = 200 }; /* events that are sent before their answers are read */

#define STATEMENT "psapi_import"

static const char import_sql[] =
    "WITH e AS (INSERT INTO psapi_event"
    " (name, received_ns, type, npn, queued, lane, when_ns, record)"
    " VALUES ($1, $2, $3, $4, $5, $6, $7, $8)"
    " ON CONFLICT (name) DO NOTHING RETURNING name, lane, when_ns),"
    " q AS (INSERT INTO psapi_queue (name, lane, when_ns,"
    " tries, tried_at, due_at, failed_at, handler, reason, stderr_end, alone)"
    " SELECT name, lane, when_ns,"
    /* Without its type a number beside 0 has 32 bits. */
    " $10, to_timestamp(nullif($11::bigint, 0)), to_timestamp(nullif($12::bigint, 0)),"
    " to_timestamp(nullif($13::bigint, 0)), $14, $15, $16, $17 FROM e WHERE $9)"
    " SELECT 1 FROM e";

/* Returns whether libpq took it. */
static bool
send_plain(struct postgresql_connection *connection, const char *sql)
{
	return PQsendQueryParams(connection->pg, sql, 0, NULL, NULL, NULL, NULL, 1) == 1;
}

static bool
send_item(struct postgresql_connection *connection, const struct store_item *item)
{
	const struct handler_state *state = &item->state;
	const struct entry *entry = &item->entry;
	struct postgresql_parameters p = {0};
	int64_t tried = state->tried_at != 0 ? state->tried_at : 1;
	int64_t failed = state->failed_at != 0 ? state->failed_at : tried;

	postgresql_text(&p, item->name);
	postgresql_number(&p, entry->received);
	postgresql_text(&p, entry->event.type);
	postgresql_text(&p, entry->event.npn);
	postgresql_text(&p, entry->event.queue != QUEUE_NONE ? "t" : "f");
	postgresql_number(&p, (int64_t)entry_lane(&entry->event));
	postgresql_number(&p, entry_when(entry));
	postgresql_bytes(&p, entry->text, entry->size);
	postgresql_text(&p, item->status != STORE_HANDLED ? "t" : "f");
	postgresql_number(&p, state->tries);
	postgresql_number(&p, state->tried_at);
	postgresql_number(&p, state->due_at);
	postgresql_number(&p, item->status == STORE_DEAD ? failed : 0);
	postgresql_text(&p, state->handler);
	postgresql_text(&p, state->reason);
	postgresql_text(&p, state->stderr_end);
	postgresql_text(&p, state->alone ? "t" : "f");
	return PQsendQueryPrepared(connection->pg, STATEMENT, p.count, p.value, p.length, p.format,
	    1) == 1;
}

/* Take a connection and begin. Returns 0, or -1 with *error. */
static int
begin(struct postgresql *pg, struct error *error)
{
	struct postgresql_connection *c =
	    postgresql_take(pg, postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);

	if (c == NULL)
		return -1;
	pg->importing = c;
	pg->batch = 0;
	if (PQenterPipelineMode(c->pg) == 1 &&
	    PQsendPrepare(c->pg, STATEMENT, import_sql, 0, NULL) == 1 && send_plain(c, "BEGIN"))
		return 0;
	error_set(error, EX_TEMPFAIL, NULL, "PostgreSQL: %s", PQerrorMessage(c->pg));
	return -1;
}

/* Read all answers up to the sync, which is sent first. Returns 0, or -1 with *error. */
static int
read_answers(struct postgresql *pg, struct error *error)
{
	struct postgresql_connection *c = pg->importing;
	enum postgresql_outcome outcome = POSTGRESQL_DONE;
	PGresult *result;

	if (PQpipelineSync(c->pg) != 1) {
		error_set(error, EX_TEMPFAIL, NULL, "PostgreSQL: %s", PQerrorMessage(c->pg));
		return -1;
	}
	for (bool end = false; !end;) {
		if (!postgresql_result(pg, c, postgresql_deadline(POSTGRESQL_PATIENCE_MS), &result, error))
			return -1;
		if (result == NULL) {
			if (PQstatus(c->pg) == CONNECTION_BAD)
				return -1;
			continue;
		}
		ExecStatusType status = PQresultStatus(result);
		end = status == PGRES_PIPELINE_SYNC;
		if (status == PGRES_TUPLES_OK)
			pg->imported += (size_t)PQntuples(result);
		else if (status == PGRES_FATAL_ERROR && outcome == POSTGRESQL_DONE)
			outcome = postgresql_explain(pg, c, result, error);
		PQclear(result);
	}
	return outcome == POSTGRESQL_DONE ? 0 : -1;
}

/* Returns 0, or -1 with *error. */
static int
run_plain(struct postgresql *pg, const char *sql, struct error *error)
{
	if (send_plain(pg->importing, sql))
		return read_answers(pg, error);
	error_set(error, EX_TEMPFAIL, NULL, "PostgreSQL: %s", PQerrorMessage(pg->importing->pg));
	return -1;
}

/*
 * A transaction that changes nothing waits for no standby, and an earlier import may have left
 * all of these events without a standby's confirmation. So each one changes something.
 */
static const char touch_sql[] = "UPDATE psapi_meta SET format = format";

/* Returns 0, or -1 with *error. Either way there is no connection any more. */
static int
commit(struct postgresql *pg, bool good, struct error *error)
{
	struct postgresql_connection *c = pg->importing;

	good = good && run_plain(pg, touch_sql, error) == 0;
	c->warnings = 0;
	good = good && run_plain(pg, "COMMIT", error) == 0;
	good = good && !postgresql_unconfirmed(pg, c, error);
	pg->importing = NULL;
	/* Closed, for the statement is prepared in it. */
	postgresql_give(pg, c, true);
	return good ? 0 : -1;
}

enum store_result
postgresql_import(void *engine, const struct store_item *item, struct error *error)
{
	struct postgresql *pg = engine;
	bool good = pg->importing != NULL || begin(pg, error) == 0;

	if (good && !send_item(pg->importing, item)) {
		error_set(error, EX_TEMPFAIL, NULL, "PostgreSQL: %s", PQerrorMessage(pg->importing->pg));
		good = false;
	}
	if (good && ++pg->batch % UNREAD_MAX == 0)
		good = read_answers(pg, error) == 0;
	bool full = item->status == STORE_HANDLED && pg->batch == POSTGRESQL_BATCH;
	if (pg->importing != NULL && (!good || full))
		good = commit(pg, good, error) == 0;
	return good ? STORE_OK : STORE_FAILED;
}

enum store_result
postgresql_import_end(void *engine, size_t *imported, struct error *error)
{
	struct postgresql *pg = engine;
	bool good = pg->importing == NULL || commit(pg, true, error) == 0;

	*imported = pg->imported;
	pg->imported = 0;
	return good ? STORE_OK : STORE_FAILED;
}
