/*
 * Owns what store.h promises, over PostgreSQL: each operation on a real server, and then each of
 * them while the connection dies, libpq fails, or memory is missing, at its nth call. The calls
 * are counted by the functions below, which the module finds before the libraries'. Without
 * PostgreSQL all is skipped.
 */
#include "helpers.h"

#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <sys/socket.h>
#include <sysexits.h>
#include <time.h>

#include "base/clock.h"
#include "events.h"
#include "store/store.h"

/* ---- faults by count ---- */

enum fault { NONE, CUT, REFUSE, MEMORY };

static struct plan {
	enum fault fault;
	int at;
	int calls;
} plan;

/*
 * CUT: the connection dies just before this call. REFUSE: the call fails. Returns whether it
 * must.
 */
static bool
enters(int (*socket_of)(const void *), const void *connection)
{
	if (plan.fault == NONE || plan.fault == MEMORY || ++plan.calls != plan.at)
		return false;
	if (plan.fault == CUT && connection != NULL)
		shutdown(socket_of(connection), SHUT_RDWR);
	return plan.fault == REFUSE;
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
		if (enters(socket_of, c))                                                                  \
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
	struct error error = {.text = ""};

	events_read(body, strlen(body), &event);
	assert_int_equal(store_name(id, strlen(id), name), 0);
	assert_int_equal(record_make(&record, &evidence, body, strlen(body), true), 0);
	enum store_result result = store_put(h->store, &intake, &error);
	record_free(&record);
	if (result == STORE_FAILED)
		assert_string_not_equal(error.text, "");
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
	const char *names[] = {"a.json", "b.json", "c.json"};
	struct store_counts counts;
	struct error error;
	size_t moved;

	NEEDS_SERVER;
	put(&one, "a", "1", 1, STORE_DEAD_LETTER);
	put(&one, "b", "2", 2, STORE_QUEUE);
	put(&one, "c", "3", 3, STORE_ARCHIVE);
	assert_int_equal(store_retry(two.store, names, 3, &moved, &error), STORE_INVALID);
	assert_int_equal(moved, 1);
	assert_non_null(strstr(error.text, "c: has not failed"));
	assert_int_equal(store_finish(two.store, "a.json", &error), STORE_OK);
	assert_int_equal(store_finish(two.store, "a.json", &error), STORE_INVALID);
	assert_int_equal(store_replay(two.store, names, 3, &moved, &error), STORE_INVALID);
	assert_int_equal(moved, 1);
	assert_non_null(strstr(error.text, "c: is a probe"));
	assert_string_equal(listed(&one, &all).text, "a:new b:new c:handled ");
	assert_int_equal(store_count(one.store, clock_unix(), &counts, &error), STORE_OK);
	assert_int_equal(counts.waiting, 2);
	assert_int_equal(counts.failed, 0);
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

/* "npn+ npn- npn? " of the roster at that time. */
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
		    roster.marks[i].npn, roster.marks[i].unknown ? '?' :
		    roster.marks[i].active                        ? '+' :
		                                                    '-');
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
		assert_string_equal(roster_text(two.store, third - 1), "7? 8+ ");
	}
	assert_int_equal(store_forgotten(two.store, &roster, &error), STORE_OK);
	assert_int_equal(roster.forgotten, 1003);
	assert_int_equal(roster.count, 2);
	roster_free(&roster);
}

