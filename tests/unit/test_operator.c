/*
 * Owns what store.h promises an administrator, for the spool: what is listed in which order,
 * where an event stands, and what retry, replay, finish and forget leave behind.
 */
#include "spool_helpers.h"

#include "base/datetime.h"

#define EVENT(type, npn) "{\"type\":\"" type "\",\"data\":{\"npn\":\"" npn "\"}}"

/* Where an event is: bits. */
enum { IN_NEW = 1, IN_FAILED = 2, IN_EVENTS = 4 };

/* An event, received at that second, as one file with these names. */
static void
add(struct fixture *f, const char *id, int where, const char *body, int64_t received)
{
	static const enum spool_dir dirs[] = {SPOOL_NEW, SPOOL_FAILED, SPOOL_EVENTS};
	char name[STORE_NAME_SIZE];
	const char *first = NULL;

	assert_int_equal(store_name(id, strlen(id), name), 0);
	for (size_t i = 0; i < ROWS(dirs); i++) {
		if ((where & 1 << i) == 0)
			continue;
		const char *path = at(f, dirs[i], name);
		if (first == NULL)
			file_write(path, record_of(id, "ours", body, received), 0640);
		else
			assert_int_equal(link(first, path), 0);
		first = path;
		age(f, dirs[i], name, received);
	}
}

static void
set_state(struct fixture *f, const char *name, int64_t due_at, int64_t failed_at)
{
	struct handler_state s = {.tries = 3, .tried_at = 900, .due_at = due_at, .failed_at = failed_at,
		.reason = "exit status 75"};

	assert_int_equal(spool_state_put(&f->spool, name, &s), 0);
}

/* ---- pages ---- */

static char paged[1024];

static void
write_page(const struct store_item *item, void *data)
{
	(void)data;
	strcat(strcat(paged, item->entry.id), " ");
}

/* The ids of one page; its cursor goes on in cursor. */
static const char *
page_of(struct fixture *f, unsigned statuses, long limit, char cursor[STORE_CURSOR_SIZE])
{
	struct store_page page = {.filter.statuses = statuses, .limit = limit, .visit = write_page};
	struct error error;

	paged[0] = '\0';
	strcpy(page.cursor, cursor);
	assert_int_equal(spool_page(&f->spool, &page, &error), STORE_OK);
	strcpy(cursor, page.cursor);
	return paged;
}

TEST(pages_have_the_newest_first)
{
	struct fixture *f = *state;
	enum { QUEUE = 1 << STORE_NEW | 1 << STORE_WAITING };
	char cursor[STORE_CURSOR_SIZE] = "";
	struct store_tally tally;
	struct error error;

	add(f, "b", IN_NEW | IN_EVENTS, EVENT("x", "1"), 200);
	add(f, "a", IN_NEW | IN_EVENTS, EVENT("x", "2"), 200);
	add(f, "c", IN_NEW | IN_EVENTS, EVENT("x", "1"), 300);
	add(f, "d", IN_FAILED | IN_EVENTS, EVENT("x", "1"), 100);
	add(f, "e", IN_EVENTS, EVENT("x", "1"), 400);
	assert_string_equal(page_of(f, QUEUE, 10, cursor), "c b a ");
	assert_string_equal(cursor, "");
	assert_string_equal(page_of(f, QUEUE, 2, cursor), "c b ");
	assert_string_equal(page_of(f, QUEUE, 2, cursor), "a ");
	assert_string_equal(cursor, "");
	assert_string_equal(page_of(f, QUEUE | 1 << STORE_DEAD, 10, cursor), "c b a d ");
	/* A name that no event has does not count. */
	int unrecognised = openat(f->spool.dir[SPOOL_NEW], "notes.txt", O_CREAT | O_WRONLY, 0600);
	assert_true(unrecognised >= 0);
	close(unrecognised);
	assert_int_equal(spool_tally(&f->spool, 0, 0, &tally, &error), STORE_OK);
	assert_int_equal(tally.waiting, 3);
	assert_int_equal(tally.failed, 1);
	assert_true(tally.oldest > 0);
	/* A crash in a move left it in both: it is there once. */
	add(f, "f", IN_NEW | IN_FAILED | IN_EVENTS, EVENT("x", "1"), 50);
	assert_string_equal(page_of(f, QUEUE | 1 << STORE_DEAD, 10, cursor), "c b a d f ");
}

TEST(a_tally_ends_when_its_time_is_over)
{
	struct fixture *f = *state;
	struct store_tally tally;
	struct error error;
	char name[16];

	for (int i = 0; i < 300; i++) {
		snprintf(name, sizeof(name), "n%d", i);
		add(f, name, IN_NEW, EVENT("x", "1"), 200);
	}
	add(f, "d", IN_FAILED, EVENT("x", "1"), 100);
	assert_int_equal(spool_tally(&f->spool, 0, -1, &tally, &error), STORE_OK);
	assert_int_equal(tally.waiting, 256);
	assert_true(tally.more_waiting && !tally.more_failed);
	assert_int_equal(tally.failed, 1);
	assert_int_equal(tally.oldest, 0);
	assert_int_equal(spool_tally(&f->spool, 0, 60000, &tally, &error), STORE_OK);
	assert_int_equal(tally.waiting, 300);
	assert_true(!tally.more_waiting && tally.oldest > 0);
}

TEST(pages_refuse_what_has_no_order)
{
	struct fixture *f = *state;
	static const char *const wrong[] = {"x", "1", "1.", "1.../etc/passwd", "1.a", "x.a.json",
		"99999999999999999999.a.json"};
	struct error error;

	for (size_t i = 0; i < ROWS(wrong); i++) {
		struct store_page page = {.filter.statuses = 1 << STORE_NEW, .limit = 1,
			.visit = write_page};
		strcpy(page.cursor, wrong[i]);
		assert_int_equal(spool_page(&f->spool, &page, &error), STORE_INVALID);
	}
	struct store_page handled = {.limit = 1, .visit = write_page};
	assert_int_equal(spool_page(&f->spool, &handled, &error), STORE_INVALID);
}

/* ---- listings ---- */

static struct {
	char text[4096]; /* "id:status id:status " */
	int count, stop_at;
} listed;

static int
write_down(const struct store_item *item, void *data)
{
	size_t length = strlen(listed.text);

	assert_ptr_equal(data, &listed);
	assert_true(item->entry.id != NULL || item->invalid != NULL);
	snprintf(listed.text + length, sizeof(listed.text) - length, "%s%s:%s", length > 0 ? " " : "",
	    item->invalid != NULL ? item->name : item->entry.id, item->invalid != NULL ? "invalid" :
	    store_status_text(item->status));
	return ++listed.count == listed.stop_at;
}

static const char *
list(struct fixture *f, struct store_filter filter)
{
	listed.text[0] = '\0';
	listed.count = 0;
	assert_int_equal(spool_items(&f->spool, &filter, write_down, &listed, &f->error), STORE_OK);
	return listed.text;
}

