/*
 * Owns the roster of producers: the database finds the last events of each, and psapi_roster has
 * what forgotten events said (forget.c).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/datetime.h"
#include "store/postgresql/postgresql.h"

_Static_assert(ROSTER_NPN_MAX == 20, "POSTGRESQL_COUNTS");

/* ---- read ---- */

struct roster_rows {
	struct roster *roster;
	int result;
};

/* A row: an NPN; when it was activated, and when deactivated, or NULL. */
static void
add_row(const PGresult *row, void *data)
{
	struct roster_rows *r = data;
	const char *npn = PQgetvalue(row, 0, 0);

	for (int column = 1; column <= 2 && r->result == 0; column++) {
		int64_t when = postgresql_integer(row, 0, column);
		if (PQgetisnull(row, 0, column))
			continue;
		if (*npn == '\0')
			r->roster->forgotten = when / NANOSECONDS;
		else
			r->result = roster_add(r->roster, npn, when, column == 1, NULL);
	}
}

static enum store_result
read_all(struct postgresql *pg, const char *sql, const struct postgresql_parameters *p,
    struct roster_rows *r, struct error *error)
{
	struct postgresql_connection *connection =
	    postgresql_take(pg, postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);

	if (connection == NULL)
		return STORE_FAILED;
	enum postgresql_outcome outcome = postgresql_stream(pg, connection, sql, p, add_row, r, error);
	postgresql_give(pg, connection, outcome == POSTGRESQL_BROKEN);
	if (outcome == POSTGRESQL_DONE && r->result == 0)
		return STORE_OK;
	if (outcome == POSTGRESQL_DONE)
		error_set(error, EX_OSERR, NULL, "out of memory");
	return STORE_FAILED;
}

/* One statement, so one moment: no event is forgotten between its parts. */
enum store_result
postgresql_roster(void *engine, int64_t at, struct roster *roster, struct error *error)
{
	static const char sql[] =
	    "SELECT npn, (max(when_ns) FILTER (WHERE active))::text, "
	    "(max(when_ns) FILTER (WHERE NOT active))::text FROM ("
	    "SELECT npn, when_ns, type = '" ROSTER_ACTIVATED "' AS active FROM psapi_event WHERE "
	    POSTGRESQL_COUNTS " UNION ALL SELECT npn, when_ns, active FROM psapi_roster"
	    " WHERE npn <> '') m WHERE when_ns <= $1 GROUP BY npn";
	struct roster_rows r = {.roster = roster};
	struct postgresql_parameters p = {0};

	postgresql_number(&p, at);
	return read_all(engine, sql, &p, &r, error);
}

enum store_result
postgresql_forgotten(void *engine, struct roster *roster, struct error *error)
{
	static const char sql[] = "SELECT npn, CASE WHEN active THEN when_ns END::text,"
	    " CASE WHEN NOT active THEN when_ns END::text FROM psapi_roster";
	struct roster_rows r = {.roster = roster};
	struct postgresql_parameters none = {0};

	return read_all(engine, sql, &none, &r, error);
}

/* ---- import ---- */

/* Three arrays as PostgreSQL writes them, for up to POSTGRESQL_BATCH marks and one row more. */
struct arrays {
	char npn[(POSTGRESQL_BATCH + 1) * 24], when[(POSTGRESQL_BATCH + 1) * 24];
	char active[(POSTGRESQL_BATCH + 1) * 2 + 4];
	size_t a, b, c;
};

static void
add_element(struct arrays *t, const char *npn, int64_t when, bool active)
{
	const char *before = t->a == 0 ? "{" : ",";

	t->a += (size_t)snprintf(t->npn + t->a, sizeof(t->npn) - t->a, "%s%s", before,
	    *npn == '\0' ? "\"\"" : npn);
	t->b += (size_t)snprintf(t->when + t->b, sizeof(t->when) - t->b, "%s%lld", before,
	    (long long)when);
	t->c += (size_t)snprintf(t->active + t->c, sizeof(t->active) - t->c, "%s%c", before,
	    active ? 't' : 'f');
}

static int
import_some(struct postgresql *pg, struct arrays *t, struct error *error)
{
	static const char sql[] = POSTGRESQL_KEEP
	    "SELECT * FROM unnest($1::text[], $2::bigint[], $3::boolean[]) AS m(npn, when_ns, active)"
	    " ORDER BY npn, when_ns" POSTGRESQL_KEPT " RETURNING npn";
	struct postgresql_parameters p = {0};

	strcpy(t->npn + t->a, "}");
	strcpy(t->when + t->b, "}");
	strcpy(t->active + t->c, "}");
	postgresql_text(&p, t->npn);
	postgresql_text(&p, t->when);
	postgresql_text(&p, t->active);
	PGresult *result = postgresql_run_change(pg, sql, &p,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);
	t->a = t->b = t->c = 0;
	if (result == NULL)
		return -1;
	PQclear(result);
	return 0;
}

enum store_result
postgresql_import_forgotten(void *engine, const struct roster *roster, struct error *error)
{
	struct arrays *t = calloc(1, sizeof(*t));
	int result = 0;

	if (t == NULL) {
		error_set(error, EX_OSERR, NULL, "out of memory");
		return STORE_FAILED;
	}
	if (roster->forgotten != 0)
		add_element(t, "", roster->forgotten * NANOSECONDS, false);
	for (size_t i = 0; i < roster->count && result == 0; i++) {
		const struct roster_mark *mark = &roster->marks[i];
		add_element(t, mark->npn, mark->when, mark->active);
		if ((i + 1) % POSTGRESQL_BATCH == 0)
			result = import_some(engine, t, error);
	}
	if (result == 0 && t->a > 0)
		result = import_some(engine, t, error);
	free(t);
	return result == 0 ? STORE_OK : STORE_FAILED;
}
