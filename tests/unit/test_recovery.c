/*
 * Owns what recovery.c promises: what a crash left in a queue is committed, by what was
 * looked at and synced; what is no event is left alone; beside live writers it is right.
 */
#include "spool_helpers.h"

#include <pthread.h>

/* Returns how many were committed. */
static long
recover(struct fixture *f)
{
	long committed = -1;

	assert_int_equal(spool_recover(&f->spool, &committed, &f->error), STORE_OK);
	return committed;
}

/* It fails, and says so once at most in the log. */
static void
expect_failure(struct fixture *f)
{
	struct capture capture;
	long committed = -1;

	capture_begin(&capture);
	enum store_result result = spool_recover(&f->spool, &committed, &f->error);
	char *logged = capture_end(&capture);
	assert_int_equal(result, STORE_FAILED);
	assert_int_equal(committed, 0);
	assert_true(lines_of(logged) <= 1);
	free(logged);
}

TEST(recovery_commits_what_the_queues_hold_and_events_lacks)
{
	struct fixture *f = *state;

	for (size_t w = 0; w < ROWS(ways); w++) {
		go_the_way(f, &ways[w]);
		put(f, SPOOL_NEW, "a.json", ours("a"));
		put(f, SPOOL_FAILED, "b.json", ours("b"));
		assert_int_equal(store(f, "c", STORE_QUEUE), STORE_OK);
		assert_int_equal(store(f, "d", STORE_QUEUE), STORE_OK);
		drop(f, SPOOL_NEW, "d.json"); /* handled: recovery does not know it */
		assert_int_equal(recover(f), 2);
		expect_stored(f, SPOOL_NEW, "a.json", ours("a"));
		expect_stored(f, SPOOL_FAILED, "b.json", ours("b"));
		expect_stored(f, SPOOL_NEW, "c.json", ours("c"));
		assert_int_equal(count(f, SPOOL_NEW), 2);
		assert_int_equal(count(f, SPOOL_FAILED), 1);
		assert_int_equal(count(f, SPOOL_EVENTS), 4);
		assert_int_equal(recover(f), 0);
		for (char name[] = "a.json"; name[0] <= 'd'; name[0]++)
			for (int dir = 0; dir < SPOOL_DIRS; dir++)
				drop(f, (enum spool_dir)dir, name);
	}
}

/* The names of both queues, then events/: what is committed is on the disk in this order. */
TEST(recovery_costs_these_calls_in_this_order)
{
	struct fixture *f = *state;

	for (int one_wait = 0; one_wait < 2; one_wait++) {
		f->spool.one_wait =
		    one_wait == 1; /* the names of others are on the disk by their directory */
		put(f, SPOOL_NEW, "a.json", ours("a"));
		put(f, SPOOL_FAILED, "b.json", ours("b"));
		trace_begin(&f->spool);
		assert_int_equal(recover(f), 2);
		assert_string_equal(trace_end(), "list(new) open(new) fsync(new) fsync(file) link(events) "
			"list(failed) open(failed) fsync(failed) fsync(file) "
			    "link(events) fsync(events) list(tmp)");
		/* By the link of a move that was not synced a committed event may be there: a sync each. */
		trace_begin(&f->spool);
		assert_int_equal(recover(f), 0);
		assert_string_equal(trace_end(),
		    "list(new) fsync(new) list(failed) fsync(failed) fsync(events) list(tmp)");
		drop(f, SPOOL_EVENTS, "a.json");
		drop(f, SPOOL_EVENTS, "b.json");
	}
}

/* The start of a receiver waits for no disk when nothing is in the queues. */
TEST(recovery_of_empty_queues_syncs_nothing)
{
	struct fixture *f = *state;

	trace_begin(&f->spool);
	assert_int_equal(recover(f), 0);
	assert_string_equal(trace_end(), "list(new) list(failed) list(tmp)");
	put(f, SPOOL_FAILED, "b.json", ours("b"));
	trace_begin(&f->spool);
	assert_int_equal(recover(f), 1);
	assert_string_equal(trace_end(),
	    "list(new) list(failed) open(failed) fsync(failed) fsync(file) "
	    "link(events) fsync(events) list(tmp)");
}

