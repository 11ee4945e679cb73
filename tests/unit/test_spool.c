/*
 * Owns what spool.h promises of an event's way into the spool: the directories, the steps
 * and their order (I1 to I4), whatever fails or happens between them, the probe, the states.
 */
#include "spool_helpers.h"

#include <poll.h>
#include <pthread.h>
#include <sys/inotify.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <time.h>

/* ---- system calls of this test alone ---- */

static struct {
	time_t second;           /* of CLOCK_MONOTONIC_COARSE; 0: the real one */
	unsigned long available; /* of fstatvfs(2), bytes; 0: the real ones */
	int looks, error;
} meter;

int
clock_gettime(clockid_t id, struct timespec *now)
{
	if (id == CLOCK_MONOTONIC_COARSE && meter.second != 0) {
		*now = (struct timespec){.tv_sec = meter.second};
		return 0;
	}
	return (int)syscall(SYS_clock_gettime, id, now);
}

int
fstatvfs(int fd, struct statvfs *st)
{
	static int (*next)(int, struct statvfs *);

	if (next == NULL)
		next = (int (*)(int, struct statvfs *))dlsym(RTLD_NEXT, "fstatvfs");
	meter.looks++;
	errno = meter.error;
	if (meter.error != 0 || next(fd, st) != 0)
		return -1;
	if (meter.available != 0) {
		st->f_frsize = 1;
		st->f_bavail = meter.available;
	}
	return 0;
}

/* ---- open ---- */

TEST(open_makes_the_directories_for_the_group_whatever_the_umask)
{
	const char *path = in(*state, "spool");
	struct spool spool;
	struct error error;
	struct stat st;

	mode_t mask = umask(077);
	enum store_result result = spool_open(&spool, path, false, true, &error);
	umask(mask);
	assert_int_equal(result, STORE_OK);
	assert_int_equal(names_in(path), SPOOL_DIRS);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 02770);
	for (int i = 0; i < SPOOL_DIRS; i++) {
		assert_int_equal(fstat(spool.dir[i], &st), 0);
		assert_true(S_ISDIR(st.st_mode));
		assert_int_equal(st.st_mode & 07777, 02770);
		assert_true(fcntl(spool.dir[i], F_GETFD) & FD_CLOEXEC);
	}
	assert_true(fcntl(spool.root, F_GETFD) & FD_CLOEXEC);
	spool_close(&spool);
}

TEST(open_leaves_a_directory_that_is_there_as_it_is)
{
	const char *path = in(*state, "spool");
	struct spool spool;
	struct error error;
	struct stat st;

	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(mkdir(in(path, "new"), 0750), 0);
	assert_int_equal(spool_open(&spool, path, false, true, &error), STORE_OK);
	assert_int_equal(fstat(spool.dir[SPOOL_NEW], &st), 0);
	assert_int_equal(st.st_mode & 07777, 0750);
	spool_close(&spool);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_int_equal(spool_open(&spool, path, false, false, &error), STORE_OK);
	spool_close(&spool);
}

/* A process that finds tmp/ need not ask whether a power cut can take the others. */
TEST(tmp_is_made_last_when_the_others_are_on_the_disk)
{
	const char *path = in(*state, "spool");
	struct spool spool;
	struct error error;

	memset(&interference, 0, sizeof(interference));
	trace_begin(&(struct spool){.root = -1});
	assert_int_equal(spool_open(&spool, path, false, true, &error), STORE_OK);
	const char *calls = trace_end();
	assert_non_null(strstr(calls, "mkdir open(file) open(file) syncfs mkdir open(file)"));
	assert_int_equal(strlen(strstr(calls, "syncfs")), strlen("syncfs mkdir open(file)"));
	spool_close(&spool);

	assert_int_equal(rmdir(in(path, "tmp")), 0);
	interference = (struct interference){.of = SYNCFS, .nth = 1, .error = EIO};
	assert_int_equal(spool_open(&spool, path, false, true, &error), STORE_FAILED);
	interference.nth = 0;
	assert_non_null(strstr(error.text, "/spool/tmp: Input/output error"));
	assert_false(exists(in(path, "tmp")));
}

TEST(a_spool_that_cannot_be_opened_is_named_with_the_remedy)
{
	const char *file = in(*state, "file"), *spool_path = in(*state, "spool");
	int before = descriptors();
	struct spool spool;
	struct error error;

	file_write(file, "", 0600);
	assert_int_equal(spool_open(&spool, file, false, true, &error), STORE_FAILED);
	assert_string_equal(strrchr(error.text, '/'), "/file: Not a directory");
	assert_string_equal(error.remedy, "it must be a directory that the running user may write");
	assert_int_equal(error.status, EX_NOINPUT);
	assert_int_equal(spool_open(&spool, in(*state, "a/b"), false, true, &error), STORE_FAILED);
	assert_non_null(strstr(error.text, "/a/b: No such file or directory"));
	assert_non_null(strstr(error.remedy, "make it, owned by the running user"));
	assert_int_equal(spool_open(&spool, in(*state, "absent"), false, false, &error), STORE_FAILED);
	assert_non_null(strstr(error.text, "/absent: No such file or directory"));
	assert_non_null(strstr(error.remedy, "the receiver makes it when it starts"));
	assert_false(exists(in(*state, "absent")));

	assert_int_equal(mkdir(spool_path, 0700), 0);
	file_write(in(spool_path, "events"), "", 0600);
	assert_int_equal(spool_open(&spool, spool_path, false, true, &error), STORE_FAILED);
	assert_non_null(strstr(error.text, "/spool/events: Not a directory"));
	assert_null(strchr(error.text, '\n'));
	interference = (struct interference){.of = OPENAT, .nth = 1, .error = EACCES};
	assert_int_equal(spool_open(&spool, spool_path, false, true, &error), STORE_FAILED);
	interference.nth = 0;
	assert_int_equal(error.status, EX_NOPERM);
	assert_int_equal(descriptors(), before);
}

TEST(whichever_call_fails_a_spool_is_opened_whole_or_not_at_all)
{
	int before = descriptors(), failures = 0;
	struct spool spool;
	struct error error;
	bool done = false;
	char name[32];

	for (int nth = 1; !done; nth++) {
		snprintf(name, sizeof(name), "spool-%d", nth);
		const char *path = in(*state, name);
		/* What filesystem_look() cannot find out, it takes for the careful side. */
		interference = (struct interference){.of = ANY & ~(LOOK | READ), .nth = nth,
		    .error = EACCES};
		enum store_result result = spool_open(&spool, path, false, true, &error);
		done = interference.seen < nth;
		interference.nth = 0;
		assert_true(result == (done ? STORE_OK : STORE_FAILED));
		if (result == STORE_OK)
			spool_close(&spool);
		else
			assert_int_equal(strncmp(error.text, path, strlen(path)), 0);
		failures += result != STORE_OK;
		assert_int_equal(descriptors(), before);
		assert_int_equal(spool_open(&spool, path, false, true, &error), STORE_OK);
		spool_close(&spool);
	}
	assert_true(failures >= 2 * SPOOL_DIRS);
}

TEST(a_spool_of_another_format_is_refused)
{
	static const struct {
		const char *text, *why;
	} rows[] = {{"1\n", NULL}, {"1\nand a word to the reader\n", NULL}, {"2\n", "has format 2, "},
		{"11\n", "has format 11, "}, {"", "has format , "}, {"1", NULL}};
	const char *path = in(*state, "spool"), *format = in(path, "format");
	int before = descriptors();
	struct spool spool;
	struct error error;

	assert_int_equal(mkdir(path, 0700), 0);
	for (size_t i = 0; i < ROWS(rows); i++) {
		file_write(format, rows[i].text, 0640);
		enum store_result result = spool_open(&spool, path, false, true, &error);
		assert_int_equal(result, rows[i].why == NULL ? STORE_OK : STORE_FAILED);
		if (result == STORE_OK) {
			spool_close(&spool);
			continue;
		}
		assert_int_equal(error.status, EX_CONFIG);
		assert_non_null(strstr(error.text, rows[i].why));
		assert_non_null(strstr(error.text, "this program knows 1"));
		assert_non_null(strstr(error.remedy, "PSAPI_SPOOL"));
	}
	assert_int_equal(unlink(format), 0);
	assert_int_equal(symlink("new", format), 0);
	assert_int_equal(spool_open(&spool, path, false, true, &error), STORE_FAILED);
	assert_int_equal(error.status, EX_NOINPUT);
	assert_non_null(strstr(error.text, "/spool/format: Too many levels of symbolic links"));
	assert_int_equal(unlink(format), 0);
	assert_int_equal(mkfifo(format, 0640), 0);
	assert_int_equal(spool_open(&spool, path, false, true, &error), STORE_FAILED);
	assert_int_equal(descriptors(), before);
}

/* ---- accept ---- */

static void
accept_everywhere(struct fixture *f)
{
	struct handler_state why;
	struct stat st;

	assert_int_equal(spool_find(&f->spool, "a.json", &f->error), STORE_ABSENT);
	assert_int_equal(store(f, "a", STORE_QUEUE), STORE_OK);
	assert_int_equal(store(f, "b", STORE_DEAD_LETTER), STORE_OK);
	assert_int_equal(store(f, "c", STORE_ARCHIVE), STORE_OK);
	assert_int_equal(spool_find(&f->spool, "a.json", &f->error), STORE_DUPLICATE);
	assert_int_equal(count(f, SPOOL_NEW), 1);
	assert_int_equal(count(f, SPOOL_FAILED), 1);
	assert_int_equal(count(f, SPOOL_EVENTS), 3);
	assert_int_equal(count(f, SPOOL_STATE), 1);
	expect_stored(f, SPOOL_NEW, "a.json", ours("a"));
	expect_stored(f, SPOOL_FAILED, "b.json", ours("b"));
	expect_text(f, SPOOL_EVENTS, "c.json", ours("c"));
	assert_int_equal(stat(at(f, SPOOL_NEW, "a.json"), &st), 0);
	assert_int_equal(st.st_nlink, 2);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_true(spool_state_read(&f->spool, "b.json", &why));
	assert_string_equal(why.reason, "the event has no type");
	assert_int_equal(why.failed_at, RECEIVED);
	assert_int_equal(why.tries, 0);
}

