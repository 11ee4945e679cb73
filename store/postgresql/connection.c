/*
 * Owns connections: which hosts there are, how one is connected to within a deadline, how a
 * statement is sent and its result awaited, what an error means.
 *
 * libpq is used asynchronously: its blocking calls have no end when a host is frozen or no
 * standby confirms. It would try the hosts of a list one after the other, but asynchronously
 * with no limit for each; so each is tried here, with its share of the time, the one that
 * answered last first. It looks a name up without any limit: so it gets addresses (resolver.c).
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "store/postgresql/postgresql.h"

enum { OPTIONS_MAX = 80, STANDBY_PAUSE_MS = 200 };

/* Set unless PSAPI_STORE, or the environment, sets it. */
static const struct {
	const char *keyword, *value;
} defaults[] = {
	{"target_session_attrs", "read-write"}, /* neither a standby nor a read-only primary */
	{"keepalives_idle", "10"},
	{"keepalives_interval", "3"},
	{"keepalives_count", "3"},
	{"tcp_user_timeout", "15000"},
	{"gssencmode", "disable"}, /* it would read Kerberos' files; a site that uses it says so */
};

/* ---- the configuration ---- */

static PQconninfoOption *
option(const struct postgresql *pg, const char *keyword)
{
	for (PQconninfoOption *o = pg->options; o->keyword != NULL; o++)
		if (strcmp(o->keyword, keyword) == 0)
			return o;
	return NULL;
}

static const char *
value_of(const struct postgresql *pg, const char *keyword)
{
	const PQconninfoOption *o = option(pg, keyword);

	return o != NULL && o->val != NULL && *o->val != '\0' ? o->val : NULL;
}

/* Returns 0, or -1 without memory. A keyword that this libpq does not know is left out. */
static int
set_default(struct postgresql *pg, const char *keyword, const char *value)
{
	PQconninfoOption *o = option(pg, keyword);

	if (o == NULL || value == NULL || (o->val != NULL && *o->val != '\0'))
		return 0;
	free(o->val); /* libpq's own are of malloc(3), too */
	o->val = strdup(value);
	return o->val != NULL ? 0 : -1;
}

/* What PSAPI_STORE leaves open: the environment's and libpq's defaults, then ours. */
static int
add_defaults(struct postgresql *pg)
{
	PQconninfoOption *known = PQconndefaults();
	int result = known != NULL ? 0 : -1;

	/*
	 * Of libpq's defaults those that the environment sets, and the user's name, which it looks
	 * up.
	 */
	for (PQconninfoOption *o = known; result == 0 && o->keyword != NULL; o++)
		if ((o->envvar != NULL && getenv(o->envvar) != NULL) || strcmp(o->keyword, "user") == 0)
			result = set_default(pg, o->keyword, o->val);
	PQconninfoFree(known);
	for (size_t i = 0; result == 0 && i < sizeof(defaults) / sizeof(defaults[0]); i++)
		result = set_default(pg, defaults[i].keyword, defaults[i].value);
	return result;
}

/*
 * The next item of a list with commas, which is cut there; NULL if it is empty. *list NULL: at
 * the end.
 */
static const char *
next_item(char **list)
{
	char *item = *list;

	if (item == NULL)
		return NULL;
	*list = strchr(item, ',');
	if (*list != NULL)
		*(*list)++ = '\0';
	return *item != '\0' ? item : NULL;
}

/* One row of hosts[] for each host; a single port is that of all. */
static int
split_hosts(struct postgresql *pg)
{
	static const char *const keywords[] = {"host", "hostaddr", "port"};
	char *rest[3];

	for (int i = 0; i < 3; i++) {
		const char *list = value_of(pg, keywords[i]);
		pg->lists[i] = list == NULL ? NULL : strdup(list);
		if (list != NULL && pg->lists[i] == NULL)
			return -1;
		rest[i] = pg->lists[i];
	}
	do {
		struct postgresql_host *host = &pg->hosts[pg->host_count++];
		host->name = next_item(&rest[0]);
		host->address = next_item(&rest[1]);
		host->port = next_item(&rest[2]);
		if (host->port == NULL && pg->host_count > 1)
			host->port = pg->hosts[pg->host_count - 2].port;
	} while ((rest[0] != NULL || rest[1] != NULL) && pg->host_count < POSTGRESQL_HOSTS);
	return 0;
}

