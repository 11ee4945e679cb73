/*
 * Owns the copies of the attempts logs: a bounded list of lines, which a thread sends after its
 * answer if a connection is open and idle, with those that other threads add meanwhile. Nobody
 * waits for it, neither for a standby; what does not fit into the list, or was sent when the
 * connection broke, is in the local log alone.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/clock.h"
#include "store/postgresql/postgresql.h"

enum {
	COPIES_BYTES_MAX = 256 * 1024,
	SEND_MS = 2000,
	GAP_MS = 60000 /* so long a copy with a lower number than others may still be on its way */
};

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
	    POSTGRESQL_WITHOUT_WAIT
	    "INSERT INTO psapi_attempt (at_ns, host, line)"
	    " SELECT split_part(l, ' ', 1)::bigint, $2, substr(l, strpos(l, ' ') + 1)"
	    " FROM s, unnest(string_to_array($1, E'\\n')) l";
	struct postgresql *pg = engine;
	struct postgresql_connection *connection = take_open(pg);
	PGresult *result = NULL;
	struct error error;
	char *text;

	if (connection == NULL)
		return;
	enum postgresql_outcome outcome = POSTGRESQL_DONE;
	/* Until the list is empty: a line that another thread added meanwhile has no other sender. */
	while (outcome == POSTGRESQL_DONE && (text = take_list(pg->copies)) != NULL) {
		struct postgresql_parameters p = {0};
		postgresql_text(&p, text);
		postgresql_text(&p, pg->computer);
		outcome = postgresql_execute(pg, connection, sql, &p, postgresql_deadline(SEND_MS), &result,
		    &error);
		PQclear(result);
		result = NULL;
		free(text);
		pthread_mutex_lock(&pg->copies->lock);
		pg->copies->sending = false;
		pthread_mutex_unlock(&pg->copies->lock);
	}
	postgresql_give(pg, connection, outcome == POSTGRESQL_BROKEN);
}

/* ---- what all hosts logged ---- */

/* Note the numbers from first to last, the newest ones if there are too many. */
static void
add_gaps(struct store_attempts_follow *f, int64_t first, int64_t last)
{
	int64_t until = clock_milliseconds() + GAP_MS;

	if (first <= last - STORE_ATTEMPTS_GAPS)
		first = last - STORE_ATTEMPTS_GAPS + 1;
	size_t more = first <= last ? (size_t)(last - first + 1) : 0;
	size_t room = STORE_ATTEMPTS_GAPS - more, surplus = f->gaps > room ? f->gaps - room : 0;
	f->gaps -= surplus;
	memmove(f->gap, f->gap + surplus, f->gaps * sizeof(f->gap[0]));
	for (int64_t serial = first; serial <= last; serial++) {
		f->gap[f->gaps].serial = serial;
		f->gap[f->gaps++].until = until;
	}
}

/* That number was seen. */
static void
remove_gap(struct store_attempts_follow *f, int64_t serial)
{
	size_t i = 0;

	while (i < f->gaps && f->gap[i].serial != serial)
		i++;
	if (i == f->gaps)
		return;
	f->gaps--;
	memmove(f->gap + i, f->gap + i + 1, (f->gaps - i) * sizeof(f->gap[0]));
}

/* A number that was never used, or whose line was forgotten, does not come. */
static void
forget_gaps(struct store_attempts_follow *f)
{
	int64_t now = clock_milliseconds();
	size_t left = 0;

	for (size_t i = 0; i < f->gaps; i++)
		if (f->gap[i].until > now)
			f->gap[left++] = f->gap[i];
	f->gaps = left;
}

/* Serial number, host, line; the line is NULL if it is not asked for. */
static void
visit_line(const PGresult *row, void *data)
{
	struct store_attempts *query = data;
	struct store_attempts_follow *f = query->follow;
	int64_t serial = postgresql_integer(row, 0, 0);

	if (f != NULL && serial > f->after) {
		add_gaps(f, f->after + 1, serial - 1);
		f->after = serial;
	} else if (f != NULL) {
		remove_gap(f, serial);
	}
	if (!PQgetisnull(row, 0, 2))
		query->visit(PQgetvalue(row, 0, 1), PQgetvalue(row, 0, 2), query->data);
}

