/*
 * PostgreSQL as the store, for several hosts: what its modules share. Others see store.h.
 *
 * A 200 means: committed on the primary and on a synchronous standby. So an accept is good only
 * if its COMMIT is answered without an error and without a warning: a commit whose wait for
 * the standby was cancelled is visible, and is only a warning. A result that is not known,
 * for the deadline passed or the connection broke, is a failure: the sender's retry finds
 * `duplicate`, or stores the event. No statement_timeout and no cancel is ever used.
 *
 * The tables are in schema.c. All times that hosts compare are the database's.
 */
#ifndef PSAPI_POSTGRESQL_H
#define PSAPI_POSTGRESQL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sysexits.h>

#include <libpq-fe.h>

#include "store/backend.h"

/* error.status where the database's disk is full, and nowhere else. */
#define POSTGRESQL_FULL EX_IOERR
/* psapi_meta.format: the tables' version. */
#define POSTGRESQL_FORMAT 1
/* All tables. */
#define POSTGRESQL_TABLES \
	"ARRAY['psapi_event', 'psapi_queue', 'psapi_lane', 'psapi_attempt', 'psapi_meta'," \
	" 'psapi_roster']"

enum {
	POSTGRESQL_CONNECTIONS = 4, /* of a process at most */
	POSTGRESQL_HOSTS = 16,
	POSTGRESQL_ADDRESSES = 8,      /* of a host */
	POSTGRESQL_ACCEPT_MS = 4000,   /* the sender waits 5 s for the answer */
	POSTGRESQL_PATIENCE_MS = 30000, /* of drains and commands, for an answer */
	POSTGRESQL_BATCH = 1000 /* rows that one statement of a command changes */
};

struct postgresql_connection {
	PGconn *pg; /* NULL: not connected */
	int host;   /* index of the one that it is connected to */
	bool busy;  /* a thread has it */
	atomic_bool connected; /* while it is busy: it is open, not still being opened */
	bool prepared;     /* accept.c's statement */
	bool standby_named; /* synchronous_standby_names was not empty when it connected */
	bool has_schema;   /* our tables are there */
	bool any;          /* to a host of any role, with tables of any format: to see what it is */
	unsigned warnings; /* of the server since this was last set to 0 */
	char warning[256]; /* the last one */
};

struct postgresql_host {
	/* host, hostaddr and port of a connection string; NULL: not given */
	const char *name, *address, *port;
};

struct postgresql_lookup;
struct postgresql_put;
struct postgresql_copies;

struct postgresql {
	const struct config *config; /* borrowed */
	bool receiver;
	bool patient; /* it is a drain: what it does is tried again until a failover is over */
	char owner[128]; /* of leases: host, process, start */
	char computer[65]; /* this host's name */

	PQconninfoOption *options; /* of PSAPI_STORE, and libpq's defaults */
	char *lists[3];            /* which hosts[] points into */
	struct postgresql_host hosts[POSTGRESQL_HOSTS];
	int host_count;
	struct postgresql_lookup *lookups[POSTGRESQL_HOSTS]; /* resolver.c; NULL: not yet */
	atomic_int preferred; /* index of the host that answered last */
	atomic_bool warned;   /* that no standby is synchronous */

	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed; /* a connection is idle */
	pthread_condattr_t monotonic;
	struct postgresql_connection connections[POSTGRESQL_CONNECTIONS];
	struct postgresql_put *first, **last; /* waiting accepts */
	int connecting;     /* threads that open a connection for accepts */
	int64_t connect_at; /* when the next further one may be opened, clock_milliseconds() */

	struct postgresql_copies *copies; /* attempts.c */
	char *directory;                  /* queue.c: files for handlers; NULL: not made yet */
	int directory_lock;
	struct postgresql_connection *importing; /* import.c */
	size_t batch, imported;
};

/* Parameters of a statement, $1 and so on. Texts are borrowed. */
struct postgresql_parameters {
	int count;
	const char *value[20];
	int length[20], format[20];
	char number[20][24];
};

void postgresql_text(struct postgresql_parameters *parameters, const char *text);
void postgresql_number(struct postgresql_parameters *parameters, int64_t number);
void postgresql_bytes(struct postgresql_parameters *parameters, const void *bytes, size_t length);

/* ---- connection.c ---- */

/*
 * An array of count 64-bit numbers as PostgreSQL writes it, which the caller frees: the first is at
 * first, each other one step bytes later. NULL without memory.
 */
char *postgresql_number_array(const void *first, size_t count, size_t step);

