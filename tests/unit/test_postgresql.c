/*
 * Owns what store.h promises, over PostgreSQL: each operation on a real server, and then each of
 * them while the connection dies, libpq fails, or memory is missing, at its nth call. The calls
 * are counted by the functions below, which the module finds before the libraries'. Without
 * PostgreSQL all is skipped.
 */
#include "helpers.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <time.h>

#include "base/clock.h"
#include "events.h"
#include "store/store.h"

/* ---- faults by count ---- */

enum fault { NONE, CUT, REFUSE, DEAF, UNCONNECTED, MEMORY };

static struct plan {
	_Atomic enum fault fault; /* threads read it */
	int at;
	int calls;
} plan;

/*
 * CUT: the connection dies just before this call. REFUSE: the call fails. DEAF: so does this call
 * of those that read: the server has answered, and nobody knows what. UNCONNECTED: no connection is
 * made any more. Returns whether it must.
 */
static bool
enters(int (*socket_of)(const void *), const void *connection, const char *name)
{
	if (plan.fault == UNCONNECTED)
		return strcmp(name, "PQconnectPoll") == 0;
	if (plan.fault == NONE || plan.fault == MEMORY ||
	    (plan.fault == DEAF && strcmp(name, "PQconsumeInput") != 0) || ++plan.calls != plan.at)
		return false;
	if (plan.fault == CUT && connection != NULL)
		shutdown(socket_of(connection), SHUT_RDWR);
	return plan.fault != CUT;
}

/* Another library than the test's own is loaded only with the module: found when it is called. */
static void *
real(const char *name)
{
	void *function = dlsym(RTLD_NEXT, name);

	if (function == NULL) {
		static void *library;
		if (library == NULL)
			library = dlopen("libpq.so.5", RTLD_NOW | RTLD_NOLOAD);
		function = dlsym(library, name);
	}
	assert_non_null(function);
	return function;
}

static int
socket_of(const void *connection)
{
	int (*function)(const void *);
	void *symbol = real("PQsocket");

	memcpy(&function, &symbol, sizeof(function));
	return function(connection);
}