static void
add_one_of_each(struct fixture *f)
{
	add(f, "handled", IN_EVENTS, EVENT("a.b", "7"), 1000);
	add(f, "new", IN_NEW | IN_EVENTS, EVENT("a.b.c", "8"), 3000);
	add(f, "waiting", IN_NEW | IN_EVENTS, EVENT("a.bc", "7"), 2000);
	set_state(f, "waiting.json", 9999, 0);
	add(f, "dead", IN_FAILED | IN_EVENTS, EVENT("x", "7"), 1500);
	set_state(f, "dead.json", 0, 1600);
	add(f, "arriving", IN_NEW, EVENT("x", "8"), 4000);
	add(f, "odd id/", IN_FAILED, EVENT("x.y", ""), 500);
	set_state(f, "handled.json", 1, 0); /* left over */
}

TEST(a_filter_means_what_it_says_in_the_order_of_arrival)
{
	static const struct {
		struct store_filter filter;
		const char *expected;
	} rows[] = {
		{{0}, "odd id/:failed handled:handled dead:failed waiting:waiting new:new arriving:new"},
		{{.statuses = 1U << STORE_NEW}, "new:new arriving:new"},
		{{.statuses = 1U << STORE_WAITING}, "waiting:waiting"},
		{{.statuses = 1U << STORE_DEAD}, "odd id/:failed dead:failed"},
		{{.statuses = 1U << STORE_HANDLED}, "handled:handled"},
		{{.statuses = 1U << STORE_NEW | 1U << STORE_WAITING},
		    "waiting:waiting new:new arriving:new"},
		{{.statuses = 1U << STORE_NEW | 1U << STORE_DEAD},
		    "odd id/:failed dead:failed new:new arriving:new"},
		{{.statuses = 1U << STORE_HANDLED | 1U << STORE_DEAD},
		    "odd id/:failed handled:handled dead:failed"},
		{{.statuses = 15},
		    "odd id/:failed handled:handled dead:failed waiting:waiting new:new arriving:new"},
		/* The beginning of a type ends at a dot. */
		{{.type = "a"}, "handled:handled waiting:waiting new:new"},
		{{.type = "a.b"}, "handled:handled new:new"},
		{{.type = "a.b.c"}, "new:new"},
		{{.type = "a.b."}, ""},
		{{.type = "x"}, "odd id/:failed dead:failed arriving:new"},
		{{.type = "b"}, ""},
		{{.npn = "7"}, "handled:handled dead:failed waiting:waiting"},
		{{.npn = ""}, "odd id/:failed"},
		{{.npn = "7", .type = "a"}, "handled:handled waiting:waiting"},
		{{.npn = "7", .type = "a", .statuses = 1U << STORE_WAITING}, "waiting:waiting"},
		{{.since = 2000000000000}, "waiting:waiting new:new arriving:new"},
		{{.since = 2000000000001}, "new:new arriving:new"},
		{{.since = 5000000000000}, ""},
		{{.since = 2000000000000, .statuses = 1U << STORE_NEW}, "new:new arriving:new"},
	};
	struct fixture *f = *state;

	add_one_of_each(f);
	for (size_t i = 0; i < ROWS(rows); i++)
		if (strcmp(list(f, rows[i].filter), rows[i].expected) != 0)
			fail_msg("row %zu: %s", i, listed.text);
}

static int
look_at_item(const struct store_item *item, void *data)
{
	struct fixture *f = data;
	const char *place = item->status == STORE_HANDLED ? "events" :
	    item->status == STORE_DEAD ? "failed" : "new";
	bool dead = strcmp(item->entry.id, "dead") == 0, waits = item->status == STORE_WAITING;
	char expected[512];

	snprintf(expected, sizeof(expected), "%s/%s/%s", f->path, place, item->name);
	assert_string_equal(item->path, expected);
	assert_int_equal(item->state.tries, waits || dead ? 3 : 0);
	assert_int_equal(item->state.due_at, waits ? 9999 : 0);
	assert_int_equal(item->state.failed_at, dead ? 1600 : 0);
	listed.count++;
	return 0;
}

TEST(an_item_has_path_and_state)
{
	struct fixture *f = *state;

	add_one_of_each(f);
	listed.count = 0;
	assert_int_equal(spool_items(&f->spool, &(struct store_filter){0}, look_at_item, f, &f->error),
	    STORE_OK);
	assert_int_equal(listed.count, 6);
}

TEST(a_visit_can_end_a_listing)
{
	struct fixture *f = *state;

	add_one_of_each(f);
	listed.stop_at = 2;
	list(f, (struct store_filter){0});
	listed.stop_at = 0;
	assert_string_equal(listed.text, "odd id/:failed handled:handled");
}

TEST(an_event_in_two_queues_is_listed_once_and_waits)
{
	struct fixture *f = *state;

	add(f, "a", IN_NEW | IN_FAILED | IN_EVENTS, BODY, 1000); /* a move was cut short */
	set_state(f, "a.json", 0, 1600);
	assert_string_equal(list(f, (struct store_filter){0}), "a:new");
	assert_string_equal(list(f, (struct store_filter){.statuses = 1U << STORE_DEAD}), "");
	struct store_filter both = {.statuses = 1U << STORE_DEAD | 1U << STORE_NEW};
	assert_string_equal(list(f, both), "a:new");
}

TEST(what_is_no_event_is_an_item_only_where_all_is_meant)
{
	static const struct store_filter filters[] = {{.statuses = 1U << STORE_NEW}, {.type = "x"},
	    {.npn = "7"},
		{.since = 1}};
	struct fixture *f = *state;

	put(f, SPOOL_NEW, "torn.json", "{\"webhook_id\":");
	age(f, SPOOL_NEW, "torn.json", 100);
	put(f, SPOOL_EVENTS, "wrong.json", ours("another"));
	age(f, SPOOL_EVENTS, "wrong.json", 200);
	put(f, SPOOL_FAILED, "notes.txt", ""); /* not named as events are: doctor tells */
	put(f, SPOOL_NEW, ".hidden.json", ours("a"));
	assert_int_equal(mkdir(at(f, SPOOL_NEW, "d.json"), 0750), 0);
	assert_int_equal(symlink("torn.json", at(f, SPOOL_NEW, "l.json")), 0);
	assert_int_equal(mkfifo(at(f, SPOOL_NEW, "p.json"), 0640), 0);
	assert_string_equal(list(f, (struct store_filter){0}), "torn.json:invalid wrong.json:invalid");
	for (size_t i = 0; i < ROWS(filters); i++)
		assert_string_equal(list(f, filters[i]), "");
}

