/*
 * Owns what store.h promises as a whole: an event's life through the seam alone, and what
 * psapi-fcgi -t finds out without leaving anything behind.
 */
#include "spool_helpers.h"

#include <time.h>

static struct error error;

static struct store *
open_at(const char *path, bool create)
{
	struct config config = {.spool = (char *)(uintptr_t)path, .sync = (char *)(uintptr_t)"auto"};

	lazy = true;
	return store_open(&config, create, &error);
}

static enum store_result
deliver(struct store *store, const char *id, enum store_destination destination)
{
	struct delivery d;

	delivery_make(&d, id, "ours", BODY, RECEIVED, destination);
	enum store_result result = store_put(store, &d.intake, &error);
	record_free(&d.record);
	return result;
}

/* ---- a life ---- */

static int
count_visit(const struct store_waiting *waiting, void *data)
{
	assert_int_equal(waiting->due, 0);
	++*(int *)data;
	return 0;
}

static int
count_item(const struct store_item *item, void *data)
{
	assert_non_null(item->entry.id);
	++*(int *)data;
	return 0;
}

static void
expect_status(struct store *store, const char *name, enum store_status status)
{
	struct store_item item;

	assert_int_equal(store_get(store, name, &item, &error), STORE_OK);
	assert_int_equal(item.status, status);
	entry_free(&item.entry);
}

TEST(an_event_comes_fails_is_retried_handled_replayed_and_forgotten)
{
	static const char *const names[] = {"a.json"};
	struct handler_state tried = {.tries = 1, .due_at = 5}, failed = {.tries = 2, .failed_at = 9};
	struct store *store = open_at(in(*state, "spool"), true);
	struct store_forgetting forgetting = {.before = INT64_MAX, .now = RECEIVED};
	struct store_counts counts;
	char name[STORE_NAME_SIZE];
	static struct store_work work;
	int visits = 0, items = 0;
	struct store_pending pending = {.now = time(NULL), .visit = count_visit, .data = &visits};
	size_t moved;
	long committed;

	assert_non_null(store);
	assert_int_equal(store_probe(store, &error), STORE_OK);
	assert_true(store_is_empty(store));
	assert_int_equal(store_find(store, "a.json", &error), STORE_ABSENT);
	assert_int_equal(deliver(store, "a", STORE_QUEUE), STORE_OK);
	assert_int_equal(deliver(store, "a", STORE_QUEUE), STORE_DUPLICATE);
	assert_int_equal(store_find(store, "a.json", &error), STORE_DUPLICATE);
	assert_false(store_is_empty(store));
	assert_true(store_is_full(store, 1LL << 60));
	assert_int_equal(store_recover(store, &committed, &error), STORE_OK);
	assert_int_equal(committed, 0);
	assert_int_equal(store_work_begin(store, false, &error), STORE_OK);
	assert_int_equal(store_pending(store, &pending, &error), STORE_OK);
	assert_int_equal(visits, 1);
	assert_int_equal(store_load(store, "a.json", &work, &error), STORE_OK);
	assert_int_equal(store_later(store, &work, &tried, &error), STORE_OK);
	expect_status(store, "a.json", STORE_WAITING);
	assert_int_equal(store_fail(store, &work, &failed, &error), STORE_OK);
	store_unload(store, &work);
	expect_status(store, "a.json", STORE_DEAD);
	assert_int_equal(store_retry(store, names, 1, &moved, &error), STORE_OK);
	expect_status(store, "a.json", STORE_NEW);
	assert_int_equal(store_load(store, "a.json", &work, &error), STORE_OK);
	assert_int_equal(store_done(store, &work, &error), STORE_OK);
	store_unload(store, &work);
	expect_status(store, "a.json", STORE_HANDLED);
	assert_int_equal(store_lookup(store, "a", name, &error), STORE_OK);
	assert_int_equal(store_replay(store, names, 1, &moved, &error), STORE_OK);
	expect_status(store, name, STORE_NEW);
	assert_int_equal(store_count(store, time(NULL), &counts, &error), STORE_OK);
	assert_int_equal(counts.waiting, 1);
	assert_int_equal(store_finish(store, name, &error), STORE_OK);
	assert_int_equal(store_each(store, &(struct store_filter){0}, count_item, &items, &error),
	    STORE_OK);
	assert_int_equal(items, 1);
	assert_int_equal(store_forget(store, &forgetting, &error), STORE_OK);
	assert_int_equal(forgetting.forgotten, 1);
	assert_int_equal(store_find(store, "a.json", &error), STORE_ABSENT);
	store_work_end(store);
	store_close(store);
}

TEST(a_request_is_held_until_it_is_removed)
{
	struct store *store = open_at(in(*state, "spool"), true);
	struct delivery d;
	struct entry entry;
	char **names;

	assert_non_null(store);
	delivery_make(&d, "a", "ours", BODY, RECEIVED, STORE_QUEUE);
	assert_int_equal(store_hold(store, &d.record, d.intake.now, &error), STORE_OK);
	record_free(&d.record);
	assert_int_equal(store_held(store, &names, &error), 1);
	assert_int_equal(store_held_read(store, names[0], &entry, &error), STORE_OK);
	assert_string_equal(entry.id, "a");
	entry_free(&entry);
	assert_int_equal(store_held_remove(store, names[0], &error), STORE_OK);
	store_held_free(names);
	assert_int_equal(store_held(store, &names, &error), 0);
	store_held_free(names);
	store_close(store);
}