/* Read PSAPI_STORE. Returns 0, or -1 with *error. */
int postgresql_configure(struct postgresql *pg, struct error *error);
void postgresql_unconfigure(struct postgresql *pg);

/* "db1:5432", for messages. One of 4 static buffers of the thread. */
const char *postgresql_host_text(const struct postgresql *pg, int host);

/*
 * The error of a connection to a host that was not made: the remedy is found by the text's SQLSTATE
 * or words.
 */
void postgresql_refused(const struct postgresql *pg, int host, struct error *error,
    const char *format, ...) __attribute__((format(printf, 4, 5)));

/*
 * A connection of our own, made if need be until deadline (clock_milliseconds()); NULL with
 * *error. After use: postgresql_give().
 */
struct postgresql_connection *postgresql_take(struct postgresql *pg, int64_t deadline,
    struct error *error);
/*
 * Connect one that is ours to one host, or to the first that answers (host < 0). Returns 0, or
 * -1 with *error.
 */
int postgresql_connect(struct postgresql *pg, struct postgresql_connection *connection, int host,
    int64_t deadline, struct error *error);
/* An idle connection, an open one if there is one; NULL: all are busy. With the lock held. */
struct postgresql_connection *postgresql_idle(struct postgresql *pg);
/* Whether another than this one is open, or a thread opens it. With the lock held. */
bool postgresql_has_other(const struct postgresql *pg, const struct postgresql_connection *but);
/* Close one that is ours and broken; the next host is tried first. */
void postgresql_leave(struct postgresql *pg, struct postgresql_connection *connection);
/*
 * Give it back; broken: leave it as well. So is done with one that libpq knows to be broken, or
 * whose transaction has not ended.
 */
void postgresql_give(struct postgresql *pg, struct postgresql_connection *connection, bool broken);

/*
 * Wait for the next result of what was sent. Returns false with *error if the connection broke
 * or the deadline passed; then it can only be given back as broken. *result as PQgetResult(3).
 */
bool postgresql_result(struct postgresql *pg, struct postgresql_connection *connection,
    int64_t deadline, PGresult **result, struct error *error);

/* What a statement did. */
enum postgresql_outcome {
	POSTGRESQL_DONE,
	POSTGRESQL_REFUSED, /* the server says no, and would again */
	POSTGRESQL_BROKEN   /* of the connection or the server: another try may work */
};

/*
 * Explain what the server refused. Returns whether another try, or another host, may do it.
 */
enum postgresql_outcome postgresql_explain(struct postgresql *pg,
    const struct postgresql_connection *connection, const PGresult *result, struct error *error);

/*
 * One statement on a connection; all values of its result are text, but for those of type bytea.
 * POSTGRESQL_DONE: the caller clears *result.
 */
enum postgresql_outcome postgresql_execute(struct postgresql *pg,
    struct postgresql_connection *connection, const char *sql,
    const struct postgresql_parameters *parameters, int64_t deadline, PGresult **result,
    struct error *error);

/* The same for many rows: visit gets them one by one, in row 0 of a result that is not its own. */
enum postgresql_outcome postgresql_stream(struct postgresql *pg,
    struct postgresql_connection *connection, const char *sql,
    const struct postgresql_parameters *parameters, void (*visit)(const PGresult *row, void *data),
    void *data, struct error *error);

/* A transaction that failed is still open. */
void postgresql_roll_back(struct postgresql *pg, struct postgresql_connection *connection,
    int64_t deadline);

/*
 * Whether a COMMIT came with a warning since warnings was set to 0, just before it; the warning is
 * *error then.
 */
bool postgresql_unconfirmed(const struct postgresql *pg,
    const struct postgresql_connection *connection, struct error *error);

/* clock_milliseconds() that many from now. */
int64_t postgresql_deadline(int64_t milliseconds);

/* A value of a result. NULL is 0, "". */
int64_t postgresql_integer(const PGresult *result, int row, int column);

/* ---- repeat.c ---- */

/*
 * One statement on any connection, tried again for some seconds if it broke, by a drain until the
 * deadline: for statements that give the same answer when they are done twice. Returns the result,
 * which the caller clears, or NULL with *error.
 */
PGresult *postgresql_run(struct postgresql *pg, const char *sql,
    const struct postgresql_parameters *parameters, int64_t deadline, struct error *error);

/*
 * The same for a statement that finds out by itself whether an earlier try of it is committed.
 * *unsure: one may be. A commit that no standby has confirmed is tried again, too.
 */
PGresult *postgresql_run_outcome(struct postgresql *pg, const char *sql,
    const struct postgresql_parameters *parameters, int64_t deadline, bool *unsure,
    struct error *error);