TEST(of_what_cannot_be_read_the_others_are_listed)
{
	struct fixture *f = *state;

	for (char id[] = "a"; id[0] <= 'e'; id[0]++)
		add(f, id, IN_NEW | IN_EVENTS, BODY, 1000 + id[0]);
	for (int nth = 1; nth <= 5; nth++) {
		/* The first open is that of the directory. */
		interference = (struct interference){.of = OPENAT, .nth = 1 + nth, .error = EACCES};
		listed.text[0] = '\0';
		listed.count = 0;
		assert_int_equal(spool_items(&f->spool, &(struct store_filter){.statuses = 1U << STORE_NEW},
		    write_down, &listed, &f->error), STORE_FAILED);
		interference.nth = 0;
		char name[] = {'n', 'e', 'w', '/', (char)('a' + nth - 1), '.', 'j', 's', 'o', 'n', '\0'};
		assert_true(tells(f, &f->error, name, EACCES));
		assert_int_equal(listed.count, 4);
	}
	interference = (struct interference){.of = OPENAT, .nth = 1, .error = EMFILE};
	assert_int_equal(spool_items(&f->spool, &(struct store_filter){0}, write_down, &listed,
	    &f->error), STORE_FAILED);
	interference.nth = 0;
	assert_non_null(strstr(f->error.text, strerror(EMFILE)));
}

TEST(a_listing_takes_thousands)
{
	struct fixture *f = *state;
	int many = getenv("UNDER_VALGRIND") != NULL ? 200 : 2000;
	char id[128];

	for (int i = 0; i < many; i++) {
		snprintf(id, sizeof(id), "msg_%d_with_a_name_of_some_length_so_that_they_need_room", i);
		add(f, id, i % 2 == 0 ? IN_EVENTS : IN_NEW, BODY, 5000 + i);
	}
	list(f, (struct store_filter){.since = 5000000000000 + (many - 3) * 1000000000LL});
	assert_int_equal(listed.count, 3);
	char expected[512];
	assert_true(snprintf(expected, sizeof(expected),
	    "msg_%d_with_a_name_of_some_length_so_that_they_need_room:new "
		"msg_%d_with_a_name_of_some_length_so_that_they_need_room:handled "
		"msg_%d_with_a_name_of_some_length_so_that_they_need_room:new", many - 3, many - 2,
		    many - 1) > 0);
	assert_string_equal(listed.text, expected);
}

/* ---- one event ---- */

TEST(an_event_is_found_by_id_name_and_path)
{
	static const struct {
		const char *text, *name; /* NULL: there is none */
	} rows[] = {
		{"new", "new.json"}, {"new.json", "new.json"}, {"/var/spool/psapi/new/new.json",
		    "new.json"},
		{"./new.json", "new.json"}, {"odd id/", "odd%20id%2F.json"},
		    {"odd%20id%2F.json", "odd%20id%2F.json"},
		{"x/odd%20id%2F.json", "odd%20id%2F.json"}, {"handled", "handled.json"},
		    {"dead", "dead.json"},
		{"", NULL}, {"absent", NULL}, {"absent.json", NULL}, {"/", NULL}, {"new/", NULL},
		    {"../new", NULL},
		{"%41.json", NULL}, {"new.jso", NULL}, {"odd%20id%2F", NULL},
	};
	struct fixture *f = *state;
	char name[STORE_NAME_SIZE], long_text[1000];

	add_one_of_each(f);
	for (size_t i = 0; i < ROWS(rows); i++) {
		enum store_result result = spool_lookup(&f->spool, rows[i].text, name, &f->error);
		if (result != (rows[i].name == NULL ? STORE_ABSENT : STORE_OK))
			fail_msg("\"%s\": %d", rows[i].text, (int)result);
		if (rows[i].name != NULL)
			assert_string_equal(name, rows[i].name);
		else
			assert_non_null(strstr(f->error.text, ": no such event in "));
	}
	memset(long_text, 'a', sizeof(long_text) - 6);
	strcpy(long_text + sizeof(long_text) - 6, ".json");
	assert_int_equal(spool_lookup(&f->spool, long_text, name, &f->error), STORE_ABSENT);
	/* An id that looks like a name comes first. */
	add(f, "new.json", IN_EVENTS, BODY, 1000);
	assert_int_equal(spool_lookup(&f->spool, "new.json", name, &f->error), STORE_OK);
	assert_string_equal(name, "new%2Ejson.json");
}

TEST(an_event_is_got_from_where_it_stands)
{
	static const struct {
		const char *name;
		enum store_status status;
	} rows[] = {{"new.json", STORE_NEW}, {"waiting.json", STORE_WAITING}, {"dead.json", STORE_DEAD},
		{"handled.json", STORE_HANDLED}, {"arriving.json", STORE_NEW}};
	struct fixture *f = *state;
	struct store_item item;

	add_one_of_each(f);
	for (size_t i = 0; i < ROWS(rows); i++) {
		assert_int_equal(spool_get(&f->spool, rows[i].name, &item, &f->error), STORE_OK);
		assert_int_equal(item.status, rows[i].status);
		assert_string_equal(item.name, rows[i].name);
		assert_null(item.invalid);
		look_at_item(&item, f);
		entry_free(&item.entry);
	}
	assert_int_equal(spool_get(&f->spool, "absent.json", &item, &f->error), STORE_ABSENT);
	put(f, SPOOL_NEW, "torn.json", "{\"webhook_id\":");
	assert_int_equal(spool_get(&f->spool, "torn.json", &item, &f->error), STORE_INVALID);
	assert_non_null(strstr(f->error.text,
	    "/new/torn.json: it does not begin with an evidence line"));
	assert_int_equal(f->error.status, EX_DATAERR);
	interference = (struct interference){.of = READ, .nth = 1, .error = EIO};
	assert_int_equal(spool_get(&f->spool, "new.json", &item, &f->error), STORE_FAILED);
	interference.nth = 0;
	assert_true(tells(f, &f->error, "new/new.json", EIO));
}

/* A state of a dead letter that was moved back by hand is not that of a retry. */
TEST(a_dead_letter_that_was_moved_by_hand_is_new)
{
	struct fixture *f = *state;
	struct store_item item;

	add(f, "a", IN_NEW | IN_EVENTS, BODY, 1000);
	set_state(f, "a.json", 0, 1600);
	assert_int_equal(spool_get(&f->spool, "a.json", &item, &f->error), STORE_OK);
	assert_int_equal(item.status, STORE_NEW);
	assert_int_equal(item.state.tries, 0);
	entry_free(&item.entry);
}

TEST(a_status_has_a_text)
{
	assert_string_equal(store_status_text(STORE_NEW), "new");
	assert_string_equal(store_status_text(STORE_WAITING), "waiting");
	assert_string_equal(store_status_text(STORE_DEAD), "failed");
	assert_string_equal(store_status_text(STORE_HANDLED), "handled");
}

/* ---- retry, replay ---- */

static size_t moved;

static enum store_result
retry(struct fixture *f, const char *name)
{
	return spool_retry(&f->spool, &name, 1, &moved, &f->error);
}

static enum store_result
replay(struct fixture *f, const char *name)
{
	return spool_replay(&f->spool, &name, 1, &moved, &f->error);
}

static void
expect_where(struct fixture *f, const char *name, int where)
{
	int found = 0;

	if (has(f, SPOOL_NEW, name))
		found |= IN_NEW;
	if (has(f, SPOOL_FAILED, name))
		found |= IN_FAILED;
	if (has(f, SPOOL_EVENTS, name))
		found |= IN_EVENTS;
	if (found != where)
		fail_msg("%s is in %d, not %d", name, found, where);
}