/* Two full batches, and a rest in which what is committed already is in between. */
TEST(recovery_syncs_once_for_many)
{
	struct fixture *f = *state;
	char id[32], name[STORE_NAME_SIZE];
	int before = descriptors();

	for (int i = 0; i < 2 * 64 + 5; i++) {
		snprintf(id, sizeof(id), "%d", i);
		snprintf(name, sizeof(name), "%d.json", i);
		put(f, SPOOL_NEW, name, ours(id));
	}
	for (int i = 0; i < 5; i++) {
		snprintf(id, sizeof(id), "committed-%d", i);
		assert_int_equal(store(f, id, STORE_QUEUE), STORE_OK);
	}
	interference = (struct interference){.of = FSYNC, .nth = 1000};
	assert_int_equal(recover(f), 2 * 64 + 5);
	/* new/ for each batch, failed/, events/; and each file. */
	assert_int_equal(interference.seen, 3 + 1 + 1 + 2 * 64 + 5);
	assert_int_equal(descriptors(), before);
	assert_int_equal(count(f, SPOOL_EVENTS), 2 * 64 + 10);
}

TEST(recovery_takes_thousands_of_names)
{
	struct fixture *f = *state;
	char id[64], name[STORE_NAME_SIZE];
	int many = getenv("UNDER_VALGRIND") != NULL ? 300 : 3000;

	for (int i = 0; i < many; i++) {
		snprintf(id, sizeof(id), "msg_%d_with_a_name_of_some_length", i);
		snprintf(name, sizeof(name), "%s.json", id);
		put(f, SPOOL_NEW, name, ours(id));
	}
	assert_int_equal(recover(f), many);
	assert_int_equal(count(f, SPOOL_EVENTS), many);
}

/* ---- what it leaves alone ---- */

TEST(recovery_leaves_what_is_no_event)
{
	static const char *const names[] = {"notes.txt", ".hidden.json", "b.json~", "%41.json"};
	struct fixture *f = *state;
	char torn[4096];

	for (size_t i = 0; i < ROWS(names); i++)
		put(f, SPOOL_NEW, names[i], ours("A"));
	for (size_t length = 0; length < strlen(ours("t1")); length += 7) {
		snprintf(torn, sizeof(torn), "%.*s", (int)length, ours("t1"));
		put(f, SPOOL_NEW, "t1.json", torn);
		assert_int_equal(recover(f), 0);
	}
	put(f, SPOOL_NEW, "t2.json", "");
	assert_int_equal(truncate(at(f, SPOOL_NEW, "t2.json"), 300), 0); /* zeros */
	put(f, SPOOL_NEW, "t3.json", ours("another"));
	assert_int_equal(symlink("../a.json", at(f, SPOOL_NEW, "t4.json")), 0);
	assert_int_equal(mkfifo(at(f, SPOOL_NEW, "t5.json"), 0640), 0);
	assert_int_equal(mkdir(at(f, SPOOL_NEW, "t6.json"), 0750), 0);
	put(f, SPOOL_NEW, "z.json", ours("z"));
	file_write(in(f->path, "a.json"), ours("t4"), 0640);
	assert_int_equal(recover(f), 1);
	assert_int_equal(count(f, SPOOL_EVENTS), 1);
	expect_stored(f, SPOOL_NEW, "z.json", ours("z"));
	assert_int_equal(count(f, SPOOL_NEW), ROWS(names) + 6 + 1);
	/* The event of that name comes, and is stored in its place. */
	assert_int_equal(store_quietly(f, "t1", STORE_QUEUE), STORE_OK);
	expect_stored(f, SPOOL_NEW, "t1.json", ours("t1"));
}

TEST(recovery_leaves_a_file_in_events_that_is_another)
{
	struct fixture *f = *state;

	put(f, SPOOL_NEW, "a.json", ours("a"));
	put(f, SPOOL_EVENTS, "a.json", theirs("a"));
	assert_int_equal(recover(f), 0);
	expect_text(f, SPOOL_EVENTS, "a.json", theirs("a"));
	expect_text(f, SPOOL_NEW, "a.json", ours("a"));
}