#define WRAP(type, name, parameters, arguments, refused)                                           \
	type name parameters;                                                                          \
	type name parameters                                                                           \
	{                                                                                              \
		type(*function) parameters;                                                                \
		void *symbol = real(#name);                                                                \
		if (enters(socket_of, c, #name))                                                           \
			return refused;                                                                        \
		memcpy(&function, &symbol, sizeof(function));                                              \
		return function arguments;                                                                 \
	}

WRAP(int, PQsendQueryParams,
    (void *c, const char *sql, int n, const unsigned *t, const char *const *v, const int *l,
        const int *f, int r),
    (c, sql, n, t, v, l, f, r), 0)
WRAP(int, PQsendQueryPrepared,
    (void *c, const char *name, int n, const char *const *v, const int *l, const int *f, int r),
    (c, name, n, v, l, f, r), 0)
WRAP(int, PQsendPrepare, (void *c, const char *name, const char *sql, int n, const unsigned *t),
    (c, name, sql, n, t), 0)
WRAP(int, PQenterPipelineMode, (void *c), (c), 0)
WRAP(int, PQexitPipelineMode, (void *c), (c), 0)
WRAP(int, PQpipelineSync, (void *c), (c), 0)
WRAP(int, PQsetSingleRowMode, (void *c), (c), 0)
WRAP(int, PQflush, (void *c), (c), -1)
WRAP(int, PQconsumeInput, (void *c), (c), 0)
WRAP(int, PQconnectPoll, (void *c), (c), 0 /* PGRES_POLLING_FAILED */)

/* If it is set, all warnings are of this function of the server. */
static const char *warning_from;

char *PQresultErrorField(const void *c, int field);
char *
PQresultErrorField(const void *c, int field)
{
	char *(*function)(const void *, int);
	void *symbol = real("PQresultErrorField");

	if (field == 'R' && warning_from != NULL)
		return (char *)(uintptr_t)warning_from;
	memcpy(&function, &symbol, sizeof(function));
	return function(c, field);
}

/* ---- the nth allocation fails: of the module, of libpq, and of libc for them ---- */

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { OWN_ALLOCATOR = false };
#else
enum { OWN_ALLOCATOR = true };

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

/* Not those of the program itself: missing memory for JSON ends it, as it should. */
static bool
no_memory(const void *caller)
{
	Dl_info from;

	if (plan.fault != MEMORY || dladdr(caller, &from) == 0 ||
	    (strstr(from.dli_fname, "/libpq.so") == NULL &&
	        strstr(from.dli_fname, "/libc.so") == NULL &&
	        strstr(from.dli_fname, "/psapi-fcgi-postgresql.so") == NULL) ||
	    ++plan.calls != plan.at)
		return false;
	errno = ENOMEM;
	return true;
}

void *
malloc(size_t size)
{
	return no_memory(__builtin_return_address(0)) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
	return no_memory(__builtin_return_address(0)) ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
	return no_memory(__builtin_return_address(0)) ? NULL : __libc_realloc(old, size);
}
#endif

/* ---- the server, and stores over it ---- */

static char *uri; /* NULL: there is no server */
static const char *place;

struct host {
	struct store *store;
	struct config config;
};

static int
start_server(void **state)
{
	char line[600] = "", command[600];

	(void)state;
	place = strdup("/tmp/psapi-unit-pg-XXXXXX");
	assert_non_null(mkdtemp((char *)(uintptr_t)place));
	chmod(place, 0755);
	snprintf(command, sizeof(command), "tests/unit/postgresql.sh start %s/pg", place);
	FILE *script = popen(command, "re");
	if (script != NULL && fgets(line, sizeof(line), script) != NULL) {
		line[strcspn(line, "\n")] = '\0';
		uri = strdup(line);
	}
	if (script != NULL)
		pclose(script);
	if (uri == NULL)
		fprintf(stderr, "PostgreSQL is not installed (make deps-check): skipped\n");
	return 0;
}

static int
stop_server(void **state)
{
	char command[600];

	(void)state;
	snprintf(command, sizeof(command), "%s%s%s rm -rf %s", uri != NULL ?
	    "tests/unit/postgresql.sh stop " : "",
	    uri != NULL ? place : "", uri != NULL ? "/pg;" : "", place);
	return system(command);
}

static void
host_open(struct host *h, const char *name)
{
	struct error error;
	bool made;

	memset(h, 0, sizeof(*h));
	h->config.spool = strdup(in(place, name));
	mkdir(h->config.spool, 0770);
	h->config.sync = strdup("auto");
	h->config.store = strdup(uri);
	h->store = store_open(&h->config, false, &error);
	if (h->store == NULL)
		fail_msg("%s", error.text);
	if (store_init(h->store, &made, &error) != STORE_OK)
		fail_msg("%s", error.text);
}

static void
host_close(struct host *h)
{
	store_close(h->store);
	config_free(&h->config);
}

/* Two hosts, with nothing in the tables. */
static struct host one, two;

static void
empty_tables(void)
{
	char command[800];

	snprintf(command, sizeof(command),
	    "psql -qX '%s' -c 'TRUNCATE psapi_event, psapi_queue, psapi_lane, "
	         "psapi_attempt, psapi_roster'", uri);
	assert_int_equal(system(command), 0);
}

static void
sql(const char *statement)
{
	char command[2000];

	snprintf(command, sizeof(command), "psql -qX -v ON_ERROR_STOP=1 '%s' <<'END'\n%s\nEND", uri,
	    statement);
	assert_int_equal(system(command), 0);
}

static int
setup(void **state)
{
	(void)state;
	plan.fault = NONE;
	if (uri == NULL)
		return 0;
	host_open(&one, "one");
	host_open(&two, "two");
	empty_tables();
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	plan.fault = NONE;
	if (uri == NULL)
		return 0;
	host_close(&one);
	host_close(&two);
	return 0;
}

#define NEEDS_SERVER if (uri == NULL) skip()

/* ---- events ---- */

/* Of the thread's last put. */
static _Thread_local struct error put_error;

/* Put an event that is received at 1000 + second. */
static enum store_result
put_body(struct host *h, const char *id, const char *body, int second,
    enum store_destination destination)
{
	char name[STORE_NAME_SIZE];
	struct evidence evidence = {.id = id, .id_length = strlen(id), .timestamp = "1",
		.timestamp_length = 1, .signature = "v1,x", .signature_length = 4,
		    .received_at = {1000 + second, 0}};
	struct record record;
	struct event event;
	struct store_intake intake = {.name = name, .destination = destination, .reason = "odd",
		.now = {1000 + second, 0}, .event = &event, .record = &record};

	put_error = (struct error){.text = ""};
	events_read(body, strlen(body), &event);
	assert_int_equal(store_name(id, strlen(id), name), 0);
	assert_int_equal(record_make(&record, &evidence, body, strlen(body), true), 0);
	enum store_result result = store_put(h->store, &intake, &put_error);
	record_free(&record);
	if (result == STORE_FAILED)
		assert_string_not_equal(put_error.text, "");
	return result;
}

/* Put an event of that NPN and second. */
static enum store_result
put(struct host *h, const char *id, const char *npn, int second, enum store_destination destination)
{
	char body[300];

	snprintf(body, sizeof(body),
	    "{\"data\":{\"npn\":\"%s\",\"activatedAt\":\"2025-01-01T00:00:00Z\"},"
	    "\"id\":\"e\",\"timestamp\":\"2025-01-01T00:00:%02dZ\","
	    "\"type\":\"producersync.npn.activated\"}",
	    npn, second);
	return put_body(h, id, body, second, destination);
}

struct list {
	char text[1000];
	uint64_t lane;
	int64_t due;
};

static int
add_waiting(const struct store_waiting *waiting, void *data)
{
	struct list *list = data;

	snprintf(list->text + strlen(list->text), sizeof(list->text) - strlen(list->text), "%s ",
	    waiting->name);
	list->lane = waiting->lane;
	list->due = waiting->due;
	return 0;
}

/* The names that wait, in no order, and the lane and time of the last one. */
static struct list
pending(struct host *h)
{
	struct list list = {.text = ""};
	struct store_pending p = {.now = clock_unix(), .visit = add_waiting, .data = &list};
	struct error error;

	assert_int_equal(store_pending(h->store, &p, &error), STORE_OK);
	return list;
}

static int
add_item(const struct store_item *item, void *data)
{
	struct list *list = data;

	snprintf(list->text + strlen(list->text), sizeof(list->text) - strlen(list->text), "%.*s:%s ",
	    (int)strlen(item->name) - 5, item->name, store_status_text(item->status));
	return 0;
}

static struct list
listed(struct host *h, const struct store_filter *filter)
{
	struct list list = {.text = ""};
	struct error error;

	assert_int_equal(store_each(h->store, filter, add_item, &list, &error), STORE_OK);
	return list;
}

static const struct store_filter all;
static const struct handler_state retry_state = {.tries = 1, .tried_at = 100, .due_at = 160,
	.handler = "/h", .reason = "exit status 75", .stderr_end = "busy"};
static const struct handler_state dead_state = {.tries = 2, .tried_at = 100, .failed_at = 100,
	.handler = "/h", .reason = "exit status 1"};

/* Claim its lane, and load it. */
static enum store_result
take(struct host *h, const char *name, uint64_t lane, struct store_work *work)
{
	struct error error;
	enum store_result claimed = store_claim(h->store, lane, &error);

	return claimed == STORE_OK ? store_load(h->store, name, work, &error) : claimed;
}

/* ---- what each operation does ---- */

TEST(an_event_is_queued_once_wherever_it_comes)
{
	NEEDS_SERVER;
	assert_int_equal(put(&one, "a", "1", 1, STORE_QUEUE), STORE_OK);
	assert_int_equal(put(&two, "a", "1", 1, STORE_QUEUE), STORE_DUPLICATE);
	assert_int_equal(put(&two, "b", "1", 2, STORE_DEAD_LETTER), STORE_OK);
	assert_int_equal(put(&one, "c", "1", 3, STORE_ARCHIVE), STORE_OK);
	assert_string_equal(listed(&one, &all).text, "a:new b:failed c:handled ");
	assert_string_equal(pending(&two).text, "a.json ");
}

TEST(what_is_read_back_is_what_was_put)
{
	struct store_item item;
	struct error error;
	char name[STORE_NAME_SIZE];

	NEEDS_SERVER;
	assert_int_equal(put(&one, "m/1", "77", 1, STORE_DEAD_LETTER), STORE_OK);
	assert_int_equal(store_lookup(two.store, "m/1", name, &error), STORE_OK);
	assert_int_equal(store_get(two.store, name, &item, &error), STORE_OK);
	assert_string_equal(item.entry.id, "m/1");
	assert_string_equal(item.entry.event.npn, "77");
	assert_string_equal(item.state.reason, "odd");
	assert_int_not_equal(item.state.failed_at, 0);
	entry_free(&item.entry);
	assert_int_equal(store_lookup(two.store, "none", name, &error), STORE_ABSENT);
}

TEST(a_lane_is_one_drains_and_its_earliest_event_comes_first)
{
	struct store_work work;
	struct error error;

	NEEDS_SERVER;
	assert_int_equal(put(&one, "b", "1", 2, STORE_QUEUE), STORE_OK);
	uint64_t lane = pending(&one).lane;
	assert_int_equal(take(&one, "b.json", lane, &work), STORE_OK);
	assert_int_equal(store_claim(two.store, lane, &error), STORE_BUSY);
	/* An earlier event arrives while the handler of the other runs. */
	assert_int_equal(put(&two, "a", "1", 1, STORE_QUEUE), STORE_OK);
	assert_true(exists(work.path));
	assert_int_equal(store_later(one.store, &work, &retry_state, &error), STORE_OK);
	store_unload(one.store, &work);
	assert_false(exists(work.path));
	store_release(one.store, lane);
	assert_int_equal(take(&two, "b.json", lane, &work), STORE_BUSY);
	assert_int_equal(store_load(two.store, "a.json", &work, &error), STORE_OK);
	assert_int_equal(store_done(two.store, &work, &error), STORE_OK);
	store_unload(two.store, &work);
	assert_int_equal(store_load(two.store, "a.json", &work, &error), STORE_ABSENT);
	assert_int_equal(store_load(two.store, "b.json", &work, &error), STORE_BUSY); /* not due */
	struct list left = pending(&two);
	assert_string_equal(left.text, "b.json ");
	assert_in_range(left.due - clock_unix(), 55, 62);
}

TEST(an_outcome_counts_only_while_the_lane_is_ours)
{
	struct store_work work, other;
	struct error error;

	NEEDS_SERVER;
	assert_int_equal(put(&one, "a", "1", 1, STORE_QUEUE), STORE_OK);
	uint64_t lane = pending(&one).lane;
	assert_int_equal(take(&one, "a.json", lane, &work), STORE_OK);
	assert_int_equal(store_renew(one.store, lane, &error), STORE_OK);
	sql("UPDATE psapi_lane SET until = now()");
	assert_int_equal(take(&two, "a.json", lane, &other), STORE_OK);
	assert_int_equal(store_renew(one.store, lane, &error), STORE_ABSENT);
	assert_int_equal(store_done(one.store, &work, &error), STORE_ABSENT);
	assert_int_equal(store_later(one.store, &work, &retry_state, &error), STORE_ABSENT);
	assert_int_equal(store_fail(one.store, &work, &dead_state, &error), STORE_ABSENT);
	store_unload(one.store, &work);
	store_release(one.store, lane); /* not ours: the other keeps it */
	assert_int_equal(store_fail(two.store, &other, &dead_state, &error), STORE_OK);
	store_unload(two.store, &other);
	assert_string_equal(listed(&one, &all).text, "a:failed ");
}

/* Results of many calls as letters: ok, busy, absent. */
static const char *
letters(const enum store_result *results, size_t count)
{
	static char text[16];

	for (size_t i = 0; i < count; i++)
		text[i] = results[i] == STORE_OK ? 'o' : results[i] == STORE_BUSY ? 'b' : 'a';
	text[count] = '\0';
	return text;
}

TEST(many_at_once_are_as_one_by_one)
{
	static struct store_work works[5];
	struct store_work *const each[] = {&works[0], &works[1], &works[2], &works[3], &works[4]};
	static const char *const names[] = {"a.json", "b.json", "c.json", "d.json", "none.json"};
	enum store_result results[5];
	uint64_t lanes[5];
	struct error error;

	NEEDS_SERVER;
	for (int i = 0; i < 4; i++) {
		char npn[2] = {(char)('1' + i), '\0'}, id[2] = {(char)('a' + i), '\0'};
		struct event event = {0};
		assert_int_equal(put(&one, id, npn, 2, STORE_QUEUE), STORE_OK);
		strcpy(event.npn, npn);
		lanes[i] = entry_lane(&event);
	}
	lanes[4] = 12345;
	assert_int_equal(put(&one, "earlier", "3", 1, STORE_QUEUE), STORE_OK); /* than c */
	assert_int_equal(store_claim(two.store, lanes[1], &error), STORE_OK);
	assert_int_equal(store_claim_many(one.store, lanes, 5, results, &error), STORE_OK);
	assert_string_equal(letters(results, 5), "obooo");
	assert_int_equal(store_load_many(one.store, names, each, 5, results, &error), STORE_OK);
	assert_string_equal(letters(results, 5), "ooboa");
	assert_string_equal(works[3].entry.event.npn, "4");
	assert_true(exists(works[0].path) && exists(works[3].path));
	store_park(one.store, &works[0]);
	assert_null(works[0].entry.text);
	assert_int_equal(store_renew_many(one.store, lanes, 5, results, &error), STORE_OK);
	assert_string_equal(letters(results, 5), "oaooo");
	/* Of b the lane is not ours. */
	struct store_work *const done[] = {&works[0], &works[1], &works[3]};
	assert_int_equal(store_done_many(one.store, done, 3, results, &error), STORE_OK);
	assert_string_equal(letters(results, 3), "oao");
	for (int i = 0; i < 4; i++)
		if (i != 2)
			store_unload(one.store, &works[i]);
	assert_false(exists(works[0].path) || exists(works[3].path));
	store_release_many(one.store, lanes, 5);
	assert_int_equal(store_claim_many(two.store, lanes, 5, results, &error), STORE_OK);
	assert_string_equal(letters(results, 5), "ooooo");
	assert_string_equal(listed(&one, &all).text, "earlier:new a:handled b:new c:new d:handled ");
	store_release_many(two.store, lanes, 5);
}

TEST(an_administrator_moves_events_by_their_status)
{
	const char *names[] = {"a.json", "b.json", "c.json", "p.json"};
	struct store_counts counts;
	struct error error;
	size_t moved;

	NEEDS_SERVER;
	put(&one, "a", "1", 1, STORE_DEAD_LETTER);
	put(&one, "b", "2", 2, STORE_QUEUE);
	put(&one, "c", "3", 3, STORE_ARCHIVE);
	put_body(&one, "p", "{\"type\":\"" EVENTS_DOCTOR_TYPE "\"}", 4, STORE_ARCHIVE);
	assert_int_equal(store_retry(two.store, names, 3, &moved, &error), STORE_INVALID);
	assert_int_equal(moved, 1);
	assert_non_null(strstr(error.text, "b: has not failed"));
	assert_int_equal(store_finish(two.store, "a.json", &error), STORE_OK);
	assert_int_equal(store_finish(two.store, "a.json", &error), STORE_INVALID);
	assert_int_equal(store_replay(two.store, names, 3, &moved, &error), STORE_INVALID);
	assert_int_equal(moved, 1);
	assert_non_null(strstr(error.text, "b: was not handled yet")); /* the first of them */
	assert_int_equal(store_replay(two.store, names + 2, 1, &moved, &error), STORE_INVALID);
	assert_non_null(strstr(error.text, "c: was handled just now")); /* as if between two looks */
	assert_int_equal(store_replay(two.store, names + 3, 1, &moved, &error), STORE_INVALID);
	assert_non_null(strstr(error.text, "p: is a probe"));
	assert_int_equal(moved, 0);
	assert_string_equal(listed(&one, &all).text, "a:new b:new c:handled p:handled ");
	assert_int_equal(store_count(one.store, clock_unix(), &counts, &error), STORE_OK);
	assert_int_equal(counts.waiting, 2);
	assert_int_equal(counts.failed, 0);
}

/* Also one whose only try did not count. A drain of its lane may have it in work. */
TEST(an_event_that_waits_for_its_retry_is_due_at_once)
{
	static const struct handler_state broken = {.tried_at = 100, .due_at = 160, .reason = "127"};
	const char *names[] = {"a.json", "b.json"};
	struct store_counts counts;
	struct store_work work;
	struct error error;
	size_t moved;

	NEEDS_SERVER;
	put(&one, "a", "1", 1, STORE_QUEUE);
	uint64_t lane = pending(&one).lane;
	put(&one, "b", "2", 2, STORE_QUEUE);
	assert_int_equal(take(&one, "a.json", lane, &work), STORE_OK);
	assert_int_equal(store_later(one.store, &work, &broken, &error), STORE_OK);
	store_unload(one.store, &work);
	sql("UPDATE psapi_queue SET queued_at = now() - interval '1 day' WHERE name = 'a.json'");
	assert_string_equal(listed(&one, &all).text, "a:waiting b:new ");
	assert_int_equal(store_count(one.store, clock_unix(), &counts, &error), STORE_OK);
	assert_int_equal(counts.retrying, 1);
	assert_int_equal(counts.overdue, 0);
	assert_int_equal(store_retry(two.store, names, 2, &moved, &error), STORE_INVALID);
	assert_int_equal(moved, 0);
	assert_int_equal(error.status, EX_TEMPFAIL);
	assert_non_null(strstr(error.text, "a: waits for its retry, and a drain is handling"));
	store_release(one.store, lane);
	assert_int_equal(store_retry(two.store, names, 2, &moved, &error), STORE_INVALID);
	assert_int_equal(moved, 1);
	assert_non_null(strstr(error.text, "b: has not failed: it waits in new/ already"));
	assert_string_equal(listed(&one, &all).text, "a:new b:new ");
	assert_int_equal(store_count(one.store, clock_unix(), &counts, &error), STORE_OK);
	assert_int_equal(counts.retrying, 0);
	assert_int_equal(counts.overdue, 1); /* it is as old as before */
	assert_int_equal(take(&two, "a.json", lane, &work), STORE_OK);
	assert_int_equal(work.state.tries, 0);
	/* A lease that is over is of a drain that was killed. */
	assert_int_equal(store_later(two.store, &work, &retry_state, &error), STORE_OK);
	store_unload(two.store, &work);
	sql("UPDATE psapi_lane SET until = now()");
	assert_int_equal(store_retry(one.store, names, 1, &moved, &error), STORE_OK);
	assert_int_equal(moved, 1);
}

TEST(a_listing_takes_what_the_filter_means)
{
	const struct store_filter dead = {.statuses = 1U << STORE_DEAD},
		npn = {.npn = "2"}, type = {.type = "producersync.npn"},
		    other = {.type = "producersync.np"},
		since = {.since = 1002000000000};

	NEEDS_SERVER;
	put(&one, "a", "1", 1, STORE_DEAD_LETTER);
	put(&one, "b", "2", 2, STORE_QUEUE);
	assert_string_equal(listed(&two, &dead).text, "a:failed ");
	assert_string_equal(listed(&two, &npn).text, "b:new ");
	assert_string_equal(listed(&two, &type).text, "a:failed b:new ");
	assert_string_equal(listed(&two, &other).text, "");
	assert_string_equal(listed(&two, &since).text, "b:new ");
}

TEST(what_waits_is_not_forgotten)
{
	struct store_forgetting f = {.before = 1003, .now = clock_unix(), .dry_run = true};
	struct error error;

	NEEDS_SERVER;
	put(&one, "a", "1", 1, STORE_QUEUE);
	for (int i = 2; i <= 4; i++)
		put(&one, i == 2 ? "b" : i == 3 ? "c" : "d", "1", i, STORE_ARCHIVE);
	assert_int_equal(store_forget(two.store, &f, &error), STORE_OK);
	assert_int_equal(f.forgotten, 2);
	assert_int_equal(f.kept, 2);
	f = (struct store_forgetting){.before = 1003, .now = clock_unix()};
	assert_int_equal(store_forget(two.store, &f, &error), STORE_OK);
	assert_int_equal(f.forgotten, 2);
	assert_int_equal(f.kept, 2);
	assert_string_equal(listed(&one, &all).text, "a:new d:handled ");
}

static void
put_npn(const char *id, const char *kind, const char *npn, const char *at, int second,
    enum store_destination destination)
{
	char body[256];

	snprintf(body, sizeof(body), "{\"type\":\"producersync.npn.%s\",\"timestamp\":\"%s\","
	    "\"data\":{\"npn\":\"%s\"}}", kind, at, npn);
	assert_int_equal(put_body(&one, id, body, second, destination), STORE_OK);
}

/* "npn+ npn- " of the roster at that time. */
static const char *
roster_text(struct store *store, int64_t at)
{
	static char text[1024];
	struct roster roster = {0};
	struct error error;
	size_t length = 0;

	assert_int_equal(store_roster(store, at, &roster, &error), STORE_OK);
	roster_sort(&roster);
	text[0] = '\0';
	for (size_t i = 0; i < roster.count; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%c ",
		    roster.marks[i].npn, roster.marks[i].active ? '+' : '-');
	roster_free(&roster);
	return text;
}

/* What events say is kept by the transaction that removes them. */
TEST(a_roster_counts_forgotten_events)
{
	struct store_forgetting f = {.before = 2500, .now = clock_unix()};
	const int64_t third = 1735862400LL * 1000000000; /* 2025-01-03 */
	struct roster roster = {0};
	struct error error;

	NEEDS_SERVER;
	put_npn("a", "activated", "7", "2025-01-01T00:00:00Z", 0, STORE_ARCHIVE);
	put_npn("b", "deactivated", "7", "2025-01-03T00:00:00Z", 1, STORE_ARCHIVE);
	put_npn("late", "activated", "7", "2025-01-02T00:00:00Z", 2000, STORE_ARCHIVE);
	put_npn("c", "activated", "8", "2025-01-02T00:00:00Z", 2, STORE_ARCHIVE);
	put_npn("tie", "deactivated", "8", "2025-01-02T00:00:00Z", 3, STORE_ARCHIVE);
	put_npn("d", "activated", "100", "2025-01-05T00:00:00Z", 3, STORE_QUEUE);
	put_npn("e", "activated", "x9", "2025-01-05T00:00:00Z", 3, STORE_ARCHIVE);
	assert_string_equal(roster_text(two.store, INT64_MAX), "7- 8+ 100+ ");
	assert_string_equal(roster_text(two.store, third - 1), "7+ 8+ ");
	sql("CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'no'; END"
	    " $$; CREATE TRIGGER refuse AFTER DELETE ON psapi_event FOR EACH ROW EXECUTE FUNCTION"
	    " refuse();");
	assert_int_equal(store_forget(one.store, &f, &error), STORE_FAILED);
	sql("DROP FUNCTION refuse CASCADE");
	assert_int_equal(store_forgotten(one.store, &roster, &error), STORE_OK);
	assert_int_equal(roster.count + (size_t)roster.forgotten, 0);
	for (int again = 0; again < 2; again++) {
		assert_int_equal(store_forget(one.store, &f, &error), STORE_OK);
		assert_string_equal(roster_text(two.store, INT64_MAX), "7- 8+ 100+ ");
		assert_string_equal(roster_text(two.store, third), "7- 8+ ");
		assert_string_equal(roster_text(two.store, third - 1), "7+ 8+ ");
		assert_string_equal(roster_text(two.store, third - 86400LL * 1000000000 - 1), "7+ ");
	}
	for (int every = 0; every < 2; every++) {
		roster.every = every == 1;
		assert_int_equal(store_forgotten(two.store, &roster, &error), STORE_OK);
		assert_int_equal(roster.forgotten, 1003);
		assert_int_equal(roster.count, 2 + every);
		roster_free(&roster);
	}
}

/* Every mark stays; of a time, activated; of when the last one was received, the later one. */
TEST(what_forgotten_events_said_is_imported)
{
	struct roster roster = {.every = true, .forgotten = 5000}, read = {.every = true};
	struct error error;
	char npn[24];

	NEEDS_SERVER;
	sql("INSERT INTO psapi_roster VALUES ('3', 3, true), ('5', 100, false), ('6', 6, false),"
	    " ('', 9000000000000, false)");
	for (int i = 1; i <= 2001; i++) {
		snprintf(npn, sizeof(npn), "%d", i);
		assert_int_equal(roster_add(&roster, npn, i, i % 2 == 0, NULL), 0);
	}
	for (int again = 0; again < 2; again++)
		assert_int_equal(store_import_forgotten(one.store, &roster, &error), STORE_OK);
	roster_free(&roster);
	assert_int_equal(store_forgotten(two.store, &read, &error), STORE_OK);
	assert_int_equal(read.forgotten, 9000);
	assert_int_equal(read.count, 2002);
	roster_sort(&read);
	for (int i = 1; i <= 2001; i++) {
		assert_int_equal(read.marks[i - 1 + (i > 5)].when, i);
		assert_int_equal(read.marks[i - 1 + (i > 5)].active, i % 2 == 0 || i == 3);
	}
	assert_int_equal(read.marks[5].when, 100);
	roster_free(&read);
}

/* A synchronous commit whose wait was cancelled is a warning, after which the event is visible. */
TEST(a_commit_with_a_warning_is_no_commit)
{
	struct error error;

	NEEDS_SERVER;
	sql("CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE WARNING 'not"
	    " confirmed';"
	    " RETURN NULL; END $$; CREATE CONSTRAINT TRIGGER warn AFTER INSERT ON psapi_event"
	    " DEFERRABLE"
	    " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION warn();");
	/*
	 * It is tried again, finds what the first try left, and its own commit is confirmed for
	 * both.
	 */
	enum store_result result = put(&one, "a", "1", 1, STORE_QUEUE);
	sql("DROP FUNCTION warn CASCADE");
	assert_int_equal(result, STORE_DUPLICATE);
	assert_int_equal(store_probe(one.store, &error), STORE_OK);
}

struct bringer {
	struct host *host;
	const char *id;
	enum store_result result;
};

static void *
bring(void *data)
{
	struct bringer *b = data;

	b->result = put(b->host, b->id, "1", 1, STORE_QUEUE);
	return NULL;
}

TEST(of_many_at_once_each_is_accepted_once)
{
	enum { THREADS = 24 };
	pthread_t threads[THREADS];
	struct bringer bringers[THREADS];
	char ids[THREADS][16];
	int accepted = 0;

	NEEDS_SERVER;
	for (int i = 0; i < THREADS; i++) {
		snprintf(ids[i], sizeof(ids[i]), "m%02d", i / 2);
		bringers[i] = (struct bringer){.host = i % 2 == 0 ? &one : &two, .id = ids[i]};
		assert_int_equal(pthread_create(&threads[i], NULL, bring, &bringers[i]), 0);
	}
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], NULL);
		assert_true(bringers[i].result == STORE_OK || bringers[i].result == STORE_DUPLICATE);
		accepted += bringers[i].result == STORE_OK;
	}
	assert_int_equal(accepted, THREADS / 2);
}