/* A service's file is not read: its hosts would not be tried one by one. Returns 0, or -1. */
static int
refuse_service(const struct postgresql *pg, struct error *error)
{
	if (value_of(pg, "service") == NULL)
		return 0;
	error_set(error, EX_CONFIG, "write host=, user= and dbname= in PSAPI_STORE",
	    "PSAPI_STORE (%s): service= or PGSERVICE names a service, and its file is not read",
	    config_source(pg->config, "PSAPI_STORE"));
	return -1;
}

/* libpq quotes what it cannot read, maybe a part of a password: so its text is not repeated. */
int
postgresql_configure(struct postgresql *pg, struct error *error)
{
	char *why = NULL;

	pg->options = PQconninfoParse(pg->config->store, &why);
	PQfreemem(why);
	if (pg->options == NULL) {
		error_set(error, EX_CONFIG,
		    "compare it with \"Connection Strings\" in PostgreSQL's manual: "
		    "psql takes the same one",
		    "PSAPI_STORE (%s): libpq cannot read it", config_source(pg->config, "PSAPI_STORE"));
		return -1;
	}
	if (value_of(pg, "password") != NULL || value_of(pg, "sslpassword") != NULL) {
		error_set(error, EX_CONFIG, "name a password file with passfile=",
		    "PSAPI_STORE (%s): must hold no password, which others could read",
		    config_source(pg->config, "PSAPI_STORE"));
		return -1;
	}
	if (add_defaults(pg) == 0 && split_hosts(pg) == 0)
		return refuse_service(pg, error);
	error_set(error, EX_OSERR, NULL, "out of memory");
	return -1;
}

void
postgresql_unconfigure(struct postgresql *pg)
{
	PQconninfoFree(pg->options);
	for (int i = 0; i < 3; i++)
		free(pg->lists[i]);
}

const char *
postgresql_host_text(const struct postgresql *pg, int host)
{
	static _Thread_local char texts[4][160];
	static _Thread_local unsigned next;
	const struct postgresql_host *h = &pg->hosts[host];
	char *text = texts[next++ % 4];
	const char *name = h->name != NULL ? h->name : h->address != NULL ? h->address : "local socket";

	snprintf(text, sizeof(texts[0]), "%.120s%s%.20s", name, h->port != NULL ? ":" : "",
	    h->port != NULL ? h->port : "");
	return text;
}

/* ---- parameters and values ---- */

static void
add_parameter(struct postgresql_parameters *p, const char *value, int length, int format)
{
	p->value[p->count] = value;
	p->length[p->count] = length;
	p->format[p->count++] = format;
}

void
postgresql_text(struct postgresql_parameters *p, const char *text)
{
	add_parameter(p, text, 0, 0);
}

void
postgresql_number(struct postgresql_parameters *p, int64_t number)
{
	char *text = p->number[p->count];

	snprintf(text, sizeof(p->number[0]), "%lld", (long long)number);
	add_parameter(p, text, 0, 0);
}

void
postgresql_bytes(struct postgresql_parameters *p, const void *bytes, size_t length)
{
	add_parameter(p, bytes, (int)length, 1);
}

char *
postgresql_number_array(const void *first, size_t count, size_t step)
{
	char *text = malloc(count * 21 + 3);
	size_t n = 1;
	int64_t number;

	if (text == NULL)
		return NULL;
	strcpy(text, "{");
	for (size_t i = 0; i < count; i++) {
		memcpy(&number, (const char *)first + i * step, sizeof(number));
		n += (size_t)sprintf(text + n, "%s%lld", i > 0 ? "," : "", (long long)number);
	}
	strcpy(text + n, "}");
	return text;
}

int64_t
postgresql_integer(const PGresult *result, int row, int column)
{
	return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

int64_t
postgresql_deadline(int64_t milliseconds)
{
	return clock_milliseconds() + milliseconds;
}

/* ---- errors ---- */

/* What the server, or libpq, says, as one line without a newline at its end. */
static void
one_line(char *to, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text != '\0' && n + 2 < size; text++) {
		if (*text == '\n' && text[strspn(text, "\n\t ")] == '\0')
			break;
		to[n++] = *text == '\n' ? ';' : *text == '\t' ? ' ' : *text;
	}
	to[n] = '\0';
}

#define MANY_TAKE "each receiver and drain takes up to 4"
#define START_STANDBY "start a standby: until then each event is answered 503"
#define NO_STANDBY "name all nodes in PSAPI_STORE: this one is a standby"