/* One file of root's must not keep the receiver from its start; it is named. */
TEST(recovery_leaves_another_user_s_file)
{
	static const struct {
		enum call of;
		int nth, error;
		const char *step;
	} rows[] = {{OPENAT, 2, EACCES, "cannot read the file: Permission denied"},
	    {LINKAT, 1, EPERM, "cannot commit the event: Operation not permitted"}};
	struct fixture *f = *state;
	struct capture capture;

	for (size_t i = 0; i < ROWS(rows); i++) {
		put(f, SPOOL_NEW, "a.json", ours("a"));
		put(f, SPOOL_NEW, "b.json", ours("b"));
		interference = (struct interference){.of = (int)rows[i].of, .nth = rows[i].nth,
			.error = rows[i].error};
		capture_begin(&capture);
		long committed = recover(f);
		char *logged = capture_end(&capture);
		interference.nth = 0;
		assert_int_equal(committed, 1);
		assert_int_equal(lines_of(logged), 1);
		assert_non_null(strstr(logged, rows[i].step));
		free(logged);
		assert_int_equal(count(f, SPOOL_EVENTS), 1);
		assert_int_equal(recover(f), 1);
		drop(f, SPOOL_EVENTS, "a.json");
		drop(f, SPOOL_EVENTS, "b.json");
	}
}

static bool
hard_links_are_protected(void)
{
	int fd = open("/proc/sys/fs/protected_hardlinks", O_RDONLY | O_CLOEXEC);
	char text[2] = "";
	bool are = fd >= 0 && read(fd, text, 1) == 1 && *text == '1';

	close(fd);
	return are;
}