/* 16 other events at once, five times: each has this result. */
static void
bring_many(enum store_result expected)
{
	enum { THREADS = 16 };
	pthread_t threads[THREADS];
	struct bringer bringers[THREADS];
	char ids[THREADS][32];

	int64_t shortest = INT64_MAX; /* one that waited would take 4 s each time */
	for (int round = 0; round < 5; round++) {
		int64_t begun = clock_milliseconds();
		for (int i = 0; i < THREADS; i++) {
			snprintf(ids[i], sizeof(ids[i]), "m%d-%d", round, i);
			bringers[i] = (struct bringer){.host = &one, .id = ids[i]};
			assert_int_equal(pthread_create(&threads[i], NULL, bring, &bringers[i]), 0);
		}
		for (int i = 0; i < THREADS; i++) {
			pthread_join(threads[i], NULL);
			assert_int_equal(bringers[i].result, expected);
		}
		if (clock_milliseconds() - begun < shortest)
			shortest = clock_milliseconds() - begun;
	}
	assert_in_range(shortest, 0, 3000); /* valgrind is slow */
}

/* While no further connection can be made: all wait for the one that is open. */
TEST(of_many_at_once_none_is_refused_at_a_limit)
{
	NEEDS_SERVER;
	assert_int_equal(put(&one, "first", "1", 1, STORE_QUEUE), STORE_OK);
	plan.fault = UNCONNECTED;
	bring_many(STORE_OK);
}