/*
 * Why no connection was made. The server's own words may be of any language, so its SQLSTATE
 * counts, which is in the text ("FATAL:  28P01: ..."); words are libpq's, or of all languages.
 * final: another try, or another minute, changes nothing.
 */
static const struct {
	const char *code, *words, *remedy;
	bool final;
} refusals[] = {
	{"28P01", NULL,
	    "the password file (passfile=, ~/.pgpass) must have this user's password, mode 0600", true},
	{NULL, "no password supplied",
	    "name a password file with passfile=, mode 0600, of the receiver's user", true},
	{"28000", "pg_hba.conf", "allow this host, user and database in the server's pg_hba.conf",
	    true},
	{"28000", "Peer",
	    "peer takes the user of the same name alone: "
	    "map it in pg_ident.conf, or use a password file", true},
	{"28000", NULL,
	    "the user must exist, and may log in (createuser psapi), by the method of pg_hba.conf",
	    true},
	{"53300", NULL, "raise max_connections, or the CONNECTION LIMIT of the role or database: "
	    MANY_TAKE, false},
	{"3D000", NULL, "create it: createuser psapi, createdb --owner psapi --encoding UTF8 "
	    "--template template0 psapi; then psapi store init", true},
	{"57P03", NULL, "it is starting or stopping: wait", false},
	{NULL, "read-only", NO_STANDBY ", or set read-only", false},
	{NULL, "hot standby", NO_STANDBY, false},
	{NULL, "certificate",
	    "sslrootcert= must name the certificate of the authority that signed the server's",
	    true},
	{NULL, "could not translate host name", "correct the host in PSAPI_STORE, or the resolver; "
	    "with the names in /etc/hosts no resolver is needed", false},
	{NULL, "Connection refused",
	    "is PostgreSQL running there, and does it listen (listen_addresses)?", false},
	{NULL, "No such file",
	    "is PostgreSQL running there, with its socket in this directory?", false},
	{NULL, "no answer", "is it frozen, or is a firewall in the way?", false},
};

/* Whether the server has said so: after its severity. */
static bool
has_code(const char *text, const char *code)
{
	char pattern[16];

	snprintf(pattern, sizeof(pattern), ":  %s: ", code);
	return strstr(text, pattern) != NULL;
}

void
postgresql_refused(const struct postgresql *pg, int host, struct error *error,
    const char *format, ...)
{
	const char *remedy = "psql with the same connection string must work";
	bool final = false;
	char text[600];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		if ((refusals[i].code != NULL && !has_code(text, refusals[i].code)) ||
		    (refusals[i].words != NULL && strstr(text, refusals[i].words) == NULL))
			continue;
		remedy = refusals[i].remedy;
		final = refusals[i].final;
		break;
	}
	error_set(error, final ? EX_CONFIG : EX_TEMPFAIL, remedy, "PostgreSQL at %s: %s",
	    postgresql_host_text(pg, host), text);
}

/* A code of SQLSTATE, or the beginning of one. */
static const struct {
	const char *code;
	enum postgresql_outcome outcome;
	int status;
	const char *remedy;
} codes[] = {
	{"42P01", POSTGRESQL_REFUSED, EX_CONFIG, "make the tables: psapi store init"},
	{"42703", POSTGRESQL_REFUSED, EX_CONFIG,
	    "somebody has changed the tables: psapi-store-postgresql(7) has their columns"},
	{"3F000", POSTGRESQL_REFUSED, EX_CONFIG,
	    "the user's search_path must name a schema: GRANT CREATE ON SCHEMA public TO psapi"},
	{"42501", POSTGRESQL_REFUSED, EX_NOPERM,
	    "the user must own the tables, or have all privileges on them; "
	    "to make them: GRANT CREATE ON SCHEMA public TO psapi"},
	{"53100", POSTGRESQL_REFUSED, POSTGRESQL_FULL, "make room on the database's disk"},
	{"23503", POSTGRESQL_BROKEN, EX_TEMPFAIL, NULL}, /* psapi prune met a replay */
	{"25006", POSTGRESQL_BROKEN, EX_TEMPFAIL, NO_STANDBY ", or is set read-only"},
	{"08", POSTGRESQL_BROKEN, EX_TEMPFAIL, NULL},
	{"40", POSTGRESQL_BROKEN, EX_TEMPFAIL, NULL},
	{"53", POSTGRESQL_BROKEN, EX_TEMPFAIL, "give the database more memory and connections"},
	{"57", POSTGRESQL_BROKEN, EX_TEMPFAIL, NULL},
	{"58", POSTGRESQL_BROKEN, EX_TEMPFAIL, "look at the server's log, and its disk"},
};