/* What is new comes after the newest line of now, also if that is not printed. */
static enum postgresql_outcome
begin_following(struct postgresql *pg, struct postgresql_connection *connection,
    struct store_attempts_follow *f, struct error *error)
{
	/* One statement, so one moment: the highest number, and those before it that are missing. */
	static const char sql[] =
	    "WITH m AS (SELECT max(serial) AS serial FROM psapi_attempt)"
	    " SELECT m.serial::text, g::text FROM m LEFT JOIN LATERAL"
	    " generate_series(greatest(m.serial - $1::bigint, 1), m.serial - 1) g"
	    " ON NOT EXISTS (SELECT 1 FROM psapi_attempt a WHERE a.serial = g)"
	    " WHERE m.serial IS NOT NULL ORDER BY g";
	struct postgresql_parameters p = {0};
	PGresult *result;

	postgresql_number(&p, STORE_ATTEMPTS_GAPS);
	enum postgresql_outcome outcome = postgresql_execute(pg, connection, sql, &p,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), &result, error);
	for (int i = 0; outcome == POSTGRESQL_DONE && i < PQntuples(result); i++) {
		f->after = postgresql_integer(result, i, 0);
		if (!PQgetisnull(result, i, 1))
			add_gaps(f, postgresql_integer(result, i, 1), postgresql_integer(result, i, 1));
	}
	PQclear(result);
	return outcome;
}

static enum postgresql_outcome
list_all(struct postgresql *pg, struct postgresql_connection *connection,
    struct store_attempts *query, struct error *error)
{
	static const char sql[] =
	    "SELECT serial::text, host, line FROM (SELECT * FROM psapi_attempt"
	    " WHERE at_ns >= $1 AND ($2 = '' OR line::json->>'outcome' = $2)"
	    " ORDER BY at_ns DESC, serial DESC LIMIT $3) a"
	    " ORDER BY at_ns, serial";
	struct postgresql_parameters p = {0};

	postgresql_number(&p, query->since);
	postgresql_text(&p, query->outcome != NULL ? query->outcome : "");
	postgresql_number(&p, query->last >= 0 ? query->last : INT64_MAX);
	return postgresql_stream(pg, connection, sql, &p, visit_line, query, error);
}

static enum postgresql_outcome
list_new(struct postgresql *pg, struct postgresql_connection *connection,
    struct store_attempts *query, struct error *error)
{
	static const char sql[] =
	    "SELECT serial::text, host, CASE WHEN at_ns >= $1"
	    " AND ($2 = '' OR line::json->>'outcome' = $2) THEN line END FROM"
	    " (SELECT * FROM psapi_attempt WHERE serial = ANY ($4::bigint[]) UNION ALL"
	    " (SELECT * FROM psapi_attempt WHERE serial > $3 ORDER BY serial LIMIT $5)) a"
	    " ORDER BY serial LIMIT $5";
	struct postgresql_parameters p = {0};

	forget_gaps(query->follow);
	char *gaps = postgresql_number_array(&query->follow->gap[0].serial, query->follow->gaps,
	    sizeof(query->follow->gap[0]));
	if (gaps == NULL) {
		error_set(error, EX_OSERR, NULL, "out of memory");
		return POSTGRESQL_REFUSED;
	}
	postgresql_number(&p, query->since);
	postgresql_text(&p, query->outcome != NULL ? query->outcome : "");
	postgresql_number(&p, query->follow->after);
	postgresql_text(&p, gaps);
	postgresql_number(&p, query->first > 0 ? query->first : INT64_MAX);
	enum postgresql_outcome outcome =
	    postgresql_stream(pg, connection, sql, &p, visit_line, query, error);
	free(gaps);
	return outcome;
}

enum store_result
postgresql_attempts(void *engine, struct store_attempts *query, struct error *error)
{
	struct postgresql *pg = engine;
	bool new_ones = query->follow != NULL && query->follow->after != 0;
	enum postgresql_outcome outcome = POSTGRESQL_DONE;
	struct postgresql_connection *connection =
	    postgresql_take(pg, postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);

	if (connection == NULL)
		return STORE_FAILED;
	if (query->follow != NULL && !new_ones)
		outcome = begin_following(pg, connection, query->follow, error);
	if (outcome == POSTGRESQL_DONE)
		outcome = new_ones ? list_new(pg, connection, query, error) :
		    list_all(pg, connection, query, error);
	postgresql_give(pg, connection, outcome == POSTGRESQL_BROKEN);
	return outcome == POSTGRESQL_DONE ? STORE_OK : STORE_FAILED;
}