/* A move is link, sync, unlink; and without the state of its earlier life. */
TEST(a_dead_letter_that_is_retried_is_new)
{
	struct fixture *f = *state;

	for (size_t w = 0; w < ROWS(ways); w++) {
		go_the_way(f, &ways[w]);
		add(f, "dead", IN_FAILED | IN_EVENTS, BODY, 1000);
		set_state(f, "dead.json", 0, 1600);
		trace_begin(&f->spool);
		assert_int_equal(retry(f, "dead.json"), STORE_OK);
		assert_string_equal(strstr(trace_end(), "link("),
		    "link(new) unlink(state) fsync(new) unlink(failed)");
		assert_int_equal(moved, 1);
		expect_where(f, "dead.json", IN_NEW | IN_EVENTS);
		assert_true(is_one_file(f, SPOOL_NEW, SPOOL_EVENTS, "dead.json"));
		assert_false(has(f, SPOOL_STATE, "dead.json"));
		drop(f, SPOOL_NEW, "dead.json");
		drop(f, SPOOL_EVENTS, "dead.json");
	}
}

TEST(a_handled_event_that_is_replayed_is_new)
{
	struct fixture *f = *state;

	add(f, "a", IN_EVENTS, BODY, 1000);
	set_state(f, "a.json", 9999, 0); /* left over */
	trace_begin(&f->spool);
	assert_int_equal(replay(f, "a.json"), STORE_OK);
	assert_string_equal(strstr(trace_end(), "link("), "link(new) unlink(state) fsync(new)");
	assert_int_equal(moved, 1);
	assert_true(is_one_file(f, SPOOL_NEW, SPOOL_EVENTS, "a.json"));
	assert_false(has(f, SPOOL_STATE, "a.json"));
}

TEST(what_has_another_status_is_left_where_it_is)
{
	static const struct {
		enum store_result (*move)(struct fixture *, const char *);
		const char *name, *why;
		enum store_result result;
		int status;
	} rows[] = {
		{retry, "new.json", "new: has not failed: it waits in new/ already", STORE_INVALID,
		    EX_DATAERR},
		{retry, "waiting.json", "waiting: has not failed: it waits in new/ already", STORE_INVALID,
		    EX_DATAERR},
		{retry, "handled.json", "has not failed: it was handled; psapi replay", STORE_INVALID,
		    EX_DATAERR},
		{retry, "odd%20id%2F.json", "is not in events/", STORE_INVALID, EX_TEMPFAIL},
		{retry, "empty.json", "empty: it is empty", STORE_INVALID, EX_DATAERR},
		{replay, "new.json", "new: was not handled yet: it waits in new/", STORE_INVALID,
		    EX_DATAERR},
		{replay, "waiting.json", "was not handled yet: it waits in new/", STORE_INVALID,
		    EX_DATAERR},
		{replay, "dead.json", "was not handled yet: it waits in failed/; psapi retry",
		    STORE_INVALID, EX_DATAERR},
		{replay, "probe.json", "is a probe of psapi doctor, which nobody handles", STORE_INVALID,
		    EX_DATAERR},
		{replay, "torn.json", "it is empty", STORE_INVALID, EX_DATAERR},
	};
	struct fixture *f = *state;

	add_one_of_each(f);
	add(f, "probe", IN_EVENTS, "{\"type\":\"psapi.doctor\"}", 1000);
	put(f, SPOOL_EVENTS, "torn.json", "");
	put(f, SPOOL_EVENTS, "empty.json", "");
	put(f, SPOOL_FAILED, "empty.json", "");
	char *before = strdup(list(f, (struct store_filter){0}));
	for (size_t i = 0; i < ROWS(rows); i++) {
		memset(&f->error, 0, sizeof(f->error));
		assert_int_equal(rows[i].move(f, rows[i].name), rows[i].result);
		if (strstr(f->error.text, rows[i].why) == NULL || f->error.status != rows[i].status)
			fail_msg("row %zu: %d %s", i, f->error.status, f->error.text);
		assert_int_equal(moved, 0);
		assert_string_equal(list(f, (struct store_filter){0}), before);
	}
	free(before);
	assert_int_equal(replay(f, "absent.json"), STORE_ABSENT);
	assert_true(has(f, SPOOL_STATE, "waiting.json") && has(f, SPOOL_STATE, "dead.json"));
}

TEST(of_many_those_that_fit_are_moved_with_one_sync)
{
	static const char *const names[] = {"a.json", "new.json", "b.json", "handled.json", "c.json"};
	struct fixture *f = *state;

	add_one_of_each(f);
	for (char id[] = "a"; id[0] <= 'c'; id[0]++)
		add(f, id, IN_FAILED | IN_EVENTS, BODY, 1000 + id[0]);
	interference = (struct interference){.of = FSYNC, .nth = 100};
	assert_int_equal(spool_retry(&f->spool, names, ROWS(names), &moved, &f->error), STORE_INVALID);
	assert_int_equal(interference.seen, 1);
	interference.nth = 0;
	assert_int_equal(moved, 3);
	/* The first that was left out. */
	assert_non_null(strstr(f->error.text, "new: has not failed"));
	for (char name[] = "a.json"; name[0] <= 'c'; name[0]++)
		expect_where(f, name, IN_NEW | IN_EVENTS);
	expect_where(f, "new.json", IN_NEW | IN_EVENTS);
	expect_where(f, "handled.json", IN_EVENTS);
	/* One that fails is worse than the first that is left out. */
	link_again(f, SPOOL_NEW, SPOOL_FAILED, "b.json");
	link_again(f, SPOOL_NEW, SPOOL_FAILED, "c.json");
	interference = (struct interference){.of = UNLINKAT, .nth = 3, .all = true, .error = EACCES};
	assert_int_equal(spool_retry(&f->spool, names + 1, 4, &moved, &f->error), STORE_FAILED);
	interference.nth = 0;
	assert_non_null(strstr(f->error.text, "failed/b.json"));
	/* None: no sync. */
	interference = (struct interference){.of = FSYNC, .nth = 100};
	assert_int_equal(spool_retry(&f->spool, names, 0, &moved, &f->error), STORE_OK);
	assert_int_equal(interference.seen, 0);
	interference.nth = 0;
}

/* What a power cut made of a move: new/ wins, and the next retry finishes it. */
TEST(a_retry_that_was_cut_short_is_finished)
{
	struct fixture *f = *state;

	add(f, "a", IN_NEW | IN_FAILED | IN_EVENTS, BODY, 1000);
	assert_int_equal(retry(f, "a.json"), STORE_OK);
	assert_int_equal(moved, 1);
	expect_where(f, "a.json", IN_NEW | IN_EVENTS);
}