/*
 * The same in a transaction, for a statement that returns the rows that it changes, with a key in
 * their first column. The result has also the rows of tries of which nobody knows whether they are
 * committed, for a later try does not find these rows again if they are. A standby has all of it.
 */
PGresult *postgresql_run_change(struct postgresql *pg, const char *sql,
    const struct postgresql_parameters *parameters, int64_t deadline, struct error *error);

/* Whether a row has that key in its first column. */
bool postgresql_has_row(const PGresult *result, const char *key);

/* ---- resolver.c ---- */

struct postgresql_addresses {
	int count; /* 0: libpq has nothing to look up */
	char text[POSTGRESQL_ADDRESSES][64];
};

/*
 * Look the name of a host up, until the deadline at the latest. Returns 0, or -1 with *error.
 */
int postgresql_resolver_find(struct postgresql *pg, int host, int64_t deadline,
    struct postgresql_addresses *addresses, struct error *error);
/* Look-ups that still wait for the resolver end by themselves. */
void postgresql_resolver_close(struct postgresql *pg);

/* ---- the operations, by the file that has them ---- */

/* accept.c */
enum store_result postgresql_find(void *engine, const char *name, struct error *error);
enum store_result postgresql_put(void *engine, const struct store_intake *intake,
    struct error *error);
void postgresql_put_next(struct postgresql *pg);
bool postgresql_is_full(void *engine, long long min_free);
bool postgresql_is_empty(void *engine);
enum store_result postgresql_probe(void *engine, struct error *error);

/* queue.c */
enum store_result postgresql_work_begin(void *engine, bool wait, struct error *error);
void postgresql_work_end(void *engine);
enum store_result postgresql_recover(void *engine, long *committed, struct error *error);
enum store_result postgresql_pending(void *engine, struct store_pending *pending,
    struct error *error);
enum store_result postgresql_claim(void *engine, uint64_t lane, struct error *error);
enum store_result postgresql_renew(void *engine, uint64_t lane, struct error *error);
void postgresql_release(void *engine, uint64_t lane);
enum store_result postgresql_load(void *engine, const char *name, struct store_work *work,
    struct error *error);
void postgresql_unload(void *engine, struct store_work *work);
enum store_result postgresql_done(void *engine, struct store_work *work, struct error *error);
enum store_result postgresql_later(void *engine, struct store_work *work,
    const struct handler_state *state, struct error *error);
enum store_result postgresql_fail(void *engine, struct store_work *work,
    const struct handler_state *state, struct error *error);
void postgresql_queue_close(struct postgresql *pg);

/* Begins a statement: synchronous_commit is off for this transaction alone. */
#define POSTGRESQL_WITHOUT_WAIT \
	"WITH s AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true)) "
/* The end of a lease that begins now. */
#define POSTGRESQL_LEASE "clock_timestamp() + interval '30 seconds'"

/* Log that an event's outcome does not count. */
void postgresql_report_lost(const struct store_work *work);
/* One event of row, its columns from column on: name, due, record, state. */
enum store_result postgresql_load_row(struct postgresql *pg, const PGresult *result, int row,
    int column, const char *name, struct store_work *work, struct error *error);

/* batch.c */
enum store_result postgresql_claim_many(void *engine, const uint64_t *lanes, size_t count,
    enum store_result *results, struct error *error);
enum store_result postgresql_renew_many(void *engine, const uint64_t *lanes, size_t count,
    enum store_result *results, struct error *error);
void postgresql_release_many(void *engine, const uint64_t *lanes, size_t count);
enum store_result postgresql_load_many(void *engine, const char *const *names,
    struct store_work *const *works, size_t count, enum store_result *results,
    struct error *error);
enum store_result postgresql_done_many(void *engine, struct store_work *const *works,
    size_t count, enum store_result *results, struct error *error);

/* operator.c */
enum store_result postgresql_each(void *engine, const struct store_filter *filter,
    int (*visit)(const struct store_item *item, void *data), void *data, struct error *error);
enum store_result postgresql_lookup(void *engine, const char *id, char name[STORE_NAME_SIZE],
    struct error *error);
enum store_result postgresql_get(void *engine, const char *name, struct store_item *item,
    struct error *error);
enum store_result postgresql_count(void *engine, int64_t now, struct store_counts *counts,
    struct error *error);
/* The columns from column on that operator.c's and queue.c's statements have of a state. */
#define POSTGRESQL_STATE \
	"q.tries::text, extract(epoch FROM q.tried_at)::bigint::text, " \
	"extract(epoch FROM q.due_at)::bigint::text, extract(epoch FROM q.failed_at)::bigint::text, " \
	"q.handler, q.reason, q.stderr_end, q.alone::int::text"