TEST(an_event_is_one_file_in_its_queue_and_in_events)
{
	struct fixture *f = *state;

	lazy = false;
	for (size_t i = 0; i < ROWS(ways); i++) {
		go_the_way(f, &ways[i]);
		accept_everywhere(f);
		for (int dir = 0; dir < SPOOL_DIRS; dir++)
			for (char id = 'a'; id <= 'c'; id++)
				drop(f, (enum spool_dir)dir, (char[]){id, '.', 'j', 's', 'o', 'n', '\0'});
	}
}

TEST(where_there_is_no_unnamed_file_it_has_a_name_in_tmp)
{
	static const int errors[] = {EOPNOTSUPP, EISDIR, EINVAL};
	struct fixture *f = *state;
	char id[2] = "a";

	for (size_t i = 0; i < ROWS(errors); i++, id[0]++) {
		interference = (struct interference){.of = OPENAT, .nth = 1, .error = errors[i]};
		trace_begin(&f->spool);
		assert_int_equal(store(f, id, STORE_QUEUE), STORE_OK);
		assert_non_null(strstr(trace_end(), "create-dsync(events) create-dsync(tmp) write "));
		assert_int_equal(count(f, SPOOL_TMP), 0);
	}
	interference = (struct interference){.of = OPENAT, .nth = 1, .error = EACCES};
	assert_int_equal(store(f, id, STORE_QUEUE), STORE_FAILED);
	interference.nth = 0;
	assert_int_equal(count(f, SPOOL_NEW), 3);
}

TEST(a_large_body_is_written_to_its_end)
{
	struct fixture *f = *state;
	size_t size = 8 << 20;
	char *large = malloc(size + 1);
	struct delivery d;
	struct entry entry;
	struct spool_file file;
	const char *why;

	for (size_t i = 0; i < size; i++)
		large[i] = (char)('a' + i % 26);
	large[0] = large[size - 1] = '"';
	large[size] = '\0';
	delivery_make(&d, "a", "ours", large, RECEIVED, STORE_QUEUE);
	assert_int_equal(spool_put(&f->spool, &d.intake, &f->error), STORE_OK);
	record_free(&d.record);
	assert_int_equal(spool_file_open(&f->spool, &file, SPOOL_NEW, "a.json", &entry, &why),
	    ENTRY_OK);
	assert_int_equal(entry.body_length, size);
	assert_memory_equal(entry.body, large, size);
	spool_file_close(&f->spool, &file);
	entry_free(&entry);
	free(large);
}

TEST(a_write_that_is_interrupted_or_takes_a_part_is_continued)
{
	struct fixture *f = *state;
	char id[8];

	for (size_t most = 1; most <= 40; most++) {
		f->spool.one_wait = most % 2 == 0;
		snprintf(id, sizeof(id), "%zu", most);
		interference = (struct interference){.most = most, .of = WRITEV | WRITE_BACK | FSYNC,
			.nth = (int)most, .error = EINTR};
		assert_int_equal(store(f, id, STORE_QUEUE), STORE_OK);
		interference = (struct interference){0};
		snprintf(id, sizeof(id), "%zu.json", most);
		char expected[8];
		snprintf(expected, sizeof(expected), "%zu", most);
		expect_stored(f, SPOOL_NEW, id, ours(expected));
	}
	/* Each call by itself, too. */
	static const enum call calls[] = {WRITEV, WRITE_BACK, FSYNC};
	for (size_t i = 0; i < ROWS(calls); i++) {
		snprintf(id, sizeof(id), "i%zu", i);
		f->spool.one_wait = calls[i] == WRITE_BACK;
		interference = (struct interference){.of = (int)calls[i], .nth = 1, .error = EINTR};
		assert_int_equal(store(f, id, STORE_QUEUE), STORE_OK);
		assert_true(interference.seen >= 2);
		interference.nth = 0;
	}
}

/* Data before the first name, the name in the queue before the one in events/: I1, I2, I3. */
TEST(an_event_costs_these_calls_in_this_order)
{
	static const struct {
		int way; /* row of ways */
		enum store_destination destination;
		const char *calls;
	} rows[] = {
		{0, STORE_QUEUE,
		    "create-dsync(events) write link(new) fsync(new) fsync(file) link(events)"},
		{1, STORE_QUEUE, "create(events) write write-back link(new) fsync(file) link(events)"},
		{2, STORE_QUEUE,
		    "create-dsync(tmp) write link(new) fsync(new) fsync(file) link(events) unlink(tmp)"},
		{3, STORE_QUEUE,
		    "create(tmp) write write-back link(new) fsync(file) link(events) unlink(tmp)"},
		{4, STORE_QUEUE,
		    "create-dsync(tmp) write link(new) fsync(new) fsync(file) link(events) unlink(tmp)"},
		{5, STORE_QUEUE,
		    "create(tmp) write write-back link(new) fsync(file) link(events) unlink(tmp)"},
		/* The state first, so that no dead letter is there without its reason. */
		{0, STORE_DEAD_LETTER, "create(events) write link(tmp) rename(state) "
			"create-dsync(events) write link(failed) fsync(failed) fsync(file) link(events)"},
		{1, STORE_DEAD_LETTER, "create(events) write link(tmp) rename(state) "
			"create(events) write write-back link(failed) fsync(file) link(events)"},
		{0, STORE_ARCHIVE, "create-dsync(events) write link(events) fsync(events) fsync(file)"},
		{1, STORE_ARCHIVE, "create(events) write write-back link(events) fsync(file)"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(rows); i++) {
		char id[8];
		snprintf(id, sizeof(id), "%zu", i);
		go_the_way(f, &ways[rows[i].way]);
		trace_begin(&f->spool);
		assert_int_equal(store(f, id, rows[i].destination), STORE_OK);
		assert_string_equal(trace_end(), rows[i].calls);
		assert_int_equal(count(f, SPOOL_TMP), 0);
	}
}

TEST(mode_and_owner_are_by_rule_whatever_the_umask)
{
	struct fixture *f = *state;
	bool root = geteuid() == 0;
	struct stat st;

	if (root)
		assert_int_equal(chown(f->path, 65534, (gid_t)-1), 0);
	mode_t mask = umask(077);
	restart(f);
	enum store_result result = store(f, "a", STORE_DEAD_LETTER);
	umask(mask);
	assert_int_equal(result, STORE_OK);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(stat(at(f, i == 0 ? SPOOL_FAILED : SPOOL_STATE, "a.json"), &st), 0);
		assert_int_equal(st.st_mode & 07777, 0640);
		assert_int_equal(st.st_uid, root ? 65534 : geteuid());
	}
	interference = (struct interference){.of = SETTLE, .nth = 1, .error = EPERM};
	assert_int_equal(store(f, "b", STORE_QUEUE), STORE_FAILED);
	interference.nth = 0;
	assert_int_equal(count(f, SPOOL_NEW), 0);
}

/* As systemd's PathChanged= and inotifywait do: they see its name appear, and nothing else. */
TEST(a_watcher_of_a_queue_sees_a_name_appear_once)
{
	struct fixture *f = *state;
	_Alignas(struct inotify_event) char seen[4096];
	int watch = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);

	assert_true(inotify_add_watch(watch, at(f, SPOOL_NEW, ""),
	    IN_CREATE | IN_MOVED_TO | IN_CLOSE_WRITE | IN_MODIFY | IN_ATTRIB | IN_DELETE) >= 0);
	for (size_t i = 0; i < ROWS(ways); i++) {
		char id[8];
		snprintf(id, sizeof(id), "%zu", i);
		go_the_way(f, &ways[i]);
		assert_int_equal(store(f, id, STORE_QUEUE), STORE_OK);
		ssize_t n = read(watch, seen, sizeof(seen));
		const struct inotify_event *event = (const struct inotify_event *)(const void *)seen;
		assert_true(n > 0);
		assert_int_equal(n, sizeof(*event) + event->len);
		assert_int_equal(event->mask, IN_CREATE);
		assert_int_equal(strncmp(event->name, id, strlen(id)), 0);
	}
	close(watch);
}

/* ---- duplicates ---- */

TEST(an_event_that_was_handled_is_a_duplicate)
{
	static const enum store_destination destinations[] =
	    {STORE_QUEUE, STORE_DEAD_LETTER, STORE_ARCHIVE};
	struct fixture *f = *state;

	assert_int_equal(store(f, "a", STORE_QUEUE), STORE_OK);
	ino_t first = inode(f, SPOOL_EVENTS, "a.json");
	drop(f, SPOOL_NEW, "a.json");
	assert_int_equal(spool_find(&f->spool, "a.json", &f->error), STORE_DUPLICATE);
	for (size_t w = 0; w < ROWS(ways); w++)
		for (size_t i = 0; i < ROWS(destinations); i++) {
			go_the_way(f, &ways[w]);
			assert_int_equal(store(f, "a", destinations[i]), STORE_DUPLICATE);
			assert_int_equal(count(f, SPOOL_NEW), 0);
			assert_int_equal(count(f, SPOOL_FAILED), 0);
			assert_int_equal(count(f, SPOOL_TMP), 0);
			assert_int_equal(inode(f, SPOOL_EVENTS, "a.json"), first);
		}
}

