/*
 * Owns what store.h promises of held requests, for the spool: how much is held, in which order
 * they come back, and that a request is held for good or not at all.
 */
#include "spool_helpers.h"

#include <pthread.h>

static enum store_result
hold_text(struct spool *spool, const char *text, size_t length, int64_t seconds, long nanoseconds,
    struct error *error)
{
	struct record record = {.count = 1, .iov = {{(char *)(uintptr_t)text, length}}};
	struct timespec arrival = {.tv_sec = seconds, .tv_nsec = nanoseconds};

	return spool_hold(spool, &record, arrival, error);
}

/* Our request, as the receiver writes one: the body is not parsed. */
static enum store_result
hold(struct fixture *f, const char *id, int64_t seconds, long nanoseconds)
{
	struct evidence evidence = {.id = id, .id_length = strlen(id), .timestamp = "1",
	    .timestamp_length = 1,
		.signature = "v1,a v1,b", .signature_length = 9, .received_at = {.tv_sec = seconds}};
	struct timespec arrival = {.tv_sec = seconds, .tv_nsec = nanoseconds};
	struct record record;

	assert_int_equal(record_make(&record, &evidence, "body", 4, false), 0);
	enum store_result result = spool_hold(&f->spool, &record, arrival, &f->error);
	record_free(&record);
	return result;
}

/* What is held as "id id ". */
static const char *
held(struct fixture *f)
{
	static char text[1024];
	char **names;
	int count = spool_held(&f->spool, &names, &f->error);

	assert_true(count >= 0);
	text[0] = '\0';
	for (int i = 0; i < count; i++) {
		struct entry entry;
		size_t length = strlen(text);
		assert_int_equal(spool_held_read(&f->spool, names[i], &entry, &f->error), STORE_OK);
		snprintf(text + length, sizeof(text) - length, "%s ", entry.id);
		entry_free(&entry);
	}
	assert_null(names[count]);
	store_held_free(names);
	return text;
}

TEST(requests_come_back_in_the_order_of_arrival)
{
	struct fixture *f = *state;
	struct stat st;
	char **names;

	assert_string_equal(held(f), "");
	for (size_t w = 0; w < ROWS(ways); w++) {
		go_the_way(f, &ways[w]);
		assert_int_equal(hold(f, "c", 1000, 2), STORE_OK);
		assert_int_equal(hold(f, "a", 999, 999999999), STORE_OK);
		assert_int_equal(hold(f, "b", 1000, 1), STORE_OK);
		assert_int_equal(hold(f, "b", 1000, 1), STORE_OK); /* unproven: none is a duplicate */
		assert_string_equal(held(f), "a b b c ");
		assert_int_equal(count(f, SPOOL_TMP), 0);
		assert_int_equal(spool_held(&f->spool, &names, &f->error), 4);
		for (int i = 0; i < 4; i++) {
			assert_int_equal(stat(at(f, SPOOL_HOLD, names[i]), &st), 0);
			assert_int_equal(st.st_mode & 07777, 0640);
			assert_int_equal(spool_held_remove(&f->spool, names[i], &f->error), STORE_OK);
			assert_int_equal(spool_held_remove(&f->spool, names[i], &f->error),
			    STORE_OK); /* gone already */
		}
		store_held_free(names);
		assert_string_equal(held(f), "");
	}
	store_held_free(NULL);
}

TEST(what_is_held_is_what_came)
{
	struct fixture *f = *state;
	struct entry entry;
	char **names;

	assert_int_equal(hold(f, "a", 1000, 0), STORE_OK);
	assert_int_equal(spool_held(&f->spool, &names, &f->error), 1);
	assert_int_equal(spool_held_read(&f->spool, names[0], &entry, &f->error), STORE_OK);
	assert_int_equal(entry.body_length, 4);
	assert_memory_equal(entry.body, "body", 4);
	assert_string_equal(entry.signature, "v1,a v1,b"); /* the whole header */
	entry_free(&entry);
	store_held_free(names);
	/* Nobody takes it for an event, or for a sign that the spool is in use. */
	assert_true(spool_is_empty(&f->spool));
	long committed;
	assert_int_equal(spool_recover(&f->spool, &committed, &f->error), STORE_OK);
	assert_int_equal(count(f, SPOOL_EVENTS), 0);
}