/* While no connection can be made at all: each fails, and none waits for another. */
TEST(of_many_at_once_each_fails_without_a_connection)
{
	struct error error;

	NEEDS_SERVER;
	store_close(one.store);
	one.store = store_open(&one.config, false, &error);
	assert_non_null(one.store);
	plan.fault = UNCONNECTED;
	bring_many(STORE_FAILED);
	plan.fault = NONE;
	assert_int_equal(put(&one, "later", "1", 1, STORE_QUEUE), STORE_OK);
}

/* Until somebody is in the roster. */
static void *
lock_events(void *unused)
{
	(void)unused;
	sql("DO $$ BEGIN LOCK TABLE psapi_event IN EXCLUSIVE MODE; FOR i IN 1..1500 LOOP"
	    " EXIT WHEN EXISTS (SELECT FROM psapi_roster); PERFORM pg_sleep(0.02); END LOOP; END $$");
	return NULL;
}

/* One at each of these times, in ms. */
static void
bring_at(const int *times, int count, struct bringer *bringers, pthread_t *threads)
{
	int64_t begun = clock_milliseconds();

	for (int i = 0; i < count; i++) {
		int64_t left = begun + times[i] - clock_milliseconds();
		poll(NULL, 0, left > 0 ? (int)left : 0);
		assert_int_equal(pthread_create(&threads[i], NULL, bring, &bringers[i]), 0);
	}
}