/* What events/ has is on the disk already: a duplicate waits for nothing. */
TEST(an_event_that_waits_is_a_duplicate_and_keeps_its_file)
{
	struct fixture *f = *state;

	assert_int_equal(store(f, "a", STORE_QUEUE), STORE_OK);
	ino_t first = inode(f, SPOOL_NEW, "a.json");
	trace_begin(&f->spool);
	assert_int_equal(store(f, "a", STORE_QUEUE), STORE_DUPLICATE);
	assert_string_equal(trace_end(), "create-dsync(events) write link(new)");
	assert_int_equal(inode(f, SPOOL_NEW, "a.json"), first);
	assert_int_equal(inode(f, SPOOL_EVENTS, "a.json"), first);
	assert_int_equal(count(f, SPOOL_TMP), 0);
}

TEST(a_look_that_fails_is_no_answer)
{
	struct fixture *f = *state;

	interference = (struct interference){.of = LOOK, .nth = 1, .error = EIO};
	assert_int_equal(spool_find(&f->spool, "a.json", &f->error), STORE_FAILED);
	interference.nth = 0;
	assert_true(tells(f, &f->error, "events/a.json", EIO));
	assert_non_null(strstr(f->error.remedy, "dmesg"));
	assert_int_equal(f->error.status, EX_IOERR);
}

TEST(what_a_writer_left_that_died_is_committed_by_the_next_delivery)
{
	static const struct {
		enum store_destination destination;
		enum spool_dir queue;
	} rows[] = {{STORE_QUEUE, SPOOL_NEW}, {STORE_DEAD_LETTER, SPOOL_FAILED}};
	struct fixture *f = *state;

	for (size_t w = 0; w < ROWS(ways); w++)
		for (size_t i = 0; i < ROWS(rows); i++) {
			go_the_way(f, &ways[w]);
			put(f, rows[i].queue, "a.json", theirs("a"));
			ino_t first = inode(f, rows[i].queue, "a.json");
			assert_int_equal(spool_find(&f->spool, "a.json", &f->error), STORE_ABSENT);
			trace_begin(&f->spool);
			assert_int_equal(store(f, "a", rows[i].destination), STORE_DUPLICATE);
			const char *calls = strstr(trace_end(), "open(");
			if (ways[w].one_wait)
				assert_int_equal(strncmp(strchr(calls, ' '), " fsync(file) link(events)", 25), 0);
			else
				assert_int_equal(strncmp(strchr(calls, ' '),
				    rows[i].queue == SPOOL_NEW ? " fsync(new) fsync(file) link(events)" :
				                                 " fsync(failed) fsync(file) link(events)", 36), 0);
			assert_int_equal(inode(f, SPOOL_EVENTS, "a.json"), first);
			expect_stored(f, rows[i].queue, "a.json", theirs("a"));
			drop(f, rows[i].queue, "a.json");
			drop(f, SPOOL_EVENTS, "a.json");
		}
}

static void
give_the_name_to_another_file(void)
{
	rename(at(hooked, SPOOL_NEW, "a.json"), in(hooked->path, "kept"));
	put(hooked, SPOOL_NEW, "a.json", record_of("a", "another", BODY, RECEIVED));
}

/* What was synced is what is committed, whatever has the name by then. */
TEST(the_next_delivery_goes_on_with_the_file_not_with_the_name)
{
	struct fixture *f = *state;

	put(f, SPOOL_NEW, "a.json", theirs("a"));
	ino_t first = inode(f, SPOOL_NEW, "a.json");
	interference = (struct interference){.of = LINKAT, .nth = 2,
	    .hook = give_the_name_to_another_file};
	assert_int_equal(store(f, "a", STORE_QUEUE), STORE_DUPLICATE);
	interference.nth = 0;
	assert_int_equal(inode(f, SPOOL_EVENTS, "a.json"), first);
	assert_int_equal(unlink(in(f->path, "kept")), 0);
}

TEST(a_file_has_the_name_of_its_id)
{
	static const struct {
		const char *name;
		enum entry_result result;
	} rows[] = {{"a.json", ENTRY_OK}, {"b.json", ENTRY_INVALID}, {"a", ENTRY_INVALID},
	    {"%61.json", ENTRY_INVALID},
		{"c.json", ENTRY_ABSENT}};
	struct fixture *f = *state;
	int before = descriptors();
	struct spool_file file;
	struct entry entry;
	const char *why;

	for (size_t i = 0; i < ROWS(rows); i++) {
		if (rows[i].result != ENTRY_ABSENT)
			put(f, SPOOL_NEW, rows[i].name, ours("a"));
		assert_int_equal(spool_file_open(&f->spool, &file, SPOOL_NEW, rows[i].name, &entry, &why),
		    rows[i].result);
		if (rows[i].result != ENTRY_OK)
			continue;
		assert_string_equal(file.name, rows[i].name);
		entry_free(&entry);
		spool_file_close(&f->spool, &file);
		assert_true(has(f, SPOOL_NEW, rows[i].name));
	}
	assert_int_equal(descriptors(), before);
}

/* ---- what is no event in the place of one ---- */

static void
make_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

enum intruder { EMPTY, TORN, ZEROS, STALE, FOREIGN, LINK, DANGLING, FIFO, SOCKET, INTRUDERS };

static const char *
intrude(struct fixture *f, enum spool_dir dir, enum intruder what)
{
	const char *path = at(f, dir, "a.json");
	char text[4096];

	snprintf(text, sizeof(text), "%s", ours("a"));
	switch (what) {
	case EMPTY:
		file_write(path, "", 0640);
		return "it is empty";
	case TORN:
		text[strlen(text) / 2] = '\0';
		file_write(path, text, 0640);
		return "it ";
	case ZEROS:
		file_write(path, "", 0640);
		assert_int_equal(truncate(path, (off_t)strlen(text)), 0);
		return "it does not begin with an evidence line";
	case STALE:
		text[strlen(text) - 6] = '\x7f';
		file_write(path, text, 0640);
		return "what follows the evidence line is not JSON";
	case FOREIGN:
		file_write(path, ours("b"), 0640);
		return "another webhook-id";
	case LINK:
		file_write(in(f->path, "elsewhere"), ours("a"), 0640);
		assert_int_equal(symlink("../elsewhere", path), 0);
		return "it is a symbolic link";
	case DANGLING:
		assert_int_equal(symlink("../nowhere", path), 0);
		return "it is a symbolic link";
	case FIFO:
		assert_int_equal(mkfifo(path, 0640), 0);
		return "it is no regular file";
	case SOCKET:
	case INTRUDERS:
		make_socket(path);
		return "it is no regular file";
	}
	return NULL;
}

/* It cannot be there by I1; but a person may have put it there, or the file system lies. */
TEST(what_is_no_event_in_the_place_is_replaced_and_logged)
{
	struct fixture *f = *state;

	for (size_t w = 0; w < ROWS(ways); w++)
		for (int what = 0; what < INTRUDERS; what++) {
			bool dead = (what + (int)w) % 2 != 0;
			enum spool_dir queue = dead ? SPOOL_FAILED : SPOOL_NEW;
			const char *why = intrude(f, queue, (enum intruder)what);
			enum store_result result;
			go_the_way(f, &ways[w]);
			trace_begin(&f->spool);
			char *logged = store_captured(f, "a", dead ? STORE_DEAD_LETTER : STORE_QUEUE, &result);
			const char *calls = strstr(trace_end(), dead ? "rename(failed)" : "rename(new)");
			assert_int_equal(result, STORE_OK);
			assert_int_equal(lines_of(logged), 1);
			assert_non_null(strstr(logged, dead ? "/failed/a.json: " : "/new/a.json: "));
			assert_non_null(strstr(logged, why));
			assert_non_null(strstr(logged, ": it is replaced by the event"));
			free(logged);
			/* Its name reaches the disk as any other. */
			assert_non_null(calls);
			assert_non_null(strstr(calls, "fsync("));
			assert_true(ways[w].one_wait == (strstr(calls,
			    dead ? "fsync(failed)" : "fsync(new)") == NULL));
			expect_stored(f, queue, "a.json", ours("a"));
			drop(f, queue, "a.json");
			drop(f, SPOOL_EVENTS, "a.json");
		}
	size_t length;
	char *text = file_read(in(f->path, "elsewhere"), &length); /* not written through a link */
	assert_string_equal(text, ours("a"));
	free(text);
	assert_int_equal(unlink(in(f->path, "elsewhere")), 0);
}

TEST(a_signal_is_no_reason_not_to_replace)
{
	struct fixture *f = *state;
	int before = descriptors();

	intrude(f, SPOOL_NEW, TORN);
	interference = (struct interference){.of = FLOCK, .nth = 1, .error = ENOLCK};
	assert_int_equal(store_quietly(f, "a", STORE_QUEUE), STORE_FAILED);
	assert_true(tells(f, &f->error, "new", ENOLCK));
	assert_int_equal(descriptors(), before);
	interference = (struct interference){.of = FLOCK, .nth = 1, .error = EINTR};
	assert_int_equal(store_quietly(f, "a", STORE_QUEUE), STORE_OK);
	interference.nth = 0;
	expect_stored(f, SPOOL_NEW, "a.json", ours("a"));
}

