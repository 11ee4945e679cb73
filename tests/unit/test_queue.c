/*
 * Owns what store.h promises of the work queue, for the spool: the lock, what waits and
 * when it is work, and that an outcome takes an event to one place, whichever process interferes.
 */
#include "spool_helpers.h"

#include <pthread.h>
#include <time.h>

/* ---- the lock ---- */

static bool
is_busy(struct fixture *f)
{
	struct spool other; /* another process's */

	assert_int_equal(spool_open(&other, f->path, false, false, &f->error), STORE_OK);
	enum store_result result = spool_work_begin(&other, false, &f->error);
	spool_close(&other);
	assert_true(result == STORE_OK || result == STORE_BUSY);
	return result == STORE_BUSY;
}

TEST(one_at_a_time_moves_events)
{
	struct fixture *f = *state;
	int status;

	assert_false(is_busy(f));
	assert_int_equal(spool_work_begin(&f->spool, false, &f->error), STORE_OK);
	assert_true(is_busy(f));
	spool_work_end(&f->spool);
	assert_false(is_busy(f));
	spool_work_end(&f->spool); /* twice is fine */
	/* It ends with the process, however that ends. */
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0)
		_exit(spool_work_begin(&f->spool, false, &f->error) == STORE_OK ? 0 : 1);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_false(is_busy(f));
}

static struct {
	pthread_barrier_t barrier;
	atomic_bool ended;
	struct fixture *f;
} waiting;

static void *
wait_for_it(void *result)
{
	struct spool other;
	struct error error;

	if (spool_open(&other, waiting.f->path, false, false, &error) != STORE_OK)
		return NULL;
	pthread_barrier_wait(&waiting.barrier);
	if (spool_work_begin(&other, true, &error) == STORE_OK && waiting.ended)
		*(bool *)result = true;
	spool_close(&other);
	return NULL;
}

TEST(it_waits_if_it_is_told_to)
{
	struct fixture *f = waiting.f = *state;
	bool waited = false;
	pthread_t thread;

	assert_int_equal(spool_work_begin(&f->spool, false, &f->error), STORE_OK);
	waiting.ended = false;
	pthread_barrier_init(&waiting.barrier, NULL, 2);
	assert_int_equal(pthread_create(&thread, NULL, wait_for_it, &waited), 0);
	pthread_barrier_wait(&waiting.barrier);
	for (int i = 0; i < 1000; i++)
		sched_yield(); /* time enough to come back too early */
	waiting.ended = true;
	spool_work_end(&f->spool);
	pthread_join(thread, NULL);
	pthread_barrier_destroy(&waiting.barrier);
	assert_true(waited);
	/* The wait is bounded, and said. */
	spool_work_end(&f->spool);
	assert_int_equal(spool_work_begin(&f->spool, false, &f->error), STORE_OK);
	struct spool other;
	assert_int_equal(spool_open(&other, f->path, false, false, &f->error), STORE_OK);
	other.wait_ms = 50;
	assert_int_equal(spool_work_begin(&other, true, &f->error), STORE_BUSY);
	assert_int_equal(f->error.status, EX_TEMPFAIL);
	assert_non_null(strstr(f->error.text, "/lock: psapi drain or another command still has"));
	spool_close(&other);
	spool_work_end(&f->spool);
	/* A signal ends no wait. */
	interference = (struct interference){.of = FLOCK, .nth = 1, .error = EINTR};
	assert_int_equal(spool_work_begin(&f->spool, true, &f->error), STORE_OK);
	assert_int_equal(interference.seen, 2);
}