/*
 * Four hold all connections until their time is over. The last two share the next transaction,
 * which ends when the older one has no more time: the other one has, and is accepted.
 */
TEST(a_transaction_without_time_left_takes_none_with_it)
{
	static const int times[] = {0, 50, 100, 150, 1000, 3000};
	struct bringer bringers[] = {{&one, "a", 0}, {&one, "b", 0}, {&one, "c", 0}, {&one, "d", 0},
	    {&one, "old", 0}, {&one, "young", 0}};
	pthread_t locking, threads[6];

	NEEDS_SERVER;
	assert_int_equal(pthread_create(&locking, NULL, lock_events, NULL), 0);
	sql("DO $$ BEGIN WHILE NOT EXISTS (SELECT 1 FROM pg_locks WHERE mode = 'ExclusiveLock' AND"
	    " granted AND relation = 'psapi_event'::regclass) LOOP PERFORM pg_sleep(0.01); END LOOP;"
	    " END $$");
	bring_at(times, 6, bringers, threads);
	for (int i = 0; i < 6; i++) {
		if (i == 5)
			sql("INSERT INTO psapi_roster VALUES ('1', 1, true)");
		pthread_join(threads[i], NULL);
		bool stored = bringers[i].result == STORE_OK || bringers[i].result == STORE_DUPLICATE;
		if (stored != (i == 5))
			fail_msg("%s: result %d", bringers[i].id, bringers[i].result);
	}
	pthread_join(locking, NULL);
}

/* The only connection is busy, and no other was made: after a pause a thread tries that again. */
TEST(a_further_connection_is_tried_again)
{
	struct bringer bringers[] = {{&one, "slow", 0}, {&one, "quick", 0}};
	pthread_t threads[2];

	NEEDS_SERVER;
	sql("CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
	    " IF NEW.name = 'slow.json' THEN PERFORM pg_advisory_xact_lock(1); FOR i IN 1..190 LOOP"
	    " EXIT WHEN EXISTS (SELECT FROM psapi_event WHERE name = 'quick.json');"
	    " PERFORM pg_sleep(0.02); END LOOP; END IF; RETURN NULL; END $$;"
	    " CREATE TRIGGER wait AFTER INSERT ON psapi_event FOR EACH ROW EXECUTE FUNCTION wait();");
	assert_int_equal(put(&one, "first", "1", 1, STORE_QUEUE), STORE_OK);
	plan.fault = UNCONNECTED;
	int64_t begun = clock_milliseconds();
	assert_int_equal(pthread_create(&threads[0], NULL, bring, &bringers[0]), 0);
	sql("DO $$ BEGIN WHILE NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND"
	    " granted) LOOP PERFORM pg_sleep(0.01); END LOOP; END $$");
	assert_int_equal(pthread_create(&threads[1], NULL, bring, &bringers[1]), 0);
	poll(NULL, 0, 1000);
	plan.fault = NONE;
	pthread_join(threads[1], NULL);
	assert_in_range(clock_milliseconds() - begun, 2000, 3700); /* the pause has 2 s */
	pthread_join(threads[0], NULL);
	for (int i = 0; i < 2; i++)
		assert_int_equal(bringers[i].result, STORE_OK);
	sql("DROP FUNCTION wait CASCADE");
}

/* A host that accepts connections and never answers. Returns the socket that listens. */
static int
listen_silently(const char *directory)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);

	mkdir(directory, 0755);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s/.s.PGSQL.5432", directory);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_int_equal(listen(listener, 16), 0);
	return listener;
}

static void *
count_events(void *store)
{
	struct store_counts counts;
	struct error error;

	store_count(store, 0, &counts, &error);
	return NULL;
}

/* Four threads wait for connections: that of an event says so, not that it waits for a standby. */
TEST(a_put_without_a_connection_says_so)
{
	char uri_of_silent[300];
	struct host silent = {0};
	struct error error;
	pthread_t threads[4];
	int accepted[4];

	NEEDS_SERVER;
	int listener = listen_silently(in(place, "silent"));
	snprintf(uri_of_silent, sizeof(uri_of_silent), "host=%s user=psapi", in(place, "silent"));
	silent.config = (struct config){.spool = strdup(place), .sync = strdup("auto"),
		.store = strdup(uri_of_silent)};
	silent.store = store_open(&silent.config, false, &error);
	assert_non_null(silent.store);
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, count_events, silent.store), 0);
	for (int i = 0; i < 4; i++)
		accepted[i] = accept(listener, NULL, NULL);
	assert_int_equal(put(&silent, "a", "1", 1, STORE_QUEUE), STORE_FAILED);
	assert_non_null(strstr(put_error.text, "no connection could be made in time"));
	close(listener);
	for (int i = 0; i < 4; i++)
		close(accepted[i]);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	host_close(&silent);
}

static int
count_item(const struct store_item *item, void *data)
{
	(void)item;
	++*(int *)data;
	return 0;
}

static void *
list_often(void *data)
{
	struct error error;

	for (int i = 0; i < 20; i++)
		store_each(one.store, &all, count_item, data, &error);
	return NULL;
}

/* They share the connection that is open. */
TEST(a_further_connection_is_not_needed)
{
	pthread_t threads[8];
	int done[8] = {0};

	NEEDS_SERVER;
	assert_int_equal(put(&one, "a", "1", 1, STORE_QUEUE), STORE_OK);
	plan.fault = UNCONNECTED;
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, list_often, &done[i]), 0);
	for (int i = 0; i < 8; i++) {
		pthread_join(threads[i], NULL);
		assert_int_equal(done[i], 20);
	}
}

static int
count_copy(const char *host, const char *line, void *data)
{
	assert_string_not_equal(host, "");
	assert_string_equal(line, "{\"outcome\":\"accepted\"}");
	++*(int *)data;
	return 0;
}

TEST(copies_of_attempts_are_all_hosts)
{
	static const char line[] = "{\"outcome\":\"accepted\"}";
	static struct store_attempts_follow follow;
	int count = 0;
	struct store_attempts query = {.last = -1, .follow = &follow, .visit = count_copy,
	    .data = &count};
	struct error error;

	NEEDS_SERVER;
	for (int i = 0; i < 3; i++)
		store_attempt(one.store, 1000 + i, line, strlen(line));
	store_attempt(two.store, 1000, line, strlen(line));
	store_attempts_send(one.store);
	store_attempts_send(two.store);
	assert_int_equal(store_attempts(one.store, &query, &error), STORE_OK);
	assert_int_equal(count, 4);
	assert_int_equal(store_attempts(one.store, &query, &error), STORE_OK);
	assert_int_equal(count, 4); /* nothing new */
	store_attempt(two.store, 900, line, strlen(line));
	store_attempts_send(two.store);
	assert_int_equal(store_attempts(one.store, &query, &error), STORE_OK);
	assert_int_equal(count, 5);
}

static void
insert_attempt(long serial, const char *outcome)
{
	char text[200];

	snprintf(text, sizeof(text), "INSERT INTO psapi_attempt OVERRIDING SYSTEM VALUE VALUES (%ld,"
	    " 1000, 'h', '{\"outcome\":\"%s\"}')", serial, outcome);
	sql(text);
}

/* As of transactions that are committed in another order than they began. */
TEST(a_copy_with_a_lower_number_is_found_later)
{
	static struct store_attempts_follow follow;
	int count = 0;
	struct store_attempts query = {.last = -1, .outcome = "accepted", .follow = &follow,
	    .visit = count_copy, .data = &count};
	struct error error;

	NEEDS_SERVER;
	insert_attempt(100000, "accepted");
	insert_attempt(100002, "accepted");
	query.last = 1;
	assert_int_equal(store_attempts(one.store, &query, &error), STORE_OK);
	assert_int_equal(count, 1);
	insert_attempt(100001, "accepted"); /* before the first look */
	insert_attempt(100005, "accepted");
	insert_attempt(100006, "rejected");
	assert_int_equal(store_attempts(one.store, &query, &error), STORE_OK);
	assert_int_equal(count, 3);
	insert_attempt(100003, "rejected");
	insert_attempt(100004, "accepted");
	for (int again = 0; again < 2; again++) {
		assert_int_equal(store_attempts(one.store, &query, &error), STORE_OK);
		assert_int_equal(count, 4);
	}
	insert_attempt(200000, "accepted"); /* more are missing than are looked for */
	insert_attempt(199000, "accepted");
	assert_int_equal(store_attempts(one.store, &query, &error), STORE_OK);
	insert_attempt(199999, "accepted");
	assert_int_equal(store_attempts(one.store, &query, &error), STORE_OK);
	assert_int_equal(count, 7);
	assert_int_equal(follow.gaps, STORE_ATTEMPTS_GAPS - 1);
	insert_attempt(199998, "accepted");
	insert_attempt(200001, "accepted");
	insert_attempt(200002, "accepted");
	query.first = 2;
	assert_int_equal(store_attempts(one.store, &query, &error), STORE_OK);
	assert_int_equal(count, 9);
	assert_int_equal(follow.after, 200001);
	assert_int_equal(store_attempts(one.store, &query, &error), STORE_OK);
	assert_int_equal(count, 10);
}