enum postgresql_outcome
postgresql_explain(struct postgresql *pg, const struct postgresql_connection *connection,
    const PGresult *result, struct error *error)
{
	const char *code = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *primary = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);
	char text[512];

	one_line(text, sizeof(text), primary != NULL ? primary : PQresultErrorMessage(result));
	if (code == NULL) { /* libpq's own: the connection is broken */
		error_set(error, EX_TEMPFAIL, NULL, "PostgreSQL at %s: %s",
		    postgresql_host_text(pg, connection->host), text);
		return POSTGRESQL_BROKEN;
	}
	for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
		if (strncmp(codes[i].code, code, strlen(codes[i].code)) != 0)
			continue;
		error_set(error, codes[i].status, codes[i].remedy, "PostgreSQL at %s: %s (%s)",
		    postgresql_host_text(pg, connection->host), text, code);
		return codes[i].outcome;
	}
	error_set(error, EX_SOFTWARE, NULL, "PostgreSQL at %s: %s (%s)",
	    postgresql_host_text(pg, connection->host), text, code);
	return POSTGRESQL_REFUSED;
}

/* ---- waiting ---- */

/* Wait for the socket. Returns 1, 0 at the deadline, or -1 with errno. */
static int
wait_socket(const PGconn *pg, short events, int64_t deadline)
{
	struct pollfd fd = {.fd = PQsocket(pg), .events = events};

	for (;;) {
		int64_t left = deadline - clock_milliseconds();
		int ready = poll(&fd, 1, left > 0 ? (int)left : 0);
		if (ready >= 0 || errno != EINTR)
			return ready;
	}
}

static void
broke(struct postgresql *pg, const struct postgresql_connection *connection, struct error *error)
{
	char text[512];

	one_line(text, sizeof(text), PQerrorMessage(connection->pg));
	error_set(error, EX_TEMPFAIL, NULL, "PostgreSQL at %s: %s",
	    postgresql_host_text(pg, connection->host), *text != '\0' ? text : strerror(errno));
}

bool
postgresql_result(struct postgresql *pg, struct postgresql_connection *connection,
    int64_t deadline, PGresult **result, struct error *error)
{
	for (;;) {
		int unsent = PQflush(connection->pg);
		if (unsent < 0)
			break;
		if (unsent == 0 && !PQisBusy(connection->pg)) {
			*result = PQgetResult(connection->pg);
			return true;
		}
		int ready = wait_socket(connection->pg, (short)(unsent > 0 ? POLLIN | POLLOUT : POLLIN),
		    deadline);
		if (ready == 0) {
			error_set(error, EX_TEMPFAIL,
			    "is a synchronous standby connected (psapi store status), or is the host frozen?",
			    "PostgreSQL at %s: no answer in time", postgresql_host_text(pg, connection->host));
			return false;
		}
		if (ready < 0 || PQconsumeInput(connection->pg) == 0)
			break;
	}
	broke(pg, connection, error);
	return false;
}

enum postgresql_outcome
postgresql_execute(struct postgresql *pg, struct postgresql_connection *connection, const char *sql,
    const struct postgresql_parameters *parameters, int64_t deadline, PGresult **result,
    struct error *error)
{
	static const struct postgresql_parameters none = {0};
	const struct postgresql_parameters *p = parameters != NULL ? parameters : &none;
	enum postgresql_outcome outcome = POSTGRESQL_DONE;
	PGresult *next;

	*result = NULL;
	if (PQsendQueryParams(connection->pg, sql, p->count, NULL, p->value, p->length, p->format,
	    1) == 0) {
		broke(pg, connection, error);
		return POSTGRESQL_BROKEN;
	}
	for (;;) {
		if (!postgresql_result(pg, connection, deadline, &next, error)) {
			outcome = POSTGRESQL_BROKEN;
			break;
		}
		if (next == NULL)
			break;
		ExecStatusType status = PQresultStatus(next);
		if (outcome == POSTGRESQL_DONE && status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK)
			outcome = postgresql_explain(pg, connection, next, error);
		PQclear(*result);
		*result = next;
	}
	if (outcome == POSTGRESQL_DONE && *result != NULL)
		return POSTGRESQL_DONE;
	PQclear(*result);
	*result = NULL;
	return outcome == POSTGRESQL_DONE ? POSTGRESQL_BROKEN : outcome;
}

