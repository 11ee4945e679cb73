/*
 * Owns what an administrator sees: listings in the order of arrival, by a cursor, so that they
 * show one moment and no memory holds more than some rows; one event; where it stands; counts.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/clock.h"
#include "base/text.h"
#include "store/postgresql/postgresql.h"

enum { FETCHED = 100, OLD_SECONDS = 3600 };

/* ---- rows ---- */

const char postgresql_no_memory[] = "out of memory";

const char *
postgresql_record(const PGresult *result, int row, int column, struct entry *entry)
{
	size_t size = (size_t)PQgetlength(result, row, column);
	char *text = malloc(size + 1);

	if (text == NULL)
		return postgresql_no_memory;
	memcpy(text, PQgetvalue(result, row, column), size);
	return entry_parse(entry, text, size);
}

static void
copy(char *to, size_t size, const PGresult *result, int row, int column)
{
	text_copy(to, size, PQgetvalue(result, row, column), (size_t)PQgetlength(result, row, column));
}

void
postgresql_state(const PGresult *result, int row, int column, struct handler_state *state)
{
	memset(state, 0, sizeof(*state));
	state->tries = (int)postgresql_integer(result, row, column);
	state->tried_at = postgresql_integer(result, row, column + 1);
	state->due_at = postgresql_integer(result, row, column + 2);
	state->failed_at = postgresql_integer(result, row, column + 3);
	copy(state->handler, sizeof(state->handler), result, row, column + 4);
	copy(state->reason, sizeof(state->reason), result, row, column + 5);
	copy(state->stderr_end, sizeof(state->stderr_end), result, row, column + 6);
	state->alone = postgresql_integer(result, row, column + 7) != 0;
}

#define STATUS POSTGRESQL_STATUS
#define ITEM "SELECT " POSTGRESQL_ITEM " FROM psapi_event e"

const char *
postgresql_item(const PGresult *result, int row, struct store_item *item)
{
	*item = (struct store_item){.name = PQgetvalue(result, row, 0)};
	item->status = (enum store_status)postgresql_integer(result, row, 1);
	postgresql_state(result, row, 3, &item->state);
	item->invalid = postgresql_record(result, row, 2, &item->entry);
	return item->invalid;
}

/* ---- one event ---- */

enum store_result
postgresql_get(void *engine, const char *name, struct store_item *item, struct error *error)
{
	static const char sql[] = ITEM " LEFT JOIN psapi_queue q ON q.name = e.name WHERE e.name = $1";
	struct postgresql_parameters p = {0};
	enum store_result found = STORE_OK;

	postgresql_text(&p, name);
	PGresult *result = postgresql_run(engine, sql, &p, postgresql_deadline(POSTGRESQL_PATIENCE_MS),
	    error);
	if (result == NULL)
		return STORE_FAILED;
	if (PQntuples(result) == 0) {
		found = STORE_ABSENT;
	} else if (postgresql_item(result, 0, item) != NULL) {
		bool memory = item->invalid == postgresql_no_memory;
		error_set(error, memory ? EX_OSERR : EX_DATAERR, NULL, "%s: %s", name, item->invalid);
		found = memory ? STORE_FAILED : STORE_INVALID;
	}
	item->name = name;
	PQclear(result);
	return found;
}

/* Whether there is such a name: 1, 0, or -1 with *error. */
static int
is_known(struct postgresql *pg, const char *name, struct error *error)
{
	struct postgresql_parameters p = {0};

	postgresql_text(&p, name);
	PGresult *result = postgresql_run(pg, "SELECT 1 FROM psapi_event WHERE name = $1", &p,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);
	int known = result == NULL ? -1 : PQntuples(result) > 0;
	PQclear(result);
	return known;
}

enum store_result
postgresql_lookup(void *engine, const char *id, char name[STORE_NAME_SIZE], struct error *error)
{
	const char *slash = strrchr(id, '/');
	int known = 0;

	if (*id != '\0' && store_name(id, strlen(id), name) == 0)
		known = is_known(engine, name, error);
	slash = slash == NULL ? id : slash + 1;
	if (known == 0 && strlen(slash) < STORE_NAME_SIZE && store_name_valid(slash)) {
		strcpy(name, slash);
		known = is_known(engine, name, error);
	}
	if (known != 0)
		return known > 0 ? STORE_OK : STORE_FAILED;
	error_set(error, EX_NOINPUT, "psapi list --all shows all",
	    "%s: no such event in the shared store", id);
	return STORE_ABSENT;
}

/* ---- listings ---- */

/* The statement of a filter, with its parameters. */
static void
make_listing(const struct store_filter *filter, char *sql, size_t size,
    struct postgresql_parameters *p)
{
	unsigned wanted = filter->statuses != 0 ? filter->statuses : ~0U;
	bool queued = (wanted & 1U << STORE_HANDLED) == 0;
	int n = snprintf(sql, size, "DECLARE psapi_list NO SCROLL CURSOR FOR " ITEM
	    " %s JOIN psapi_queue q ON q.name = e.name WHERE (%u >> " STATUS ") & 1 = 1",
	    queued ? "" : "LEFT", wanted & 15);

	if (filter->type != NULL) {
		postgresql_text(p, filter->type);
		n += snprintf(sql + n, size - (size_t)n,
		    " AND (e.type = $%d OR starts_with(e.type, $%d || '.'))", p->count, p->count);
	}
	if (filter->npn != NULL) {
		postgresql_text(p, filter->npn);
		n += snprintf(sql + n, size - (size_t)n, " AND e.npn = $%d", p->count);
	}
	if (filter->since != 0) {
		postgresql_number(p, filter->since);
		n += snprintf(sql + n, size - (size_t)n, " AND e.received_ns >= $%d", p->count);
	}
	snprintf(sql + n, size - (size_t)n, " ORDER BY e.received_ns, e.name");
}