/* ---- the server has done it, and its answer is lost ---- */

/* One dead letter each, and an event in work. */
static void
fill(uint64_t *lane, struct store_work *work)
{
	empty_tables();
	assert_int_equal(put(&one, "a", "1", 1, STORE_QUEUE), STORE_OK);
	*lane = pending(&one).lane;
	assert_int_equal(put(&one, "d", "2", 2, STORE_DEAD_LETTER), STORE_OK);
	assert_int_equal(put(&one, "h", "3", 3, STORE_ARCHIVE), STORE_OK);
	sql("UPDATE psapi_event SET queued = true");
	assert_int_equal(take(&one, "a.json", *lane, work), STORE_OK);
}

/* Import an event of another store: h's, under another name. */
static enum store_result
import_as(const char *name, struct error *error)
{
	struct store_item item;
	size_t imported;
	enum store_result result = store_get(one.store, "h.json", &item, error);

	if (result != STORE_OK)
		return result;
	item.name = name;
	item.status = STORE_HANDLED;
	result = store_import(one.store, &item, error);
	struct error ignored;
	enum store_result end = store_import_end(one.store, &imported,
	    result == STORE_OK ? error : &ignored);
	entry_free(&item.entry);
	return result != STORE_OK ? result : end;
}

enum { DONE, DONE_MANY, LATER, FAIL, RETRY, REPLAY, FINISH, FORGET, JOBS };

/* Returns whether it has said that it did its work, and no other. */
static bool
did(int job, struct store_work *work)
{
	static const char *const dead[] = {"d.json"}, *const handled[] = {"h.json"};
	struct store_forgetting f = {.before = 2000, .now = clock_unix()};
	struct store_work *const works[] = {work};
	enum store_result result = STORE_FAILED;
	struct error error;
	size_t moved;

	switch (job) {
	case DONE:
		return store_done(one.store, work, &error) == STORE_OK;
	case DONE_MANY:
		return store_done_many(one.store, works, 1, &result, &error) == STORE_OK &&
		    result == STORE_OK;
	case LATER:
		return store_later(one.store, work, &retry_state, &error) == STORE_OK;
	case FAIL:
		return store_fail(one.store, work, &dead_state, &error) == STORE_OK;
	case RETRY:
		return store_retry(one.store, dead, 1, &moved, &error) == STORE_OK && moved == 1;
	case REPLAY:
		return store_replay(one.store, handled, 1, &moved, &error) == STORE_OK && moved == 1;
	case FINISH:
		return store_finish(one.store, "d.json", &error) == STORE_OK;
	default:
		return store_forget(one.store, &f, &error) == STORE_OK && f.forgotten == 1 &&
		    f.kept == 2;
	}
}

/* Each answer is lost once, and each job says afterwards that it has done its work. */
TEST(a_lost_answer_is_no_other_answer)
{
	static const char *const then[JOBS] = {"a:handled d:failed h:handled ",
		"a:handled d:failed h:handled ", "a:waiting d:failed h:handled ",
		"a:failed d:failed h:handled ", "a:new d:new h:handled ", "a:new d:failed h:new ",
		"a:new d:handled h:handled ", "a:new d:failed "};
	struct store_work work;
	uint64_t lane;

	NEEDS_SERVER;
	for (int job = 0; job < JOBS; job++) {
		for (int at = 1, calls = at; calls >= at; at++) {
			fill(&lane, &work);
			plan = (struct plan){.fault = DEAF, .at = at};
			bool good = did(job, &work);
			calls = plan.calls;
			plan.fault = NONE;
			if (!good)
				fail_msg("job %d, answer %d", job, at);
			assert_string_equal(listed(&two, &all).text, then[job]);
			store_unload(one.store, &work);
		}
	}
}

/* The lease has ended before the second try, which then finds what the first one has done. */
TEST(a_lost_answer_counts_also_without_the_lease)
{
	struct store_work work;
	uint64_t lane;

	NEEDS_SERVER;
	sql("CREATE FUNCTION lose() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
	    " DELETE FROM psapi_lane; RETURN NULL; END $$; CREATE CONSTRAINT TRIGGER lose"
	    " AFTER UPDATE OR DELETE ON psapi_queue DEFERRABLE INITIALLY DEFERRED"
	    " FOR EACH ROW EXECUTE FUNCTION lose();");
	for (int job = DONE; job <= FAIL; job++) {
		fill(&lane, &work);
		plan = (struct plan){.fault = DEAF, .at = 1};
		bool good = did(job, &work);
		plan.fault = NONE;
		if (!good)
			fail_msg("job %d", job);
		store_unload(one.store, &work);
	}
	sql("DROP FUNCTION lose CASCADE");
}

/*
 * The first try's COMMIT waits still when the second one begins, which sees what was before: no
 * change to make, and none that was made.
 */