/* Data and name are on the disk before the answer. */
TEST(a_held_request_costs_these_calls)
{
	struct fixture *f = *state;

	for (int one_wait = 0; one_wait < 2; one_wait++) {
		f->spool.one_wait = one_wait == 1;
		trace_begin(&f->spool);
		assert_int_equal(hold(f, "a", 1000, one_wait), STORE_OK);
		assert_string_equal(trace_end(), one_wait == 1 ?
			"list(hold) flock list(hold) create(events) write write-back link(hold) fsync(file)" :
			"list(hold) flock list(hold) create-dsync(events) write "
			    "link(hold) fsync(hold) fsync(file)");
	}
}

/* ---- limits ---- */

TEST(no_more_than_64_requests_are_held)
{
	struct fixture *f = *state;
	char **names;

	for (int i = 0; i < STORE_HELD_MAX; i++)
		assert_int_equal(hold(f, "a", 1000 + i, 0), STORE_OK);
	assert_int_equal(hold(f, "b", 5000, 0), STORE_FULL);
	assert_non_null(strstr(f->error.text, "/hold is full"));
	assert_string_equal(f->error.remedy, "psapi secret add");
	assert_int_equal(count(f, SPOOL_HOLD), STORE_HELD_MAX);
	assert_int_equal(spool_held(&f->spool, &names, &f->error), STORE_HELD_MAX);
	assert_int_equal(spool_held_remove(&f->spool, names[7], &f->error), STORE_OK);
	store_held_free(names);
	assert_int_equal(hold(f, "b", 5000, 0), STORE_OK);
	assert_int_equal(hold(f, "b", 5000, 0), STORE_FULL);
}

TEST(no_more_than_a_mebibyte_is_held)
{
	struct fixture *f = *state;
	char *text = calloc(1, STORE_HELD_BYTES_MAX + 1);
	struct spool *s = &f->spool;

	assert_int_equal(hold_text(s, text, STORE_HELD_BYTES_MAX + 1, 1, 0, &f->error), STORE_FULL);
	assert_int_equal(hold_text(s, text, STORE_HELD_BYTES_MAX, 1, 0, &f->error), STORE_OK);
	assert_int_equal(hold_text(s, text, 1, 2, 0, &f->error), STORE_FULL);
	assert_int_equal(count(f, SPOOL_HOLD), 1);
	/* What somebody else has put there takes room as well. */
	char **names;
	assert_int_equal(spool_held(s, &names, &f->error), 1);
	assert_int_equal(spool_held_remove(s, names[0], &f->error), STORE_OK);
	store_held_free(names);
	put(f, SPOOL_HOLD, "notes.txt", "");
	assert_int_equal(truncate(at(f, SPOOL_HOLD, "notes.txt"), STORE_HELD_BYTES_MAX - 10), 0);
	assert_int_equal(hold_text(s, text, 10, 1, 0, &f->error), STORE_OK);
	assert_int_equal(hold_text(s, text, 1, 1, 0, &f->error), STORE_FULL);
	/* In doubt nothing is held: the directory for the lock, and again to count. */
	drop(f, SPOOL_HOLD, "notes.txt");
	interference = (struct interference){.of = OPENAT, .nth = 2, .error = EMFILE};
	assert_int_equal(hold_text(s, text, 1, 1, 0, &f->error), STORE_FAILED);
	interference.nth = 0;
	assert_true(tells(f, &f->error, "hold", EMFILE));
	free(text);
}

enum { SENDERS = 16 };

static struct {
	struct spool *spools[2];
	atomic_int held, full;
} senders;

static void *
hold_many(void *number)
{
	struct error error;

	for (int i = 0; i < 8; i++) {
		enum store_result result;
		do {
			result = hold_text(senders.spools[(uintptr_t)number % 2], "request", 7,
			    (int64_t)(uintptr_t)number, i, &error);
		} while (result == STORE_FAILED); /* a busy machine: the lock was not had in time */
		senders.held += result == STORE_OK;
		senders.full += result == STORE_FULL;
	}
	return NULL;
}

