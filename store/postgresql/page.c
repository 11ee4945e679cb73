/*
 * Owns pages: the newest events and the newest lines of the attempts logs, by their indexes and
 * with a limit to the rows that one statement looks at.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "store/postgresql/postgresql.h"

/* Rows that one statement looks at; of the queue so many are sorted. */
#define LOOK_BACK "10000"
enum { SORTED_MAX = 10000 };

/* ---- events ---- */

/* Where a page begins: only what is before both. */
struct begin {
	int64_t received;
	const char *name;
};

static enum store_result
invalid(struct error *error)
{
	error_set(error, EX_DATAERR, NULL, "no such cursor");
	return STORE_INVALID;
}

/* "RECEIVED.NAME"; "": the newest. */
static bool
read_cursor(const struct store_page *page, struct begin *begin)
{
	char *end;

	*begin = (struct begin){page->until != 0 ? page->until : INT64_MAX, ""};
	if (page->cursor[0] == '\0')
		return true;
	errno = 0;
	begin->received = strtoll(page->cursor, &end, 10);
	begin->name = end + (*end == '.');
	return errno == 0 && *end == '.' && store_name_valid(begin->name);
}

/* Whether few enough events wait, or failed, that they can be sorted: 1, 0, or -1 with *error. */
static int
is_short(struct postgresql *pg, unsigned wanted, struct error *error)
{
	static const char sql[] =
	    "SELECT count(*)::text FROM (SELECT 1 FROM psapi_queue q WHERE ($1::int >> "
	    POSTGRESQL_STATUS ") & 1 = 1 LIMIT " LOOK_BACK ") few";
	struct postgresql_parameters p = {0};

	postgresql_number(&p, wanted);
	PGresult *result = postgresql_run(pg, sql, &p, postgresql_deadline(POSTGRESQL_PATIENCE_MS),
	    error);
	int is = result == NULL ? -1 : postgresql_integer(result, 0, 0) < SORTED_MAX;
	PQclear(result);
	return is;
}

/* The rows of a page: all that wait, sorted; or by the index of their arrival, so many of them. */
#define BEFORE "(received_ns, name) < ($1::bigint, $2) AND received_ns >= $3::bigint"
#define NEWEST " ORDER BY received_ns DESC, name DESC LIMIT "
static const char from_queue[] =
    "SELECT " POSTGRESQL_ITEM ", e.received_ns::text FROM psapi_queue q"
    " JOIN (SELECT * FROM psapi_event WHERE " BEFORE ") e ON e.name = q.name";
static const char from_events[] =
    "SELECT " POSTGRESQL_ITEM ", e.received_ns::text"
    " FROM (SELECT * FROM psapi_event WHERE " BEFORE NEWEST LOOK_BACK ") e"
    " LEFT JOIN psapi_queue q ON q.name = e.name";
static const char matching[] =
    " WHERE ($4::int >> " POSTGRESQL_STATUS ") & 1 = 1"
    " AND ($5 = '' OR e.type = $5 OR starts_with(e.type, $5 || '.'))"
    " AND ($6 = '' OR e.npn = $6)"
    " ORDER BY e.received_ns DESC, e.name DESC LIMIT $7::bigint";
/* The last row that from_events looks at. */
static const char bottom[] =
    "SELECT name, received_ns::text FROM psapi_event WHERE " BEFORE NEWEST "1 OFFSET " LOOK_BACK
    " - 1";

static void
begin_parameters(struct postgresql_parameters *p, const struct begin *begin,
    const struct store_filter *filter)
{
	postgresql_number(p, begin->received);
	postgresql_text(p, begin->name);
	postgresql_number(p, filter->since);
}

/* Visit the rows, and set the cursor behind the last one. */
static enum store_result
visit_rows(const PGresult *result, struct store_page *page, struct error *error)
{
	struct store_item item;

	for (int i = 0; i < PQntuples(result); i++) {
		page->reached = postgresql_integer(result, i, 3 + POSTGRESQL_STATE_COLUMNS);
		snprintf(page->cursor, sizeof(page->cursor), "%lld.%s", (long long)page->reached,
		    PQgetvalue(result, i, 0));
		const char *why = postgresql_item(result, i, &item);
		if (why == postgresql_no_memory) {
			error_set(error, EX_OSERR, NULL, "%s", why);
			return STORE_FAILED;
		}
		if (why != NULL)
			continue;
		page->visit(&item, page->data);
		entry_free(&item.entry);
	}
	return STORE_OK;
}

/* The page was not full: it ends where the look back ends, or with the events. */
static enum store_result
set_bottom(struct postgresql *pg, struct store_page *page, const struct begin *begin,
    struct error *error)
{
	struct postgresql_parameters p = {0};

