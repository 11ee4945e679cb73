/* Owns what store.h promises of notes and counts, on the spool. */
#include "spool_helpers.h"

#include <sys/wait.h>
#include <time.h>

static struct error error;

static struct store *
open_at(const char *path)
{
	struct config config = {.spool = (char *)(uintptr_t)path, .sync = (char *)(uintptr_t)"auto"};

	lazy = true;
	struct store *store = store_open(&config, true, &error);
	assert_non_null(store);
	return store;
}

static void
assert_note(struct store *store, enum store_note note, const char *expected)
{
	char *text = store_note_read(store, note);

	if (expected == NULL)
		assert_null(text);
	else
		assert_string_equal(text, expected);
	free(text);
}

TEST(a_note_is_read_as_it_was_written)
{
	struct store *store = open_at(*state);
	char *large = calloc(1, STORE_NOTE_SIZE);

	assert_note(store, STORE_NOTE_CHECK, NULL);
	assert_int_equal(store_note_write(store, STORE_NOTE_CHECK, "one", &error), STORE_OK);
	assert_int_equal(store_note_write(store, STORE_NOTE_ALERTS, "", &error), STORE_OK);
	assert_note(store, STORE_NOTE_CHECK, "one");
	assert_note(store, STORE_NOTE_ALERTS, "");
	memset(large, 'x', STORE_NOTE_SIZE - 1);
	assert_int_equal(store_note_write(store, STORE_NOTE_CHECK, large, &error), STORE_OK);
	assert_note(store, STORE_NOTE_CHECK, large);
	assert_int_equal(store_note_write(store, STORE_NOTE_CHECK, "two", &error), STORE_OK);
	assert_note(store, STORE_NOTE_CHECK, "two");
	free(large);
	store_close(store);
}

TEST(what_is_no_file_is_no_note_and_cannot_be_written)
{
	struct store *store = open_at(*state);

	assert_int_equal(mkdir(in(*state, "state/check"), 0700), 0);
	assert_note(store, STORE_NOTE_CHECK, NULL);
	assert_int_equal(store_note_write(store, STORE_NOTE_CHECK, "x", &error), STORE_FAILED);
	assert_non_null(strstr(error.text, "state/check"));
	assert_int_equal(symlink("drain", in(*state, "state/runs")), 0);
	assert_note(store, STORE_NOTE_RUNS, NULL);
	store_close(store);
}

static void
on_a_full_disk(struct store *store, const char *text, enum store_result expected, int number)
{
	interference = (struct interference){.of = WRITEV, .nth = 1, .all = true, .error = number};
	assert_int_equal(store_note_write(store, STORE_NOTE_ALERTS, text, &error), expected);
	interference.nth = 0;
}

/* And what a reader has open is not written to. */
TEST(on_a_full_disk_a_note_is_exchanged_with_its_spare_file)
{
	struct store *store = open_at(*state);
	char *large = calloc(1, 8193);
	char was[16] = "";

	assert_int_equal(store_note_write(store, STORE_NOTE_ALERTS, "{\"old\":1}", &error), STORE_OK);
	int reader = open(in(*state, "state/alerts"), O_RDONLY);
	on_a_full_disk(store, "{}", STORE_OK, ENOSPC);
	assert_note(store, STORE_NOTE_ALERTS, "{}");
	assert_int_equal(read(reader, was, sizeof(was)), 9);
	assert_string_equal(was, "{\"old\":1}");
	close(reader);
	on_a_full_disk(store, "{\"new\":1}", STORE_OK, EDQUOT);
	assert_note(store, STORE_NOTE_ALERTS, "{\"new\":1}");
	/* What needs more blocks is refused, and leaves the old one. */
	memset(large, 'x', 8192);
	on_a_full_disk(store, large, STORE_FAILED, ENOSPC);
	assert_non_null(strstr(error.text, "state/alerts: "));
	assert_non_null(strstr(error.text, strerror(ENOSPC)));
	assert_note(store, STORE_NOTE_ALERTS, "{\"new\":1}");
	assert_int_equal(names_in(in(*state, "tmp")), 0);
	/* A larger note gets a larger one. */
	assert_int_equal(store_note_write(store, STORE_NOTE_ALERTS, large, &error), STORE_OK);
	large[4096] = 'y';
	on_a_full_disk(store, large, STORE_OK, ENOSPC);
	assert_note(store, STORE_NOTE_ALERTS, large);
	free(large);
	store_close(store);
}

static int exchange_error;

static void
then_no_exchange(void)
{
	interference = (struct interference){.of = EXCHANGE, .nth = 1, .error = exchange_error};
}

/* As on NFS, some FUSE file systems and old kernels. The spare file becomes the note. */
TEST(without_an_exchange_the_spare_file_takes_the_place_of_the_note)
{
	static const int errors[] = {EINVAL, ENOSYS, EIO};
	struct store *store = open_at(*state);

	for (size_t i = 0; i < ROWS(errors); i++) {
		bool told = errors[i] == EIO;
		exchange_error = errors[i];
		assert_int_equal(store_note_write(store, STORE_NOTE_ALERTS, "old", &error), STORE_OK);
		assert_true(exists(in(*state, "state/.alerts")));
		interference = (struct interference){.of = WRITEV, .nth = 1, .error = ENOSPC,
			.hook = then_no_exchange};
		assert_int_equal(store_note_write(store, STORE_NOTE_ALERTS, "{}", &error),
		    told ? STORE_FAILED : STORE_OK);
		interference.nth = 0;
		assert_note(store, STORE_NOTE_ALERTS, told ? "old" : "{}");
		assert_int_equal(exists(in(*state, "state/.alerts")), told);
	}
	store_close(store);
}