/* The same with the kernel's own refusal. */
TEST(recovery_leaves_a_file_that_the_kernel_lets_it_not_link)
{
	struct fixture *f = *state;
	int status;

	if (geteuid() != 0 || !hard_links_are_protected()) {
		print_message("only root can try it, where fs.protected_hardlinks is 1\n");
		skip();
	}
	put(f, SPOOL_NEW, "a.json", ours("a"));
	put(f, SPOOL_NEW, "b.json", ours("b"));
	assert_int_equal(chmod(at(f, SPOOL_NEW, "a.json"), 0644), 0);
	assert_int_equal(chown(at(f, SPOOL_NEW, "b.json"), 65534, 65534), 0);
	for (int i = 0; i < SPOOL_DIRS; i++)
		assert_int_equal(chown(at(f, (enum spool_dir)i, ""), 65534, 65534), 0);
	assert_int_equal(chmod(f->path, 0755), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		long committed;
		if (setgid(65534) != 0 || setuid(65534) != 0)
			_exit(2);
		_exit(spool_recover(&f->spool, &committed, &f->error) == STORE_OK &&
		    committed == 1 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_false(has(f, SPOOL_EVENTS, "a.json"));
	expect_stored(f, SPOOL_NEW, "b.json", ours("b"));
}

/* ---- what happens meanwhile ---- */

static void
give_the_name_to_another_file(void)
{
	assert_int_equal(rename(at(hooked, SPOOL_NEW, "a.json"), in(hooked->path, "kept")), 0);
	put(hooked, SPOOL_NEW, "a.json", theirs("a"));
}

static void
handle_it(void)
{
	assert_int_equal(unlink(at(hooked, SPOOL_NEW, "a.json")), 0);
}

static void
commit_it(void)
{
	link_again(hooked, SPOOL_NEW, SPOOL_EVENTS, "a.json");
}

static void
accept_and_handle_another(void)
{
	handle_it();
	put(hooked, SPOOL_EVENTS, "a.json", theirs("a"));
}

TEST(recovery_commits_the_file_that_it_synced_not_the_name)
{
	static const enum call calls[] = {FSYNC, LINKAT};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(calls); i++) {
		put(f, SPOOL_NEW, "a.json", ours("a"));
		ino_t first = inode(f, SPOOL_NEW, "a.json");
		interference = (struct interference){.of = (int)calls[i], .nth = 1,
		    .hook = give_the_name_to_another_file};
		assert_int_equal(recover(f), 1);
		interference.nth = 0;
		assert_int_equal(inode(f, SPOOL_EVENTS, "a.json"), first);
		expect_text(f, SPOOL_NEW, "a.json", theirs("a"));
		assert_int_equal(unlink(in(f->path, "kept")), 0);
		drop(f, SPOOL_EVENTS, "a.json");
	}
}

TEST(recovery_goes_on_when_others_are_faster)
{
	static const struct {
		void (*hook)(void);
		const char *queued, *committed; /* whose */
	} rows[] = {{handle_it, NULL, NULL}, {commit_it, "ours", "ours"},
	    {accept_and_handle_another, NULL, "theirs"}};
	static const enum call calls[] = {OPENAT, FSYNC, LINKAT};
	struct fixture *f = *state;

	for (size_t w = 0; w < ROWS(ways); w++)
		for (size_t i = 0; i < ROWS(rows) * ROWS(calls); i++) {
			enum call of = calls[i / ROWS(rows)];
			size_t row = i % ROWS(rows);
			go_the_way(f, &ways[w]);
			put(f, SPOOL_NEW, "a.json", ours("a"));
			put(f, SPOOL_FAILED, "b.json", ours("b"));
			/* The first open is that of the directory. */
			interference = (struct interference){.of = (int)of, .nth = of == OPENAT ? 2 : 1,
			    .hook = rows[row].hook};
			assert_int_equal(recover(f), 1);
			interference.nth = 0;
			assert_int_equal(has(f, SPOOL_NEW, "a.json"), rows[row].queued != NULL);
			assert_int_equal(has(f, SPOOL_EVENTS, "a.json"), rows[row].committed != NULL);
			if (rows[row].committed != NULL)
				expect_text(f, SPOOL_EVENTS, "a.json", record_of("a", rows[row].committed, BODY,
				    RECEIVED));
			expect_stored(f, SPOOL_FAILED, "b.json", ours("b"));
			for (int dir = 0; dir < SPOOL_DIRS; dir++) {
				drop(f, (enum spool_dir)dir, "a.json");
				drop(f, (enum spool_dir)dir, "b.json");
			}
		}
}

enum { WRITERS = 8, EACH = 40 };

static struct {
	struct spool *spool;
	atomic_int accepted, writing;
} live;

static void *
write_many(void *number)
{
	for (int i = 0; i < EACH; i++) {
		char id[32];
		struct delivery d;
		struct error error;
		/* Every other one is delivered by two writers. */
		snprintf(id, sizeof(id), "%d-%d", (int)(uintptr_t)number / (1 + i % 2), i);
		delivery_make(&d, id, "ours", BODY, RECEIVED, i % 3 == 0 ? STORE_DEAD_LETTER : STORE_QUEUE);
		enum store_result result = spool_put(live.spool, &d.intake, &error);
		live.accepted += result == STORE_OK || result == STORE_DUPLICATE;
		record_free(&d.record);
	}
	live.writing--;
	return NULL;
}

TEST(recovery_beside_writers_commits_each_once)
{
	struct fixture *f = *state;
	pthread_t threads[WRITERS];
	struct spool other;

	assert_int_equal(spool_open(&other, f->path, false, false, &f->error), STORE_OK);
	live.spool = &f->spool;
	live.writing = WRITERS;
	live.accepted = 0;
	for (uintptr_t i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, write_many, (void *)i), 0);
	do {
		long committed;
		assert_int_equal(spool_recover(&other, &committed, &f->error), STORE_OK);
	} while (live.writing > 0);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	assert_int_equal(live.accepted, WRITERS * EACH);
	assert_int_equal(recover(f), 0);
	assert_int_equal(count(f, SPOOL_TMP), 0);
	assert_int_equal(count(f, SPOOL_NEW) + count(f, SPOOL_FAILED), count(f, SPOOL_EVENTS));
	for (int i = 0; i < WRITERS * EACH; i++) {
		char name[64];
		snprintf(name, sizeof(name), "%d-%d.json", i / EACH / (1 + i % EACH % 2), i % EACH);
		assert_true(is_one_file(f, i % EACH % 3 == 0 ? SPOOL_FAILED : SPOOL_NEW, SPOOL_EVENTS,
		    name));
	}
	spool_close(&other);
}