/* rename(2) puts no file in a directory's place, and what is in there is a person's. */
TEST(a_directory_in_the_place_is_an_error_and_stays)
{
	struct fixture *f = *state;

	for (size_t w = 0; w < ROWS(ways); w++) {
		go_the_way(f, &ways[w]);
		assert_int_equal(mkdir(at(f, SPOOL_NEW, "a.json"), 0750), 0);
		assert_int_equal(store_quietly(f, "a", STORE_QUEUE), STORE_FAILED);
		assert_true(tells(f, &f->error, "new/a.json", EISDIR));
		assert_int_equal(count(f, SPOOL_EVENTS), 0);
		assert_int_equal(count(f, SPOOL_TMP), 0);
		assert_int_equal(rmdir(at(f, SPOOL_NEW, "a.json")), 0);
		assert_int_equal(store(f, "a", STORE_QUEUE), STORE_OK);
		expect_stored(f, SPOOL_NEW, "a.json", ours("a"));
		drop(f, SPOOL_NEW, "a.json");
		drop(f, SPOOL_EVENTS, "a.json");
	}
}

/* ---- what happens between the steps ---- */

static void
handle_it(void)
{
	assert_int_equal(unlink(at(hooked, SPOOL_NEW, "a.json")), 0);
}

static void
queue_theirs(void)
{
	put(hooked, SPOOL_NEW, "a.json", theirs("a"));
}

static void
commit_theirs(void)
{
	link_again(hooked, SPOOL_NEW, SPOOL_EVENTS, "a.json");
}

static void
queue_and_commit_theirs(void)
{
	queue_theirs();
	commit_theirs();
}

static void
accept_and_handle_theirs(void)
{
	put(hooked, SPOOL_EVENTS, "a.json", theirs("a"));
}

static void
handle_it_and_theirs(void)
{
	handle_it();
	accept_and_handle_theirs();
}

static void
accept_theirs_and_queue_another(void)
{
	accept_and_handle_theirs();
	give_the_name_to_another_file();
	unlink(in(hooked->path, "kept"));
}

/* Beside its writer, which is in the middle of a step. */
static void
recover_it(void)
{
	struct spool other; /* another process's */
	struct error error;
	long committed;

	interference.nth = 0;
	assert_int_equal(spool_open(&other, hooked->path, false, false, &error), STORE_OK);
	assert_int_equal(spool_recover(&other, &committed, &error), STORE_OK);
	assert_int_equal(committed, 1);
	spool_close(&other);
}

static void
handle_it_and_commit_theirs_later(void)
{
	handle_it();
	interference = (struct interference){.of = LINKAT, .nth = 1, .hook = accept_and_handle_theirs};
}

static const struct moment {
	const char *what;
	void (*before)(void);
	enum call of;
	int nth;
	void (*hook)(void);
	int error; /* that the call meets */
	enum store_result result;
	char queued, committed; /* 'o': our file; 't': theirs; 'x': another; 0: none */
} moments[] = {
	{"theirs is queued before ours", NULL, LINKAT, 1, queue_theirs, 0, STORE_DUPLICATE, 't', 't'},
	{"theirs is queued and committed before ours", NULL, LINKAT, 1, queue_and_commit_theirs, 0,
		STORE_DUPLICATE, 't', 't'},
	{"theirs is accepted and handled before ours is queued", NULL, LINKAT, 1,
	    accept_and_handle_theirs,
		0, STORE_DUPLICATE, 0, 't'},
	{"theirs was queued, and is committed and handled before the look at it", NULL, LINKAT, 1,
		accept_and_handle_theirs, EEXIST, STORE_DUPLICATE, 0, 't'},
	{"theirs was queued, and is removed before it is opened", queue_theirs, OPENAT, 2, handle_it, 0,
		STORE_OK, 'o', 'o'},
	{"a consumer handles it before its name is on the disk", NULL, FSYNC, 1, handle_it, 0, STORE_OK,
	    0, 'o'},
	{"a consumer handles it before it is committed", NULL, LINKAT, 2, handle_it, 0, STORE_OK, 0,
	    'o'},
	{"recovery commits it while it is synced", NULL, FSYNC, 1, recover_it, 0, STORE_OK, 'o', 'o'},
	{"recovery commits it after its sync", NULL, LINKAT, 2, recover_it, 0, STORE_OK, 'o', 'o'},
	{"it is handled, and theirs accepted and handled", NULL, FSYNC, 1, handle_it_and_theirs, 0,
		STORE_DUPLICATE, 0, 't'},
	{"theirs was accepted and handled, which shows while ours is synced", NULL, FSYNC, 1,
		accept_and_handle_theirs, 0, STORE_DUPLICATE, 0, 't'},
	{"theirs was accepted and handled, which shows after the sync", NULL, LINKAT, 2,
		accept_and_handle_theirs, 0, STORE_DUPLICATE, 0, 't'},
	{"so it was, and another has our name in the queue", NULL, LINKAT, 2,
		accept_theirs_and_queue_another, 0, STORE_DUPLICATE, 'x', 't'},
	{"the writer of theirs commits it while we sync it", queue_theirs, FSYNC, 1, commit_theirs, 0,
		STORE_DUPLICATE, 't', 't'},
	{"recovery commits theirs while we sync it", queue_theirs, FSYNC, 1, recover_it, 0,
		STORE_DUPLICATE, 't', 't'},
	{"a consumer handles theirs while we sync it", queue_theirs, FSYNC, 1, handle_it, 0,
		STORE_DUPLICATE, 0, 'o'},
	{"the writer of theirs commits it, a consumer handles it", queue_theirs, LINKAT, 2,
		handle_it_and_theirs, 0, STORE_DUPLICATE, 0, 't'},
	{"a consumer handles it; theirs is committed before our copy", NULL, LINKAT, 2,
		handle_it_and_commit_theirs_later, 0, 0, 0, 0},
};

static void
expect_file(struct fixture *f, enum spool_dir dir, char which, const char *what)
{
	if (has(f, dir, "a.json") != (which != 0))
		fail_msg("%s: %s/ has %s", what, spool_dir_names[dir], which != 0 ? "nothing" : "it");
	if (which != 0)
		expect_text(f, dir, "a.json", which == 'o' ? ours("a") : which == 't' ? theirs("a") :
		    record_of("a", "another", BODY, RECEIVED));
}

static void
live_through(struct fixture *f, const struct moment *m, const struct way *way)
{
	char what[256];

	/* The first event finds out how to link, with calls of its own. */
	go_the_way(f, way);
	assert_int_equal(store(f, "first", STORE_QUEUE), STORE_OK);
	if (m->before != NULL)
		m->before();
	interference = (struct interference){.of = (int)m->of, .nth = m->nth, .hook = m->hook,
	    .error = m->error};
	enum store_result result = store(f, "a", STORE_QUEUE);
	interference.nth = 0;
	snprintf(what, sizeof(what), "%s (%s)", m->what, way->what);
	if (result != m->result)
		fail_msg("%s: result %d", what, (int)result);
	expect_file(f, SPOOL_NEW, m->queued, what);
	expect_file(f, SPOOL_EVENTS, m->committed, what);
	if (m->queued == m->committed)
		assert_int_equal(inode(f, SPOOL_NEW, "a.json"), inode(f, SPOOL_EVENTS, "a.json"));
	assert_int_equal(count(f, SPOOL_TMP), 0);
	drop(f, SPOOL_NEW, "a.json");
	drop(f, SPOOL_EVENTS, "a.json");
	drop(f, SPOOL_NEW, "first.json");
	drop(f, SPOOL_EVENTS, "first.json");
}

TEST(whatever_happens_between_the_steps_it_is_queued_once_and_committed)
{
	for (size_t w = 0; w < ROWS(ways); w++)
		for (size_t i = 0; i < ROWS(moments); i++)
			if (moments[i].committed != 0)
				live_through(*state, &moments[i], &ways[w]);
}

/* The copy in events/ comes too late: then theirs is the one that is remembered. */
TEST(of_two_copies_of_what_was_handled_one_stays)
{
	for (size_t w = 0; w < ROWS(ways); w++) {
		struct moment m = moments[ROWS(moments) - 1];
		/* A file with a name in tmp/ needs no copy. */
		m.result = ways[w].named_files ? STORE_OK : STORE_DUPLICATE;
		m.committed = ways[w].named_files ? 'o' : 't';
		live_through(*state, &m, &ways[w]);
	}
}

static void
handle_it_on_a_disk_that_fills(void)
{
	handle_it();
	interference = (struct interference){.of = WRITEV, .nth = 1, .error = ENOSPC};
}

TEST(what_was_handled_and_cannot_be_committed_is_not_answered_as_stored)
{
	struct fixture *f = *state;

	assert_int_equal(store(f, "first", STORE_QUEUE), STORE_OK);
	interference = (struct interference){.of = LINKAT, .nth = 2,
	    .hook = handle_it_on_a_disk_that_fills};
	assert_int_equal(store(f, "a", STORE_QUEUE), STORE_FULL);
	interference.nth = 0;
	assert_int_equal(spool_find(&f->spool, "a.json", &f->error), STORE_ABSENT);
	assert_int_equal(count(f, SPOOL_TMP), 0);
	assert_int_equal(store(f, "a", STORE_QUEUE), STORE_OK);
}

/* It need not be durable: it was handled. */
TEST(the_copy_of_what_was_handled_waits_for_no_sync)
{
	struct fixture *f = *state;

	assert_int_equal(store(f, "first", STORE_QUEUE), STORE_OK);
	interference = (struct interference){.of = LINKAT, .nth = 2, .hook = handle_it};
	trace_begin(&f->spool);
	assert_int_equal(store(f, "a", STORE_QUEUE), STORE_OK);
	interference.nth = 0;
	assert_string_equal(trace_end(), "create-dsync(events) write link(new) fsync(new) fsync(file) "
		"link(events) create-dsync(events) write link(events)");
}