TEST(on_a_full_disk_there_is_no_first_note)
{
	struct store *store = open_at(*state);

	on_a_full_disk(store, "{}", STORE_FAILED, ENOSPC);
	assert_note(store, STORE_NOTE_ALERTS, NULL);
	store_close(store);
}

/* Four processes count to 400. */
TEST(the_lock_excludes_other_processes)
{
	enum { PROCESSES = 4, EACH = 100 };
	struct store *store = open_at(*state);
	char number[16];
	int status;

	for (int i = 0; i < PROCESSES; i++) {
		if (fork() != 0)
			continue;
		for (int j = 0; j < EACH; j++) {
			int lock = store_lock(store, STORE_LOCK_NOTES, &error);
			char *text = store_note_read(store, STORE_NOTE_RUNS);
			snprintf(number, sizeof(number), "%d", text == NULL ? 1 : atoi(text) + 1);
			store_note_write(store, STORE_NOTE_RUNS, number, &error);
			free(text);
			store_unlock(store, lock);
		}
		_exit(0);
	}
	for (int i = 0; i < PROCESSES; i++)
		assert_true(wait(&status) > 0 && status == 0);
	assert_note(store, STORE_NOTE_RUNS, "400");
	store_close(store);
}

TEST(of_two_that_send_alerts_one_does_not_wait)
{
	struct store *store = open_at(*state);
	int first = store_lock(store, STORE_LOCK_ALERTS, &error);

	assert_true(first >= 0);
	assert_int_equal(store_lock(store, STORE_LOCK_ALERTS, &error), -1);
	int notes = store_lock(store, STORE_LOCK_NOTES, &error);
	assert_true(notes >= 0);
	store_unlock(store, notes);
	store_unlock(store, first);
	first = store_lock(store, STORE_LOCK_ALERTS, &error);
	assert_true(first >= 0);
	store_unlock(store, first);
	store_close(store);
}

/* ---- counts ---- */

static void
deliver(struct store *store, const char *id)
{
	struct delivery d;

	delivery_make(&d, id, "ours", BODY, RECEIVED, STORE_QUEUE);
	assert_int_equal(store_put(store, &d.intake, &error), STORE_OK);
	record_free(&d.record);
}

static struct store_counts
count_at(struct store *store, int64_t now)
{
	struct store_counts counts;

	assert_int_equal(store_count(store, now, &counts, &error), STORE_OK);
	return counts;
}

/* A retry that is not due is no backlog, whatever the number of states. */
TEST(what_waits_is_counted_by_its_state)
{
	enum { EVENTS = 3000 };
	struct store *store = open_at(*state);
	int64_t now = (int64_t)time(NULL), later = now + 2 * 3600;
	char id[32], name[64];

	for (int i = 0; i < EVENTS; i++) {
		snprintf(id, sizeof(id), "msg_%d", i);
		deliver(store, id);
		snprintf(name, sizeof(name), "state/msg_%d.json", i);
		/* By turns: a retry that is not due yet, one that is due, no state. */
		if (i % 3 != 2)
			file_write(in(*state, name), i % 3 == 0 ?
			    "{\"tries\":1,\"due_at\":\"2199-01-01T00:00:00Z\"}" :
			    "{\"tries\":1,\"due_at\":\"2001-01-01T00:00:00Z\"}", 0640);
	}
	file_write(in(*state, "state/msg_gone.json"), "{\"tries\":1}", 0640);
	struct store_counts counts = count_at(store, now);
	assert_int_equal(counts.waiting, EVENTS);
	assert_int_equal(counts.retrying, EVENTS / 3 * 2);
	assert_int_equal(counts.overdue, 0);
	assert_int_equal(counts.standbys, -1);
	assert_in_range(counts.oldest_waiting, now - 60, now + 60);
	counts = count_at(store, later);
	assert_int_equal(counts.overdue, EVENTS / 3 * 2);
	assert_int_equal(counts.oldest > 0, 1);
	store_close(store);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		SANDBOX_TEST(a_note_is_read_as_it_was_written),
		SANDBOX_TEST(what_is_no_file_is_no_note_and_cannot_be_written),
		SANDBOX_TEST(on_a_full_disk_a_note_is_exchanged_with_its_spare_file),
		SANDBOX_TEST(without_an_exchange_the_spare_file_takes_the_place_of_the_note),
		SANDBOX_TEST(on_a_full_disk_there_is_no_first_note),
		SANDBOX_TEST(the_lock_excludes_other_processes),
		SANDBOX_TEST(of_two_that_send_alerts_one_does_not_wait),
		SANDBOX_TEST(what_waits_is_counted_by_its_state),
	};

	return cmocka_run_group_tests_name("notes", tests, NULL, NULL);
}