/* Threads and processes: each sees what the others hold. */
TEST(the_limit_is_of_all_together)
{
	struct fixture *f = *state;
	pthread_t threads[SENDERS];
	struct spool other;

	assert_int_equal(spool_open(&other, f->path, false, false, &f->error), STORE_OK);
	senders.spools[0] = &f->spool;
	senders.spools[1] = &other;
	senders.held = senders.full = 0;
	for (uintptr_t i = 0; i < SENDERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, hold_many, (void *)i), 0);
	for (int i = 0; i < SENDERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(senders.held, STORE_HELD_MAX);
	assert_int_equal(senders.held + senders.full, SENDERS * 8);
	assert_int_equal(count(f, SPOOL_HOLD), STORE_HELD_MAX);
	assert_int_equal(count(f, SPOOL_TMP), 0);
	spool_close(&other);
}

/* ---- failures ---- */

TEST(whichever_call_fails_nothing_is_held)
{
	static const int errors[] = {EIO, ENOSPC};
	struct fixture *f = *state;
	int before = descriptors();

	for (size_t w = 0; w < ROWS(ways); w++)
		for (size_t e = 0; e < ROWS(errors); e++) {
			bool done = false;
			int failures = 0;
			for (int nth = 1; !done; nth++) {
				struct capture capture;
				go_the_way(f, &ways[w]);
				interference = (struct interference){.of = ANY & ~UNLINKAT, .nth = nth,
				    .error = errors[e]};
				capture_begin(&capture);
				enum store_result result = hold(f, "a", 1000, 0);
				free(capture_end(&capture));
				done = interference.seen < nth;
				interference.nth = 0;
				assert_int_equal(count(f, SPOOL_HOLD), result == STORE_OK);
				assert_int_equal(count(f, SPOOL_TMP), 0);
				assert_true(done ? result == STORE_OK : result == STORE_FULL ||
				    result == STORE_FAILED);
				failures += result != STORE_OK;
				f->spool.distrusted = false;
				nftw(at(f, SPOOL_HOLD, ""), remove_entry, 4, FTW_DEPTH | FTW_PHYS);
				assert_int_equal(mkdir(at(f, SPOOL_HOLD, ""), 02770), 0);
				restart(f);
			}
			assert_true(failures >= 7); /* list, lock, list, create, write, link, sync */
			assert_int_equal(descriptors(), before);
		}
}

/* Two containers may have one process id. */
TEST(what_another_holds_by_that_name_stays)
{
	struct fixture *f = *state;
	char name[64];

	snprintf(name, sizeof(name), "%019lld-%ld-%u.json", 1000000000005LL, (long)getpid(),
	    f->spool.serial);
	put(f, SPOOL_HOLD, name, theirs("a"));
	assert_int_equal(hold(f, "a", 1000, 5), STORE_FAILED);
	char thing[128];
	snprintf(thing, sizeof(thing), "hold/%s", name);
	assert_true(tells(f, &f->error, thing, EEXIST));
	expect_text(f, SPOOL_HOLD, name, theirs("a"));
	assert_int_equal(hold(f, "a", 1000, 5), STORE_OK);
}

TEST(a_signal_is_no_failure)
{
	struct fixture *f = *state;

	interference = (struct interference){.of = FLOCK, .nth = 1, .error = EINTR};
	assert_int_equal(hold(f, "a", 1000, 0), STORE_OK);
	assert_int_equal(interference.seen, 2);
	interference = (struct interference){.of = FLOCK, .nth = 1, .error = ENOLCK};
	assert_int_equal(hold(f, "a", 1000, 0), STORE_FAILED);
	interference.nth = 0;
	assert_true(tells(f, &f->error, "hold", ENOLCK));
	assert_int_equal(count(f, SPOOL_HOLD), 1);
}

/* ---- reading ---- */