TEST(a_name_that_comes_and_goes_is_given_up)
{
	struct fixture *f = *state;

	interference = (struct interference){.of = LINKAT, .nth = 1, .all = true, .error = EEXIST};
	assert_int_equal(store(f, "a", STORE_QUEUE), STORE_FAILED);
	assert_int_equal(interference.seen, 5);
	interference.nth = 0;
	assert_true(tells(f, &f->error, "new/a.json", EBUSY));
	assert_int_equal(count(f, SPOOL_NEW) + count(f, SPOOL_EVENTS) + count(f, SPOOL_TMP), 0);
}

static void
replace_it_with_theirs(void)
{
	drop(hooked, SPOOL_NEW, "a.json");
	queue_and_commit_theirs();
}

/* Two deliveries meet a torn file; the other's takes its place, and is accepted. */
TEST(what_has_taken_the_place_of_a_torn_file_is_not_replaced)
{
	for (size_t w = 0; w < ROWS(ways); w++) {
		struct fixture *f = *state;
		go_the_way(f, &ways[w]);
		intrude(f, SPOOL_NEW, TORN);
		interference = (struct interference){.of = FLOCK, .nth = 1, .hook = replace_it_with_theirs};
		assert_int_equal(store_quietly(f, "a", STORE_QUEUE), STORE_DUPLICATE);
		assert_int_equal(interference.seen, 1);
		interference.nth = 0;
		expect_stored(f, SPOOL_NEW, "a.json", theirs("a"));
		drop(f, SPOOL_NEW, "a.json");
		drop(f, SPOOL_EVENTS, "a.json");
	}
}

/* ---- failures ---- */

static void
fail_another_sync(void)
{
	hooked->spool.distrusted = true;
}

/* The kernel tells one of several of an error: it may have been about our name. */
TEST(a_sync_beside_one_that_failed_is_not_trusted)
{
	struct fixture *f = *state;

	interference = (struct interference){.of = FSYNC, .nth = 1, .hook = fail_another_sync};
	assert_int_equal(store_quietly(f, "a", STORE_QUEUE), STORE_FAILED);
	interference.nth = 0;
	assert_int_equal(count(f, SPOOL_EVENTS), 0);
	expect_text(f, SPOOL_NEW, "a.json", ours("a")); /* I4 */
}

/* A delivery that meets a failure, and again after a restart. */
enum before { NOTHING, UNCOMMITTED, TORN_FILE, COMMITTED, HANDLED, BEFORES };

static void
prepare(struct fixture *f, enum spool_dir queue, enum before before)
{
	if (before == UNCOMMITTED || before == COMMITTED)
		put(f, queue, "a.json", theirs("a"));
	if (before == TORN_FILE)
		intrude(f, queue, TORN);
	if (before == COMMITTED)
		link_again(f, queue, SPOOL_EVENTS, "a.json");
	if (before == HANDLED)
		put(f, SPOOL_EVENTS, "a.json", theirs("a"));
}

/* I1: what has a name is whole. A torn file that was there before we came may still be. */
static void
expect_whole(struct fixture *f, enum spool_dir dir, enum before before, const char *what)
{
	size_t length;
	char *text = file_read(at(f, dir, "a.json"), &length);

	if (text != NULL && strcmp(text, ours("a")) != 0 && strcmp(text, theirs("a")) != 0 &&
	    (before != TORN_FILE || dir == SPOOL_EVENTS))
		fail_msg("%s: %s/a.json is not whole", what, spool_dir_names[dir]);
	free(text);
}

/* What is there at the end, when the sender has an answer. */
static void
expect_once(struct fixture *f, enum spool_dir queue, enum before before, enum store_result first,
    const char *what)
{
	const char *mine = before == NOTHING || before == TORN_FILE ? ours("a") : theirs("a");

	if (before == HANDLED) {
		expect_text(f, SPOOL_EVENTS, "a.json", theirs("a"));
		if (queue == SPOOL_EVENTS)
			return;
		/* If it could not be removed, or looked at: no consumer takes it for the one in events/. */
		assert_true(!has(f, queue, "a.json") || first == STORE_FAILED || first == STORE_FULL);
		assert_false(is_one_file(f, queue, SPOOL_EVENTS, "a.json"));
		return;
	}
	expect_text(f, queue, "a.json", mine);
	if (!is_one_file(f, queue, SPOOL_EVENTS, "a.json"))
		fail_msg("%s: it is not committed", what);
}

struct failing {
	const struct way *way;
	enum store_destination destination;
	enum spool_dir queue;
	enum before before;
	int error;
};

/* Returns whether there was an nth call. */
static bool
fail_the_nth(struct fixture *f, const struct failing *c, int nth)
{
	enum store_result result;
	char what[256];

	go_the_way(f, c->way);
	prepare(f, c->queue, c->before);
	interference = (struct interference){.of = ANY, .nth = nth, .error = c->error};
	char *logged = store_captured(f, "a", c->destination, &result);
	bool met = interference.seen >= nth;
	enum call call = interference.met;
	interference.nth = 0;
	snprintf(what, sizeof(what), "%s, destination %d, %d before, errno %d, call %d", c->way->what,
	    (int)c->destination, (int)c->before, c->error, nth);
	if (result == STORE_FULL || result == STORE_FAILED)
		assert_true(result == (c->error == ENOSPC ||
		    c->error == EDQUOT ? STORE_FULL : STORE_FAILED));
	else if (result == STORE_DUPLICATE ? c->before == NOTHING || c->before == TORN_FILE :
	                                     c->before != NOTHING && c->before != TORN_FILE)
		fail_msg("%s: result %d", what, (int)result);
	assert_true(met || result == STORE_OK || result == STORE_DUPLICATE);
	/* Nothing is accepted for good before all is done. */
	if (result == STORE_OK || result == STORE_DUPLICATE)
		expect_once(f, c->queue, c->before, result, what);
	assert_int_equal(strstr(logged, "nothing is accepted until a restart") != NULL,
	    f->spool.distrusted);
	free(logged);
	expect_whole(f, c->queue, c->before, what);
	expect_whole(f, SPOOL_EVENTS, c->before, what);
	/* I4: what was there is there. */
	if ((c->before == UNCOMMITTED || c->before == COMMITTED) && !has(f, c->queue, "a.json"))
		fail_msg("%s: it is gone from the queue", what);
	if (count(f, SPOOL_TMP) != 0 && call != UNLINKAT)
		fail_msg("%s: tmp/ is not empty", what);
	f->spool.distrusted = false; /* a restart, and the sender tries again */
	enum store_result again = store_quietly(f, "a", c->destination);
	if (again != STORE_OK && again != STORE_DUPLICATE)
		fail_msg("%s: then %d: %s", what, (int)again, f->error.text);
	expect_once(f, c->queue, c->before, result, what);
	return met;
}

static void
clear(struct fixture *f)
{
	for (int i = 0; i < SPOOL_DIRS; i++) {
		drop(f, (enum spool_dir)i, "a.json");
		if (i == SPOOL_TMP && count(f, SPOOL_TMP) > 0) { /* what could not be removed */
			nftw(at(f, SPOOL_TMP, ""), remove_entry, 4, FTW_DEPTH | FTW_PHYS);
			assert_int_equal(mkdir(at(f, SPOOL_TMP, ""), 02770), 0);
			restart(f);
		}
	}
}

static int
fail_each(struct fixture *f, const struct failing *c)
{
	int nth = 1;

	/* Of an event that is in events/ alone, only that can be there before. */
	if (c->destination == STORE_ARCHIVE && c->before != NOTHING && c->before != HANDLED)
		return 4;
	while (fail_the_nth(f, c, nth++))
		clear(f);
	clear(f);
	return nth - 2;
}

TEST(whichever_call_fails_it_is_stored_or_the_next_try_finishes_it)
{
	static const enum spool_dir queues[] = {SPOOL_NEW, SPOOL_FAILED, SPOOL_EVENTS};
	static const int errors[] = {EIO, ENOSPC, EDQUOT, EMLINK, EACCES, EXDEV};
	size_t kinds = getenv("UNDER_VALGRIND") != NULL ? 2 : ROWS(errors);
	struct fixture *f = *state;

	for (size_t w = 0; w < ROWS(ways); w++)
		for (int destination = 0; destination < 3; destination++)
			for (int before = 0; before < BEFORES; before++)
				for (size_t e = 0; e < kinds; e++) {
					struct failing c = {&ways[w], (enum store_destination)destination,
						queues[destination], (enum before)before, errors[e]};
					/* create, write and link at the least */
					assert_true(fail_each(f, &c) >= 3);
				}
}

TEST(after_a_failed_sync_nothing_is_accepted_and_nothing_rolled_back)
{
	struct fixture *f = *state;
	enum store_result result;

	for (int nth = 1; nth <= 2; nth++) { /* of the directory, of the file */
		interference = (struct interference){.of = FSYNC, .nth = nth, .error = EIO};
		char *logged = store_captured(f, "a", STORE_QUEUE, &result);
		interference.nth = 0;
		assert_int_equal(result, STORE_FAILED);
		assert_int_equal(lines_of(logged), 1);
		assert_non_null(strstr(logged,
		    "fsync: Input/output error: nothing is accepted until a restart"));
		free(logged);
		assert_true(tells(f, &f->error, "new/a.json", EIO));
		expect_text(f, SPOOL_NEW, "a.json", ours("a"));
		assert_int_equal(count(f, SPOOL_EVENTS), 0);
		/* Not tried at all. */
		trace_begin(&f->spool);
		logged = store_captured(f, "b", STORE_QUEUE, &result);
		assert_string_equal(trace_end(), "");
		assert_int_equal(result, STORE_FAILED);
		assert_string_equal(logged, "");
		free(logged);
		assert_non_null(strstr(f->error.text, "a sync has failed: nothing is accepted"));
		assert_non_null(strstr(f->error.remedy, "restart the receiver"));
		assert_int_equal(f->error.status, EX_IOERR);
		assert_int_equal(store(f, "c", STORE_DEAD_LETTER), STORE_FAILED);
		assert_int_equal(store(f, "d", STORE_ARCHIVE), STORE_FAILED);
		assert_int_equal(count(f, SPOOL_NEW), 1);
		assert_int_equal(count(f, SPOOL_EVENTS) + count(f, SPOOL_FAILED) + count(f, SPOOL_STATE),
		    0);
		/* What was stored before is still known. */
		put(f, SPOOL_EVENTS, "e.json", ours("e"));
		assert_int_equal(spool_find(&f->spool, "e.json", &f->error), STORE_DUPLICATE);
		drop(f, SPOOL_EVENTS, "e.json");
		restart(f);
		assert_int_equal(store(f, "a", STORE_QUEUE), STORE_DUPLICATE);
		expect_stored(f, SPOOL_NEW, "a.json", ours("a"));
		drop(f, SPOOL_NEW, "a.json");
		drop(f, SPOOL_EVENTS, "a.json");
	}
}