	begin_parameters(&p, begin, &page->filter);
	PGresult *result = postgresql_run(pg, bottom, &p, postgresql_deadline(POSTGRESQL_PATIENCE_MS),
	    error);
	if (result == NULL)
		return STORE_FAILED;
	page->cursor[0] = '\0';
	if (PQntuples(result) > 0) {
		page->reached = postgresql_integer(result, 0, 1);
		snprintf(page->cursor, sizeof(page->cursor), "%lld.%s", (long long)page->reached,
		    PQgetvalue(result, 0, 0));
	}
	PQclear(result);
	return STORE_OK;
}

enum store_result
postgresql_page(void *engine, struct store_page *page, struct error *error)
{
	const struct store_filter *filter = &page->filter;
	unsigned wanted = filter->statuses != 0 ? filter->statuses & 15 : 15;
	struct postgresql_parameters p = {0};
	struct begin begin;
	char sql[2048], before[STORE_CURSOR_SIZE];

	page->reached = 0;
	memcpy(before, page->cursor, sizeof(before));
	if (!read_cursor(page, &begin))
		return invalid(error);
	if (*begin.name != '\0')
		begin.name = before + (begin.name - page->cursor);
	int sorts = (wanted & 1U << STORE_HANDLED) != 0 ? 0 : is_short(engine, wanted, error);
	if (sorts < 0)
		return STORE_FAILED;
	begin_parameters(&p, &begin, filter);
	postgresql_number(&p, wanted);
	postgresql_text(&p, filter->type != NULL ? filter->type : "");
	postgresql_text(&p, filter->npn != NULL ? filter->npn : "");
	postgresql_number(&p, page->limit);
	snprintf(sql, sizeof(sql), "%s%s", sorts ? from_queue : from_events, matching);
	PGresult *result = postgresql_run(engine, sql, &p, postgresql_deadline(POSTGRESQL_PATIENCE_MS),
	    error);
	if (result == NULL)
		return STORE_FAILED;
	enum store_result visited = visit_rows(result, page, error);
	bool full = PQntuples(result) >= page->limit;
	PQclear(result);
	if (visited != STORE_OK)
		return visited;
	if (!full && sorts)
		page->cursor[0] = '\0';
	return full || sorts ? STORE_OK : set_bottom(engine, page, &begin, error);
}

enum store_result
postgresql_tally(void *engine, int64_t now, int budget_ms, struct store_tally *tally,
    struct error *error)
{
	static const char sql[] =
	    "SELECT (count(*) FILTER (WHERE failed_at IS NULL))::text,"
	    " (count(*) FILTER (WHERE failed_at IS NOT NULL))::text,"
	    " floor(extract(epoch FROM now() - min(queued_at)"
	    " FILTER (WHERE failed_at IS NULL)))::bigint::text FROM psapi_queue";
	PGresult *result = postgresql_run(engine, sql, NULL,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);

	(void)budget_ms; /* it is one statement */
	memset(tally, 0, sizeof(*tally));
	if (result == NULL)
		return STORE_FAILED;
	tally->waiting = (long)postgresql_integer(result, 0, 0);
	tally->failed = (long)postgresql_integer(result, 0, 1);
	if (tally->waiting > 0)
		tally->oldest = now - postgresql_integer(result, 0, 2);
	PQclear(result);
	return STORE_OK;
}

/* ---- the attempts logs ---- */

enum store_result
postgresql_attempts_page(void *engine, struct store_attempts_page *page, struct error *error)
{
	static const char sql[] =
	    "SELECT at_ns::text, serial::text, host, line FROM psapi_attempt"
	    " WHERE (at_ns, serial) < ($1::bigint, $2::bigint)"
	    " ORDER BY at_ns DESC, serial DESC LIMIT $3::bigint";
	struct postgresql_parameters p = {0};

	postgresql_number(&p, page->at != 0 ? page->at : INT64_MAX);
	postgresql_number(&p, page->serial != 0 ? page->serial : INT64_MAX);
	postgresql_number(&p, page->count);
	PGresult *result = postgresql_run(engine, sql, &p, postgresql_deadline(POSTGRESQL_PATIENCE_MS),
	    error);
	if (result == NULL)
		return STORE_FAILED;
	page->count = PQntuples(result);
	for (int i = 0, stop = 0; i < page->count && stop == 0; i++) {
		page->at = postgresql_integer(result, i, 0);
		page->serial = postgresql_integer(result, i, 1);
		stop = page->visit(PQgetvalue(result, i, 2), PQgetvalue(result, i, 3), page->at,
		    page->serial, page->data);
	}
	PQclear(result);
	return STORE_OK;
}
