/*
 * Owns the copies of the attempts logs: a bounded list of lines, which a thread sends after its
 * answer if a connection is open and idle. Nobody waits for it, neither for a standby; what
 * does not fit into the list, or was sent when the connection broke, is in the local log alone.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "store/postgresql/postgresql.h"

enum { COPIES_BYTES_MAX = 256 * 1024, SEND_MS = 2000 };

/* "TIME LINE", with a newline between two: a line has none. */
struct postgresql_copies {
	pthread_mutex_t lock;
	char *text;
	size_t length;
	bool sending;
};

int
postgresql_attempts_open(struct postgresql *pg)
{
	pg->copies = calloc(1, sizeof(*pg->copies));
	if (pg->copies != NULL)
		pthread_mutex_init(&pg->copies->lock, NULL);
	return pg->copies != NULL ? 0 : -1;
}

void
postgresql_attempts_close(struct postgresql *pg)
{
	if (pg->copies == NULL)
		return;
	pthread_mutex_destroy(&pg->copies->lock);
	free(pg->copies->text);
	free(pg->copies);
}

void
postgresql_attempt(void *engine, int64_t at, const char *line, size_t length)
{
	struct postgresql_copies *c = ((struct postgresql *)engine)->copies;

	pthread_mutex_lock(&c->lock);
	if (c->text == NULL)
		c->text = malloc(COPIES_BYTES_MAX);
	if (c->text != NULL && c->length + length + 32 < COPIES_BYTES_MAX)
		c->length += (size_t)snprintf(c->text + c->length, COPIES_BYTES_MAX - c->length,
		    "%s%lld %.*s", c->length > 0 ? "\n" : "", (long long)at, (int)length, line);
	pthread_mutex_unlock(&c->lock);
}

/* An open connection that nobody uses; NULL: none. */
static struct postgresql_connection *
take_open(struct postgresql *pg)
{
	pthread_mutex_lock(&pg->lock);
	struct postgresql_connection *idle = postgresql_idle(pg);
	bool open = idle != NULL && idle->pg != NULL;
	if (open)
		idle->busy = true;
	pthread_mutex_unlock(&pg->lock);
	return open ? idle : NULL;
}

/* The whole list, which the caller frees. NULL: it is empty, or another thread sends. */
static char *
take_list(struct postgresql_copies *c)
{
	char *text = NULL;

	pthread_mutex_lock(&c->lock);
	if (c->length > 0 && !c->sending) {
		text = c->text;
		c->text = NULL;
		c->length = 0;
		c->sending = true;
	}
	pthread_mutex_unlock(&c->lock);
	return text;
}

void
postgresql_attempts_send(void *engine)
{
	static const char sql[] =
	    "WITH s AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"
	    " INSERT INTO psapi_attempt (at_ns, host, line)"
	    " SELECT split_part(l, ' ', 1)::bigint, $2, substr(l, strpos(l, ' ') + 1)"
	    " FROM s, unnest(string_to_array($1, E'\\n')) l";
	struct postgresql *pg = engine;
	struct postgresql_connection *connection = take_open(pg);
	struct postgresql_parameters p = {0};
	PGresult *result = NULL;
	struct error error;

	if (connection == NULL)
		return;
	enum postgresql_outcome outcome = POSTGRESQL_DONE;
	char *text = take_list(pg->copies);
	if (text != NULL) {
		postgresql_text(&p, text);
		postgresql_text(&p, pg->computer);
		outcome = postgresql_execute(pg, connection, sql, &p, postgresql_deadline(SEND_MS), &result,
		    &error);
		PQclear(result);
		free(text);
		pthread_mutex_lock(&pg->copies->lock);
		pg->copies->sending = false;
		pthread_mutex_unlock(&pg->copies->lock);
	}
	postgresql_give(pg, connection, outcome == POSTGRESQL_BROKEN);
}

/* ---- what all hosts logged ---- */

static void
visit_line(const PGresult *row, void *data)
{
	struct store_attempts *query = data;
	int64_t serial = postgresql_integer(row, 0, 0);

	query->after = serial > query->after ? serial : query->after;
	query->visit(PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 2), query->data);
}

/* The first time: what comes after the newest line of now, also if none is printed. */
static enum postgresql_outcome
begin_after(struct postgresql *pg, struct postgresql_connection *connection,
    struct store_attempts *query, struct error *error)
{
	PGresult *result;

	if (query->after != 0 || query->first > 0)
		return POSTGRESQL_DONE;
	enum postgresql_outcome outcome = postgresql_execute(pg, connection,
	    "SELECT coalesce(max(serial), 0)::text FROM psapi_attempt", NULL,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), &result, error);
	if (outcome == POSTGRESQL_DONE)
		query->after = postgresql_integer(result, 0, 0);
	PQclear(result);
	return outcome;
}

enum store_result
postgresql_attempts(void *engine, struct store_attempts *query, struct error *error)
{
	static const char by_time[] =
	    "SELECT serial::text, host, line FROM (SELECT * FROM psapi_attempt"
	    " WHERE at_ns >= $1 AND serial > $2 AND ($3 = '' OR line::json->>'outcome' = $3)"
	    " ORDER BY at_ns DESC, serial DESC LIMIT $4) a"
	    " ORDER BY at_ns, serial";
	static const char by_serial[] =
	    "SELECT serial::text, host, line FROM psapi_attempt WHERE at_ns >= $1 AND serial > $2"
	    " AND ($3 = '' OR line::json->>'outcome' = $3) ORDER BY serial LIMIT $4";
	struct postgresql *pg = engine;
	struct postgresql_parameters p = {0};
	int64_t after = query->after;
	struct postgresql_connection *connection =
	    postgresql_take(pg, postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);

	if (connection == NULL)
		return STORE_FAILED;
	enum postgresql_outcome outcome = begin_after(pg, connection, query, error);
	if (outcome != POSTGRESQL_DONE) {
		postgresql_give(pg, connection, outcome == POSTGRESQL_BROKEN);
		return STORE_FAILED;
	}
	postgresql_number(&p, query->since);
	postgresql_number(&p, after);
	postgresql_text(&p, query->outcome != NULL ? query->outcome : "");
	postgresql_number(&p, query->first > 0 ? query->first :
	        query->last >= 0               ? query->last :
	                                         INT64_MAX);
	outcome = postgresql_stream(pg, connection, query->first > 0 ? by_serial : by_time, &p,
	    visit_line, query, error);
	postgresql_give(pg, connection, outcome == POSTGRESQL_BROKEN);
	return outcome == POSTGRESQL_DONE ? STORE_OK : STORE_FAILED;
}