TEST(a_write_that_fails_is_that_file_s_alone)
{
	struct fixture *f = *state;

	for (int i = 0; i < 2; i++) {
		f->spool.one_wait = i == 1;
		interference = (struct interference){.of = i == 0 ? WRITEV : WRITE_BACK, .nth = 1,
		    .error = EIO};
		assert_int_equal(store(f, i == 0 ? "a" : "b", STORE_QUEUE), STORE_FAILED);
		interference.nth = 0;
		assert_true(tells(f, &f->error, i == 0 ? "events/a.json" : "events/b.json", EIO));
		assert_int_equal(count(f, SPOOL_TMP) + count(f, SPOOL_NEW), i);
		assert_int_equal(store(f, i == 0 ? "a" : "b", STORE_QUEUE), STORE_OK);
	}
}

TEST(a_cause_has_its_remedy)
{
	static const struct {
		int error, status;
		const char *remedy;
	} rows[] = {
		{ENOSPC, EX_IOERR, "make room on its file system"},
		{EDQUOT, EX_IOERR, "quota"},
		{EROFS, EX_IOERR, "mount its file system writable"},
		{EXDEV, EX_CONFIG, "keep the whole spool on one file system"},
		{EMLINK, EX_IOERR, "must allow hard links"},
		{EIO, EX_IOERR, "dmesg"},
		{EACCES, EX_NOPERM, "the running user must be able to use it"},
		{EPERM, EX_NOPERM, "must allow hard links to the running user"},
		{ENFILE, EX_IOERR, ""},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(rows); i++) {
		interference = (struct interference){.of = LINKAT, .nth = 1, .error = rows[i].error};
		enum store_result result = store(f, "a", STORE_QUEUE);
		interference.nth = 0;
		assert_int_equal(result, rows[i].error == ENOSPC ||
		    rows[i].error == EDQUOT ? STORE_FULL : STORE_FAILED);
		assert_int_equal(f->error.status, rows[i].status);
		assert_non_null(strstr(f->error.remedy, rows[i].remedy));
		assert_int_equal(*f->error.remedy == '\0', *rows[i].remedy == '\0');
		assert_true(tells(f, &f->error, "new/a.json", rows[i].error));
	}
}

/* chattr +i: the owner is right, and root is not refused for who it is. */
TEST(root_is_not_told_to_run_it_as_root)
{
	struct fixture *f = *state;

	if (geteuid() != 0) {
		print_message("only root can give a directory away\n");
		skip();
	}
	assert_int_equal(fchown(f->spool.dir[SPOOL_NEW], 65534, (gid_t)-1), 0);
	f->spool.owner = 65534;
	interference = (struct interference){.of = LINKAT, .nth = 1, .error = EPERM};
	assert_int_equal(store(f, "a", STORE_QUEUE), STORE_FAILED);
	interference.nth = 0;
	f->spool.owner = geteuid();
	assert_non_null(strstr(f->error.remedy, "lsattr -d show no i or a"));
}

TEST(of_another_user_s_file_the_remedy_is_to_give_it_back)
{
	struct fixture *f = *state;

	if (geteuid() != 0) {
		print_message("only root can give a file away\n");
		skip();
	}
	put(f, SPOOL_NEW, "a.json", theirs("a"));
	assert_int_equal(chown(at(f, SPOOL_NEW, "a.json"), 65534, (gid_t)-1), 0);
	interference = (struct interference){.of = OPENAT, .nth = 2, .error = EACCES};
	assert_int_equal(store(f, "a", STORE_QUEUE), STORE_FAILED);
	interference.nth = 0;
	assert_int_equal(f->error.status, EX_NOPERM);
	assert_non_null(strstr(f->error.remedy, "it belongs to nobody: as root, chown -R root "));
}

/* ---- room ---- */

struct small_disk {
	const char *path, *options;
	enum store_destination destination;
};

static enum store_result
store_large(struct spool *spool, int number, enum store_destination destination)
{
	static char body[16384];
	char id[16];
	struct delivery d;
	struct error error;

	memset(body, ' ', sizeof(body) - 1);
	memcpy(body, "{}", 2);
	snprintf(id, sizeof(id), "%d", number);
	delivery_make(&d, id, "ours", body, RECEIVED, destination);
	enum store_result result = spool_put(spool, &d.intake, &error);
	record_free(&d.record);
	return result;
}

static const char *
fill_a_disk(void *data)
{
	const struct small_disk *disk = data;
	static const enum spool_dir queues[] = {SPOOL_NEW, SPOOL_FAILED, SPOOL_EVENTS};
	const char *queue = in(disk->path, spool_dir_names[queues[disk->destination]]);
	struct spool spool;
	struct error error;
	int stored = 0;

	if (mount("psapi-test", disk->path, "tmpfs", 0, disk->options) != 0)
		return SKIPPED "a tmpfs cannot be mounted here";
	if (spool_open(&spool, disk->path, false, true, &error) != STORE_OK)
		return "open";
	enum store_result result;
	while ((result = store_large(&spool, stored, disk->destination)) == STORE_OK && stored < 100)
		stored++;
	if (result != STORE_FULL)
		return "the result is not STORE_FULL";
	/* The name in the queue is not rolled back when there is no room for the one in events/: I4. */
	int queued = names_in(queue), committed = names_in(in(disk->path, "events"));
	if (committed != stored || (queued != stored && queued != stored + 1))
		return "there is something of the event that was refused";
	if (names_in(in(disk->path, "tmp")) != 0)
		return "tmp/ is not empty";
	if (strstr(disk->options, "size=64k") != NULL && !spool_is_full(&spool, 1 << 20))
		return "spool_is_full() does not see it";
	/* When there is room again, the sender's next try is stored. */
	for (int i = 0; i < SPOOL_DIRS; i++)
		unlink(in(in(disk->path, spool_dir_names[i]), "0.json"));
	if (stored > 0 && store_large(&spool, stored, disk->destination) !=
	        (queued == stored ? STORE_OK : STORE_DUPLICATE))
		return "it is refused though there is room";
	spool_close(&spool);
	return NULL;
}

TEST(a_full_disk_is_told_from_an_error_and_nothing_is_left)
{
	/* Bytes; and files: the root, six directories, and few events. */
	static const char *const options[] = {"size=64k", "nr_inodes=7,size=512k",
	    "nr_inodes=8,size=512k",
		"nr_inodes=9,size=512k", "nr_inodes=10,size=512k", "nr_inodes=12,size=512k"};

	for (size_t i = 0; i < ROWS(options); i++)
		for (int destination = 0; destination < 3; destination++) {
			struct small_disk disk = {*state, options[i], (enum store_destination)destination};
			if (!in_own_mounts(fill_a_disk, &disk))
				skip();
		}
}

TEST(the_floor_of_free_space_is_in_bytes)
{
	struct fixture *f = *state;

	memset(&meter, 0, sizeof(meter));
	assert_false(spool_is_full(&f->spool, 0));
	assert_false(spool_is_full(&f->spool, 1));
	assert_true(spool_is_full(&f->spool, 1LL << 60));
	meter.available = 1000;
	meter.second = 1;
	assert_false(spool_is_full(&f->spool, 1000));
	assert_true(spool_is_full(&f->spool, 1001));
	meter.error = EIO; /* in doubt the event is tried */
	assert_false(spool_is_full(&f->spool, 1001));
	memset(&meter, 0, sizeof(meter));
}

TEST(free_space_is_looked_at_once_a_second_while_there_is_plenty)
{
	static const struct {
		time_t second;
		unsigned long available;
		int looks;
		bool full;
	} rows[] = {
		{10, 2000, 1, false}, {10, 2000, 1, false}, {10, 1, 1, false}, {11, 1999, 2, false},
		{11, 1999, 3, false}, {11, 999, 4, true}, {11, 999, 5, true}, {12, 2000, 6, false},
		{12, 1, 6, false}, {13, 1, 7, true},
	};
	struct fixture *f = *state;

	memset(&meter, 0, sizeof(meter));
	for (size_t i = 0; i < ROWS(rows); i++) {
		meter.second = rows[i].second;
		meter.available = rows[i].available;
		bool full = spool_is_full(&f->spool, 1000);
		if (full != rows[i].full || meter.looks != rows[i].looks)
			fail_msg("row %zu: %d, %d looks", i, full, meter.looks);
	}
	memset(&meter, 0, sizeof(meter));
}