TEST(a_lost_answer_counts_also_while_its_commit_waits)
{
	struct store_work work;
	uint64_t lane;

	NEEDS_SERVER;
	sql("CREATE SEQUENCE waits; CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS $$"
	    " BEGIN IF nextval('waits') = 1 THEN PERFORM pg_sleep(1); END IF; RETURN NULL; END $$;"
	    " CREATE CONSTRAINT TRIGGER wait AFTER UPDATE OR DELETE ON psapi_queue"
	    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait();");
	for (int job = DONE; job <= FAIL; job++) {
		fill(&lane, &work);
		sql("ALTER SEQUENCE waits RESTART");
		plan = (struct plan){.fault = CUT, .at = 2}; /* when it is sent */
		bool good = did(job, &work);
		plan.fault = NONE;
		if (!good)
			fail_msg("job %d", job);
		sql("DO $$ BEGIN ASSERT nextval('waits') > 1, 'it waited'; END $$");
		store_unload(one.store, &work);
	}
	sql("DROP FUNCTION wait CASCADE; DROP SEQUENCE waits");
}

/*
 * A wait for the standby that was cancelled is a warning, and the change is there. The second try
 * locks a row, for a transaction without a change would not wait for the standby.
 */
TEST(a_change_with_a_warning_is_repeated)
{
	struct store_work work;
	uint64_t lane;

	NEEDS_SERVER;
	sql("CREATE SEQUENCE warnings; CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$"
	    " BEGIN IF nextval('warnings') = 1 THEN RAISE WARNING 'not confirmed'; END IF;"
	    " RETURN NULL; END $$;");
	for (int job = 0; job < JOBS; job++) {
		fill(&lane, &work);
		sql("CREATE CONSTRAINT TRIGGER warn AFTER UPDATE OR DELETE OR INSERT ON psapi_queue"
		    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION warn();"
		    " CREATE CONSTRAINT TRIGGER warn AFTER DELETE ON psapi_event"
		    " DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION warn();"
		    " ALTER SEQUENCE warnings RESTART; UPDATE psapi_meta SET format = format;");
		bool good = did(job, &work);
		sql("DROP TRIGGER warn ON psapi_queue; DROP TRIGGER warn ON psapi_event;");
		if (!good)
			fail_msg("job %d", job);
		if (job >= RETRY)
			sql("DO $$ BEGIN ASSERT (SELECT xmax::text <> '0' FROM psapi_meta), 'a lock'; END $$");
		if (job == LATER)
			sql("DO $$ BEGIN ASSERT nextval('warnings') = 3, 'two tries'; END $$");
		store_unload(one.store, &work);
	}
	sql("DROP FUNCTION warn CASCADE; DROP SEQUENCE warnings");
}

/* Each statement warns, before the commit, as of a database that must be vacuumed. */
TEST(a_warning_before_the_commit_does_not_count)
{
	enum { PUT = -3, PROBE, IMPORT };
	struct store_work work;
	struct error error;
	uint64_t lane;

	NEEDS_SERVER;
	sql("CREATE FUNCTION warn() RETURNS trigger LANGUAGE plpgsql AS $$"
	    " BEGIN RAISE WARNING 'must be vacuumed within 9 transactions'; RETURN NULL; END $$;");
	for (int job = PUT; job < JOBS; job++) {
		fill(&lane, &work);
		sql("CREATE TRIGGER warn AFTER INSERT OR DELETE ON psapi_event EXECUTE FUNCTION warn();"
		    " CREATE TRIGGER warn AFTER UPDATE OR DELETE OR INSERT ON psapi_queue"
		    " EXECUTE FUNCTION warn();");
		/* Those of a statement that is its own transaction are told by the function alone. */
		warning_from = job >= DONE && job < RETRY ? "GetNewTransactionId" : NULL;
		bool good = job == PUT ? put(&one, "b", "1", 1, STORE_QUEUE) == STORE_OK :
		    job == PROBE       ? store_probe(one.store, &error) == STORE_OK :
		    job == IMPORT      ? import_as("i.json", &error) == STORE_OK :
		                         did(job, &work);
		warning_from = NULL;
		sql("DROP TRIGGER warn ON psapi_queue; DROP TRIGGER warn ON psapi_event;");
		if (!good)
			fail_msg("job %d", job);
		store_unload(one.store, &work);
	}
	sql("DROP FUNCTION warn CASCADE");
}

static void
ignore_check(const struct store_check *check, void *data)
{
	(void)check;
	(void)data;
}

/* What meets a fault says so, or does not matter; the next operation has a good connection. */
TEST(a_broken_connection_is_not_used_again)
{
	static const enum fault faults[] = {REFUSE, DEAF};
	struct error error;
	int count = 0;

	NEEDS_SERVER;
	assert_int_equal(put(&one, "a", "1", 1, STORE_DEAD_LETTER), STORE_OK);
	for (int i = 0; i < 4; i++) {
		for (int at = 1, met = true; met; at++) {
			plan = (struct plan){.fault = faults[i / 2], .at = at};
			if (i % 2 == 0)
				store_check(one.store, ignore_check, NULL, &error);
			else
				store_each(one.store, &all, count_item, &count, &error);
			met = plan.calls >= at;
			plan.fault = NONE;
			if (store_each(one.store, &all, count_item, &count, &error) != STORE_OK)
				fail_msg("fault %d of %s, call %d: %s", i / 2, i % 2 == 0 ? "check" : "each", at,
				    error.text);
		}
	}
}

/* ---- each call fails ---- */

/*
 * Lives of some events, whatever fails. An operation does what it says, or says that it has failed:
 * nobody else is at work, so that an event is gone, or a lane is another's, is never true.
 */
static enum store_result
honest(enum store_result result, const struct error *error)
{
	if (plan.at < 0 && result != STORE_OK)
		fail_msg("without a fault: %s", error->text);
	if (result != STORE_OK && result != STORE_FAILED)
		fail_msg("at %d: result %d", plan.at, result);
	if (result == STORE_FAILED)
		assert_string_not_equal(error->text, "");
	return result;
}

/* What they have said, for check_...() afterwards, without a fault. */
static struct {
	bool accepted_x, accepted_y;
	enum store_result later, fail, retry;
} told;

static void
live_delivered(void)
{
	static const char *const names[] = {"y.json"};
	struct list list = {.text = ""};
	struct store_pending p = {.now = clock_unix(), .visit = add_waiting, .data = &list};
	struct store_work work;
	struct store_counts counts;
	struct error error = {.text = ""};
	size_t moved = 0;

	memset(&told, 0, sizeof(told));
	told.later = told.fail = STORE_FAILED;
	told.accepted_x = put(&one, "x", "1", 1, STORE_QUEUE) != STORE_FAILED;
	told.accepted_y = put(&one, "y", "2", 2, STORE_DEAD_LETTER) != STORE_FAILED;
	honest(store_pending(one.store, &p, &error), &error);
	if (list.lane != 0 && honest(store_claim(one.store, list.lane, &error), &error) == STORE_OK &&
	    honest(store_load(one.store, "x.json", &work, &error), &error) == STORE_OK) {
		honest(store_renew(one.store, list.lane, &error), &error);
		told.later = honest(store_later(one.store, &work, &retry_state, &error), &error);
		told.fail = honest(store_fail(one.store, &work, &dead_state, &error), &error);
		store_unload(one.store, &work);
		store_release(one.store, list.lane);
	}
	told.retry = STORE_FAILED;
	if (told.accepted_y)
		told.retry = honest(store_retry(one.store, names, 1, &moved, &error), &error);
	assert_int_equal(moved, told.retry == STORE_OK);
	list.text[0] = '\0';
	honest(store_each(one.store, &all, add_item, &list, &error), &error);
	honest(store_count(one.store, 0, &counts, &error), &error);
	honest(store_probe(one.store, &error), &error);
	char *status = store_status(one.store, &error);
	honest(status != NULL ? STORE_OK : STORE_FAILED, &error);
	free(status);
	store_attempt(one.store, 1000, "{}", 2);
	store_attempts_send(one.store);
}

/* And the sender's retry. */
static void
check_delivered(void)
{
	struct list events;

	if (told.accepted_x || told.accepted_y) {
		events = listed(&two, &all);
		assert_true(told.fail != STORE_OK || strncmp(events.text, "x:failed ", 9) == 0);
		assert_true(told.later != STORE_OK || strncmp(events.text, "x:new ", 6) != 0);
		assert_true(told.retry != STORE_OK || strstr(events.text, "y:new ") != NULL);
	}
	enum store_result x = put(&two, "x", "1", 1, STORE_QUEUE), y = put(&two, "y", "2", 2,
	    STORE_DEAD_LETTER);
	if (told.accepted_x)
		assert_int_equal(x, STORE_DUPLICATE);
	if (told.accepted_y)
		assert_int_equal(y, STORE_DUPLICATE);
	assert_true(x == STORE_OK || x == STORE_DUPLICATE);
	assert_true(y == STORE_OK || y == STORE_DUPLICATE);
	events = listed(&two, &all);
	assert_int_equal(strncmp(events.text, "x:", 2), 0);
	assert_non_null(strstr(events.text, " y:"));
}

static void
none_before(void)
{
}

/* ---- many at once, and the administrator's ---- */

static struct {
	enum store_result done[2], replay, finish, single, import, forget;
	size_t forgotten;
} moved_to;
static uint64_t batch_lanes[2];

static uint64_t
lane_of(const char *npn)
{
	struct event event = {0};

	strcpy(event.npn, npn);
	return entry_lane(&event);
}

/* o is old and handled, h handled, e dead; b, c and s wait. */
static void
put_before(void)
{
	struct error error;

	assert_int_equal(put(&two, "o", "9", 0, STORE_QUEUE), STORE_OK);
	assert_int_equal(put(&two, "h", "5", 5, STORE_QUEUE), STORE_OK);
	assert_int_equal(put(&two, "e", "4", 5, STORE_DEAD_LETTER), STORE_OK);
	assert_int_equal(put(&two, "b", "1", 5, STORE_QUEUE), STORE_OK);
	assert_int_equal(put(&two, "c", "2", 5, STORE_QUEUE), STORE_OK);
	assert_int_equal(put(&two, "s", "3", 5, STORE_QUEUE), STORE_OK);
	assert_int_equal(store_finish(two.store, "o.json", &error), STORE_OK);
	assert_int_equal(store_finish(two.store, "h.json", &error), STORE_OK);
	batch_lanes[0] = lane_of("1");
	batch_lanes[1] = lane_of("2");
}

static void
work_on_many(void)
{
	static struct store_work works[2];
	static const char *const names[] = {"b.json", "c.json"};
	struct store_work *const each[] = {&works[0], &works[1]};
	enum store_result results[2] = {STORE_FAILED, STORE_FAILED};
	struct error error = {.text = ""};

	moved_to.done[0] = moved_to.done[1] = STORE_FAILED;
	if (honest(store_claim_many(one.store, batch_lanes, 2, results, &error), &error) != STORE_OK)
		return;
	assert_string_equal(letters(results, 2), "oo");
	if (honest(store_load_many(one.store, names, each, 2, results, &error), &error) != STORE_OK)
		return;
	assert_string_equal(letters(results, 2), "oo");
	if (honest(store_renew_many(one.store, batch_lanes, 2, results, &error), &error) == STORE_OK)
		assert_string_equal(letters(results, 2), "oo");
	if (honest(store_done_many(one.store, each, 2, results, &error), &error) == STORE_OK) {
		assert_string_equal(letters(results, 2), "oo");
		memcpy(moved_to.done, results, sizeof(results));
	}
	for (int i = 0; i < 2; i++)
		store_unload(one.store, &works[i]);
	store_release_many(one.store, batch_lanes, 2);
}

static void
work_on_one(void)
{
	struct store_work work;
	struct error error = {.text = ""};
	uint64_t lane = lane_of("3");

	moved_to.single = STORE_FAILED;
	if (honest(store_claim(one.store, lane, &error), &error) != STORE_OK)
		return;
	if (honest(store_load(one.store, "s.json", &work, &error), &error) == STORE_OK) {
		moved_to.single = honest(store_done(one.store, &work, &error), &error);
		store_unload(one.store, &work);
	}
	store_release(one.store, lane);
}

static void
import_one(void)
{
	struct error error = {.text = ""};

	moved_to.import = honest(import_as("i.json", &error), &error);
}

static void
ignore_item(const struct store_item *item, void *data)
{
	(void)item;
	++*(int *)data;
}

static void
read_all(void)
{
	int visited = 0;
	struct store_page page = {.limit = 100, .visit = ignore_item, .data = &visited};
	struct roster roster = {0};
	struct store_tally tally;
	struct error error = {.text = ""};

	if (honest(store_page(one.store, &page, &error), &error) == STORE_OK)
		assert_in_range(visited, 5, 7); /* o and i may be there */
	honest(store_tally(one.store, clock_unix(), 0, &tally, &error), &error);
	if (honest(store_roster(one.store, INT64_MAX, &roster, &error), &error) == STORE_OK)
		assert_int_equal(roster.count, 6);
	roster_free(&roster);
}

static void
live_operated(void)
{
	static const char *const names[] = {"h.json"};
	struct store_forgetting f = {.before = 1002, .now = clock_unix()};
	struct error error = {.text = ""};
	size_t moved = 0;

	work_on_many();
	work_on_one();
	moved_to.replay = honest(store_replay(one.store, names, 1, &moved, &error), &error);
	assert_int_equal(moved, moved_to.replay == STORE_OK);
	moved_to.finish = honest(store_finish(one.store, "e.json", &error), &error);
	import_one();
	moved_to.forget = honest(store_forget(one.store, &f, &error), &error);
	moved_to.forgotten = f.forgotten;
	read_all();
}

static void
check_operated(void)
{
	const char *text = listed(&two, &all).text;

	assert_true(moved_to.done[0] != STORE_OK || strstr(text, "b:handled ") != NULL);
	assert_true(moved_to.done[1] != STORE_OK || strstr(text, "c:handled ") != NULL);
	assert_true(moved_to.single != STORE_OK || strstr(text, "s:handled ") != NULL);
	assert_true(moved_to.replay != STORE_OK || strstr(text, "h:new ") != NULL);
	assert_true(moved_to.finish != STORE_OK || strstr(text, "e:handled ") != NULL);
	assert_true(moved_to.import != STORE_OK || strstr(text, "i:handled ") != NULL);
	if (moved_to.forget == STORE_OK)
		assert_int_equal(moved_to.forgotten, 1);
	assert_true(moved_to.forgotten == 0 || strncmp(text, "o:", 2) != 0);
	assert_string_equal(roster_text(two.store, INT64_MAX), "1+ 2+ 3+ 4+ 5+ 9+ ");
}

static const struct life {
	void (*before)(void);
	void (*live)(void);
	void (*check)(void);
} lives[] = {{none_before, live_delivered, check_delivered},
	{put_before, live_operated, check_operated}};

/* Missing memory may fail the opening, too, which then says so; the fault is behind it then. */
static void
reopen(enum fault fault, int at)
{
	struct error error = {.text = ""};

	if (fault != MEMORY)
		return;
	store_close(one.store);
	plan = (struct plan){.fault = fault, .at = at};
	one.store = store_open(&one.config, false, &error);
	if (one.store != NULL)
		return;
	assert_string_not_equal(error.text, "");
	plan.fault = NONE;
	one.store = store_open(&one.config, false, &error);
	assert_non_null(one.store);
}

static void
begin_again(const struct life *life, enum fault fault, int at)
{
	plan.fault = NONE;
	host_close(&one);
	host_open(&one, "one");
	empty_tables();
	life->before();
	reopen(fault, at);
	plan = (struct plan){.fault = fault, .at = at, .calls = fault == MEMORY ? plan.calls : 0};
}

/* A life whose nth call fails. */
static void
live_once(const struct life *life, enum fault fault, int at)
{
	begin_again(life, fault, at);
	life->live();
	plan.fault = NONE;
	life->check();
}

/*
 * With FULL=1 all calls, and every second allocation; else some twelve of each life. Others each
 * time.
 */
static void
live_with(enum fault fault)
{
	for (size_t i = 0; i < sizeof(lives) / sizeof(lives[0]); i++) {
		live_once(&lives[i], fault, -1);
		int calls = plan.calls;
		assert_in_range(calls, 10, 20000);
		bool full = getenv("FULL") != NULL && *getenv("FULL") != '\0';
		int step = full ? 1 + (fault == MEMORY) : 1 + calls / 12;
		int begin = 1 + (int)(time(NULL) % step);
		print_message("%d calls, from the %d. on each %d.\n", calls, begin, step);
		for (int at = begin; at <= calls; at += step) {
			live_once(&lives[i], fault, at);
		}
	}
}

TEST(the_connection_may_die_before_any_call)
{
	NEEDS_SERVER;
	live_with(CUT);
}

TEST(any_call_of_libpq_may_fail)
{
	NEEDS_SERVER;
	live_with(REFUSE);
}

TEST(any_answer_may_be_lost)
{
	NEEDS_SERVER;
	live_with(DEAF);
}

TEST(any_allocation_may_fail)
{
	NEEDS_SERVER;
	if (!OWN_ALLOCATOR || getenv("UNDER_VALGRIND") != NULL)
		skip(); /* which have allocators of their own */
	live_with(MEMORY);
}

/* An event whose record has no memory is not one that cannot be read. */
TEST(missing_memory_is_told)
{
	struct store_work work;

	NEEDS_SERVER;
	if (!OWN_ALLOCATOR || getenv("UNDER_VALGRIND") != NULL)
		skip();
	assert_int_equal(put(&one, "a", "1", 1, STORE_QUEUE), STORE_OK);
	for (int at = 1, met = true; met; at++) {
		struct error error = {.text = ""};
		plan = (struct plan){.fault = MEMORY, .at = at};
		enum store_result loaded = store_load(one.store, "a.json", &work, &error);
		met = plan.calls >= at;
		plan.fault = NONE;
		if (loaded == STORE_OK)
			store_unload(one.store, &work);
		else if (*error.text == '\0' || error.status == EX_DATAERR)
			fail_msg("allocation %d: %s", at, error.text);
	}
}

int
main(void)
{
#define OVER(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		OVER(an_event_is_queued_once_wherever_it_comes),
		OVER(what_is_read_back_is_what_was_put),
		OVER(a_lane_is_one_drains_and_its_earliest_event_comes_first),
		OVER(an_outcome_counts_only_while_the_lane_is_ours),
		OVER(many_at_once_are_as_one_by_one),
		OVER(an_administrator_moves_events_by_their_status),
		OVER(an_event_that_waits_for_its_retry_is_due_at_once),
		OVER(a_listing_takes_what_the_filter_means),
		OVER(what_waits_is_not_forgotten),
		OVER(a_roster_counts_forgotten_events),
		OVER(what_forgotten_events_said_is_imported),
		OVER(a_commit_with_a_warning_is_no_commit),
		OVER(of_many_at_once_each_is_accepted_once),
		OVER(of_many_at_once_none_is_refused_at_a_limit),
		OVER(of_many_at_once_each_fails_without_a_connection),
		OVER(a_transaction_without_time_left_takes_none_with_it),
		OVER(a_further_connection_is_tried_again),
		OVER(a_put_without_a_connection_says_so),
		OVER(a_further_connection_is_not_needed),
		OVER(copies_of_attempts_are_all_hosts),
		OVER(a_copy_with_a_lower_number_is_found_later),
		OVER(a_lost_answer_is_no_other_answer),
		OVER(a_lost_answer_counts_also_without_the_lease),
		OVER(a_lost_answer_counts_also_while_its_commit_waits),
		OVER(a_change_with_a_warning_is_repeated),
		OVER(a_warning_before_the_commit_does_not_count),
		OVER(a_broken_connection_is_not_used_again),
		OVER(the_connection_may_die_before_any_call),
		OVER(any_call_of_libpq_may_fail),
		OVER(any_answer_may_be_lost),
		OVER(any_allocation_may_fail),
		OVER(missing_memory_is_told),
	};

	if (getenv("ONLY") != NULL) /* a pattern: "a_lost_*" */
		cmocka_set_test_filter(getenv("ONLY"));
	return cmocka_run_group_tests(tests, start_server, stop_server);
}
