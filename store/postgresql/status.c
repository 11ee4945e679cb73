/*
 * Owns what is said about the database: the one line, the checks of doctor and `psapi-fcgi -t`
 * with their remedies, the report of `psapi store status`.
 */
#define _GNU_SOURCE
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include <jansson.h>

#include "base/clock.h"
#include "store/postgresql/postgresql.h"

enum { HOST_MS = 3000, CLOCK_LIMIT_S = 5, CONNECTIONS_MIN = 10 };

struct visitor {
	void (*visit)(const struct store_check *check, void *data);
	void *data;
};

/* One finding. remedy NULL: it is good; with '!' before it, a remark. */
static void __attribute__((format(printf, 4, 5)))
tell(const struct visitor *v, const char *name, const char *remedy, const char *format, ...)
{
	struct store_check check = {.name = name};
	va_list ap;

	check.result = remedy == NULL ? STORE_CHECK_OK : *remedy == '!' ? STORE_CHECK_REMARK :
	    STORE_CHECK_FAILED;
	if (remedy != NULL)
		snprintf(check.remedy, sizeof(check.remedy), "%s", remedy + (*remedy == '!'));
	va_start(ap, format);
	vsnprintf(check.text, sizeof(check.text), format, ap);
	va_end(ap);
	v->visit(&check, v->data);
}

/* ---- the hosts ---- */

#define READ_ONLY "primary, read-only"

/*
 * What a host is: "primary", READ_ONLY, "standby", or NULL with *error: it cannot be reached.
 * *started: when its server started, in microseconds. The same under two names: it is one server.
 */
static const char *
role_of(struct postgresql *pg, int host, int64_t *started, struct error *error)
{
	static const char sql[] = "SELECT CASE WHEN pg_is_in_recovery() THEN 2"
	    " WHEN current_setting('default_transaction_read_only') = 'on' THEN 1 ELSE 0 END::text,"
	    " (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint::text";
	static const char *const roles[] = {"primary", READ_ONLY, "standby"};
	struct postgresql_connection connection = {.any = true};
	int64_t deadline = postgresql_deadline(HOST_MS);
	const char *role = NULL;
	PGresult *result;

	if (postgresql_connect(pg, &connection, host, deadline, error) != 0)
		return NULL;
	if (postgresql_execute(pg, &connection, sql, NULL, deadline, &result,
	    error) == POSTGRESQL_DONE) {
		role = roles[postgresql_integer(result, 0, 0)];
		*started = postgresql_integer(result, 0, 1);
	}
	PQclear(result);
	PQfinish(connection.pg);
	return role;
}

/* No host is a primary that can be written to; why: of one that is not reached. */
static void
tell_no_primary(const struct visitor *v, const char *text, const struct error *why, bool read_only)
{
	if (read_only)
		tell(v, "database",
		    "find out who has set it, and: ALTER SYSTEM RESET default_transaction_read_only;"
		    " SELECT pg_reload_conf(); or the same of ALTER DATABASE, ALTER ROLE",
		    "the primary is set read-only (default_transaction_read_only): %s", text);
	else
		tell(v, "database", *why->remedy != '\0' ? why->remedy : "promote a standby",
		    "no primary: %s%s%s", text, *why->text != '\0' ? "; " : "", why->text);
}

/* Each host by itself. Returns how many are primaries; -1 with *why: none is reached. */
static int
check_hosts(struct postgresql *pg, const struct visitor *v, struct error *why)
{
	int primaries = 0, missing = 0;
	int64_t started = 0, known = 0;
	bool read_only = false;
	struct error error;
	char text[300] = "";
	size_t n = 0;

	*why = (struct error){0};
	for (int i = 0; i < pg->host_count; i++) {
		const char *role = role_of(pg, i, &started, &error);
		if (role != NULL && strcmp(role, "primary") == 0 && started != known) {
			primaries++;
			known = started;
		}
		read_only |= role != NULL && strcmp(role, READ_ONLY) == 0;
		if (role == NULL) {
			missing++;
			*why = error;
		}
		if (n < sizeof(text))
			n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%s (%s)", i > 0 ? ", " : "",
			    postgresql_host_text(pg, i), role != NULL ? role : "not reached");
	}
	if (primaries == 0)
		tell_no_primary(v, text, why, read_only);
	else if (primaries > 1)
		tell(v, "database",
		    "stop the former primary, and make it a standby of the other: pg_rewind",
		    "more than one primary: %s", text);
	else if (missing > 0)
		tell(v, "database", "!mend that host, or take it out of PSAPI_STORE", "%s; %s", text,
		    why->text);
	else if (pg->host_count == 1)
		tell(v, "database",
		    "!name all nodes in PSAPI_STORE, host1,host2: after a failover another is the primary",
		    "%s is the only host in PSAPI_STORE", text);
	else
		tell(v, "database", NULL, "%s", text);
	return missing == pg->host_count ? -1 : primaries;
}