TEST(a_spool_is_empty_until_something_was_accepted)
{
	struct fixture *f = *state;

	assert_true(spool_is_empty(&f->spool));
	put(f, SPOOL_EVENTS, ".probe.1", "");
	assert_true(spool_is_empty(&f->spool));
	drop(f, SPOOL_EVENTS, ".probe.1");
	interference = (struct interference){.of = OPENAT, .nth = 1, .error = EMFILE};
	assert_false(spool_is_empty(&f->spool)); /* in doubt */
	interference.nth = 0;
	assert_int_equal(store(f, "a", STORE_QUEUE), STORE_OK);
	assert_false(spool_is_empty(&f->spool));
	drop(f, SPOOL_NEW, "a.json");
	assert_false(spool_is_empty(&f->spool));
}

/* ---- concurrent duplicates ---- */

enum { DUPLICATES = 64 };

static struct {
	struct spool *spools[2];
	pthread_barrier_t barrier;
	atomic_int stored, duplicates;
} race;

static void *
race_once(void *number)
{
	struct spool *spool = race.spools[(uintptr_t)number % 2];
	struct delivery d;
	struct error error;

	delivery_make(&d, "a", (uintptr_t)number % 2 == 0 ? "ours" : "theirs", BODY, RECEIVED,
	    STORE_QUEUE);
	pthread_barrier_wait(&race.barrier);
	enum store_result result = spool_find(spool, d.name, &error);
	if (result == STORE_ABSENT)
		result = spool_put(spool, &d.intake, &error);
	if (result == STORE_OK)
		race.stored++;
	if (result == STORE_DUPLICATE)
		race.duplicates++;
	record_free(&d.record);
	return NULL;
}

static void
race_in(struct fixture *f)
{
	pthread_t threads[DUPLICATES];
	int before = descriptors();

	race.stored = race.duplicates = 0;
	pthread_barrier_init(&race.barrier, NULL, DUPLICATES);
	for (uintptr_t i = 0; i < DUPLICATES; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, race_once, (void *)i), 0);
	for (int i = 0; i < DUPLICATES; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&race.barrier);
	/* Each goes on with the file that is there: whose it is may not be the one that is answered. */
	assert_true(race.stored <= 1);
	assert_int_equal(race.stored + race.duplicates, DUPLICATES);
	assert_int_equal(count(f, SPOOL_NEW), 1);
	assert_int_equal(count(f, SPOOL_EVENTS), 1);
	assert_true(is_one_file(f, SPOOL_NEW, SPOOL_EVENTS, "a.json"));
	assert_int_equal(count(f, SPOOL_TMP), 0);
	assert_int_equal(descriptors(), before);
}

TEST(of_64_concurrent_duplicates_one_is_stored)
{
	struct fixture *f = *state;
	struct spool other;

	/* Two processes, as it were: neither knows the other's descriptors. */
	assert_int_equal(spool_open(&other, f->path, false, false, &f->error), STORE_OK);
	int rounds = getenv("UNDER_VALGRIND") != NULL ? 8 : 40;
	for (int round = 0; round < rounds; round++) {
		const struct way *way = &ways[(size_t)round % ROWS(ways)];
		go_the_way(f, way);
		other.filesystem.named_files = way->named_files;
		other.by_name = way->by_name;
		other.one_wait = way->one_wait;
		lazy = round % 4 != 0;
		race.spools[0] = &f->spool;
		race.spools[1] = round % 2 == 0 ? &f->spool : &other;
		race_in(f);
		drop(f, SPOOL_NEW, "a.json");
		drop(f, SPOOL_EVENTS, "a.json");
	}
	spool_close(&other);
}

/* ---- the probe ---- */

static int
remove_name(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)ftw;
	return kind == FTW_F ? unlink(path) : 0;
}

static int
names_in_all(struct fixture *f)
{
	int n = 0;

	for (int i = 0; i < SPOOL_DIRS; i++)
		n += count(f, (enum spool_dir)i);
	return n;
}

/* The way of an event, of a dead letter, a held request and a state. */
TEST(a_probe_goes_all_ways_and_leaves_nothing)
{
	struct fixture *f = *state;

	lazy = false;
	for (size_t w = 0; w < ROWS(ways); w++) {
		go_the_way(f, &ways[w]);
		trace_begin(&f->spool);
		assert_int_equal(spool_probe(&f->spool, &f->error), STORE_OK);
		const char *calls = trace_end();
		for (int i = 0; i < SPOOL_DIRS; i++) {
			char linked[64], synced[64];
			snprintf(linked, sizeof(linked), "link(%s)", spool_dir_names[i]);
			snprintf(synced, sizeof(synced), "fsync(%s) fsync(file)", spool_dir_names[i]);
			if (strstr(calls, linked) == NULL ||
			    (strstr(calls, synced) == NULL) != ways[w].one_wait)
				fail_msg("%s: %s in %s", ways[w].what, spool_dir_names[i], calls);
		}
		assert_true(ways[w].one_wait == (strstr(calls, "write-back") != NULL));
		assert_true(ways[w].one_wait == (strstr(calls, "dsync") == NULL));
		assert_non_null(strstr(calls, "fsync(file)"));
		assert_non_null(strstr(calls, "link(tmp) rename(state)"));
		assert_int_equal(names_in_all(f), 0);
	}
}

TEST(a_probe_that_fails_names_the_directory_and_leaves_nothing)
{
	struct fixture *f = *state;

	for (size_t w = 0; w < ROWS(ways); w++) {
		bool done = false;
		for (int nth = 1; !done; nth++) {
			struct capture capture;
			go_the_way(f, &ways[w]);
			/* What it removes at the end, the last of all, may stay. */
			interference = (struct interference){.of = ANY & ~UNLINKAT, .nth = nth, .error = EIO};
			capture_begin(&capture);
			enum store_result result = spool_probe(&f->spool, &f->error);
			free(capture_end(&capture));
			done = interference.seen < nth;
			interference.nth = 0;
			assert_int_equal(result, done ? STORE_OK : STORE_FAILED);
			assert_int_equal(names_in_all(f), 0);
			f->spool.distrusted = false;
		}
	}
	for (int i = 0; i < SPOOL_DIRS; i++) {
		static const enum call calls[] = {LINKAT, UNLINKAT};
		for (size_t c = 0; c < ROWS(calls); c++) {
			go_the_way(f, &ways[0]);
			/* tmp/ is linked first, and removed last. */
			int nth = calls[c] == LINKAT ? SPOOL_DIRS - i : i + 1;
			interference = (struct interference){.of = (int)calls[c], .nth = nth, .error = EROFS};
			assert_int_equal(spool_probe(&f->spool, &f->error), STORE_FAILED);
			interference.nth = 0;
			assert_true(tells(f, &f->error, spool_dir_names[i], EROFS));
			assert_string_equal(f->error.remedy, "mount its file system writable");
			if (calls[c] == UNLINKAT)
				nftw(at(f, (enum spool_dir)i, ""), remove_name, 4, FTW_PHYS);
			assert_int_equal(names_in_all(f), 0);
		}
	}
}

static enum store_result other_probe;

static void
probe_beside_it(void)
{
	struct spool other;
	struct error error;

	interference.nth = 0;
	assert_int_equal(spool_open(&other, hooked->path, false, false, &error), STORE_OK);
	other_probe = spool_probe(&other, &error);
	spool_close(&other);
}

/* Two containers on one spool: in each of them the process has the same number. */
TEST(a_probe_disturbs_no_other_of_the_same_process_number)
{
	struct fixture *f = *state;

	for (int nth = 1; nth <= SPOOL_DIRS; nth++) {
		interference = (struct interference){.of = LINKAT, .nth = nth, .hook = probe_beside_it};
		assert_int_equal(spool_probe(&f->spool, &f->error), STORE_OK);
		assert_int_equal(other_probe, STORE_OK);
		assert_int_equal(names_in_all(f), 0);
	}
}

static int
age_it(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	struct timespec times[2] = {{.tv_sec = time(NULL) - 3700}, {.tv_sec = time(NULL) - 3700}};

	(void)st;
	(void)ftw;
	return kind == FTW_F ? utimensat(AT_FDCWD, path, times, 0) : 0;
}

static void
die(void)
{
	_exit(7);
}

/* Killed at any step it leaves what recovery finds and removes after an hour. */
TEST(what_a_killed_probe_leaves_is_removed_by_recovery)
{
	struct fixture *f = *state;
	int status = 0, left = 0;
	long committed;

	for (int nth = 1; !WIFEXITED(status) || WEXITSTATUS(status) != 0 || nth == 1; nth++) {
		pid_t child = fork();
		if (child == 0) {
			interference = (struct interference){.of = LINKAT | RENAMEAT | UNLINKAT | FSYNC,
			    .nth = nth, .hook = die};
			spool_probe(&f->spool, &f->error);
			_exit(0);
		}
		assert_int_equal(waitpid(child, &status, 0), child);
		left += names_in_all(f);
		assert_int_equal(spool_recover(&f->spool, &committed, &f->error), STORE_OK);
		for (int dir = 0; dir < SPOOL_DIRS; dir++)
			nftw(at(f, (enum spool_dir)dir, ""), age_it, 4, FTW_PHYS);
		assert_int_equal(spool_recover(&f->spool, &committed, &f->error), STORE_OK);
		assert_int_equal(names_in_all(f), 0);
	}
	assert_true(left > 20);
}

struct mounted {
	const char *path;
	int dir;
	bool bind;
};