TEST(the_lock_has_mode_and_owner_by_rule)
{
	struct fixture *f = *state;
	bool root = geteuid() == 0;
	struct stat st;

	if (root)
		assert_int_equal(chown(f->path, 65534, (gid_t)-1), 0);
	mode_t mask = umask(077);
	restart(f);
	enum store_result result = spool_work_begin(&f->spool, false, &f->error);
	umask(mask);
	assert_int_equal(result, STORE_OK);
	assert_int_equal(stat(in(f->path, "lock"), &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(st.st_uid, root ? 65534 : geteuid());
}

TEST(a_lock_that_cannot_be_had_is_named_with_the_cause)
{
	static const struct {
		enum call of;
		int nth, error;
	} rows[] = {{OPENAT, 1, EACCES}, {OPENAT, 2, ENOSPC}, {OPENAT, 2, EROFS}, {FLOCK, 1, ENOLCK}};
	struct fixture *f = *state;
	int before = descriptors();

	/* The remedy has the owner's name, for which other files are read. */
	if (geteuid() == 0)
		assert_int_equal(chown(at(f, SPOOL_NEW, ""), 65534, (gid_t)-1), 0);
	for (size_t i = 0; i < ROWS(rows); i++) {
		interference = (struct interference){.of = (int)rows[i].of, .nth = rows[i].nth,
		    .error = rows[i].error};
		assert_int_equal(spool_work_begin(&f->spool, false, &f->error), STORE_FAILED);
		interference.nth = 0;
		assert_non_null(strstr(f->error.text, "/lock: "));
		if (strstr(f->error.text, strerror(rows[i].error)) == NULL)
			fail_msg("%s", f->error.text);
		assert_int_equal(f->error.status, rows[i].error == EACCES ? EX_NOPERM : EX_IOERR);
		unlink(in(f->path, "lock"));
	}
	assert_int_equal(symlink("elsewhere", in(f->path, "lock")), 0);
	assert_int_equal(spool_work_begin(&f->spool, false, &f->error), STORE_FAILED);
	assert_false(exists(in(f->path, "elsewhere")));
	assert_int_equal(descriptors(), before);
}

/* ---- what waits ---- */

struct seen {
	char name[STORE_NAME_SIZE];
	struct store_waiting waiting;
};

static struct {
	struct seen seen[64];
	int count, stop_at; /* stop at that one, from 1 */
	bool arriving;
	char *logged;
	int refused;
} list;

static int
remember(const struct store_waiting *w, void *data)
{
	struct seen *seen = &list.seen[list.count++];

	assert_ptr_equal(data, &list);
	snprintf(seen->name, sizeof(seen->name), "%s", w->name);
	seen->waiting = *w;
	return list.count == list.stop_at ? 7 : 0;
}

/* List what waits. The log is in list.logged. */
static enum store_result
look_through(struct fixture *f)
{
	struct store_pending pending = {.now = time(NULL), .visit = remember, .data = &list,
	    .stopped = -1,
		.arriving = true};
	struct capture capture;

	list.count = 0;
	free(list.logged);
	capture_begin(&capture);
	enum store_result result = spool_pending(&f->spool, &pending, &f->error);
	list.logged = capture_end(&capture);
	if (result == STORE_OK)
		assert_int_equal(pending.stopped, list.stop_at > 0 && list.count == list.stop_at ? 7 : 0);
	list.arriving = pending.arriving;
	list.refused = pending.refused;
	return result;
}

static int
start(void **state)
{
	memset(&list, 0, sizeof(list));
	return setup(state);
}

static int
end(void **state)
{
	free(list.logged);
	return teardown(state);
}

#define PARKED_TEST(name) {#name "_parked", name, start_parked, end_parked, NULL}
#define QUEUE_TEST(name) cmocka_unit_test_setup_teardown(name, start, end)

static const struct store_waiting *
seen(const char *name)
{
	for (int i = 0; i < list.count; i++)
		if (strcmp(list.seen[i].name, name) == 0)
			return &list.seen[i].waiting;
	fail_msg("%s was not visited", name);
	return NULL;
}

/* An event in a queue, and in events/ if it is committed. */
static void
add(struct fixture *f, enum spool_dir queue, const char *id, const char *body, bool committed)
{
	char name[STORE_NAME_SIZE];

	snprintf(name, sizeof(name), "%s.json", id);
	put(f, queue, name, record_of(id, "ours", body, RECEIVED));
	if (committed)
		link_again(f, queue, SPOOL_EVENTS, name);
}

TEST(each_that_waits_is_visited_with_what_orders_it)
{
	struct fixture *f = *state;
	struct handler_state tried = {.tries = 2, .tried_at = 1000, .due_at = 2000};

	add(f, SPOOL_NEW, "a",
	    "{\"type\":\"t\",\"timestamp\":\"2025-07-24T00:00:00.5Z\",\"data\":{\"npn\":\"7\"}}", true);
	add(f, SPOOL_NEW, "b", "{\"type\":\"u\",\"data\":{\"npn\":\"7\"}}", true);
	add(f, SPOOL_NEW, "c", "{\"type\":\"t\",\"data\":{\"npn\":\"8\"}}", true);
	add(f, SPOOL_NEW, "d", "{\"type\":\"t\"}", false); /* a crash was faster */
	add(f, SPOOL_NEW, "e", "{\"type\":\"t\"}", true);
	add(f, SPOOL_FAILED, "f", "{\"type\":\"t\"}", true);
	assert_int_equal(spool_state_put(&f->spool, "b.json", &tried), 0);
	assert_int_equal(look_through(f), STORE_OK);
	assert_int_equal(list.count, 5);
	assert_false(list.arriving);
	assert_string_equal(list.logged, "");
	assert_int_equal(seen("a.json")->when, 1753315200500000000);
	assert_int_equal(seen("b.json")->when, RECEIVED * 1000000000LL); /* the next best */
	assert_true(seen("a.json")->lane == seen("b.json")->lane);
	assert_true(seen("a.json")->lane != seen("c.json")->lane);
	assert_true(seen("d.json")->lane == seen("e.json")->lane);
	assert_true(seen("d.json")->lane != seen("c.json")->lane);
	assert_int_equal(seen("b.json")->due, 2000);
	assert_int_equal(seen("b.json")->tried, 1000);
	for (const char *name = "acde"; *name != '\0'; name++) {
		assert_int_equal(seen((char[]){*name, '.', 'j', 's', 'o', 'n', 0})->due, 0);
		assert_int_equal(seen((char[]){*name, '.', 'j', 's', 'o', 'n', 0})->tried, 0);
	}
	assert_true(is_one_file(f, SPOOL_NEW, SPOOL_EVENTS, "d.json"));
	assert_true(is_one_file(f, SPOOL_FAILED, SPOOL_EVENTS, "f.json"));
}

/* I3: before anything leaves new/, its name in events/ is on the disk. */
TEST(events_is_synced_after_the_last_visit)
{
	struct fixture *f = *state;

	for (int stop = 0; stop < 2; stop++) {
		add(f, SPOOL_NEW, "a", BODY, true);
		list.stop_at = stop;
		trace_begin(&f->spool);
		assert_int_equal(look_through(f), STORE_OK);
		assert_string_equal(trace_end(),
		    "list(new) fsync(new) list(failed) fsync(failed) fsync(events) "
			"list(tmp) open(state) list(new) open(new) fsync(events)");
		drop(f, SPOOL_NEW, "a.json");
		drop(f, SPOOL_EVENTS, "a.json");
	}
	add(f, SPOOL_NEW, "a", BODY, true);
	interference = (struct interference){.of = FSYNC, .nth = 4, .error = EIO};
	assert_int_equal(look_through(f), STORE_FAILED);
	interference.nth = 0;
	assert_int_equal(list.count, 1);
	assert_true(tells(f, &f->error, "events", EIO));
}

TEST(a_visit_can_end_it)
{
	struct fixture *f = *state;

	for (char id[] = "a"; id[0] <= 'e'; id[0]++)
		add(f, SPOOL_NEW, id, BODY, true);
	list.stop_at = 2;
	assert_int_equal(look_through(f), STORE_OK);
	assert_int_equal(list.count, 2);
}

TEST(a_file_that_is_not_the_one_in_events_is_not_due)
{
	struct fixture *f = *state;

	put(f, SPOOL_NEW, "a.json", ours("a"));
	put(f, SPOOL_EVENTS, "a.json", theirs("a"));
	/* Its writer is about to remove it. */
	assert_int_equal(look_through(f), STORE_OK);
	assert_true(seen("a.json")->due == INT64_MAX);
	assert_true(list.arriving);
	assert_string_equal(list.logged, "");
	expect_text(f, SPOOL_NEW, "a.json", ours("a"));
}

/* Or was, and died: then the event was accepted, and is what events/ has. */
TEST(a_file_of_a_writer_that_died_at_a_duplicate_is_removed)
{
	struct fixture *f = *state;

	put(f, SPOOL_NEW, "a.json", ours("a"));
	put(f, SPOOL_EVENTS, "a.json", theirs("a"));
	age(f, SPOOL_NEW, "a.json", time(NULL) - 61);
	trace_begin(&f->spool);
	assert_int_equal(look_through(f), STORE_OK);
	/* The name in events/ is on the disk before. */
	assert_non_null(strstr(trace_end(), "open(new) open(events) fsync(events) unlink(new)"));
	assert_int_equal(list.count, 0);
	assert_false(list.arriving);
	assert_string_equal(list.logged, "");
	assert_false(has(f, SPOOL_NEW, "a.json"));
	expect_text(f, SPOOL_EVENTS, "a.json", theirs("a"));
}

TEST(a_file_of_a_writer_that_died_stays_if_that_is_not_durable)
{
	struct fixture *f = *state;

	put(f, SPOOL_NEW, "a.json", ours("a"));
	put(f, SPOOL_EVENTS, "a.json", theirs("a"));
	age(f, SPOOL_NEW, "a.json", time(NULL) - 61);
	/* After those of recovery: new/, events/. */
	interference = (struct interference){.of = FSYNC, .nth = 3, .error = EIO};
	assert_int_equal(look_through(f), STORE_FAILED);
	interference.nth = 0;
	assert_true(has(f, SPOOL_NEW, "a.json"));
}

/* What may be of an event that is not handled is said once, and no lane waits for it. */
TEST(a_file_that_was_put_into_new_stays_and_is_said_once)
{
	const char *mine = ours("a");
	const struct {
		const char *there, *what;
	} rows[] = {
		{mine, "but a copy: left alone"},
		{record_of("a", "ours", "{\"type\":\"x.y\"}", RECEIVED), "but another event: left alone"},
		{"{", "but another event: left alone"},
		{theirs("b"), "but another event: left alone"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(rows); i++) {
		put(f, SPOOL_EVENTS, "a.json", rows[i].there);
		put(f, SPOOL_NEW, "a.json", mine);
		age(f, SPOOL_NEW, "a.json", time(NULL) - 61);
		for (int run = 0; run < 2; run++) {
			assert_int_equal(look_through(f), STORE_OK);
			assert_int_equal(list.count, 0);
			assert_false(list.arriving);
			assert_int_equal(lines_of(list.logged), 1 - run);
			if (run == 0 && strstr(list.logged, rows[i].what) == NULL)
				fail_msg("%s", list.logged);
			expect_text(f, SPOOL_NEW, "a.json", mine);
		}
		drop(f, SPOOL_NEW, "a.json");
		drop(f, SPOOL_EVENTS, "a.json");
	}
}

static void
queue_it(void)
{
	put(hooked, SPOOL_NEW, "a.json", ours("a"));
}

TEST(what_comes_after_recovery_is_arriving)
{
	struct fixture *f = *state;

	/* list(new) of recovery, list(failed), list(tmp), open(state), and then this one's. */
	interference = (struct interference){.of = OPENAT, .nth = 5, .hook = queue_it};
	assert_int_equal(look_through(f), STORE_OK);
	interference.nth = 0;
	assert_true(seen("a.json")->due == INT64_MAX);
	assert_true(list.arriving);
	assert_false(has(f, SPOOL_EVENTS, "a.json"));
	/* Its writer was dead: the next run commits it. */
	assert_int_equal(look_through(f), STORE_OK);
	assert_int_equal(seen("a.json")->due, 0);
	assert_false(list.arriving);
}

TEST(what_is_no_event_is_left_alone_and_said_once)
{
	struct fixture *f = *state;

	put(f, SPOOL_NEW, "torn.json", "{\"webhook_id\":");
	put(f, SPOOL_NEW, "b.json", ours("a"));
	put(f, SPOOL_NEW, "notes.txt", "");
	put(f, SPOOL_NEW, ".hidden", "");
	assert_int_equal(mkdir(at(f, SPOOL_NEW, "d.json"), 0750), 0);
	assert_int_equal(symlink("b.json", at(f, SPOOL_NEW, "l.json")), 0);
	assert_int_equal(mkfifo(at(f, SPOOL_NEW, "p.json"), 0640), 0);
	add(f, SPOOL_NEW, "a", BODY, true);
	assert_int_equal(look_through(f), STORE_OK);
	assert_int_equal(list.count, 1);
	assert_int_equal(lines_of(list.logged), 6);
	assert_non_null(strstr(list.logged, "new/torn.json: no event: "));
	assert_non_null(strstr(list.logged,
	    "new/b.json: no event: it holds an event with another webhook-id"));
	assert_non_null(strstr(list.logged,
	    "new/notes.txt: no event: it is not named as events are; left alone"));
	assert_int_equal(count(f, SPOOL_NEW), 8);
	/* In another process as well. */
	restart(f);
	assert_int_equal(look_through(f), STORE_OK);
	assert_string_equal(list.logged, "");
	/* Until it changes. */
	age(f, SPOOL_NEW, "torn.json", 1000);
	assert_int_equal(look_through(f), STORE_OK);
	assert_int_equal(lines_of(list.logged), 1);
	/* One that went is forgotten. */
	drop(f, SPOOL_NEW, "notes.txt");
	assert_int_equal(look_through(f), STORE_OK);
	put(f, SPOOL_NEW, "notes.txt", "");
	assert_int_equal(look_through(f), STORE_OK);
	assert_int_equal(lines_of(list.logged), 1);
}

TEST(a_thousand_unrecognised_files_are_said_and_remembered)
{
	struct fixture *f = *state;
	char name[32];

	for (int i = 0; i < 1005; i++) {
		snprintf(name, sizeof(name), "%d.txt", i);
		put(f, SPOOL_NEW, name, "");
	}
	for (int run = 0; run < 2; run++) {
		assert_int_equal(look_through(f), STORE_OK);
		assert_int_equal(lines_of(list.logged), run == 0 ? 1000 : 0);
	}
}

/* A FIFO would stop a reader that waits for its writer. */
TEST(a_list_of_the_unrecognised_that_is_no_file_counts_as_empty)
{
	struct fixture *f = *state;
	const char *path = at(f, SPOOL_STATE, "unrecognised");

	put(f, SPOOL_NEW, "notes.txt", "");
	for (int what = 0; what < 2; what++) {
		assert_int_equal(what == 0 ? mkdir(path, 0750) : mkfifo(path, 0640), 0);
		assert_int_equal(look_through(f), STORE_OK);
		assert_int_equal(lines_of(list.logged), 1);
		if (what == 0)
			assert_int_equal(rmdir(path), 0);
	}
}

/* Its lane is not known: after an error that may pass, what is handled now might overtake it. */
TEST(an_event_that_cannot_be_read_is_left_out_and_said_once)
{
	static const struct {
		enum call of;
		int error;
		bool fatal;
	} rows[] = {{OPENAT, EACCES, false}, {OPENAT, EPERM, false}, {READ, EIO, true},
	    {OPENAT, EIO, true}, {OPENAT, EMFILE, true}};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(rows); i++) {
		add(f, SPOOL_NEW, "a", BODY, true);
		for (int run = 0; run < 2; run++) {
			/* Recovery opens nothing that is committed; what was said before is read. */
			interference = (struct interference){.of = (int)rows[i].of,
			    .nth = rows[i].of == OPENAT ? 6 : 3, .error = rows[i].error};
			assert_int_equal(look_through(f), rows[i].fatal ? STORE_FAILED : STORE_OK);
			interference.nth = 0;
			assert_true(tells(f, &f->error, "new/a.json", rows[i].error));
			assert_int_equal(list.count, 0);
			if (rows[i].fatal)
				break;
			assert_int_equal(list.refused, f->error.status);
			assert_int_equal(strstr(list.logged, "new/a.json: cannot read") != NULL, run == 0);
			assert_int_equal(strstr(list.logged, "; it is left out") != NULL, run == 0);
		}
		drop(f, SPOOL_NEW, "a.json");
		drop(f, SPOOL_EVENTS, "a.json");
	}
}

TEST(where_an_outcome_cannot_be_noted_nothing_is_visited)
{
	static const char *const dirs[] = {"events", "new", "failed", "state", "tmp"};
	struct fixture *f = *state;

	add(f, SPOOL_NEW, "a", BODY, true);
	for (size_t i = 0; i < ROWS(dirs); i++) {
		interference = (struct interference){.of = LOOK, .nth = (int)i + 1, .error = EROFS};
		assert_int_equal(look_through(f), STORE_FAILED);
		interference.nth = 0;
		assert_true(tells(f, &f->error, dirs[i], EROFS));
		assert_string_equal(f->error.remedy, "mount its file system writable");
		assert_int_equal(list.count, 0);
	}
	interference = (struct interference){.of = FSYNC, .nth = 1, .error = EIO};
	assert_int_equal(look_through(f), STORE_FAILED); /* recovery's */
	interference.nth = 0;
	assert_int_equal(list.count, 0);
}

TEST(an_event_that_cannot_be_moved_keeps_its_lane_waiting)
{
	struct fixture *f = *state;

	if (geteuid() != 0) {
		print_message("only root can give a file away\n");
		skip();
	}
	add(f, SPOOL_NEW, "a", BODY, true);
	assert_int_equal(chown(at(f, SPOOL_NEW, "a.json"), 65534, (gid_t)-1), 0);
	/* Root may. */
	trace_begin(&f->spool);
	assert_int_equal(look_through(f), STORE_OK);
	assert_non_null(strstr(trace_end(), "link(tmp) unlink(tmp)"));
	assert_int_equal(list.count, 1);
	assert_int_equal(list.refused, EX_OK);
	assert_int_equal(seen("a.json")->due, 0);
	assert_int_equal(count(f, SPOOL_TMP), 0);
	add(f, SPOOL_NEW, "b", BODY, true);
	for (int run = 0; run < 2; run++) {
		interference = (struct interference){.of = LINKAT, .nth = 1, .error = EPERM};
		assert_int_equal(look_through(f), STORE_OK);
		interference.nth = 0;
		/* It is visited, and never due: the schedule keeps its lane waiting. */
		assert_int_equal(list.count, 2);
		assert_true(seen("a.json")->due == INT64_MAX);
		assert_int_equal(seen("b.json")->due, 0);
		assert_int_equal(list.refused, EX_NOPERM);
		assert_int_equal(strstr(list.logged, "new/a.json: cannot make a hard link") != NULL,
		    run == 0);
		assert_int_equal(strstr(list.logged, "chown -R ") != NULL, run == 0);
	}
	/* A consumer has handled it meanwhile. */
	interference = (struct interference){.of = LINKAT, .nth = 1, .error = ENOENT};
	assert_int_equal(look_through(f), STORE_OK);
	assert_int_equal(list.refused, EX_OK);
}

/* ---- an event in work ---- */

static struct store_work work;
static bool parked; /* as one of many: what follows is the same then */

static void
load(struct fixture *f)
{
	memset(&work, 0x55, sizeof(work));
	if (!has(f, SPOOL_NEW, "a.json"))
		add(f, SPOOL_NEW, "a", BODY, !has(f, SPOOL_EVENTS, "a.json"));
	assert_int_equal(spool_load(&f->spool, "a.json", &work, &f->error), STORE_OK);
	if (parked)
		spool_park(&f->spool, &work);
	assert_int_equal(work.file < 0, parked);
}

static int
start_parked(void **state)
{
	parked = true;
	return start(state);
}

static int
end_parked(void **state)
{
	parked = false;
	return end(state);
}

static void
unload(struct fixture *f)
{
	spool_unload(&f->spool, &work);
	for (int i = 0; i < SPOOL_DIRS; i++)
		drop(f, (enum spool_dir)i, "a.json");
}

TEST(work_has_record_state_and_path)
{
	struct handler_state waits = {.tries = 2, .due_at = 2000, .reason = "exit status 75"},
		failed = {.tries = 9, .failed_at = 3000, .reason = "exit status 1"}, none = {0};
	struct fixture *f = *state;
	int before = descriptors();

	load(f);
	assert_string_equal(work.name, "a.json");
	assert_string_equal(work.path, at(f, SPOOL_NEW, "a.json"));
	assert_string_equal(work.entry.id, "a");
	assert_string_equal(work.entry.event.npn, "7");
	assert_memory_equal(&work.state, &none, sizeof(none));
	unload(f);
	assert_int_equal(spool_state_put(&f->spool, "a.json", &waits), 0);
	load(f);
	assert_memory_equal(&work.state, &waits, sizeof(waits));
	unload(f);
	/* What failed and is in new/ again was put there to be tried afresh. */
	assert_int_equal(spool_state_put(&f->spool, "a.json", &failed), 0);
	load(f);
	assert_memory_equal(&work.state, &none, sizeof(none));
	unload(f);
	assert_int_equal(descriptors(), before);
}

TEST(what_is_not_there_any_more_is_no_work)
{
	struct fixture *f = *state;
	int before = descriptors();

	assert_int_equal(spool_load(&f->spool, "a.json", &work, &f->error), STORE_ABSENT);
	put(f, SPOOL_NEW, "a.json", "replaced since it was listed");
	assert_int_equal(spool_load(&f->spool, "a.json", &work, &f->error), STORE_ABSENT);
	put(f, SPOOL_NEW, "a.json", ours("b"));
	assert_int_equal(spool_load(&f->spool, "a.json", &work, &f->error), STORE_ABSENT);
	put(f, SPOOL_NEW, "a.json", ours("a"));
	interference = (struct interference){.of = READ, .nth = 1, .error = EIO};
	assert_int_equal(spool_load(&f->spool, "a.json", &work, &f->error), STORE_FAILED);
	interference.nth = 0;
	assert_true(tells(f, &f->error, "new/a.json", EIO));
	assert_int_equal(descriptors(), before);
}

/* A writer that lost against a duplicate has it there for a moment. It was handled already. */
TEST(only_the_file_that_is_in_events_is_work)
{
	struct fixture *f = *state;
	int before = descriptors();

	put(f, SPOOL_NEW, "a.json", ours("a"));
	assert_int_equal(spool_load(&f->spool, "a.json", &work, &f->error), STORE_ABSENT);
	put(f, SPOOL_EVENTS, "a.json", theirs("a"));
	assert_int_equal(spool_load(&f->spool, "a.json", &work, &f->error), STORE_ABSENT);
	drop(f, SPOOL_EVENTS, "a.json");
	link_again(f, SPOOL_NEW, SPOOL_EVENTS, "a.json");
	interference = (struct interference){.of = LOOK, .nth = 3, .error = EIO};
	assert_int_equal(spool_load(&f->spool, "a.json", &work, &f->error), STORE_FAILED);
	interference.nth = 0;
	assert_int_equal(descriptors(), before);
}

TEST(what_is_done_leaves_its_name_in_events_alone)
{
	struct handler_state waits = {.tries = 1};
	struct fixture *f = *state;

	load(f);
	assert_int_equal(spool_state_put(&f->spool, "a.json", &waits), 0);
	link_again(f, SPOOL_NEW, SPOOL_FAILED, "a.json"); /* of a retry that was cut short */
	trace_begin(&f->spool);
	assert_int_equal(spool_done(&f->spool, &work, &f->error), STORE_OK);
	/* new/ last: until then it is handled again rather than never. */
	assert_string_equal(trace_end(), "unlink(state) unlink(failed) unlink(new)");
	assert_false(has(f, SPOOL_NEW, "a.json") || has(f, SPOOL_FAILED, "a.json") ||
	    has(f, SPOOL_STATE, "a.json"));
	expect_text(f, SPOOL_EVENTS, "a.json", ours("a"));
	unload(f);
}

TEST(done_removes_no_other_file)
{
	struct fixture *f = *state;

	load(f);
	drop(f, SPOOL_NEW, "a.json"); /* a consumer, and then somebody else's */
	put(f, SPOOL_NEW, "a.json", theirs("a"));
	put(f, SPOOL_FAILED, "a.json", theirs("a"));
	assert_int_equal(spool_done(&f->spool, &work, &f->error), STORE_OK);
	expect_text(f, SPOOL_NEW, "a.json", theirs("a"));
	expect_text(f, SPOOL_FAILED, "a.json", theirs("a"));
	drop(f, SPOOL_NEW, "a.json");
	drop(f, SPOOL_FAILED, "a.json");
	assert_int_equal(spool_done(&f->spool, &work, &f->error), STORE_OK); /* gone is fine */
	unload(f);
}

TEST(whichever_call_fails_what_is_not_done_can_be_done_again)
{
	struct handler_state waits = {.tries = 1};
	struct fixture *f = *state;
	int failures = 0;
	bool finished = false;

	for (int nth = 1; !finished; nth++) {
		load(f);
		assert_int_equal(spool_state_put(&f->spool, "a.json", &waits), 0);
		link_again(f, SPOOL_NEW, SPOOL_FAILED, "a.json");
		interference = (struct interference){.of = ANY, .nth = nth, .error = EIO};
		enum store_result result = spool_done(&f->spool, &work, &f->error);
		finished = interference.seen < nth;
		interference.nth = 0;
		assert_int_equal(result, finished ? STORE_OK : STORE_FAILED);
		assert_int_equal(has(f, SPOOL_NEW, "a.json"), !finished);
		failures += !finished;
		if (!finished)
			assert_true(tells(f, &f->error, "new/a.json", EIO));
		assert_int_equal(spool_done(&f->spool, &work, &f->error), STORE_OK);
		assert_false(has(f, SPOOL_NEW, "a.json") || has(f, SPOOL_FAILED, "a.json") ||
		    has(f, SPOOL_STATE, "a.json"));
		unload(f);
	}
	/* three unlinks; two looks at each of two files, and one where we know ours by heart */
	assert_int_equal(failures, parked ? 3 + 2 : 3 + 2 * 2);
}

TEST(what_waits_for_its_retry_has_a_state)
{
	struct handler_state waits = {.tries = 3, .due_at = 2000, .reason = "exit status 75"}, read;
	struct fixture *f = *state;

	load(f);
	assert_int_equal(spool_later(&f->spool, &work, &waits, &f->error), STORE_OK);
	assert_true(spool_state_read(&f->spool, "a.json", &read));
	assert_memory_equal(&read, &waits, sizeof(read));
	expect_stored(f, SPOOL_NEW, "a.json", ours("a"));
	interference = (struct interference){.of = WRITEV, .nth = 1, .error = ENOSPC};
	assert_int_equal(spool_later(&f->spool, &work, &waits, &f->error), STORE_FAILED);
	interference.nth = 0;
	assert_true(tells(f, &f->error, "state/a.json", ENOSPC));
	expect_stored(f, SPOOL_NEW, "a.json", ours("a"));
	/* A consumer has handled it while its handler ran. */
	drop(f, SPOOL_NEW, "a.json");
	assert_int_equal(spool_later(&f->spool, &work, &waits, &f->error), STORE_ABSENT);
	assert_false(has(f, SPOOL_STATE, "a.json"));
	assert_false(has(f, SPOOL_NEW, "a.json"));
	unload(f);
}

static const struct handler_state failed = {.tries = 9, .failed_at = 3000,
    .reason = "exit status 1"};

static void
expect_dead_letter(struct fixture *f)
{
	struct handler_state read;

	expect_stored(f, SPOOL_FAILED, "a.json", ours("a"));
	assert_false(has(f, SPOOL_NEW, "a.json"));
	assert_true(spool_state_read(&f->spool, "a.json", &read));
	assert_memory_equal(&read, &failed, sizeof(read));
}

/* A move is link, sync, unlink: the reason before it. */
TEST(what_failed_is_a_dead_letter)
{
	struct fixture *f = *state;

	for (size_t w = 0; w < ROWS(ways); w++) {
		go_the_way(f, &ways[w]);
		load(f);
		trace_begin(&f->spool);
		assert_int_equal(spool_fail(&f->spool, &work, &failed, &f->error), STORE_OK);
		const char *calls = strstr(trace_end(), "rename(state)");
		assert_string_equal(strstr(calls, " link"),
		    ways[w].one_wait ? " link(failed) fsync(file) unlink(new)" :
			" link(failed) fsync(failed) fsync(file) unlink(new)");
		expect_dead_letter(f);
		unload(f);
	}
}

TEST(a_move_that_a_crash_cut_short_is_finished)
{
	struct fixture *f = *state;

	load(f);
	link_again(f, SPOOL_NEW, SPOOL_FAILED, "a.json");
	assert_int_equal(spool_fail(&f->spool, &work, &failed, &f->error), STORE_OK);
	expect_dead_letter(f);
	unload(f);
}

/* Else the event would be in no queue, and what is no event in failed/. */
TEST(another_file_in_failed_gives_way_to_the_dead_letter)
{
	struct fixture *f = *state;

	load(f);
	put(f, SPOOL_FAILED, "a.json", "a copy that somebody has edited");
	assert_int_equal(spool_fail(&f->spool, &work, &failed, &f->error), STORE_OK);
	expect_dead_letter(f);
	unload(f);
	load(f);
	assert_int_equal(mkdir(at(f, SPOOL_FAILED, "a.json"), 0750), 0);
	assert_int_equal(spool_fail(&f->spool, &work, &failed, &f->error), STORE_FAILED);
	expect_stored(f, SPOOL_NEW, "a.json", ours("a"));
	assert_int_equal(rmdir(at(f, SPOOL_FAILED, "a.json")), 0);
	unload(f);
}

TEST(whichever_call_fails_an_event_is_in_new_or_in_failed)
{
	struct fixture *f = *state;

	for (size_t w = 0; w < ROWS(ways); w++) {
		bool finished = false;
		int failures = 0;
		for (int nth = 1; !finished; nth++) {
			struct capture capture;
			go_the_way(f, &ways[w]);
			load(f);
			interference = (struct interference){.of = ANY, .nth = nth, .error = EIO};
			capture_begin(&capture);
			enum store_result result = spool_fail(&f->spool, &work, &failed, &f->error);
			free(capture_end(&capture));
			finished = interference.seen < nth;
			enum call met = interference.met;
			interference.nth = 0;
			failures += result == STORE_FAILED;
			if (result == STORE_OK)
				assert_true(finished || met == UNLINKAT || met == LOOK);
			else
				assert_int_equal(result, STORE_FAILED);
			if (!has(f, SPOOL_NEW, "a.json") && !is_one_file(f, SPOOL_FAILED, SPOOL_EVENTS,
			    "a.json"))
				fail_msg("call %d: it is in no queue", nth);
			if (count(f, SPOOL_TMP) > 0) { /* what could not be removed */
				assert_int_equal(met, UNLINKAT);
				nftw(at(f, SPOOL_TMP, ""), remove_entry, 4, FTW_DEPTH | FTW_PHYS);
				assert_int_equal(mkdir(at(f, SPOOL_TMP, ""), 02770), 0);
				restart(f);
			}
			f->spool.distrusted = false;
			if (has(f, SPOOL_NEW, "a.json"))
				assert_int_equal(spool_fail(&f->spool, &work, &failed, &f->error), STORE_OK);
			expect_dead_letter(f);
			unload(f);
		}
		assert_true(failures >= 7); /* create, write, link, rename; link, sync, unlink */
	}
}

static void
handle_it(void)
{
	drop(hooked, SPOOL_NEW, "a.json");
}

/* A consumer of the user's own has handled it while its handler ran. */
TEST(what_another_has_handled_does_not_fail)
{
	struct fixture *f = *state;

	load(f);
	handle_it();
	assert_int_equal(spool_fail(&f->spool, &work, &failed, &f->error), STORE_ABSENT);
	assert_false(has(f, SPOOL_FAILED, "a.json") || has(f, SPOOL_STATE, "a.json"));
	expect_text(f, SPOOL_EVENTS, "a.json", ours("a"));
	unload(f);
	/* A moment later: its name in events/ is enough for the link. */
	load(f);
	interference = (struct interference){.of = LINKAT, .nth = 2, .hook = handle_it};
	assert_int_equal(spool_fail(&f->spool, &work, &failed, &f->error), STORE_ABSENT);
	interference.nth = 0;
	assert_false(has(f, SPOOL_FAILED, "a.json") || has(f, SPOOL_STATE, "a.json"));
	unload(f);
}

/* The number of a file that is gone is used again at once; the time of its writing is not. */
TEST(a_parked_one_is_known_although_its_inode_is_used_again)
{
	static const struct timespec times[2] = {{.tv_sec = 1}, {.tv_sec = 1}};
	struct fixture *f = *state;
	int before = descriptors();

	load(f);
	assert_int_equal(descriptors(), before);
	/* As a file of the same inode: here it is the same, with another time. */
	assert_int_equal(utimensat(AT_FDCWD, at(f, SPOOL_NEW, "a.json"), times, 0), 0);
	assert_int_equal(spool_later(&f->spool, &work, &failed, &f->error), STORE_ABSENT);
	assert_int_equal(spool_fail(&f->spool, &work, &failed, &f->error), STORE_ABSENT);
	assert_int_equal(spool_done(&f->spool, &work, &f->error), STORE_OK);
	expect_text(f, SPOOL_NEW, "a.json", ours("a"));
	assert_int_equal(descriptors(), before);
	unload(f);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		QUEUE_TEST(one_at_a_time_moves_events),
		QUEUE_TEST(it_waits_if_it_is_told_to),
		QUEUE_TEST(the_lock_has_mode_and_owner_by_rule),
		QUEUE_TEST(a_lock_that_cannot_be_had_is_named_with_the_cause),
		QUEUE_TEST(each_that_waits_is_visited_with_what_orders_it),
		QUEUE_TEST(events_is_synced_after_the_last_visit),
		QUEUE_TEST(a_visit_can_end_it),
		QUEUE_TEST(a_file_that_is_not_the_one_in_events_is_not_due),
		QUEUE_TEST(a_file_of_a_writer_that_died_at_a_duplicate_is_removed),
		QUEUE_TEST(a_file_of_a_writer_that_died_stays_if_that_is_not_durable),
		QUEUE_TEST(a_file_that_was_put_into_new_stays_and_is_said_once),
		QUEUE_TEST(what_comes_after_recovery_is_arriving),
		QUEUE_TEST(what_is_no_event_is_left_alone_and_said_once),
		QUEUE_TEST(a_thousand_unrecognised_files_are_said_and_remembered),
		QUEUE_TEST(a_list_of_the_unrecognised_that_is_no_file_counts_as_empty),
		QUEUE_TEST(an_event_that_cannot_be_read_is_left_out_and_said_once),
		QUEUE_TEST(where_an_outcome_cannot_be_noted_nothing_is_visited),
		QUEUE_TEST(an_event_that_cannot_be_moved_keeps_its_lane_waiting),
		QUEUE_TEST(work_has_record_state_and_path),
		QUEUE_TEST(what_is_not_there_any_more_is_no_work),
		QUEUE_TEST(only_the_file_that_is_in_events_is_work),
		QUEUE_TEST(what_is_done_leaves_its_name_in_events_alone),
		QUEUE_TEST(done_removes_no_other_file),
		QUEUE_TEST(whichever_call_fails_what_is_not_done_can_be_done_again),
		QUEUE_TEST(what_waits_for_its_retry_has_a_state),
		QUEUE_TEST(what_failed_is_a_dead_letter),
		QUEUE_TEST(a_move_that_a_crash_cut_short_is_finished),
		QUEUE_TEST(another_file_in_failed_gives_way_to_the_dead_letter),
		QUEUE_TEST(whichever_call_fails_an_event_is_in_new_or_in_failed),
		QUEUE_TEST(what_another_has_handled_does_not_fail),
		PARKED_TEST(what_is_done_leaves_its_name_in_events_alone),
		PARKED_TEST(done_removes_no_other_file),
		PARKED_TEST(whichever_call_fails_what_is_not_done_can_be_done_again),
		PARKED_TEST(what_waits_for_its_retry_has_a_state),
		PARKED_TEST(what_failed_is_a_dead_letter),
		PARKED_TEST(a_move_that_a_crash_cut_short_is_finished),
		PARKED_TEST(another_file_in_failed_gives_way_to_the_dead_letter),
		PARKED_TEST(whichever_call_fails_an_event_is_in_new_or_in_failed),
		PARKED_TEST(what_another_has_handled_does_not_fail),
		PARKED_TEST(a_parked_one_is_known_although_its_inode_is_used_again),
	};

	return cmocka_run_group_tests_name("queue", tests, NULL, NULL);
}