/* The drain takes only the file that is in events/. */
TEST(what_is_queued_again_is_the_file_in_events)
{
	struct fixture *f = *state;

	/* A spool that was copied without its hard links; a file that was edited. */
	add(f, "a", IN_EVENTS, BODY, 1000);
	put(f, SPOOL_FAILED, "a.json", ours("a"));
	assert_int_equal(retry(f, "a.json"), STORE_OK);
	assert_int_equal(moved, 1);
	expect_where(f, "a.json", IN_NEW | IN_EVENTS);
	assert_true(is_one_file(f, SPOOL_NEW, SPOOL_EVENTS, "a.json"));
	/* In new/ another file keeps nothing back: it is what a drain says to do with it. */
	drop(f, SPOOL_NEW, "a.json");
	put(f, SPOOL_NEW, "a.json", theirs("a"));
	assert_int_equal(replay(f, "a.json"), STORE_OK);
	assert_int_equal(moved, 1);
	assert_true(is_one_file(f, SPOOL_NEW, SPOOL_EVENTS, "a.json"));
	/* Nor what is no event. */
	drop(f, SPOOL_NEW, "a.json");
	link_again(f, SPOOL_EVENTS, SPOOL_FAILED, "a.json");
	put(f, SPOOL_NEW, "a.json", "notes");
	assert_int_equal(retry(f, "a.json"), STORE_OK);
	assert_true(is_one_file(f, SPOOL_NEW, SPOOL_EVENTS, "a.json"));
	expect_where(f, "a.json", IN_NEW | IN_EVENTS);
	assert_int_equal(count(f, SPOOL_TMP), 0);
}

static void
handle_it(void)
{
	assert_int_equal(unlink(at(hooked, SPOOL_NEW, "a.json")), 0);
}

/* Else it would be listed as failed, and be retried once more. */
TEST(what_a_consumer_handles_during_a_retry_is_no_dead_letter)
{
	struct fixture *f = *state;

	add(f, "a", IN_FAILED | IN_EVENTS, BODY, 1000);
	interference = (struct interference){.of = FSYNC, .nth = 1, .hook = handle_it};
	assert_int_equal(retry(f, "a.json"), STORE_OK);
	interference.nth = 0;
	assert_int_equal(moved, 1);
	expect_where(f, "a.json", IN_EVENTS);
}

TEST(whichever_call_fails_a_retried_event_is_in_a_queue)
{
	static const char *const names[] = {"a.json", "b.json"};
	struct fixture *f = *state;
	bool done = false;
	int failures = 0;

	for (int nth = 1; !done; nth++) {
		struct capture capture;
		add(f, "a", IN_FAILED | IN_EVENTS, BODY, 1000);
		add(f, "b", IN_FAILED | IN_EVENTS, BODY, 1000);
		set_state(f, "a.json", 0, 1600);
		interference = (struct interference){.of = ANY, .nth = nth, .error = EIO};
		capture_begin(&capture);
		enum store_result result = spool_retry(&f->spool, names, 2, &moved, &f->error);
		free(capture_end(&capture));
		done = interference.seen < nth;
		interference.nth = 0;
		if (result == STORE_OK)
			assert_true(moved == 2 || !done);
		else
			failures++;
		f->spool.distrusted = false;
		for (int i = 0; i < 2; i++) {
			assert_true(has(f, SPOOL_NEW, names[i]) || has(f, SPOOL_FAILED, names[i]));
			enum store_result again = retry(f, names[i]);
			assert_true(again == STORE_OK || again == STORE_INVALID);
			expect_where(f, names[i], IN_NEW | IN_EVENTS);
			assert_true(is_one_file(f, SPOOL_NEW, SPOOL_EVENTS, names[i]));
			drop(f, SPOOL_NEW, names[i]);
			drop(f, SPOOL_EVENTS, names[i]);
		}
	}
	assert_true(failures >= 2 * 4 + 1); /* open, read, link, unlink of each; the sync */
}

/* What may not be on the disk in new/ stays in failed/. */
TEST(a_retry_that_is_not_synced_removes_nothing)
{
	struct fixture *f = *state;
	struct capture capture;

	add(f, "a", IN_FAILED | IN_EVENTS, BODY, 1000);
	interference = (struct interference){.of = FSYNC, .nth = 1, .error = EIO};
	capture_begin(&capture);
	enum store_result result = retry(f, "a.json");
	free(capture_end(&capture));
	interference.nth = 0;
	assert_int_equal(result, STORE_FAILED);
	assert_int_equal(moved, 0);
	assert_true(tells(f, &f->error, "new", EIO));
	expect_where(f, "a.json", IN_NEW | IN_FAILED | IN_EVENTS);
}

/* ---- finish ---- */

TEST(an_event_that_is_called_handled_is_in_events_alone_for_good)
{
	static const struct {
		const char *id;
		int where;
	} rows[] = {{"a", IN_NEW}, {"b", IN_FAILED}, {"c", IN_NEW | IN_FAILED}};
	struct fixture *f = *state;
	char name[STORE_NAME_SIZE];

	for (size_t i = 0; i < ROWS(rows); i++) {
		snprintf(name, sizeof(name), "%s.json", rows[i].id);
		add(f, rows[i].id, rows[i].where | IN_EVENTS, BODY, 1000);
		set_state(f, name, 9999, 0);
		trace_begin(&f->spool);
		assert_int_equal(spool_finish(&f->spool, name, &f->error), STORE_OK);
		/* What remembers it is on the disk before, and that it is gone when this returns. */
		const char *calls = trace_end(), *removed = strstr(calls, "unlink(");
		assert_int_equal(strncmp(calls, "fsync(events) ", 14), 0);
		assert_true((rows[i].where & IN_NEW) == 0 || strstr(removed, "fsync(new)") != NULL);
		assert_true((rows[i].where & IN_FAILED) == 0 || strstr(removed, "fsync(failed)") != NULL);
		assert_true(strstr(calls, "fsync(failed)") == NULL ||
		    strstr(calls, "unlink(failed)") < strstr(calls, "fsync(failed)"));
		assert_true(strstr(calls, "fsync(new)") == NULL ||
		    strstr(calls, "unlink(new)") < strstr(calls, "fsync(new)"));
		expect_where(f, name, IN_EVENTS);
		assert_false(has(f, SPOOL_STATE, name));
	}
}

TEST(what_waits_nowhere_or_is_not_committed_cannot_be_finished)
{
	struct fixture *f = *state;

	add_one_of_each(f);
	assert_int_equal(spool_finish(&f->spool, "handled.json", &f->error), STORE_INVALID);
	assert_string_equal(f->error.text,
	    "handled: is neither in new/ nor in failed/: it was handled");
	assert_int_equal(f->error.status, EX_DATAERR);
	assert_int_equal(spool_finish(&f->spool, "arriving.json", &f->error), STORE_INVALID);
	assert_non_null(strstr(f->error.text, "arriving: is not in events/"));
	assert_int_equal(f->error.status, EX_TEMPFAIL);
	assert_true(has(f, SPOOL_NEW, "arriving.json"));
}