/* ---- a trial ---- */

static struct store *
try(const char *path, char *text, size_t size)
{
	struct config config = {.spool = (char *)(uintptr_t)path, .sync = (char *)(uintptr_t)"two"};

	lazy = true;
	return store_try(&config, text, size, &error);
}

TEST(a_spool_is_tried_and_nothing_is_left)
{
	const char *path = in(*state, "spool");
	char text[256];

	store_close(open_at(path, true));
	struct store *store = try(path, text, sizeof(text));
	assert_non_null(store);
	store_close(store);
	assert_non_null(strstr(text, "two waits for the disk (PSAPI_SYNC=two)"));
	assert_null(strstr(text, "will be made"));
	assert_int_equal(names_in(path), SPOOL_DIRS);
	for (int i = 0; i < SPOOL_DIRS; i++)
		assert_int_equal(names_in(in(path, spool_dir_names[i])), 0);
}

/* As a whole, or in part: what is there is not touched. */
TEST(a_spool_that_is_missing_is_tried_beside_and_not_made)
{
	const char *path = in(*state, "spool");
	char text[256];

	for (int i = 0; i < 2; i++) {
		struct store *store = try(path, text, sizeof(text));
		assert_non_null(store);
		store_close(store);
		assert_non_null(strstr(text, "; will be made at the start"));
		assert_int_equal(exists(path), i == 1);
		assert_int_equal(names_in(*state), i);
		if (i == 1)
			assert_int_equal(names_in(path), 1);
		else
			assert_int_equal(mkdir(path, 0750) + mkdir(in(path, "new"), 0750), 0);
	}
}

TEST(a_trial_that_fails_says_why_and_leaves_nothing)
{
	const char *path = in(*state, "spool");
	int before = descriptors();
	char text[256];

	assert_null(try(in(*state, "a/b"), text, sizeof(text)));
	assert_non_null(strstr(error.text,
	    "/a/b: is missing, and cannot be made: No such file or directory"));
	assert_string_equal(error.remedy, "make it, owned by the running user");
	assert_int_equal(error.status, EX_CANTCREAT);
	file_write(path, "", 0640);
	assert_null(try(path, text, sizeof(text)));
	assert_non_null(strstr(error.text, "/spool: Not a directory"));
	assert_int_equal(unlink(path), 0);
	for (int made = 0; made < 2; made++) {
		interference = (struct interference){.of = LINKAT, .nth = SPOOL_DIRS - SPOOL_FAILED,
		    .error = EXDEV};
		assert_null(try(path, text, sizeof(text)));
		interference.nth = 0;
		assert_non_null(strstr(error.text, "/failed: "));
		assert_int_equal(names_in(*state), made);
		if (made == 0)
			store_close(open_at(path, true));
	}
	assert_int_equal(descriptors(), before);
}

/* ---- owners ---- */

static void
keep(const struct error *warning, void *data)
{
	error = *warning;
	++*(int *)data;
}

static int
warnings_of(const char *path)
{
	struct store *store = open_at(path, false);
	int warnings = 0;

	assert_non_null(store);
	store_warnings(store, keep, &warnings);
	store_close(store);
	return warnings;
}

TEST(a_directory_of_another_user_is_warned_of)
{
	const char *path = in(*state, "spool");

	if (geteuid() != 0) {
		print_message("only root can give a directory away\n");
		skip();
	}
	store_close(open_at(path, true));
	int before = warnings_of(path); /* of the file system */
	assert_int_equal(chown(in(path, "hold"), 65534, 65534), 0);
	assert_int_equal(warnings_of(path), before + 1);
	assert_non_null(strstr(error.text, "/spool/hold belongs to nobody, the spool itself to root"));
	assert_non_null(strstr(error.remedy, "chown -R root "));
	/* The group's will do. */
	assert_int_equal(chown(in(path, "hold"), 65534, 0), 0);
	assert_int_equal(chmod(in(path, "hold"), 0770), 0);
	assert_int_equal(warnings_of(path), before);
	assert_int_equal(chmod(in(path, "hold"), 0750), 0);
	assert_int_equal(warnings_of(path), before + 1);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		SANDBOX_TEST(an_event_comes_fails_is_retried_handled_replayed_and_forgotten),
		SANDBOX_TEST(a_request_is_held_until_it_is_removed),
		SANDBOX_TEST(a_spool_is_tried_and_nothing_is_left),
		SANDBOX_TEST(a_spool_that_is_missing_is_tried_beside_and_not_made),
		SANDBOX_TEST(a_trial_that_fails_says_why_and_leaves_nothing),
		SANDBOX_TEST(a_directory_of_another_user_is_warned_of),
	};

	return cmocka_run_group_tests_name("store", tests, NULL, NULL);
}