/* Of the mark that is there and the one that is imported, the later one stays. */
TEST(what_forgotten_events_said_is_imported)
{
	struct roster roster = {.forgotten = 5000}, read = {0};
	struct error error;
	char npn[24];

	NEEDS_SERVER;
	sql("INSERT INTO psapi_roster VALUES ('5', 100, false), ('6', 3, false),"
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
	assert_int_equal(read.count, 2001);
	roster_sort(&read);
	for (int i = 1; i <= 2001; i++) {
		assert_int_equal(read.marks[i - 1].when, i == 5 ? 100 : i);
		assert_int_equal(read.marks[i - 1].active, i % 2 == 0);
	}
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
	int count = 0;
	struct store_attempts query = {.last = -1, .visit = count_copy, .data = &count};
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

	/* In parts, by their serial numbers: the second host's line, with the lowest time, is last. */
	struct store_attempts part = {.last = -1, .first = 3, .visit = count_copy, .data = &count};
	assert_int_equal(store_attempts(one.store, &part, &error), STORE_OK);
	assert_int_equal(count, 7);
	assert_true(part.after > 0 && part.after < query.after);
	assert_int_equal(store_attempts(one.store, &part, &error), STORE_OK);
	assert_int_equal(count, 8);
	assert_int_equal(part.after, query.after);
}

/* ---- each call fails ---- */

/*
 * The life of three events, whatever fails. The results of a life without a fault are known; one
 * with a fault must end, and lie about nothing: what was accepted is there afterwards, once.
 */
static int
live(bool strict)
{
	const char *names[] = {"y.json"};
	struct store_work work;
	struct store_counts counts;
	struct list list = {.text = ""};
	struct store_pending p = {.now = clock_unix(), .visit = add_waiting, .data = &list};
	struct error error;
	size_t moved;
	int accepted = 0, wrong = 0;
	char *status;

	accepted += put(&one, "x", "1", 1, STORE_QUEUE) != STORE_FAILED ? 1 : 0;
	accepted += put(&one, "y", "2", 2, STORE_DEAD_LETTER) != STORE_FAILED ? 2 : 0;
	wrong += store_pending(one.store, &p, &error) != STORE_OK;
	if (list.lane != 0 && take(&one, "x.json", list.lane, &work) == STORE_OK) {
		wrong += store_renew(one.store, list.lane, &error) != STORE_OK;
		wrong += store_later(one.store, &work, &retry_state, &error) == STORE_FAILED;
		wrong += store_fail(one.store, &work, &dead_state, &error) == STORE_FAILED;
		store_unload(one.store, &work);
		store_release(one.store, list.lane);
	} else {
		wrong++;
	}
	wrong += store_retry(one.store, names, 1, &moved, &error) == STORE_FAILED;
	wrong += store_each(one.store, &all, add_item, &list, &error) != STORE_OK;
	wrong += store_count(one.store, 0, &counts, &error) != STORE_OK;
	wrong += store_probe(one.store, &error) != STORE_OK;
	status = store_status(one.store, &error);
	wrong += status == NULL;
	free(status);
	store_attempt(one.store, 1000, "{}", 2);
	store_attempts_send(one.store);
	if (strict)
		assert_int_equal(wrong, 0);
	return accepted;
}

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
begin_again(enum fault fault, int at)
{
	plan.fault = NONE;
	host_close(&one);
	host_open(&one, "one");
	empty_tables();
	reopen(fault, at);
	plan = (struct plan){.fault = fault, .at = at, .calls = fault == MEMORY ? plan.calls : 0};
}

/* A life whose nth call fails, and the sender's retry. */
static void
live_once(enum fault fault, int at)
{
	begin_again(fault, at);
	int accepted = live(false);
	plan.fault = NONE;
	enum store_result x = put(&two, "x", "1", 1, STORE_QUEUE), y = put(&two, "y", "2", 2,
	    STORE_DEAD_LETTER);
	if ((accepted & 1) != 0)
		assert_int_equal(x, STORE_DUPLICATE);
	if ((accepted & 2) != 0)
		assert_int_equal(y, STORE_DUPLICATE);
	assert_true(x == STORE_OK || x == STORE_DUPLICATE);
	assert_true(y == STORE_OK || y == STORE_DUPLICATE);
	struct list events = listed(&two, &all);
	assert_int_equal(strncmp(events.text, "x:", 2), 0);
	assert_non_null(strstr(events.text, " y:"));
}

/* All calls with FULL=1; else some twenty, others each time. */
static void
live_with(enum fault fault)
{
	int begin = (int)(time(NULL) % 20);

	begin_again(fault, -1);
	assert_int_equal(live(true), 3);
	int calls = plan.calls;
	assert_in_range(calls, 50, 20000);
	int step = getenv("FULL") != NULL && *getenv("FULL") != '\0' ? 1 : calls / 20;
	begin = 1 + (step > 1 ? begin % step : 0);
	print_message("%d calls, from the %d. on each %d.\n", calls, begin, step);
	for (int at = begin; at <= calls; at += step)
		live_once(fault, at);
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

TEST(any_allocation_may_fail)
{
	NEEDS_SERVER;
	if (!OWN_ALLOCATOR || getenv("UNDER_VALGRIND") != NULL)
		skip(); /* which have allocators of their own */
	live_with(MEMORY);
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
		OVER(a_listing_takes_what_the_filter_means),
		OVER(what_waits_is_not_forgotten),
		OVER(a_roster_counts_forgotten_events),
		OVER(what_forgotten_events_said_is_imported),
		OVER(a_commit_with_a_warning_is_no_commit),
		OVER(of_many_at_once_each_is_accepted_once),
		OVER(copies_of_attempts_are_all_hosts),
		OVER(the_connection_may_die_before_any_call),
		OVER(any_call_of_libpq_may_fail),
		OVER(any_allocation_may_fail),
	};

	return cmocka_run_group_tests(tests, start_server, stop_server);
}