enum postgresql_outcome
postgresql_stream(struct postgresql *pg, struct postgresql_connection *connection, const char *sql,
    const struct postgresql_parameters *p, void (*visit)(const PGresult *row, void *data),
    void *data, struct error *error)
{
	enum postgresql_outcome outcome = POSTGRESQL_DONE;
	PGresult *result;

	if (PQsendQueryParams(connection->pg, sql, p->count, NULL, p->value, p->length, p->format,
	    1) == 0 || PQsetSingleRowMode(connection->pg) == 0) {
		broke(pg, connection, error);
		return POSTGRESQL_BROKEN;
	}
	for (;;) {
		if (!postgresql_result(pg, connection, postgresql_deadline(POSTGRESQL_PATIENCE_MS), &result,
		    error))
			return POSTGRESQL_BROKEN;
		if (result == NULL)
			return outcome;
		if (PQresultStatus(result) == PGRES_SINGLE_TUPLE)
			visit(result, data);
		else if (PQresultStatus(result) != PGRES_TUPLES_OK && outcome == POSTGRESQL_DONE)
			outcome = postgresql_explain(pg, connection, result, error);
		PQclear(result);
	}
}

void
postgresql_roll_back(struct postgresql *pg, struct postgresql_connection *connection,
    int64_t deadline)
{
	struct error ignored;
	PGresult *result = NULL;

	if (PQtransactionStatus(connection->pg) != PQTRANS_IDLE)
		postgresql_execute(pg, connection, "ROLLBACK", NULL, deadline, &result, &ignored);
	PQclear(result);
}

bool
postgresql_unconfirmed(const struct postgresql *pg, const struct postgresql_connection *connection,
    struct error *error)
{
	if (connection->warnings > 0)
		error_set(error, EX_TEMPFAIL,
		    "the wait for the standby was cancelled: look at the server's log",
		    "PostgreSQL at %s: %s", postgresql_host_text(pg, connection->host),
		    connection->warning);
	return connection->warnings > 0;
}

/* ---- connecting ---- */

/*
 * A warning of COMMIT says that the standby has not confirmed, so each one counts. A statement that
 * is a transaction of its own has its warnings counted with those of its commit: there, that few
 * transaction numbers are left (GetNewTransactionId, GetNewMultiXactId) must not count. Its words
 * are of any language, and its SQLSTATE is that of a cancelled wait, 01000.
 */
static void
on_notice(void *data, const PGresult *notice)
{
	struct postgresql_connection *connection = data;
	const char *severity = PQresultErrorField(notice, PG_DIAG_SEVERITY_NONLOCALIZED);
	const char *primary = PQresultErrorField(notice, PG_DIAG_MESSAGE_PRIMARY);
	const char *function = PQresultErrorField(notice, PG_DIAG_SOURCE_FUNCTION);

	if (severity == NULL || strcmp(severity, "WARNING") != 0 ||
	    (function != NULL && strncmp(function, "GetNew", strlen("GetNew")) == 0))
		return;
	connection->warnings++;
	one_line(connection->warning, sizeof(connection->warning),
	    primary != NULL ? primary : "warning");
}

/* Begin to connect to one host; address NULL: the configured one. NULL without memory. */
static PGconn *
start(const struct postgresql *pg, const struct postgresql_connection *connection,
    const char *address)
{
	const struct postgresql_host *host = &pg->hosts[connection->host];
	const char *keywords[OPTIONS_MAX + 1], *values[OPTIONS_MAX + 1];
	int n = 0;

	address = address == NULL ? host->address : address;
	for (const PQconninfoOption *o = pg->options; o->keyword != NULL && n < OPTIONS_MAX - 3; o++) {
		const char *value = strcmp(o->keyword, "host") == 0 ? host->name :
		    strcmp(o->keyword, "hostaddr") == 0             ? address :
		    strcmp(o->keyword, "port") == 0                 ? host->port :
		                                                      o->val;
		if (value == NULL || *value == '\0')
			continue;
		keywords[n] = o->keyword;
		values[n++] = value;
	}
	if (connection->any) { /* the last one of a keyword counts */
		keywords[n] = "target_session_attrs";
		values[n++] = "any";
	}
	keywords[n] = "client_encoding";
	values[n++] = "UTF8";
	keywords[n] = "fallback_application_name";
	values[n++] = pg->receiver ? "psapi-fcgi" : "psapi";
	keywords[n] = NULL;
	return PQconnectStartParams(keywords, values, 0);
}