enum { POSTGRESQL_STATE_COLUMNS = 8 };
/*
 * The first three columns of an event: name, status, record; q is its row of psapi_queue, if any.
 */
#define POSTGRESQL_STATUS \
	"(CASE WHEN q.name IS NULL THEN 3 WHEN q.failed_at IS NOT NULL THEN 2" \
	" WHEN q.tries > 0 THEN 1 ELSE 0 END)"
#define POSTGRESQL_ITEM "e.name, " POSTGRESQL_STATUS "::text, e.record, " POSTGRESQL_STATE
/* Read such a row. Returns why it is no event, or NULL: then the caller frees item->entry. */
const char *postgresql_item(const PGresult *result, int row, struct store_item *item);
void postgresql_state(const PGresult *result, int row, int column, struct handler_state *state);
/* Parse a value that is a record. Returns NULL, or what is wrong: also postgresql_no_memory. */
extern const char postgresql_no_memory[];
const char *postgresql_record(const PGresult *result, int row, int column, struct entry *entry);

/* move.c */
/*
 * An array of names as PostgreSQL writes it, which the caller frees: no name needs a quote. NULL
 * without memory.
 */
char *postgresql_name_array(const char *const *names, size_t count);
enum store_result postgresql_retry(void *engine, const char *const *names, size_t count,
    size_t *moved, struct error *error);
enum store_result postgresql_replay(void *engine, const char *const *names, size_t count,
    size_t *moved, struct error *error);
enum store_result postgresql_unknown(void *engine, const char *const *names, size_t count,
    size_t *unknown, struct error *error);
enum store_result postgresql_finish(void *engine, const char *name, struct error *error);

/* forget.c */
enum store_result postgresql_forget(void *engine, struct store_forgetting *forgetting,
    struct error *error);

/* roster.c */
enum store_result postgresql_roster(void *engine, int64_t at, struct roster *roster,
    struct error *error);
enum store_result postgresql_forgotten(void *engine, struct roster *roster, struct error *error);
enum store_result postgresql_import_forgotten(void *engine, const struct roster *roster,
    struct error *error);
/* Of psapi_event: roster_counts(). */
#define POSTGRESQL_COUNTS \
	"type IN ('" ROSTER_ACTIVATED "', '" ROSTER_DEACTIVATED "') AND npn ~ '^[0-9]{1,20}$'"
/* What is one row of psapi_roster: an NPN and a time; of the NPN '', the NPN alone. */
#define POSTGRESQL_ROSTER_KEY "(npn, (CASE WHEN npn = '' THEN 0 ELSE when_ns END))"
/* Around a query for such rows, each once: active stays, of the NPN '' the later time. */
#define POSTGRESQL_KEEP "INSERT INTO psapi_roster (npn, when_ns, active) "
#define POSTGRESQL_KEPT \
	" ON CONFLICT " POSTGRESQL_ROSTER_KEY " DO UPDATE SET when_ns = excluded.when_ns," \
	" active = excluded.active" \
	" WHERE (excluded.when_ns, excluded.active) > (psapi_roster.when_ns, psapi_roster.active)"

/* schema.c */
enum store_result postgresql_init(void *engine, bool *made, struct error *error);

/* status.c */
void postgresql_describe(void *engine, char *text, size_t size);
enum store_result postgresql_check(void *engine,
    void (*visit)(const struct store_check *, void *), void *data, struct error *error);
char *postgresql_status(void *engine, struct error *error);

/* import.c */
enum store_result postgresql_import(void *engine, const struct store_item *item,
    struct error *error);
enum store_result postgresql_import_end(void *engine, size_t *imported, struct error *error);

/* attempts.c */
void postgresql_attempt(void *engine, int64_t at, const char *line, size_t length);
void postgresql_attempts_send(void *engine);
enum store_result postgresql_attempts(void *engine, struct store_attempts *query,
    struct error *error);
int postgresql_attempts_open(struct postgresql *pg);
void postgresql_attempts_close(struct postgresql *pg);

/* page.c */
enum store_result postgresql_page(void *engine, struct store_page *page, struct error *error);
enum store_result postgresql_tally(void *engine, int64_t now, int budget_ms,
    struct store_tally *tally, struct error *error);
enum store_result postgresql_attempts_page(void *engine, struct store_attempts_page *page,
    struct error *error);

/* network.c */
void postgresql_network(void *engine, struct store_network *network);

/* backend.c: the one symbol that the module exports. */
const struct backend *postgresql_backend(void);

#endif