/* Visit what one FETCH gave. *stop: what visit did. POSTGRESQL_DONE; or REFUSED with *error. */
static enum postgresql_outcome
visit_rows(const PGresult *result, int (*visit)(const struct store_item *, void *), void *data,
    bool all, int *stop, struct error *error)
{
	struct store_item item;

	for (int i = 0; i < PQntuples(result) && *stop == 0; i++) {
		const char *why = postgresql_item(result, i, &item);
		if (why == postgresql_no_memory) {
			error_set(error, EX_OSERR, NULL, "%s", why);
			return POSTGRESQL_REFUSED;
		}
		if (why == NULL || all)
			*stop = visit(&item, data);
		if (why == NULL)
			entry_free(&item.entry);
	}
	return POSTGRESQL_DONE;
}

/* A transaction with a cursor, to its end. */
static enum postgresql_outcome
walk(struct postgresql *pg, struct postgresql_connection *connection, const char *sql,
    const struct postgresql_parameters *p, int (*visit)(const struct store_item *, void *),
    void *data, bool all, struct error *error)
{
	PGresult *result = NULL;
	int rows = 1, stop = 0;
	enum postgresql_outcome outcome = postgresql_execute(pg, connection, "BEGIN READ ONLY", NULL,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), &result, error);

	PQclear(result);
	if (outcome == POSTGRESQL_DONE) {
		outcome = postgresql_execute(pg, connection, sql, p,
		    postgresql_deadline(POSTGRESQL_PATIENCE_MS), &result, error);
		PQclear(result);
	}
	while (outcome == POSTGRESQL_DONE && rows > 0 && stop == 0) {
		/* The first one may sort. */
		outcome = postgresql_execute(pg, connection, "FETCH 100 FROM psapi_list", NULL,
		    postgresql_deadline(10 * POSTGRESQL_PATIENCE_MS), &result, error);
		if (outcome != POSTGRESQL_DONE)
			break;
		rows = PQntuples(result);
		outcome = visit_rows(result, visit, data, all, &stop, error);
		PQclear(result);
	}
	struct error ignored;
	if (outcome != POSTGRESQL_BROKEN && postgresql_execute(pg, connection, "ROLLBACK", NULL,
	        postgresql_deadline(POSTGRESQL_PATIENCE_MS), &result, &ignored) == POSTGRESQL_DONE)
		PQclear(result);
	return outcome;
}
_Static_assert(FETCHED == 100, "FETCH");

enum store_result
postgresql_each(void *engine, const struct store_filter *filter,
    int (*visit)(const struct store_item *item, void *data), void *data, struct error *error)
{
	bool all = filter->invalid || (filter->statuses == 0 && filter->type == NULL &&
	    filter->npn == NULL && filter->since == 0);
	struct postgresql_parameters p = {0};
	struct postgresql *pg = engine;
	char sql[1536];

	make_listing(filter, sql, sizeof(sql), &p);
	struct postgresql_connection *connection =
	    postgresql_take(pg, postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);
	if (connection == NULL)
		return STORE_FAILED;
	enum postgresql_outcome outcome = walk(pg, connection, sql, &p, visit, data, all, error);
	postgresql_give(pg, connection, outcome == POSTGRESQL_BROKEN);
	return outcome == POSTGRESQL_DONE ? STORE_OK : STORE_FAILED;
}

/* ---- counting ---- */

enum store_result
postgresql_count(void *engine, int64_t now, struct store_counts *counts, struct error *error)
{
	static const char sql[] =
	    "SELECT count(*) FILTER (WHERE failed_at IS NULL),"
	    " count(*) FILTER (WHERE failed_at IS NOT NULL),"
	    " count(*) FILTER (WHERE failed_at IS NULL AND " POSTGRESQL_TRIED "),"
	    " count(*) FILTER (WHERE old),"
	    " floor(extract(epoch FROM now() - min(queued_at) FILTER (WHERE old)))::bigint,"
	    " floor(extract(epoch FROM now() - min(queued_at)"
	    " FILTER (WHERE failed_at IS NULL)))::bigint,"
	    " CASE WHEN pg_has_role('pg_read_all_stats', 'USAGE') THEN"
	    " (SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) END"
	    " FROM (SELECT *, failed_at IS NULL AND queued_at < now() - interval '1 hour'"
	    " AND coalesce(due_at <= now(), true) AS old FROM psapi_queue) q";
	char texts[sizeof(sql) + 160];

	snprintf(texts, sizeof(texts),
	    "SELECT a::text, b::text, c::text, d::text, e::text, f::text, g::text"
	    " FROM (%s) AS t(a, b, c, d, e, f, g)", sql);
	PGresult *result = postgresql_run(engine, texts, NULL,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);
	memset(counts, 0, sizeof(*counts));
	counts->standbys = -1;
	if (result == NULL)
		return STORE_FAILED;
	counts->waiting = (long)postgresql_integer(result, 0, 0);
	counts->failed = (long)postgresql_integer(result, 0, 1);
	counts->retrying = (long)postgresql_integer(result, 0, 2);
	counts->overdue = (long)postgresql_integer(result, 0, 3);
	counts->oldest = counts->overdue > 0 ? now - postgresql_integer(result, 0, 4) : 0;
	if (counts->waiting > 0)
		counts->oldest_waiting = now - postgresql_integer(result, 0, 5);
	if (!PQgetisnull(result, 0, 6))
		counts->standbys = (long)postgresql_integer(result, 0, 6);
	PQclear(result);
	return STORE_OK;
}
_Static_assert(OLD_SECONDS == 3600, "interval");