/* The lines of a text, but for those that end with a place in the server's source, ".c:123". */
static void
copy_without_places(char *to, size_t size, const char *text)
{
	size_t n = 0;

	while (*text != '\0') {
		size_t length = strcspn(text, "\n"), digits = 0;
		while (digits < length && isdigit((unsigned char)text[length - digits - 1]))
			digits++;
		bool place = digits > 0 && length >= digits + 3 &&
		    memcmp(text + length - digits - 3, ".c:", 3) == 0;
		length += text[length] == '\n';
		if (!place && n + length < size) {
			memcpy(to + n, text, length);
			n += length;
		}
		text += length;
	}
	to[n] = '\0';
}

/* With the server's SQLSTATE, by which a remedy is found. Returns 0, or -1 with *error. */
static int
finish_connecting(struct postgresql *pg, struct postgresql_connection *connection, int64_t deadline,
    struct error *error)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	char lines[1200], text[600];

	PQsetErrorVerbosity(connection->pg, PQERRORS_VERBOSE);
	while (PQstatus(connection->pg) != CONNECTION_BAD) {
		if (status == PGRES_POLLING_OK) {
			PQsetErrorVerbosity(connection->pg, PQERRORS_DEFAULT);
			return 0;
		}
		if (status == PGRES_POLLING_FAILED)
			break;
		int ready = wait_socket(connection->pg, status == PGRES_POLLING_READING ? POLLIN : POLLOUT,
		    deadline);
		if (ready <= 0) {
			postgresql_refused(pg, connection->host, error, "no answer in time");
			return -1;
		}
		status = PQconnectPoll(connection->pg);
	}
	copy_without_places(lines, sizeof(lines), PQerrorMessage(connection->pg));
	one_line(text, sizeof(text), lines);
	postgresql_refused(pg, connection->host, error, "%s", text);
	return -1;
}

/*
 * Settings that a promise rests on, whatever role and database say, and a look around. A client
 * that is sent no warnings could not tell a commit that no standby has confirmed.
 */
static const char settle_sql[] =
    "SELECT set_config('client_min_messages', 'warning', false),"
    " set_config('synchronous_commit',"
    " CASE WHEN current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply'"
    " ELSE 'on' END, false),"
    " set_config('default_transaction_isolation', 'read committed', false),"
    " set_config('statement_timeout', '0', false),"
    " set_config('lock_timeout', '0', false),"
    " set_config('idle_in_transaction_session_timeout', '0', false),"
    " set_config('idle_session_timeout', '0', false),"
    " CASE WHEN current_setting('server_version_num')::int >= 170000"
    " THEN set_config('transaction_timeout', '0', false) END,"
    " (current_setting('synchronous_standby_names') <> '')::int::text,"
    " (to_regclass('psapi_meta') IS NOT NULL)::int::text";

static void
warn_of_no_standby(struct postgresql *pg, const struct postgresql_connection *connection)
{
	if (connection->standby_named) {
		atomic_store(&pg->warned, false);
		return;
	}
	if (pg->receiver && !atomic_exchange(&pg->warned, true))
		log_line("PostgreSQL at %s: synchronous_standby_names is empty: a 200 means that an event "
		         "is on that one machine only; psapi doctor says what to set",
		    postgresql_host_text(pg, connection->host));
}

/*
 * A commit without a standby waits until there is one, and its server process with it, also after
 * the deadline: soon no process would be left. So a receiver begins none. Only a standby that
 * confirms counts: a base backup is in the list as well, and is `async`. A user who may not see
 * which ones confirm sees NULL. Returns 0, or -1 with *error.
 */
static int
check_standby(struct postgresql *pg, struct postgresql_connection *connection, int64_t deadline,
    struct error *error)
{
	PGresult *result;

	if (!pg->receiver || !connection->standby_named)
		return 0;
	if (postgresql_execute(pg, connection, "SELECT 1 FROM pg_stat_replication"
	    " WHERE sync_state IN ('sync', 'quorum') OR sync_state IS NULL LIMIT 1", NULL, deadline,
	    &result, error) != POSTGRESQL_DONE)
		return -1;
	int standbys = PQntuples(result);
	PQclear(result);
	if (standbys > 0)
		return 0;
	error_set(error, EX_TEMPFAIL, START_STANDBY,
	    "PostgreSQL at %s: no synchronous standby is connected, and synchronous_standby_names asks "
	    "for one", postgresql_host_text(pg, connection->host));
	return -1;
}