TEST(whichever_call_fails_finish_can_be_tried_again)
{
	struct fixture *f = *state;
	bool done = false;

	for (int nth = 1; !done; nth++) {
		struct capture capture;
		add(f, "a", IN_NEW | IN_FAILED | IN_EVENTS, BODY, 1000);
		set_state(f, "a.json", 9999, 0);
		interference = (struct interference){.of = ANY & ~LOOK, .nth = nth, .error = EIO};
		capture_begin(&capture);
		enum store_result result = spool_finish(&f->spool, "a.json", &f->error);
		free(capture_end(&capture));
		done = interference.seen < nth;
		interference.nth = 0;
		assert_int_equal(result, done ? STORE_OK : STORE_FAILED);
		f->spool.distrusted = false;
		if (has(f, SPOOL_NEW, "a.json") || has(f, SPOOL_FAILED, "a.json"))
			assert_int_equal(spool_finish(&f->spool, "a.json", &f->error), STORE_OK);
		expect_where(f, "a.json", IN_EVENTS);
		assert_false(has(f, SPOOL_STATE, "a.json"));
		drop(f, SPOOL_EVENTS, "a.json");
	}
}

/* ---- forget ---- */

static void
write_forgotten(const char *name, int64_t received, void *data)
{
	size_t length = strlen(listed.text);

	assert_ptr_equal(data, &listed);
	snprintf(listed.text + length, sizeof(listed.text) - length, "%s:%lld ", name,
	    (long long)received);
}

TEST(what_is_old_and_was_handled_is_forgotten)
{
	struct fixture *f = *state;
	struct store_forgetting forgetting = {.before = 2500, .now = 10000, .visit = write_forgotten,
		.data = &listed};

	add_one_of_each(f);
	add(f, "young", IN_EVENTS, BODY, 2501);
	put(f, SPOOL_EVENTS, "notes.txt", "");
	age(f, SPOOL_EVENTS, "notes.txt", 100);
	assert_int_equal(mkdir(at(f, SPOOL_EVENTS, "d.json"), 0750), 0);
	age(f, SPOOL_EVENTS, "d.json", 100);
	for (int dry = 1; dry >= 0; dry--) {
		forgetting.dry_run = dry == 1;
		forgetting.forgotten = forgetting.kept = 0;
		listed.text[0] = '\0';
		assert_int_equal(spool_forget(&f->spool, &forgetting, &f->error), STORE_OK);
		assert_string_equal(listed.text, "handled.json:1000 ");
		assert_int_equal(forgetting.forgotten, 1);
		assert_int_equal(forgetting.kept, 4); /* new, waiting, dead; young */
		expect_where(f, "handled.json", dry == 1 ? IN_EVENTS : 0);
		expect_where(f, "new.json", IN_NEW | IN_EVENTS);
		expect_where(f, "waiting.json", IN_NEW | IN_EVENTS);
		expect_where(f, "dead.json", IN_FAILED | IN_EVENTS);
		expect_where(f, "young.json", IN_EVENTS);
		assert_true(has(f, SPOOL_EVENTS, "notes.txt") && has(f, SPOOL_EVENTS, "d.json"));
	}
	/* Whoever sends it again, it would be accepted. */
	assert_int_equal(spool_find(&f->spool, "handled.json", &f->error), STORE_ABSENT);
}

TEST(a_state_whose_event_waits_nowhere_goes_with_an_hour)
{
	struct fixture *f = *state;
	struct store_forgetting forgetting = {.before = 0, .now = 10000};

	add_one_of_each(f);
	set_state(f, "gone.json", 9999, 0);
	set_state(f, "young.json", 9999, 0); /* a receiver is about to put its dead letter */
	put(f, SPOOL_STATE, "unrecognised", "");
	age(f, SPOOL_STATE, "gone.json", 10000 - 3601);
	age(f, SPOOL_STATE, "young.json", 10000 - 3600);
	age(f, SPOOL_STATE, "waiting.json", 1);
	age(f, SPOOL_STATE, "dead.json", 1);
	age(f, SPOOL_STATE, "handled.json", 1);
	age(f, SPOOL_STATE, "unrecognised", 1);
	forgetting.dry_run = true;
	assert_int_equal(spool_forget(&f->spool, &forgetting, &f->error), STORE_OK);
	assert_int_equal(count(f, SPOOL_STATE), 6);
	forgetting.dry_run = false;
	assert_int_equal(spool_forget(&f->spool, &forgetting, &f->error), STORE_OK);
	assert_int_equal(count(f, SPOOL_STATE), 4);
	assert_false(has(f, SPOOL_STATE, "gone.json") || has(f, SPOOL_STATE, "handled.json"));
}

TEST(what_cannot_be_forgotten_is_said)
{
	struct fixture *f = *state;
	struct store_forgetting forgetting = {.before = 2500, .now = 10000};

	add_one_of_each(f);
	interference = (struct interference){.of = UNLINKAT, .nth = 1, .error = EROFS};
	assert_int_equal(spool_forget(&f->spool, &forgetting, &f->error), STORE_FAILED);
	assert_true(tells(f, &f->error, "events", EROFS));
	interference = (struct interference){.of = OPENAT, .nth = 2, .error = EACCES}; /* events/ */
	assert_int_equal(spool_forget(&f->spool, &forgetting, &f->error), STORE_FAILED);
	interference.nth = 0;
	assert_true(tells(f, &f->error, "events", EACCES));
	expect_where(f, "handled.json", IN_EVENTS);
}

/* ---- what the forgotten ones said ---- */

#define NPN_EVENT(kind, npn, at) "{\"type\":\"producersync.npn." kind "\",\"timestamp\":\"" at \
	"\",\"data\":{\"npn\":\"" npn "\"}}"

/* "npn+ npn- " of the roster at that time. */
static const char *
roster_text(struct fixture *f, int64_t at)
{
	static char text[1024];
	struct roster roster = {0};
	size_t length = 0;

	assert_int_equal(spool_roster(&f->spool, at, &roster, &f->error), STORE_OK);
	roster_sort(&roster);
	text[0] = '\0';
	for (size_t i = 0; i < roster.count; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%c ",
		    roster.marks[i].npn, roster.marks[i].active ? '+' : '-');
	roster_free(&roster);
	return text;
}

static void
add_producers(struct fixture *f)
{
	add(f, "a", IN_EVENTS, NPN_EVENT("activated", "7", "2025-01-01T00:00:00Z"), 1000);
	add(f, "b", IN_EVENTS, NPN_EVENT("deactivated", "7", "2025-01-03T00:00:00Z"), 1001);
	add(f, "late", IN_EVENTS, NPN_EVENT("activated", "7", "2025-01-02T00:00:00Z"), 3000);
	add(f, "c", IN_EVENTS, NPN_EVENT("activated", "8", "2025-01-02T00:00:00.000000001Z"), 1002);
	add(f, "d", IN_EVENTS | IN_FAILED, NPN_EVENT("activated", "100", "2025-01-05T00:00:00Z"), 1003);
	add(f, "no number", IN_EVENTS, NPN_EVENT("activated", "x9", "2025-01-05T00:00:00Z"), 1003);
}

static int64_t
day(int number)
{
	return (1735689600LL + (number - 1) * 86400LL) * NANOSECONDS; /* of January 2025 */
}