/* ---- failures ---- */

/* I3: before its queue's name is on the disk nothing is committed. */
TEST(recovery_commits_nothing_that_it_could_not_sync)
{
	struct fixture *f = *state;

	for (int nth = 1; nth <= 2; nth++) { /* of the directory, of the file */
		put(f, SPOOL_NEW, "a.json", ours("a"));
		interference = (struct interference){.of = FSYNC, .nth = nth, .error = EIO};
		expect_failure(f);
		interference.nth = 0;
		assert_true(tells(f, &f->error, nth == 1 ? "new" : "new/a.json", EIO));
		assert_int_equal(count(f, SPOOL_EVENTS), 0);
		expect_text(f, SPOOL_NEW, "a.json", ours("a"));
		expect_failure(f); /* no later sync is trusted */
		assert_int_equal(store(f, "b", STORE_QUEUE), STORE_FAILED);
		restart(f);
		assert_int_equal(recover(f), 1);
		drop(f, SPOOL_EVENTS, "a.json");
	}
}

TEST(whichever_call_fails_the_next_recovery_finishes)
{
	static const int errors[] = {EIO, ENOSPC, EMFILE};
	struct fixture *f = *state;
	int before = descriptors(), failures = 0;

	for (size_t e = 0; e < ROWS(errors); e++) {
		bool done = false;
		for (int nth = 1; !done; nth++) {
			char name[STORE_NAME_SIZE] = "a.json";
			for (; name[0] <= 'e'; name[0]++)
				put(f, name[0] % 2 == 0 ? SPOOL_NEW : SPOOL_FAILED, name,
				    ours((char[]){name[0], '\0'}));
			struct capture capture;
			long committed = -1;
			interference = (struct interference){.of = ANY, .nth = nth, .error = errors[e]};
			capture_begin(&capture);
			enum store_result result = spool_recover(&f->spool, &committed, &f->error);
			free(capture_end(&capture));
			done = interference.seen < nth;
			interference.nth = 0;
			/* What cannot be looked up in events/ is left for the next one; tmp/ has no promise. */
			failures += result == STORE_FAILED;
			assert_true(result == STORE_OK || result == STORE_FAILED);
			assert_true(result == STORE_OK ? committed >= 4 : committed == 0);
			assert_int_equal(descriptors(), before);
			f->spool.distrusted = false;
			recover(f);
			for (name[0] = 'a'; name[0] <= 'e'; name[0]++) {
				expect_stored(f, name[0] % 2 == 0 ? SPOOL_NEW : SPOOL_FAILED, name,
				    ours((char[]){name[0], '\0'}));
				drop(f, SPOOL_NEW, name);
				drop(f, SPOOL_FAILED, name);
				drop(f, SPOOL_EVENTS, name);
			}
		}
	}
	/* Of each event its open, read, sync and link; of the directories list and sync. */
	assert_true(failures >= (int)ROWS(errors) * (5 * 4 + 5));
}

/* Another user's, or of a bad block: the others are committed, drain and doctor name it. */
TEST(a_file_that_cannot_be_read_stops_no_other)
{
	static const int errors[] = {EACCES, EIO};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(errors); i++) {
		long committed;
		put(f, SPOOL_NEW, "a.json", ours("a"));
		put(f, SPOOL_NEW, "b.json", ours("b"));
		interference = (struct interference){.of = READ, .nth = 1, .error = errors[i]};
		assert_int_equal(spool_recover(&f->spool, &committed, &f->error), STORE_OK);
		interference.nth = 0;
		assert_int_equal(committed, 1);
		assert_int_equal(spool_recover(&f->spool, &committed, &f->error), STORE_OK);
		assert_int_equal(committed, 1);
		for (int n = 0; n < 2; n++) {
			drop(f, SPOOL_NEW, n == 0 ? "a.json" : "b.json");
			drop(f, SPOOL_EVENTS, n == 0 ? "a.json" : "b.json");
		}
	}
}

