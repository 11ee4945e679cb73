/*
 * Owns the work on many events at once, of as many lanes: queue.c's statements, each for an array.
 * Locks are taken in the order of the lanes' numbers, so that two drains do not wait for each
 * other.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/log.h"
#include "store/postgresql/postgresql.h"

/* A statement with $1 the lanes, $2 our name. The caller clears the result; NULL with *error. */
static PGresult *
run_on_lanes(struct postgresql *pg, const char *sql, const uint64_t *lanes, size_t count,
    int64_t patience, struct error *error)
{
	struct postgresql_parameters p = {0};
	char *array = postgresql_number_array(lanes, count, sizeof(*lanes));
	PGresult *result = NULL;

	error_set(error, EX_OSERR, NULL, "out of memory");
	if (array == NULL)
		return NULL;
	postgresql_text(&p, array);
	postgresql_text(&p, pg->owner);
	result = postgresql_run(pg, sql, &p, postgresql_deadline(patience), error);
	free(array);
	return result;
}

/* Each lane that the rows name: STORE_OK; the others get what is said. */
static void
compare(const PGresult *result, const uint64_t *lanes, size_t count, enum store_result other,
    enum store_result *results)
{
	for (size_t i = 0; i < count; i++)
		results[i] = other;
	for (int row = 0; row < PQntuples(result); row++) {
		uint64_t lane = (uint64_t)postgresql_integer(result, row, 0);
		size_t i = 0;
		while (i < count && lanes[i] != lane)
			i++;
		if (i < count)
			results[i] = STORE_OK;
	}
}

#define OURS \
	", l AS (SELECT lane FROM psapi_lane, s WHERE lane = ANY ($1::bigint[]) AND owner = $2" \
	" ORDER BY lane FOR UPDATE OF psapi_lane) "

enum store_result
postgresql_claim_many(void *engine, const uint64_t *lanes, size_t count,
    enum store_result *results, struct error *error)
{
	static const char sql[] = POSTGRESQL_WITHOUT_WAIT
	    "INSERT INTO psapi_lane AS l (lane, owner, until)"
	    " SELECT u.lane, $2, " POSTGRESQL_LEASE
	    " FROM s, unnest($1::bigint[]) AS u (lane) ORDER BY u.lane"
	    " ON CONFLICT (lane) DO UPDATE SET owner = EXCLUDED.owner, until = EXCLUDED.until"
	    " WHERE l.until <= clock_timestamp() OR l.owner = EXCLUDED.owner RETURNING lane::text";

	((struct postgresql *)engine)->patient = true;
	PGresult *result = run_on_lanes(engine, sql, lanes, count, POSTGRESQL_PATIENCE_MS, error);
	if (result == NULL)
		return STORE_FAILED;
	compare(result, lanes, count, STORE_BUSY, results);
	PQclear(result);
	return STORE_OK;
}

enum store_result
postgresql_renew_many(void *engine, const uint64_t *lanes, size_t count,
    enum store_result *results, struct error *error)
{
	static const char sql[] = POSTGRESQL_WITHOUT_WAIT OURS
	    "UPDATE psapi_lane p SET until = " POSTGRESQL_LEASE " FROM l WHERE p.lane = l.lane"
	    " RETURNING p.lane::text";
	/* Short, for the drain waits: the next renewal comes in time. */
	PGresult *result = run_on_lanes(engine, sql, lanes, count, POSTGRESQL_ACCEPT_MS, error);

	if (result == NULL)
		return STORE_FAILED;
	compare(result, lanes, count, STORE_ABSENT, results);
	PQclear(result);
	return STORE_OK;
}

void
postgresql_release_many(void *engine, const uint64_t *lanes, size_t count)
{
	static const char sql[] = POSTGRESQL_WITHOUT_WAIT OURS
	    "DELETE FROM psapi_lane p USING l WHERE p.lane = l.lane";
	struct error error;
	PGresult *result = run_on_lanes(engine, sql, lanes, count, POSTGRESQL_PATIENCE_MS, &error);

	if (result == NULL)
		error_log(&error);
	PQclear(result);
}

/* ---- events ---- */

/* The first of each one's lane, and its record only if it is the one that is asked for. */
static const char load_sql[] =
    "SELECT n.i::text, q.name, (coalesce(q.due_at <= clock_timestamp(), true))::int::text,"
    " CASE WHEN q.name = n.name THEN (SELECT record FROM psapi_event e WHERE e.name = q.name) END,"
    " " POSTGRESQL_STATE
    " FROM unnest($1::text[]) WITH ORDINALITY AS n (name, i)"
    " JOIN psapi_queue w ON w.name = n.name AND w.failed_at IS NULL"
    " CROSS JOIN LATERAL (SELECT * FROM psapi_queue x WHERE x.failed_at IS NULL"
    " AND x.lane = w.lane ORDER BY x.when_ns, x.name LIMIT 1) q";