/* The producers are in the order in which the disk has their events. */
static void
expect_roster(const struct fixture *f, const char *head, const char *one, const char *two,
    const char *three)
{
	size_t length;
	char *found = file_read(at(f, SPOOL_STATE, "roster"), &length);

	assert_non_null(found);
	assert_int_equal(length, strlen(head) + strlen(one) + strlen(two) + strlen(three));
	assert_memory_equal(found, head, strlen(head));
	assert_non_null(strstr(found, one));
	assert_non_null(strstr(found, two));
	assert_non_null(strstr(found, three));
	free(found);
}

TEST(a_roster_counts_forgotten_events)
{
	struct fixture *f = *state;
	struct store_forgetting forgetting = {.before = 2500, .now = 10000};

	add_producers(f);
	assert_string_equal(roster_text(f, INT64_MAX), "7- 8+ 100+ ");
	assert_string_equal(roster_text(f, day(3) - 1), "7+ 8+ ");
	assert_string_equal(roster_text(f, day(2)), "7+ ");
	for (int again = 0; again < 2; again++) {
		assert_int_equal(spool_forget(&f->spool, &forgetting, &f->error), STORE_OK);
		assert_string_equal(roster_text(f, INT64_MAX), "7- 8+ 100+ ");
		assert_string_equal(roster_text(f, day(3)), "7- 8+ ");
		assert_string_equal(roster_text(f, day(3) - 1), "7+ 8+ ");
		assert_string_equal(roster_text(f, day(2)), "7+ ");
		assert_string_equal(roster_text(f, day(1)), "7+ ");
		assert_string_equal(roster_text(f, day(1) - 1), "");
	}
	expect_roster(f, "roster 1 1970-01-01T00:16:43Z 3\n",
	    "7 2025-01-01T00:00:00.000000000Z activated\n",
	    "7 2025-01-03T00:00:00.000000000Z deactivated\n",
	    "8 2025-01-02T00:00:00.000000001Z activated\n");
	for (int every = 0; every < 2; every++) {
		struct roster roster = {.every = every == 1};
		assert_int_equal(spool_forgotten(&f->spool, INT64_MAX, &roster, &f->error), STORE_OK);
		assert_int_equal(roster.forgotten, 1003);
		assert_int_equal(roster.count, 2 + every);
		roster_free(&roster);
	}
}

/* Whatever fails, at whichever call: no answer changes, and the next run finishes. */
TEST(a_roster_survives_each_failure)
{
	struct fixture *f = *state;
	struct store_forgetting forgetting = {.before = 2500, .now = 10000};
	int nth = 1;

	for (bool met = true; met; nth++) {
		add_producers(f);
		interference = (struct interference){.of = ANY, .nth = nth, .error = EIO};
		enum store_result result = spool_forget(&f->spool, &forgetting, &f->error);
		met = interference.seen >= nth;
		interference.nth = 0;
		if (!met && result != STORE_OK)
			fail_msg("%s", f->error.text);
		restart(f);
		assert_string_equal(roster_text(f, INT64_MAX), "7- 8+ 100+ ");
		assert_string_equal(roster_text(f, day(1)), "7+ ");
		forgetting.forgotten = forgetting.kept = 0;
		assert_int_equal(spool_forget(&f->spool, &forgetting, &f->error), STORE_OK);
		assert_string_equal(roster_text(f, INT64_MAX), "7- 8+ 100+ ");
		assert_string_equal(roster_text(f, day(1)), "7+ ");
		assert_int_equal(forgetting.kept, 2);
		drop(f, SPOOL_STATE, "roster");
		drop(f, SPOOL_EVENTS, "late.json");
		drop(f, SPOOL_EVENTS, "d.json");
		drop(f, SPOOL_FAILED, "d.json");
	}
	assert_true(nth > 20);
}

TEST(what_is_said_is_on_the_disk_before_an_event_goes)
{
	struct fixture *f = *state;
	struct store_forgetting forgetting = {.before = 2500, .now = 10000};

	add(f, "a", IN_EVENTS, NPN_EVENT("activated", "7", "2025-01-01T00:00:00Z"), 1000);
	trace_begin(&f->spool);
	assert_int_equal(spool_forget(&f->spool, &forgetting, &f->error), STORE_OK);
	const char *text = trace_end();
	const char *data = strstr(text, "fsync(file)"), *renamed = strstr(text, "rename(state)");
	const char *synced = strstr(text, "fsync(state)"), *gone = strstr(text, "unlink(events)");
	if (data == NULL || renamed == NULL || synced == NULL || gone == NULL || data > renamed ||
	    renamed > synced || synced > gone)
		fail_msg("%s", text);
	/* With nothing to forget, nothing is written. */
	trace_begin(&f->spool);
	assert_int_equal(spool_forget(&f->spool, &forgetting, &f->error), STORE_OK);
	assert_null(strstr(trace_end(), "rename"));
}

/* 200 bytes of a name: two batches. */
TEST(many_are_forgotten_in_batches)
{
	enum { MANY = 10800 };
	struct fixture *f = *state;
	struct store_forgetting forgetting = {.before = 2500, .now = 10000};
	struct roster roster = {0};
	char id[256], body[256];

	for (int i = 0; i < MANY; i++) {
		snprintf(id, sizeof(id), "e%0190d", i);
		snprintf(body, sizeof(body), NPN_EVENT("activated", "%d", "2025-01-01T00:00:00Z"), i);
		add(f, id, IN_EVENTS, body, 1000);
	}
	/* By several threads. */
	assert_int_equal(spool_roster(&f->spool, INT64_MAX, &roster, &f->error), STORE_OK);
	assert_int_equal(roster.count, MANY);
	roster_free(&roster);
	assert_int_equal(spool_forget(&f->spool, &forgetting, &f->error), STORE_OK);
	assert_int_equal(forgetting.forgotten, MANY);
	assert_int_equal(count(f, SPOOL_EVENTS), 0);
	assert_int_equal(spool_roster(&f->spool, INT64_MAX, &roster, &f->error), STORE_OK);
	assert_int_equal(roster.count, MANY);
	roster_free(&roster);
}

TEST(a_damaged_roster_is_refused_and_nothing_is_forgotten)
{
	static const char *const texts[] = {"", "\n", "roster 2 2025-01-01T00:00:00Z 0\n",
		"roster 1 2025-01-01T00:00:00Z 1\n", "roster 1 2025-01-01T00:00:00Z 0",
		"roster 1 yesterday 0\n", "roster 1 2025-01-01T00:00:00Z x\n",
		"roster 1 2025-01-01T00:00:00Z 99999999999999999999\n",
		"roster 1 2025-01-01T00:00:00Z 1\n7 2025-01-01T00:00:00Z activ",
		"roster 1 2025-01-01T00:00:00Z 1\n7 2025-01-01T00:00:00Z activ\n",
		"roster 1 2025-01-01T00:00:00Z 1\n7 now activated\n",
		"roster 1 2025-01-01T00:00:00Z 1\n7x 2025-01-01T00:00:00Z activated\n",
		"roster 1 2025-01-01T00:00:00Z 1\n 2025-01-01T00:00:00Z activated\n",
		"roster 1 2025-01-01T00:00:00Z 1\n7 2025-01-01T00:00:00Z activated\n8 x\n",
		"roster 1 2025-01-01T00:00:00Z 1\n123456789012345678901 2025-01-01T00:00:00Z activated\n"};
	struct fixture *f = *state;
	struct store_forgetting forgetting = {.before = 2500, .now = 10000};
	struct roster roster = {0};

	add(f, "a", IN_EVENTS, NPN_EVENT("activated", "7", "2025-01-01T00:00:00Z"), 1000);
	for (size_t i = 0; i < ROWS(texts); i++) {
		put(f, SPOOL_STATE, "roster", texts[i]);
		if (spool_forget(&f->spool, &forgetting, &f->error) != STORE_FAILED ||
		    strstr(f->error.text, "is damaged after line") == NULL)
			fail_msg("row %zu: %s", i, f->error.text);
		assert_int_equal(spool_roster(&f->spool, INT64_MAX, &roster, &f->error), STORE_FAILED);
		roster_free(&roster);
		expect_where(f, "a.json", IN_EVENTS);
		drop(f, SPOOL_STATE, "roster");
	}
}

