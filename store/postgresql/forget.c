/*
 * Owns the removal of events that are old, and of copies of the attempts logs, 1,000 at a time.
 * What the events say of producers stays (roster.c).
 */
#define _GNU_SOURCE
#include <stdio.h>

#include "base/datetime.h"
#include "store/postgresql/postgresql.h"

/*
 * The next events that go, behind the last one. The foreign key stands against a replay at the
 * same time.
 */
#define OLD \
	"SELECT e.name, e.received_ns FROM psapi_event e WHERE e.received_ns < $1" \
	" AND (e.received_ns, e.name) > ($2, $3)" \
	" AND NOT EXISTS (SELECT 1 FROM psapi_queue q WHERE q.name = e.name)" \
	" ORDER BY e.received_ns, e.name LIMIT 1000"

static const char look_sql[] =
    "SELECT name, received_ns::text FROM (" OLD ") o ORDER BY received_ns, name";
/* What they say of producers is kept by the same statement, so by the same transaction. */
static const char forget_sql[] =
    "WITH o AS MATERIALIZED (" OLD "),"
    " d AS (DELETE FROM psapi_event USING o WHERE psapi_event.name = o.name"
    " RETURNING o.name, o.received_ns, type, npn, when_ns),"
    " k AS (" POSTGRESQL_KEEP "SELECT * FROM ("
    "SELECT npn, when_ns, bool_or(type = '" ROSTER_ACTIVATED "') FROM d"
    " WHERE " POSTGRESQL_COUNTS " GROUP BY npn, when_ns"
    " UNION ALL SELECT '', max(received_ns), false FROM d HAVING count(*) > 0"
    ") m ORDER BY npn, when_ns" POSTGRESQL_KEPT ")"
    " SELECT name, received_ns::text FROM d ORDER BY d.received_ns, d.name";

static int64_t
total_events(struct postgresql *pg, struct error *error)
{
	PGresult *result = postgresql_run(pg, "SELECT count(*)::text FROM psapi_event", NULL,
	    postgresql_deadline(10 * POSTGRESQL_PATIENCE_MS), error);
	int64_t total = result == NULL ? -1 : postgresql_integer(result, 0, 0);

	PQclear(result);
	return total;
}

/* Copies of the attempts logs that are as old. */
static enum store_result
forget_attempts(struct postgresql *pg, int64_t before, struct error *error)
{
	static const char sql[] =
	    "DELETE FROM psapi_attempt WHERE serial IN"
	    " (SELECT serial FROM psapi_attempt WHERE at_ns < $1 ORDER BY at_ns LIMIT 1000)"
	    " RETURNING serial::text";
	int rows = 1;

	while (rows > 0) {
		struct postgresql_parameters p = {0};
		postgresql_number(&p, before);
		PGresult *result = postgresql_run(pg, sql, &p, postgresql_deadline(POSTGRESQL_PATIENCE_MS),
		    error);
		if (result == NULL)
			return STORE_FAILED;
		rows = PQntuples(result);
		PQclear(result);
	}
	return STORE_OK;
}

enum store_result
postgresql_forget(void *engine, struct store_forgetting *f, struct error *error)
{
	int64_t before = (f->before + 1) * NANOSECONDS, last = INT64_MIN;
	char name[STORE_NAME_SIZE] = "";
	struct postgresql *pg = engine;
	int rows = 1;

	while (rows > 0) {
		struct postgresql_parameters p = {0};
		postgresql_number(&p, before);
		postgresql_number(&p, last);
		postgresql_text(&p, name);
		int64_t deadline = postgresql_deadline(POSTGRESQL_PATIENCE_MS);
		PGresult *result = f->dry_run ? postgresql_run(pg, look_sql, &p, deadline, error) :
		    postgresql_run_change(pg, forget_sql, &p, deadline, error);
		if (result == NULL)
			return STORE_FAILED;
		rows = PQntuples(result);
		for (int i = 0; i < rows; i++) {
			last = postgresql_integer(result, i, 1);
			snprintf(name, sizeof(name), "%s", PQgetvalue(result, i, 0));
			if (f->visit != NULL)
				f->visit(name, last / NANOSECONDS, f->data);
		}
		f->forgotten += (size_t)rows;
		PQclear(result);
	}
	int64_t total = total_events(pg, error);
	if (total < 0)
		return STORE_FAILED;
	f->kept = (size_t)total - (f->dry_run ? f->forgotten : 0);
	return f->dry_run ? STORE_OK : forget_attempts(pg, before, error);
}