static void
unload_all(struct postgresql *pg, struct store_work *const *works, size_t count,
    const enum store_result *results)
{
	for (size_t i = 0; i < count; i++)
		if (results[i] == STORE_OK)
			postgresql_unload(pg, works[i]);
}

enum store_result
postgresql_load_many(void *engine, const char *const *names, struct store_work *const *works,
    size_t count, enum store_result *results, struct error *error)
{
	struct postgresql_parameters p = {0};
	enum store_result outcome = STORE_OK;
	char *array = postgresql_name_array(names, count);

	error_set(error, EX_OSERR, NULL, "out of memory");
	if (array == NULL)
		return STORE_FAILED;
	postgresql_text(&p, array);
	PGresult *result = postgresql_run(engine, load_sql, &p,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);
	free(array);
	if (result == NULL)
		return STORE_FAILED;
	for (size_t i = 0; i < count; i++)
		results[i] = STORE_ABSENT;
	for (int row = 0; row < PQntuples(result) && outcome != STORE_FAILED; row++) {
		size_t i = (size_t)postgresql_integer(result, row, 0) - 1;
		results[i] = postgresql_load_row(engine, result, row, 1, names[i], works[i], error);
		outcome = results[i] == STORE_FAILED ? STORE_FAILED : STORE_OK;
	}
	PQclear(result);
	if (outcome == STORE_FAILED)
		unload_all(engine, works, count, results);
	return outcome;
}

/*
 * The locks on the leases keep other drains from claiming the lanes until this is committed. Of
 * each event: its number, whether its lane is ours, whether it was done before.
 */
static const char done_sql[] =
    "WITH l AS (SELECT lane FROM psapi_lane WHERE lane = ANY ($1::bigint[]) AND owner = $2"
    " ORDER BY lane FOR UPDATE), c AS (DELETE FROM psapi_queue q USING l"
    " WHERE q.name = ANY ($3::text[]) AND q.lane = l.lane)"
    " SELECT n.i::text, (l.lane IS NOT NULL)::int::text,"
    " (NOT EXISTS (SELECT 1 FROM psapi_queue q WHERE q.name = n.name))::int::text"
    " FROM unnest($1::bigint[], $3::text[]) WITH ORDINALITY AS n (lane, name, i)"
    " LEFT JOIN l ON l.lane = n.lane";

static PGresult *
run_done(struct postgresql *pg, const uint64_t *lanes, const char *const *names, size_t count,
    bool *unsure, struct error *error)
{
	struct postgresql_parameters p = {0};
	char *numbers = postgresql_number_array(lanes, count, sizeof(*lanes));
	char *array = postgresql_name_array(names, count);
	PGresult *result = NULL;

	error_set(error, EX_OSERR, NULL, "out of memory");
	if (numbers != NULL && array != NULL) {
		postgresql_text(&p, numbers);
		postgresql_text(&p, pg->owner);
		postgresql_text(&p, array);
		result = postgresql_run_outcome(pg, done_sql, &p,
		    postgresql_deadline(POSTGRESQL_PATIENCE_MS), unsure, error);
	}
	free(numbers);
	free(array);
	return result;
}

/* unsure: an earlier try may have done it. */
static void
judge(const PGresult *result, bool unsure, struct store_work *const *works,
    enum store_result *results)
{
	for (int row = 0; row < PQntuples(result); row++) {
		size_t i = (size_t)postgresql_integer(result, row, 0) - 1;
		bool mine = postgresql_integer(result, row, 1) > 0;
		bool already = unsure && postgresql_integer(result, row, 2) > 0;
		results[i] = mine || already ? STORE_OK : STORE_ABSENT;
		if (results[i] == STORE_ABSENT)
			postgresql_report_lost(works[i]);
	}
}

enum store_result
postgresql_done_many(void *engine, struct store_work *const *works, size_t count,
    enum store_result *results, struct error *error)
{
	uint64_t *lanes = calloc(count, sizeof(*lanes));
	const char **names = calloc(count, sizeof(*names));
	PGresult *result = NULL;
	bool unsure = false;

	error_set(error, EX_OSERR, NULL, "out of memory");
	for (size_t i = 0; lanes != NULL && names != NULL && i < count; i++) {
		lanes[i] = entry_lane(&works[i]->entry.event);
		names[i] = works[i]->name;
	}
	if (lanes != NULL && names != NULL)
		result = run_done(engine, lanes, names, count, &unsure, error);
	free(lanes);
	free(names);
	if (result == NULL)
		return STORE_FAILED;
	judge(result, unsure, works, results);
	PQclear(result);
	return STORE_OK;
}