/* Which version the tables are of. Returns 0, or -1 with *error. */
static int
check_format(struct postgresql *pg, struct postgresql_connection *connection, int64_t deadline,
    struct error *error)
{
	PGresult *result;

	if (!connection->has_schema)
		return 0;
	if (postgresql_execute(pg, connection, "SELECT format::text FROM psapi_meta", NULL,
	    deadline, &result, error) != POSTGRESQL_DONE)
		return -1;
	int64_t format = PQntuples(result) > 0 ? postgresql_integer(result, 0, 0) : 0;
	PQclear(result);
	if (format == POSTGRESQL_FORMAT)
		return 0;
	error_set(error, EX_CONFIG, "a later version made them: install that one on each host",
	    "PostgreSQL at %s: the tables have format %lld, this program knows %d",
	    postgresql_host_text(pg, connection->host), (long long)format, POSTGRESQL_FORMAT);
	return -1;
}

/* Returns 0, or -1 with *error. */
static int
settle(struct postgresql *pg, struct postgresql_connection *connection, int64_t deadline,
    struct error *error)
{
	PGresult *result;

	connection->prepared = false;
	connection->warnings = 0;
	PQsetNoticeReceiver(connection->pg, on_notice, connection);
	PQsetnonblocking(connection->pg, 1);
	if (postgresql_execute(pg, connection, settle_sql, NULL, deadline, &result,
	    error) != POSTGRESQL_DONE)
		return -1;
	connection->standby_named = postgresql_integer(result, 0, 8) != 0;
	connection->has_schema = postgresql_integer(result, 0, 9) != 0;
	PQclear(result);
	if (connection->any)
		return 0;
	warn_of_no_standby(pg, connection);
	if (check_standby(pg, connection, deadline, error) != 0)
		return -1;
	return check_format(pg, connection, deadline, error);
}

static void
disconnect(struct postgresql_connection *connection)
{
	PQfinish(connection->pg);
	connection->pg = NULL;
}

/* To one address of its host. */
static int
connect_address(struct postgresql *pg, struct postgresql_connection *connection,
    const char *address, int64_t deadline, struct error *error)
{
	connection->pg = start(pg, connection, address);
	if (connection->pg == NULL)
		error_set(error, EX_OSERR, NULL, "out of memory");
	else if (finish_connecting(pg, connection, deadline, error) == 0 &&
	    settle(pg, connection, deadline, error) == 0)
		return 0;
	disconnect(connection);
	return -1;
}

static int
connect_one(struct postgresql *pg, struct postgresql_connection *connection, int host,
    int64_t deadline, struct error *error)
{
	struct postgresql_addresses addresses;

	connection->host = host;
	if (postgresql_resolver_find(pg, host, deadline, &addresses, error) != 0)
		return -1;
	if (addresses.count == 0)
		return connect_address(pg, connection, NULL, deadline, error);
	for (int i = 0; i < addresses.count; i++) {
		int64_t now = clock_milliseconds(), share = (deadline - now) / (addresses.count - i);
		if (connect_address(pg, connection, addresses.text[i], now + share, error) == 0)
			return 0;
	}
	return -1;
}

/* How much an error tells of why the primary cannot be used. Least: that a host is a standby. */
static int
weight(const struct error *error)
{
	if (strstr(error->remedy, NO_STANDBY) != NULL)
		return 0;
	if (error->status != EX_TEMPFAIL)
		return 3;
	return strcmp(error->remedy, START_STANDBY) == 0 ? 2 : 1;
}

/*
 * Try each host once. Returns 0, or -1 and *best, the error that tells most of this and earlier
 * rounds; *no_standby: a host would do, had it a standby.
 */
static int
try_hosts(struct postgresql *pg, struct postgresql_connection *connection, int64_t deadline,
    struct error *best, bool *no_standby)
{
	struct error each;
	int begin = atomic_load(&pg->preferred);

	*no_standby = false;
	for (int i = 0; i < pg->host_count; i++) {
		int64_t now = clock_milliseconds(), share = (deadline - now) / (pg->host_count - i);
		if (i > 0 && share <= 0)
			break;
		int one = (begin + i) % pg->host_count;
		if (connect_one(pg, connection, one, now + share, &each) == 0) {
			atomic_store(&pg->preferred, one);
			return 0;
		}
		*no_standby |= strcmp(each.remedy, START_STANDBY) == 0;
		if (*best->text == '\0' || weight(&each) > weight(best))
			*best = each;
	}
	return -1;
}