/* ---- the settings ---- */

/* One row, in the order of enum below. */
static const char settings_sql[] =
    "SELECT current_setting('synchronous_standby_names'), "
    "(SELECT count(*) FROM pg_stat_replication)::text, "
    "(SELECT count(*) FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum'))::text, "
    "pg_has_role('pg_read_all_stats', 'USAGE')::int::text, "
    "(SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'), "
    "current_setting('fsync'), current_setting('full_page_writes'), "
    "round(extract(epoch FROM clock_timestamp()) * 1000)::bigint::text, "
    "current_setting('max_connections')::int"
    " - current_setting('superuser_reserved_connections')::int || '', "
    "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')::text, "
    "current_setting('server_version')";
enum { NAMES, STANDBYS, SYNCHRONOUS, MAY_SEE, COMMIT, FSYNC, PAGES, CLOCK, MAX_CONNECTIONS,
    CONNECTIONS, VERSION };

static void
check_replication(const struct visitor *v, const PGresult *r)
{
	if (*PQgetvalue(r, 0, NAMES) == '\0')
		tell(v, "replication",
		    "with a standby: ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'; "
		    "SELECT pg_reload_conf()",
		    "synchronous_standby_names is empty: a 200 means that an event is on one machine only");
	else if (postgresql_integer(r, 0, STANDBYS) == 0)
		tell(v, "replication", "start a standby: until then each event is answered 503",
		    "no standby is connected, and synchronous_standby_names is %s",
		    PQgetvalue(r, 0, NAMES));
	else if (postgresql_integer(r, 0, MAY_SEE) == 0)
		tell(v, "replication", "!GRANT pg_read_all_stats TO psapi (the user in PSAPI_STORE)",
		    "%s standby(s) connected, but this user may not see which of them are synchronous",
		    PQgetvalue(r, 0, STANDBYS));
	else if (postgresql_integer(r, 0, SYNCHRONOUS) == 0)
		tell(v, "replication",
		    "compare application_name of the standbys (primary_conninfo) "
		    "with synchronous_standby_names",
		    "none of %s standby(s) is synchronous: synchronous_standby_names is %s",
		    PQgetvalue(r, 0, STANDBYS), PQgetvalue(r, 0, NAMES));
	else
		tell(v, "replication", NULL, "%s of %s standby(s) synchronous: %s",
		    PQgetvalue(r, 0, SYNCHRONOUS), PQgetvalue(r, 0, STANDBYS), PQgetvalue(r, 0, NAMES));
}

static void
check_durability(const struct visitor *v, const PGresult *r)
{
	const char *commit = PQgetvalue(r, 0, COMMIT);

	if (strcmp(PQgetvalue(r, 0, FSYNC), "on") != 0 || strcmp(PQgetvalue(r, 0, PAGES), "on") != 0)
		tell(v, "durability",
		    "ALTER SYSTEM SET fsync = on; ALTER SYSTEM SET full_page_writes = on; SELECT"
		    " pg_reload_conf()",
		    "fsync is %s, full_page_writes %s: a power cut takes acknowledged events", PQgetvalue(r,
		    0, FSYNC),
		    PQgetvalue(r, 0, PAGES));
	else if (strcmp(commit, "on") != 0 && strcmp(commit, "remote_apply") != 0)
		tell(v, "durability", "!set it to on; until then psapi sets it in its own sessions",
		    "synchronous_commit is %s", commit);
	else
		tell(v, "durability", NULL, "fsync on, synchronous_commit %s", commit);
}

static void
check_clock(const struct visitor *v, int64_t before, int64_t after, const PGresult *r)
{
	int64_t theirs = postgresql_integer(r, 0, CLOCK);
	int64_t off = theirs < before ? before - theirs : theirs > after ? theirs - after : 0;

	if (off > CLOCK_LIMIT_S * 1000)
		tell(v, "database-clock", "synchronise the clocks of all hosts by NTP: apt install chrony",
		    "%.1f s off this host's", (double)off / 1000);
	else
		tell(v, "database-clock", NULL, "%.1f s off this host's", (double)off / 1000);
}

static void
check_connections(const struct visitor *v, const PGresult *r)
{
	int64_t most = postgresql_integer(r, 0, MAX_CONNECTIONS);
	int64_t used = postgresql_integer(r, 0, CONNECTIONS);

	if (most - used < CONNECTIONS_MIN)
		tell(v, "connections", "raise max_connections: each receiver and drain takes up to 4",
		    "%lld of %lld are in use", (long long)used, (long long)most);
	else
		tell(v, "connections", NULL, "%lld of %lld are in use", (long long)used, (long long)most);
}