/* ---- count ---- */

TEST(what_there_is_is_counted_without_a_look_at_each_handled_event)
{
	struct fixture *f = *state;
	struct store_counts counts;
	time_t now = time(NULL);

	add_one_of_each(f);
	put(f, SPOOL_HOLD, "1-1-1.json", "");
	put(f, SPOOL_HOLD, "2-1-1.json", "");
	put(f, SPOOL_TMP, "1.000000000.1.0", "");
	put(f, SPOOL_TMP, "1.000000000.1.1", "");
	put(f, SPOOL_TMP, "of somebody else", "");
	age(f, SPOOL_TMP, "1.000000000.1.0", now - 3700);
	age(f, SPOOL_TMP, "1.000000000.1.1", now - 3500);
	age(f, SPOOL_TMP, "of somebody else", now - 3700);
	put(f, SPOOL_NEW, "notes.txt", "");
	trace_begin(&f->spool);
	assert_int_equal(spool_count(&f->spool, now, &counts, &f->error), STORE_OK);
	assert_null(strstr(trace_end(), "(events)"));
	assert_int_equal(counts.waiting, 3);
	assert_int_equal(counts.retrying, 1);
	assert_int_equal(counts.failed, 2);
	assert_int_equal(counts.held, 2);
	assert_int_equal(counts.leftovers, 1);
	assert_int_equal(counts.unrecognised, 1);
	assert_string_equal(counts.unrecognised_name, "notes.txt");
	assert_string_equal(counts.unrecognised_why, "it is not named as events are");
	/* They were given their names just now, whatever they are. */
	assert_int_equal(counts.overdue, 0);
	assert_int_equal(counts.oldest, 0);
	/* In two hours all are overdue, but one that waits for its retry until then. */
	set_state(f, "waiting.json", now + 7200 + 1, 0);
	assert_int_equal(spool_count(&f->spool, now + 7200, &counts, &f->error), STORE_OK);
	assert_int_equal(counts.overdue, 2);
	assert_true(counts.oldest >= now - 60 && counts.oldest <= now + 60);
	set_state(f, "waiting.json", now + 7200, 0);
	assert_int_equal(spool_count(&f->spool, now + 7200, &counts, &f->error), STORE_OK);
	assert_int_equal(counts.overdue, 3);
	/* A dead letter that was moved back by hand does not wait for a retry. */
	set_state(f, "waiting.json", now + 9999, 1600);
	assert_int_equal(spool_count(&f->spool, now + 7200, &counts, &f->error), STORE_OK);
	assert_int_equal(counts.overdue, 3);
	assert_int_equal(counts.retrying, 0);
}

TEST(a_directory_that_cannot_be_counted_is_named)
{
	static const char *const dirs[] = {"state", "new", "failed", "hold", "tmp"};
	struct fixture *f = *state;
	struct store_counts counts;

	for (size_t i = 0; i < ROWS(dirs); i++) {
		interference = (struct interference){.of = OPENAT, .nth = (int)i + 1, .error = EACCES};
		assert_int_equal(spool_count(&f->spool, 1000, &counts, &f->error), STORE_FAILED);
		interference.nth = 0;
		assert_true(tells(f, &f->error, dirs[i], EACCES));
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		SPOOL_TEST(pages_have_the_newest_first),
		SPOOL_TEST(a_tally_ends_when_its_time_is_over),
		SPOOL_TEST(pages_refuse_what_has_no_order),
		SPOOL_TEST(a_filter_means_what_it_says_in_the_order_of_arrival),
		SPOOL_TEST(an_item_has_path_and_state),
		SPOOL_TEST(a_visit_can_end_a_listing),
		SPOOL_TEST(an_event_in_two_queues_is_listed_once_and_waits),
		SPOOL_TEST(what_is_no_event_is_an_item_only_where_all_is_meant),
		SPOOL_TEST(of_what_cannot_be_read_the_others_are_listed),
		SPOOL_TEST(a_listing_takes_thousands),
		SPOOL_TEST(an_event_is_found_by_id_name_and_path),
		SPOOL_TEST(an_event_is_got_from_where_it_stands),
		SPOOL_TEST(a_dead_letter_that_was_moved_by_hand_is_new),
		cmocka_unit_test(a_status_has_a_text),
		SPOOL_TEST(a_dead_letter_that_is_retried_is_new),
		SPOOL_TEST(a_handled_event_that_is_replayed_is_new),
		SPOOL_TEST(what_has_another_status_is_left_where_it_is),
		SPOOL_TEST(of_many_those_that_fit_are_moved_with_one_sync),
		SPOOL_TEST(a_retry_that_was_cut_short_is_finished),
		SPOOL_TEST(what_is_queued_again_is_the_file_in_events),
		SPOOL_TEST(what_a_consumer_handles_during_a_retry_is_no_dead_letter),
		SPOOL_TEST(whichever_call_fails_a_retried_event_is_in_a_queue),
		SPOOL_TEST(a_retry_that_is_not_synced_removes_nothing),
		SPOOL_TEST(an_event_that_is_called_handled_is_in_events_alone_for_good),
		SPOOL_TEST(what_waits_nowhere_or_is_not_committed_cannot_be_finished),
		SPOOL_TEST(whichever_call_fails_finish_can_be_tried_again),
		SPOOL_TEST(what_is_old_and_was_handled_is_forgotten),
		SPOOL_TEST(a_state_whose_event_waits_nowhere_goes_with_an_hour),
		SPOOL_TEST(what_cannot_be_forgotten_is_said),
		SPOOL_TEST(a_roster_counts_forgotten_events),
		SPOOL_TEST(a_roster_survives_each_failure),
		SPOOL_TEST(what_is_said_is_on_the_disk_before_an_event_goes),
		SPOOL_TEST(many_are_forgotten_in_batches),
		SPOOL_TEST(a_damaged_roster_is_refused_and_nothing_is_forgotten),
		SPOOL_TEST(what_there_is_is_counted_without_a_look_at_each_handled_event),
		SPOOL_TEST(a_directory_that_cannot_be_counted_is_named),
	};

	return cmocka_run_group_tests_name("operator", tests, NULL, NULL);
}