/*
 * To the first host that answers. After a restart of the primary, and after a failover, the
 * standby comes a moment later: so a primary without one is tried again, as all hosts are.
 */
static int
connect_any(struct postgresql *pg, struct postgresql_connection *connection, int64_t deadline,
    struct error *error)
{
	struct error best = {0};
	bool no_standby;

	while (try_hosts(pg, connection, deadline, &best, &no_standby) != 0) {
		if (!no_standby || clock_milliseconds() + 2 * STANDBY_PAUSE_MS >= deadline) {
			*error = best;
			return -1;
		}
		poll(NULL, 0, STANDBY_PAUSE_MS);
	}
	return 0;
}

int
postgresql_connect(struct postgresql *pg, struct postgresql_connection *connection, int host,
    int64_t deadline, struct error *error)
{
	atomic_store(&connection->connected, false);
	int result = host >= 0 ? connect_one(pg, connection, host, deadline, error) :
	    connect_any(pg, connection, deadline, error);
	atomic_store(&connection->connected, result == 0);
	return result;
}

/* ---- the pool ---- */

struct postgresql_connection *
postgresql_idle(struct postgresql *pg)
{
	struct postgresql_connection *found = NULL;

	for (int i = 0; i < POSTGRESQL_CONNECTIONS; i++) {
		struct postgresql_connection *c = &pg->connections[i];
		if (!c->busy && (found == NULL || (found->pg == NULL && c->pg != NULL)))
			found = c;
	}
	return found;
}

bool
postgresql_has_other(const struct postgresql *pg, const struct postgresql_connection *but)
{
	for (int i = 0; i < POSTGRESQL_CONNECTIONS; i++) {
		const struct postgresql_connection *c = &pg->connections[i];
		if (c != but && (c->busy || c->pg != NULL))
			return true;
	}
	return false;
}

/*
 * Wait for one that nobody uses. NULL at the deadline. only_open: for an open one, as long as there
 * may be one.
 */
static struct postgresql_connection *
take_idle(struct postgresql *pg, int64_t deadline, bool only_open)
{
	struct timespec until = {.tv_sec = deadline / 1000, .tv_nsec = deadline % 1000 * 1000000};
	struct postgresql_connection *idle;

	pthread_mutex_lock(&pg->lock);
	for (;;) {
		idle = postgresql_idle(pg);
		if (only_open && idle != NULL && idle->pg == NULL)
			idle = NULL;
		if (idle != NULL || (only_open && !postgresql_has_other(pg, NULL)) ||
		    pthread_cond_timedwait(&pg->changed, &pg->lock, &until) != 0)
			break;
	}
	if (idle != NULL)
		idle->busy = true;
	pthread_mutex_unlock(&pg->lock);
	return idle;
}

/* A further connection that cannot be made is no error: a limit may be reached. */
struct postgresql_connection *
postgresql_take(struct postgresql *pg, int64_t deadline, struct error *error)
{
	struct postgresql_connection *connection = take_idle(pg, deadline, false);

	if (connection == NULL) {
		error_set(error, EX_TEMPFAIL, NULL, "PostgreSQL: all %d connections are busy",
		    POSTGRESQL_CONNECTIONS);
		return NULL;
	}
	if (connection->pg != NULL || postgresql_connect(pg, connection, -1, deadline, error) == 0)
		return connection;
	postgresql_give(pg, connection, false);
	return error->status == EX_TEMPFAIL ? take_idle(pg, deadline, true) : NULL;
}

void
postgresql_leave(struct postgresql *pg, struct postgresql_connection *connection)
{
	int host = connection->host;

	disconnect(connection);
	/* Unless another thread has moved on already. */
	atomic_compare_exchange_strong(&pg->preferred, &host, (host + 1) % pg->host_count);
}

void
postgresql_give(struct postgresql *pg, struct postgresql_connection *connection, bool broken)
{
	if (broken || (connection->pg != NULL && PQtransactionStatus(connection->pg) != PQTRANS_IDLE))
		postgresql_leave(pg, connection);
	pthread_mutex_lock(&pg->lock);
	connection->busy = false;
	postgresql_put_next(pg);
	pthread_cond_broadcast(&pg->changed);
	pthread_mutex_unlock(&pg->lock);
}
