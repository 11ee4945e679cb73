/*
 * Owns the administrator's moves: retry, replay, finish. Each statement changes up to 1,000
 * events, so that none holds its locks for long.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "store/postgresql/postgresql.h"

/* ---- many events by their names ---- */

char *
postgresql_name_array(const char *const *names, size_t count)
{
	size_t n = 0;
	char *text = malloc(count * STORE_NAME_SIZE + 3);

	if (text == NULL)
		return NULL;
	text[n++] = '{';
	for (size_t i = 0; i < count; i++)
		n += (size_t)sprintf(text + n, "%s%s", i > 0 ? "," : "", names[i]);
	strcpy(text + n, "}");
	return text;
}

/* Why a retry or replay left this one out. Returns STORE_INVALID, or STORE_FAILED. */
static enum store_result
explain(struct postgresql *pg, const char *name, bool retry, struct error *error)
{
	static const char busy[] =
	    "waits for its retry, and a drain is handling an event of its lane: "
	    "repeat the command later";
	struct store_item item;
	int length = (int)strlen(name) - 5;
	const char *why = "was handled just now: repeat the command";
	enum store_result found = postgresql_get(pg, name, &item, error);

	if (found == STORE_ABSENT)
		why = "was forgotten meanwhile: psapi prune";
	else if (found != STORE_OK)
		return found;
	else if (item.status == STORE_DEAD)
		why = "was not handled yet: it waits in failed/; psapi retry takes it";
	else if (item.status == STORE_WAITING && retry)
		why = busy;
	else if (item.status != STORE_HANDLED)
		why = retry ? "has not failed: it waits in new/ already" :
		    "was not handled yet: it waits in new/";
	else if (retry)
		why = "has not failed: it was handled; psapi replay handles it again";
	else if (item.entry.event.queue == QUEUE_NONE)
		why = "is a probe of psapi doctor, which nobody handles";
	if (found == STORE_OK)
		entry_free(&item.entry);
	error_set(error, why == busy ? EX_TEMPFAIL : EX_DATAERR, NULL, "%.*s: %s", length, name, why);
	return STORE_INVALID;
}

/* One statement for up to POSTGRESQL_BATCH names, which returns those that it moved. */
static enum store_result
move_batch(struct postgresql *pg, const char *sql, const char *const *names, size_t count,
    size_t *moved, bool retry, struct error *error)
{
	char *array = postgresql_name_array(names, count);
	struct postgresql_parameters p = {0};
	enum store_result outcome = STORE_OK;

	if (array == NULL) {
		error_set(error, EX_OSERR, NULL, "out of memory");
		return STORE_FAILED;
	}
	postgresql_text(&p, array);
	PGresult *result = postgresql_run_change(pg, sql, &p,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);
	free(array);
	if (result == NULL)
		return STORE_FAILED;
	*moved += (size_t)PQntuples(result);
	for (size_t i = 0;
	     i < count && outcome == STORE_OK && (size_t)PQntuples(result) < count; i++)
		if (!postgresql_has_row(result, names[i]))
			outcome = explain(pg, names[i], retry, error);
	PQclear(result);
	return outcome;
}

static enum store_result
move(struct postgresql *pg, const char *sql, const char *const *names, size_t count, size_t *moved,
    bool retry, struct error *error)
{
	enum store_result outcome = STORE_OK;

	*moved = 0;
	for (size_t i = 0; i < count && outcome != STORE_FAILED; i += POSTGRESQL_BATCH) {
		size_t some = count - i < POSTGRESQL_BATCH ? count - i : POSTGRESQL_BATCH;
		struct error own;
		enum store_result one = move_batch(pg, sql, names + i, some, moved, retry, &own);
		if (one == STORE_FAILED || (one != STORE_OK && outcome == STORE_OK)) {
			*error = own;
			outcome = one;
		}
	}
	return outcome;
}

/*
 * An event that waits stays as old as it is. One of a lane that a drain has may be in work: the
 * outcome of that try would come after this.
 */
enum store_result
postgresql_retry(void *engine, const char *const *names, size_t count, size_t *moved,
    struct error *error)
{
	static const char sql[] =
	    "UPDATE psapi_queue q SET tries = 0, tried_at = NULL, due_at = NULL, failed_at = NULL,"
	    " queued_at = CASE WHEN failed_at IS NULL THEN queued_at ELSE now() END,"
	    " alone = false, handler = '', reason = '', stderr_end = ''"
	    " WHERE name = ANY ($1::text[]) AND (failed_at IS NOT NULL OR (" POSTGRESQL_TRIED
	    " AND NOT EXISTS (SELECT 1 FROM psapi_lane l"
	    " WHERE l.lane = q.lane AND l.until > clock_timestamp()))) RETURNING name";

	return move(engine, sql, names, count, moved, true, error);
}

enum store_result
postgresql_replay(void *engine, const char *const *names, size_t count, size_t *moved,
    struct error *error)
{
	static const char sql[] =
	    "INSERT INTO psapi_queue (name, lane, when_ns) SELECT name, lane, when_ns FROM psapi_event"
	    " WHERE name = ANY ($1::text[]) AND queued ORDER BY name"
	    " ON CONFLICT DO NOTHING RETURNING name";

	return move(engine, sql, names, count, moved, false, error);
}

enum store_result
postgresql_finish(void *engine, const char *name, struct error *error)
{
	struct postgresql_parameters p = {0};

	postgresql_text(&p, name);
	PGresult *result = postgresql_run_change(engine,
	    "DELETE FROM psapi_queue WHERE name = $1 RETURNING name", &p,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);
	if (result == NULL)
		return STORE_FAILED;
	int finished = PQntuples(result);
	PQclear(result);
	if (finished > 0)
		return STORE_OK;
	error_set(error, EX_DATAERR, NULL, "%.*s: is neither in new/ nor in failed/: it was handled",
	    (int)strlen(name) - 5, name);
	return STORE_INVALID;
}

enum store_result
postgresql_unknown(void *engine, const char *const *names, size_t count, size_t *unknown,
    struct error *error)
{
	char *array = postgresql_name_array(names, count);
	struct postgresql_parameters p = {0};

	if (array == NULL) {
		error_set(error, EX_OSERR, NULL, "out of memory");
		return STORE_FAILED;
	}
	postgresql_text(&p, array);
	PGresult *result = postgresql_run(engine,
	    "SELECT 1 FROM psapi_event WHERE name = ANY ($1::text[])", &p,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);
	free(array);
	if (result == NULL)
		return STORE_FAILED;
	*unknown = count - (size_t)PQntuples(result);
	PQclear(result);
	return STORE_OK;
}