static const char *
probe_a_mount(void *data)
{
	const struct mounted *m = data;
	static char failed[1200];
	const char *path = in(m->path, spool_dir_names[m->dir]);
	struct spool spool;
	struct error error = {0};

	if (mount(m->bind ? path : "psapi-test", path, m->bind ? "none" : "tmpfs",
	    m->bind ? MS_BIND : 0, NULL) != 0)
		return SKIPPED "nothing can be mounted here";
	if (spool_open(&spool, m->path, false, false, &error) != STORE_OK)
		return "open";
	enum store_result result = spool_probe(&spool, &error);
	spool_close(&spool);
	size_t length = strlen(path);
	if (result != STORE_FAILED || strncmp(error.text, path, length) != 0 ||
	    error.text[length] != ':' ||
	    strstr(error.text, "Invalid cross-device link") == NULL || error.status != EX_CONFIG ||
	    strcmp(error.remedy,
	    "keep the whole spool on one file system, without a mount inside it") != 0) {
		snprintf(failed, sizeof(failed), "%s is %s mount: %d %s", path, m->bind ? "a bind" : "a",
		    (int)result,
		    error.text);
		return failed;
	}
	return NULL;
}

/* A bind mount has the device of what it is bound to, and refuses links all the same. */
TEST(a_directory_that_is_a_mount_is_named)
{
	struct fixture *f = *state;

	for (int dir = 0; dir < SPOOL_DIRS; dir++)
		for (int bind = 0; bind < 2; bind++) {
			struct mounted m = {f->path, dir, bind == 1};
			if (!in_own_mounts(probe_a_mount, &m))
				skip();
		}
	assert_int_equal(names_in_all(f), 0);
}

/* ---- states ---- */

TEST(a_state_is_replaced_whole)
{
	struct fixture *f = *state;

	for (size_t w = 0; w < ROWS(ways); w++) {
		go_the_way(f, &ways[w]);
		assert_int_equal(spool_state_write(&f->spool, "a.json",
		    "{\"tries\":0,\"reason\":\"long\"}"), 0);
		trace_begin(&f->spool);
		assert_int_equal(spool_state_write(&f->spool, "a.json", "{}"), 0);
		/* Never a moment without a whole one; and no wait for the disk. */
		assert_non_null(strstr(trace_end(), "write link(tmp) rename(state)"));
		assert_null(strstr(trace.text, "sync"));
		assert_null(strstr(trace.text, "write-back"));
		expect_text(f, SPOOL_STATE, "a.json", "{}");
		assert_int_equal(count(f, SPOOL_TMP), 0);
		for (int nth = 1;; nth++) {
			interference = (struct interference){.of = ANY & ~UNLINKAT, .nth = nth,
			    .error = ENOSPC};
			int result = spool_state_write(&f->spool, "a.json", "{\"tries\":1}");
			int error = errno;
			bool met = interference.seen >= nth;
			interference.nth = 0;
			assert_int_equal(result, met ? -1 : 0);
			assert_true(!met || error == ENOSPC);
			expect_text(f, SPOOL_STATE, "a.json", met ? "{}" : "{\"tries\":1}");
			assert_int_equal(count(f, SPOOL_TMP), 0);
			if (!met)
				break;
		}
	}
}

TEST(a_state_is_read_as_it_was_written)
{
	struct handler_state written = {.tries = 3, .tried_at = 1000, .due_at = 2000,
	    .failed_at = 3000}, read;
	struct fixture *f = *state;

	strcpy(written.handler, "/etc/psapi/handlers.d/default");
	strcpy(written.reason, "exit status 75 \"quoted\"");
	memset(written.stderr_end, '\x1b',
	    HANDLER_STATE_STDERR_MAX); /* the longest there is: \u001b each */
	assert_int_equal(spool_state_put(&f->spool, "a.json", &written), 0);
	assert_true(spool_state_read(&f->spool, "a.json", &read));
	assert_memory_equal(&written, &read, sizeof(read));
	assert_int_equal(spool_state_remove(&f->spool, "a.json"), 0);
	assert_int_equal(spool_state_remove(&f->spool, "a.json"), 0);
	assert_false(spool_state_read(&f->spool, "a.json", &read));
	memset(&written, 0, sizeof(written));
	assert_memory_equal(&written, &read, sizeof(read));
}

TEST(a_state_that_cannot_be_read_counts_as_absent)
{
	static const char *const texts[] = {"", "{", "[]", "null", "{\"tries\":", "\xff"};
	struct fixture *f = *state;
	const char *path = at(f, SPOOL_STATE, "a.json");
	struct handler_state read;

	for (size_t i = 0; i < ROWS(texts); i++) {
		put(f, SPOOL_STATE, "a.json", texts[i]);
		assert_false(spool_state_read(&f->spool, "a.json", &read));
		assert_int_equal(read.tries, 0);
	}
	assert_int_equal(unlink(path), 0);
	put(f, SPOOL_STATE, "b.json", "{\"tries\":1}");
	assert_int_equal(symlink("b.json", path), 0);
	assert_false(spool_state_read(&f->spool, "a.json", &read));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(mkfifo(path, 0640), 0);
	assert_false(spool_state_read(&f->spool, "a.json", &read));
	assert_int_equal(spool_state_remove(&f->spool, "a.json"), 0);
	assert_int_equal(mkdir(path, 0750), 0);
	assert_false(spool_state_read(&f->spool, "a.json", &read));
	assert_int_equal(spool_state_remove(&f->spool, "a.json"), 0); /* none of ours */
	assert_true(exists(path));
	interference = (struct interference){.of = UNLINKAT, .nth = 1, .error = EACCES};
	assert_int_equal(spool_state_remove(&f->spool, "b.json"), -1);
	interference.nth = 0;
	assert_int_equal(errno, EACCES);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		SANDBOX_TEST(open_makes_the_directories_for_the_group_whatever_the_umask),
		SANDBOX_TEST(open_leaves_a_directory_that_is_there_as_it_is),
		SANDBOX_TEST(tmp_is_made_last_when_the_others_are_on_the_disk),
		SANDBOX_TEST(a_spool_that_cannot_be_opened_is_named_with_the_remedy),
		SANDBOX_TEST(whichever_call_fails_a_spool_is_opened_whole_or_not_at_all),
		SANDBOX_TEST(a_spool_of_another_format_is_refused),
		SPOOL_TEST(an_event_is_one_file_in_its_queue_and_in_events),
		SPOOL_TEST(where_there_is_no_unnamed_file_it_has_a_name_in_tmp),
		SPOOL_TEST(a_large_body_is_written_to_its_end),
		SPOOL_TEST(a_write_that_is_interrupted_or_takes_a_part_is_continued),
		SPOOL_TEST(an_event_costs_these_calls_in_this_order),
		SPOOL_TEST(mode_and_owner_are_by_rule_whatever_the_umask),
		SPOOL_TEST(a_watcher_of_a_queue_sees_a_name_appear_once),
		SPOOL_TEST(an_event_that_was_handled_is_a_duplicate),
		SPOOL_TEST(an_event_that_waits_is_a_duplicate_and_keeps_its_file),
		SPOOL_TEST(a_look_that_fails_is_no_answer),
		SPOOL_TEST(what_a_writer_left_that_died_is_committed_by_the_next_delivery),
		SPOOL_TEST(the_next_delivery_goes_on_with_the_file_not_with_the_name),
		SPOOL_TEST(a_file_has_the_name_of_its_id),
		SPOOL_TEST(what_is_no_event_in_the_place_is_replaced_and_logged),
		SPOOL_TEST(a_signal_is_no_reason_not_to_replace),
		SPOOL_TEST(a_directory_in_the_place_is_an_error_and_stays),
		SPOOL_TEST(whatever_happens_between_the_steps_it_is_queued_once_and_committed),
		SPOOL_TEST(of_two_copies_of_what_was_handled_one_stays),
		SPOOL_TEST(what_was_handled_and_cannot_be_committed_is_not_answered_as_stored),
		SPOOL_TEST(the_copy_of_what_was_handled_waits_for_no_sync),
		SPOOL_TEST(a_name_that_comes_and_goes_is_given_up),
		SPOOL_TEST(what_has_taken_the_place_of_a_torn_file_is_not_replaced),
		SPOOL_TEST(a_sync_beside_one_that_failed_is_not_trusted),
		SPOOL_TEST(whichever_call_fails_it_is_stored_or_the_next_try_finishes_it),
		SPOOL_TEST(after_a_failed_sync_nothing_is_accepted_and_nothing_rolled_back),
		SPOOL_TEST(a_write_that_fails_is_that_file_s_alone),
		SPOOL_TEST(a_cause_has_its_remedy),
		SPOOL_TEST(root_is_not_told_to_run_it_as_root),
		SPOOL_TEST(of_another_user_s_file_the_remedy_is_to_give_it_back),
		SANDBOX_TEST(a_full_disk_is_told_from_an_error_and_nothing_is_left),
		SPOOL_TEST(the_floor_of_free_space_is_in_bytes),
		SPOOL_TEST(free_space_is_looked_at_once_a_second_while_there_is_plenty),
		SPOOL_TEST(a_spool_is_empty_until_something_was_accepted),
		SPOOL_TEST(of_64_concurrent_duplicates_one_is_stored),
		SPOOL_TEST(a_probe_goes_all_ways_and_leaves_nothing),
		SPOOL_TEST(a_probe_that_fails_names_the_directory_and_leaves_nothing),
		SPOOL_TEST(a_probe_disturbs_no_other_of_the_same_process_number),
		SPOOL_TEST(what_a_killed_probe_leaves_is_removed_by_recovery),
		SPOOL_TEST(a_directory_that_is_a_mount_is_named),
		SPOOL_TEST(a_state_is_replaced_whole),
		SPOOL_TEST(a_state_is_read_as_it_was_written),
		SPOOL_TEST(a_state_that_cannot_be_read_counts_as_absent),
	};

	return cmocka_run_group_tests_name("spool", tests, NULL, NULL);
}