static int64_t
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
check_settings(struct postgresql *pg, struct postgresql_connection *connection,
    const struct visitor *v)
{
	struct error error;
	PGresult *result;
	int64_t before = now_ms();

	if (postgresql_execute(pg, connection, settings_sql, NULL, postgresql_deadline(HOST_MS),
	    &result, &error) != POSTGRESQL_DONE) {
		tell(v, "replication", "look at the server's log", "%s", error.text);
		return;
	}
	int64_t after = now_ms();
	check_replication(v, result);
	check_durability(v, result);
	check_clock(v, before, after, result);
	check_connections(v, result);
	PQclear(result);
}

enum store_result
postgresql_check(void *engine, void (*visit)(const struct store_check *, void *), void *data,
    struct error *error)
{
	const struct visitor v = {visit, data};
	struct postgresql *pg = engine;
	struct error why;

	int primaries = check_hosts(pg, &v, error);
	if (primaries <= 0)
		return primaries < 0 ? STORE_FAILED : STORE_OK;
	struct postgresql_connection *connection =
	    postgresql_take(pg, postgresql_deadline(POSTGRESQL_ACCEPT_MS), &why);
	if (connection == NULL) {
		tell(&v, "schema", *why.remedy != '\0' ? why.remedy : "look at the server's log", "%s",
		    why.text);
		return STORE_OK;
	}
	if (connection->has_schema)
		tell(&v, "schema", NULL, "the tables are there, format %d", POSTGRESQL_FORMAT);
	else
		tell(&v, "schema", "psapi store init", "the tables are missing");
	check_settings(pg, connection, &v);
	postgresql_give(pg, connection, false);
	return STORE_OK;
}

/* ---- one line ---- */

void
postgresql_describe(void *engine, char *text, size_t size)
{
	struct postgresql *pg = engine;
	struct error error;
	struct postgresql_connection *c =
	    postgresql_take(pg, postgresql_deadline(POSTGRESQL_ACCEPT_MS), &error);

	if (c == NULL) {
		snprintf(text, size, "%s", error.text);
		return;
	}
	snprintf(text, size, "PostgreSQL %s at %s", PQparameterStatus(c->pg, "server_version"),
	    postgresql_host_text(pg, c->host));
	postgresql_give(pg, c, false);
}

/* ---- the report ---- */

static const char status_sql[] =
    "SELECT json_build_object('version', current_setting('server_version'),"
    " 'synchronous_standby_names', current_setting('synchronous_standby_names'),"
    " 'standbys', (SELECT coalesce(json_agg(json_build_object("
    "'name', application_name, 'address', client_addr, 'state', state, 'sync_state', sync_state,"
    " 'lag_bytes', pg_wal_lsn_diff(pg_current_wal_lsn(), flush_lsn))"
    " ORDER BY application_name), '[]') FROM pg_stat_replication),"
    " 'events', (SELECT count(*) FROM psapi_event),"
    " 'waiting', (SELECT count(*) FROM psapi_queue WHERE failed_at IS NULL),"
    " 'retrying', (SELECT count(*) FROM psapi_queue WHERE failed_at IS NULL AND tries > 0),"
    " 'failed', (SELECT count(*) FROM psapi_queue WHERE failed_at IS NOT NULL),"
    " 'oldest_waiting', (SELECT to_char(min(queued_at) AT TIME ZONE 'UTC',"
    " 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    " FROM psapi_queue WHERE failed_at IS NULL),"
    " 'lanes', (SELECT coalesce(json_agg(json_build_object('owner', owner, 'lanes', n)), '[]')"
    " FROM (SELECT owner, count(*) AS n FROM psapi_lane WHERE until > now()"
    " GROUP BY owner ORDER BY owner) l),"
    " 'bytes', (SELECT sum(pg_total_relation_size(t::regclass))"
    " FROM unnest(" POSTGRESQL_TABLES ") t),"
    " 'connections', (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),"
    " 'max_connections', current_setting('max_connections')::int)::text";

static json_t *
hosts_of(struct postgresql *pg)
{
	json_t *hosts = json_array();
	struct error error;
	int64_t started;

	for (int i = 0; i < pg->host_count; i++) {
		const char *role = role_of(pg, i, &started, &error);
		json_array_append_new(hosts, json_pack("{s:s,s:s,s:s*}",
		    "host", postgresql_host_text(pg, i), "role", role != NULL ? role : "unreachable",
		    "error", role != NULL ? NULL : error.text));
	}
	return hosts;
}

char *
postgresql_status(void *engine, struct error *error)
{
	struct postgresql *pg = engine;
	PGresult *result = postgresql_run(pg, status_sql, NULL,
	    postgresql_deadline(POSTGRESQL_PATIENCE_MS), error);
	json_t *report = result == NULL ? NULL : json_loads(PQgetvalue(result, 0, 0), 0, NULL);

	if (result != NULL && report == NULL)
		error_set(error, EX_OSERR, NULL, "out of memory");
	PQclear(result);
	if (report == NULL)
		return NULL;
	json_object_set_new(report, "hosts", hosts_of(pg));
	char *text = json_dumps(report, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(report);
	if (text == NULL)
		error_set(error, EX_OSERR, NULL, "out of memory");
	return text;
}