TEST(a_queue_that_cannot_be_listed_is_named)
{
	static const char *const queues[] = {"new", "failed"};
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		interference = (struct interference){.of = OPENAT, .nth = i + 1, .error = EACCES};
		expect_failure(f);
		interference.nth = 0;
		assert_true(tells(f, &f->error, queues[i], EACCES));
		assert_int_equal(f->error.status, EX_NOPERM);
	}
	put(f, SPOOL_NEW, "a.json", ours("a"));
	interference = (struct interference){.of = LINKAT, .nth = 1, .error = EROFS};
	expect_failure(f);
	interference.nth = 0;
	assert_true(tells(f, &f->error, "new/a.json", EROFS));
	interference = (struct interference){.of = FSYNC, .nth = 4, .error = EIO};
	expect_failure(f);
	interference.nth = 0;
	assert_true(tells(f, &f->error, "events", EIO));
}

/* ---- tmp/ ---- */

TEST(recovery_removes_what_is_older_than_an_hour_from_tmp)
{
	static const struct {
		const char *name;
		int age; /* seconds */
		bool stays;
	} rows[] = {{"1.000000000.1.0", 0, true}, {"1.000000000.1.1", 3500, true},
	    {"1700000000.123456789.4711.12", 3700, false}, {"1.000000000.1.3", 31536000, false},
	    {"1.000000000.1.4", -86400, true}, /* not of our form: somebody else's */
	    {"photo.jpg", 7200, true}, {"1.2.3.4", 7200, true}, {"1.000000000.1.", 7200, true},
	    {".000000000.1.1", 7200, true}, {"1.000000000.1.1.jpg", 7200, true},
	    {"1.000000000.1.1x", 7200, true}, {"1.000000000.1", 7200, true}};
	struct fixture *f = *state;
	time_t now = time(NULL);

	for (size_t i = 0; i < ROWS(rows); i++) {
		put(f, SPOOL_TMP, rows[i].name, "");
		age(f, SPOOL_TMP, rows[i].name, now - rows[i].age);
	}
	assert_int_equal(mkdir(at(f, SPOOL_TMP, "2.000000000.1.1"), 0750), 0);
	age(f, SPOOL_TMP, "2.000000000.1.1", now - 7200);
	assert_int_equal(symlink("now", at(f, SPOOL_TMP, "2.000000000.1.2")), 0);
	age(f, SPOOL_TMP, "2.000000000.1.2", now - 7200);
	assert_int_equal(recover(f), 0);
	for (size_t i = 0; i < ROWS(rows); i++)
		if (has(f, SPOOL_TMP, rows[i].name) != rows[i].stays)
			fail_msg("%s", rows[i].name);
	assert_true(has(f, SPOOL_TMP, "2.000000000.1.1") && has(f, SPOOL_TMP, "2.000000000.1.2"));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		SPOOL_TEST(recovery_commits_what_the_queues_hold_and_events_lacks),
		SPOOL_TEST(recovery_costs_these_calls_in_this_order),
		SPOOL_TEST(recovery_of_empty_queues_syncs_nothing),
		SPOOL_TEST(recovery_syncs_once_for_many),
		SPOOL_TEST(recovery_takes_thousands_of_names),
		SPOOL_TEST(recovery_leaves_what_is_no_event),
		SPOOL_TEST(recovery_leaves_a_file_in_events_that_is_another),
		SPOOL_TEST(recovery_leaves_another_user_s_file),
		SPOOL_TEST(recovery_leaves_a_file_that_the_kernel_lets_it_not_link),
		SPOOL_TEST(recovery_commits_the_file_that_it_synced_not_the_name),
		SPOOL_TEST(recovery_goes_on_when_others_are_faster),
		SPOOL_TEST(recovery_beside_writers_commits_each_once),
		SPOOL_TEST(recovery_commits_nothing_that_it_could_not_sync),
		SPOOL_TEST(whichever_call_fails_the_next_recovery_finishes),
		SPOOL_TEST(a_file_that_cannot_be_read_stops_no_other),
		SPOOL_TEST(a_queue_that_cannot_be_listed_is_named),
		SPOOL_TEST(recovery_removes_what_is_older_than_an_hour_from_tmp),
	};

	return cmocka_run_group_tests_name("recovery", tests, NULL, NULL);
}