TEST(only_names_of_held_requests_are_listed)
{
	static const char *const others[] = {"a.json", "1000000000000-1-1.json",
	    "0000000001000000000-1.json",
		"0000000001000000000-1-.json", "0000000001000000000--1.json",
		    "0000000001000000000-1-1.jsonx",
		"0000000001000000000-1-1", "00000000010000000000-1-1.json",
		    "0000000001000000000-1-1-1.json",
		".0000000001000000000-1-1.json", "0000000001000000000-x-1.json", "notes.txt"};
	struct fixture *f = *state;
	char **names;

	for (size_t i = 0; i < ROWS(others); i++)
		put(f, SPOOL_HOLD, others[i], "");
	assert_int_equal(hold(f, "a", 1, 0), STORE_OK);
	assert_int_equal(spool_held(&f->spool, &names, &f->error), 1);
	assert_int_equal(strncmp(names[0], "0000000001000000000-", 20), 0);
	store_held_free(names);
	/* As many as the others take. */
	assert_int_equal(count(f, SPOOL_HOLD), ROWS(others) + 1);
}

TEST(a_request_that_cannot_be_read_is_said)
{
	struct fixture *f = *state;
	struct entry entry;

	assert_int_equal(spool_held_read(&f->spool, "1-1-1.json", &entry, &f->error), STORE_ABSENT);
	put(f, SPOOL_HOLD, "1-1-1.json", "torn");
	assert_int_equal(spool_held_read(&f->spool, "1-1-1.json", &entry, &f->error), STORE_FAILED);
	assert_non_null(strstr(f->error.text,
	    "/hold/1-1-1.json: it does not begin with an evidence line"));
	interference = (struct interference){.of = READ, .nth = 1, .error = EIO};
	assert_int_equal(spool_held_read(&f->spool, "1-1-1.json", &entry, &f->error), STORE_FAILED);
	interference.nth = 0;
	assert_non_null(strstr(f->error.text, "/hold/1-1-1.json: Input/output error"));
	drop(f, SPOOL_HOLD, "1-1-1.json");
	assert_int_equal(symlink("elsewhere", at(f, SPOOL_HOLD, "1-1-1.json")), 0);
	assert_int_equal(spool_held_read(&f->spool, "1-1-1.json", &entry, &f->error), STORE_FAILED);
	drop(f, SPOOL_HOLD, "1-1-1.json");
	assert_int_equal(mkfifo(at(f, SPOOL_HOLD, "1-1-1.json"), 0640), 0);
	assert_int_equal(spool_held_read(&f->spool, "1-1-1.json", &entry, &f->error), STORE_FAILED);
	interference = (struct interference){.of = UNLINKAT, .nth = 1, .error = EROFS};
	assert_int_equal(spool_held_remove(&f->spool, "1-1-1.json", &f->error), STORE_FAILED);
	interference.nth = 0;
	assert_true(tells(f, &f->error, "hold/1-1-1.json", EROFS));
}

TEST(a_directory_that_cannot_be_listed_is_an_error)
{
	struct fixture *f = *state;
	char **names;

	int hold_fd = f->spool.dir[SPOOL_HOLD];
	f->spool.dir[SPOOL_HOLD] = -1;
	assert_int_equal(spool_held(&f->spool, &names, &f->error), -1);
	f->spool.dir[SPOOL_HOLD] = hold_fd;
	assert_true(tells(f, &f->error, "hold", EBADF));
	assert_null(names);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		SPOOL_TEST(requests_come_back_in_the_order_of_arrival),
		SPOOL_TEST(what_is_held_is_what_came),
		SPOOL_TEST(a_held_request_costs_these_calls),
		SPOOL_TEST(no_more_than_64_requests_are_held),
		SPOOL_TEST(no_more_than_a_mebibyte_is_held),
		SPOOL_TEST(the_limit_is_of_all_together),
		SPOOL_TEST(whichever_call_fails_nothing_is_held),
		SPOOL_TEST(what_another_holds_by_that_name_stays),
		SPOOL_TEST(a_signal_is_no_failure),
		SPOOL_TEST(only_names_of_held_requests_are_listed),
		SPOOL_TEST(a_request_that_cannot_be_read_is_said),
		SPOOL_TEST(a_directory_that_cannot_be_listed_is_an_error),
	};

	return cmocka_run_group_tests_name("held", tests, NULL, NULL);
}
