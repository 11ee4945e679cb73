/*
 * Owns what journal.h promises, and spool_restore(): what was recorded is on the disk, and whole again
 * after a power cut; what cannot be recorded is stored all the same.
 * It stands between the library and the kernel: a call fails, the machine has started again. A process that dies is a
 * child that leaves without closing its journal; a power cut is another boot, and files that are torn by hand.
 */
#include "helpers.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "store/spool/journal.h"
#include "store/spool/spool.h"

/* ---- system calls of the library ---- */

enum call { PWRITE, FDATASYNC, SYNCFS, FSYNC, WRITEV, LINKAT, RENAMEAT, OPENAT, FLOCK, UNLINKAT, PREAD, CALLS };

static const char *const call_names[CALLS] = {"pwrite", "fdatasync", "syncfs", "fsync", "writev", "linkat", "renameat",
	"openat", "flock", "unlinkat", "pread"};

static struct {
	_Atomic enum call of;       /* of this call */
	atomic_int nth;             /* this one is met, from 1; 0: none */
	atomic_bool on;             /* and all after it */
	atomic_int error;           /* errno that it fails with; 0: it does not fail */
	void (*hook)(void);         /* what happens just before it */
	atomic_int seen[CALLS];
	bool later;                 /* the machine has started again */
	atomic_uint slow;           /* microseconds that fdatasync(2) takes longer, in which others can gather */
	bool lazy;                  /* nothing waits for the disk: it would take long, and shows nothing here */
} calls;

static bool
met(enum call call)
{
	int seen = atomic_fetch_add(&calls.seen[call], 1) + 1;

	if (calls.nth == 0 || call != calls.of || (calls.on ? seen < calls.nth : seen != calls.nth))
		return false;
	if (calls.hook != NULL) {
		void (*hook)(void) = calls.hook;
		calls.hook = NULL;
		hook();
	}
	errno = calls.error;
	return calls.error != 0;
}

static int
seen(enum call call)
{
	return atomic_load(&calls.seen[call]);
}

static void
reset_calls(void)
{
	calls.nth = 0;
	calls.on = false;
	for (int i = 0; i < CALLS; i++)
		atomic_store(&calls.seen[i], 0);
}

/* From now on the nth (and all after it, if on) of these calls fails. */
static void
make_fail(enum call call, int nth, bool on, int error)
{
	reset_calls();
	calls.of = call;
	calls.error = error;
	calls.on = on;
	calls.nth = nth;
}

ssize_t
pwrite(int fd, const void *data, size_t length, off_t at)
{
	return met(PWRITE) ? -1 : (ssize_t)syscall(SYS_pwrite64, fd, data, length, at);
}

ssize_t
pread(int fd, void *data, size_t length, off_t at)
{
	return met(PREAD) ? -1 : (ssize_t)syscall(SYS_pread64, fd, data, length, at);
}

int
fdatasync(int fd)
{
	if (calls.slow > 0)
		usleep(calls.slow);
	return met(FDATASYNC) ? -1 : calls.lazy ? 0 : (int)syscall(SYS_fdatasync, fd);
}

int
fsync(int fd)
{
	return met(FSYNC) ? -1 : calls.lazy ? 0 : (int)syscall(SYS_fsync, fd);
}

int
syncfs(int fd)
{
	return met(SYNCFS) ? -1 : calls.lazy ? 0 : (int)syscall(SYS_syncfs, fd);
}

ssize_t
writev(int fd, const struct iovec *iov, int count)
{
	return met(WRITEV) ? -1 : (ssize_t)syscall(SYS_writev, fd, iov, count);
}

int
linkat(int from, const char *old, int to, const char *new, int flags)
{
	return met(LINKAT) ? -1 : (int)syscall(SYS_linkat, from, old, to, new, flags);
}

int
renameat(int from, const char *old, int to, const char *new)
{
	return met(RENAMEAT) ? -1 : (int)syscall(SYS_renameat2, from, old, to, new, 0);
}

int
unlinkat(int dir, const char *name, int flags)
{
	return met(UNLINKAT) ? -1 : (int)syscall(SYS_unlinkat, dir, name, flags);
}

int
openat(int dir, const char *name, int flags, ...)
{
	va_list list;

	va_start(list, flags);
	/* O_TMPFILE is more than one bit. */
	mode_t mode = (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(list, mode_t) : 0;
	va_end(list);
	if (calls.lazy)
		flags &= ~O_DSYNC;
	return met(OPENAT) ? -1 : (int)syscall(SYS_openat, dir, name, flags, mode);
}

int
flock(int fd, int operation)
{
	return met(FLOCK) ? -1 : (int)syscall(SYS_flock, fd, operation);
}

/* The names of this boot and of no boot at all, proc_sys_kernel(5). */
int
open(const char *path, int flags, ...)
{
	va_list list;

	va_start(list, flags);
	mode_t mode = (flags & O_CREAT) != 0 ? va_arg(list, mode_t) : 0;
	va_end(list);
	if (calls.later && strcmp(path, "/proc/sys/kernel/random/boot_id") == 0)
		path = "/proc/sys/kernel/random/uuid";
	return (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

/* ---- a spool of its own ---- */

struct fixture {
	char path[256];
	struct spool spool;
	int descriptors; /* before it was opened */
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	char why[256];
	void *path;

	if (f == NULL || sandbox_make(&path) != 0)
		return -1;
	reset_calls();
	calls.later = false;
	calls.hook = NULL;
	calls.slow = 0;
	calls.lazy = true;
	snprintf(f->path, sizeof(f->path), "%s", (char *)path);
	free(path);
	f->descriptors = descriptors();
	*state = f;
	return spool_open(&f->spool, f->path, true, why, sizeof(why));
}

static int
teardown(void **state)
{
	struct fixture *f = *state;
	void *path = strdup(f->path);

	reset_calls();
	journal_close(f->spool.journal);
	spool_close(&f->spool);
	int left = descriptors() - f->descriptors;
	free(f);
	return sandbox_remove(&path) != 0 || left != 0 ? -1 : 0;
}

#define SPOOL_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* The path of NAME in one of the directories; NAME "" is the directory. */
static const char *
at(struct fixture *f, enum spool_dir dir, const char *name)
{
	char relative[512];

	snprintf(relative, sizeof(relative), "%s/%s", spool_dir_names[dir], name);
	return in(f->path, relative);
}

static int
count(struct fixture *f, enum spool_dir dir)
{
	return names_in(at(f, dir, ""));
}

static ino_t
inode(struct fixture *f, enum spool_dir dir, const char *name)
{
	struct stat st;

	return lstat(at(f, dir, name), &st) == 0 ? st.st_ino : 0;
}

static void
put_bytes(const char *path, const char *bytes, size_t length)
{
	file_write(path, "", 0640);
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, length), length);
	close(fd);
}

static void
put(struct fixture *f, enum spool_dir dir, const char *name, const char *text)
{
	put_bytes(at(f, dir, name), text, strlen(text));
}

static void
expect_bytes(struct fixture *f, enum spool_dir dir, const char *name, const char *text, size_t length)
{
	size_t found_length;
	char *found = file_read(at(f, dir, name), &found_length);

	if (found == NULL)
		fail_msg("no %s/%s", spool_dir_names[dir], name);
	if (found_length != length || memcmp(found, text, length) != 0)
		fail_msg("%s/%s is not what was stored", spool_dir_names[dir], name);
	free(found);
}

/* ---- events ---- */

enum { LARGEST = 200 << 10 };

struct event {
	char name[64];
	size_t length;
	char text[LARGEST];
};

/* An event by its number: of many sizes, each unlike the others from its first byte to its last. */
static const struct event *
sized_event(unsigned number, size_t length)
{
	static _Thread_local struct event event;

	snprintf(event.name, sizeof(event.name), "msg_%u.json", number);
	event.length = length;
	for (size_t i = 0; i < length; i++)
		event.text[i] = (char)('!' + (i * 7 + number * 13 + i / 90) % 90);
	return &event;
}

static const struct event *
event_of(unsigned number)
{
	static const size_t lengths[] = {300, 1, 5000, 4096, 20000, 64};

	return sized_event(number, lengths[number % ROWS(lengths)]);
}

static enum spool_result
store_as(struct spool *spool, const struct event *event, enum spool_dir queue)
{
	struct iovec pieces[2] = {{(char *)(uintptr_t)event->text, event->length / 2},
		{(char *)(uintptr_t)event->text + event->length / 2, event->length - event->length / 2}};

	return spool_store(spool, event->name, queue, pieces, 2);
}

static enum spool_result
store(struct spool *spool, unsigned number)
{
	return store_as(spool, event_of(number), SPOOL_NEW);
}

/* It is in new/ and events/, one file, of the right bytes. */
static void
expect_stored(struct fixture *f, const struct event *event)
{
	expect_bytes(f, SPOOL_NEW, event->name, event->text, event->length);
	if (inode(f, SPOOL_NEW, event->name) != inode(f, SPOOL_EVENTS, event->name))
		fail_msg("%s is not one file", event->name);
}

/* As if so many others were on their way for good: each event is of a crowd. */
static void
crowd_in(struct spool *spool)
{
	spool->storing = 4;
}

static bool
record(struct journal *journal, const struct event *event, enum spool_dir queue)
{
	struct iovec piece = {(char *)(uintptr_t)event->text, event->length};

	if (!journal_begin(journal))
		return false;
	bool recorded = journal_record(journal, event->name, queue, &piece, 1);
	journal_end(journal);
	return recorded;
}

/* The names of journals in tmp/; returns how many. */
static int
journals(struct fixture *f, char names[2][256])
{
	DIR *dir = opendir(at(f, SPOOL_TMP, ""));
	int n = 0;

	assert_non_null(dir);
	for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
		if (journal_is_name(entry->d_name) && n++ < 2 && names != NULL)
			snprintf(names[n - 1], sizeof(names[0]), "%s", entry->d_name);
	closedir(dir);
	return n;
}

/*
 * Run something with a prepared journal in a process of its own, which then dies. A journal that is prepared by
 * hand has no keeper: its files change places when the test says so.
 */
static void
die_after(struct fixture *f, bool (*work)(struct spool *, const void *), const void *data)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct spool spool;
		char why[256];
		if (spool_open(&spool, f->path, false, why, sizeof(why)) != 0)
			_exit(2);
		spool.journal = journal_open(&spool);
		if (spool.journal == NULL || journal_prepare(spool.journal) != 0)
			_exit(3);
		crowd_in(&spool);
		reset_calls();
		_exit(work(&spool, data) ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
}

static bool
store_some(struct spool *spool, const void *number)
{
	unsigned n = *(const unsigned *)number;

	for (unsigned i = 0; i < n; i++)
		if (store(spool, i) != SPOOL_STORED)
			return false;
	/* The journal alone was waited for, once an event. */
	return seen(FDATASYNC) == (int)n && seen(FSYNC) == 0;
}

/* Recovery whose log lines are expected. */
static long
recover_quietly(struct spool *spool)
{
	struct capture capture;

	capture_begin(&capture);
	long result = journal_recover(spool);
	free(capture_end(&capture));
	return result;
}

static void
remove_event(struct fixture *f, const char *name)
{
	unlink(at(f, SPOOL_NEW, name));
	unlink(at(f, SPOOL_FAILED, name));
	unlink(at(f, SPOOL_EVENTS, name));
}

/* ---- on the same boot ---- */

TEST(on_the_same_boot_what_is_recorded_is_synced_and_nothing_is_queued_again)
{
	struct fixture *f = *state;
	unsigned n = 6;

	die_after(f, store_some, &n);
	assert_int_equal(journals(f, NULL), 2);
	ino_t before = inode(f, SPOOL_NEW, event_of(2)->name);
	/* Handled since; and one that nobody knows of, so that it was not answered: its sender tries again anyway. */
	assert_int_equal(unlink(at(f, SPOOL_NEW, event_of(1)->name)), 0);
	remove_event(f, event_of(3)->name);
	reset_calls();
	assert_int_equal(journal_recover(&f->spool), 1);
	assert_true(seen(SYNCFS) > 0);
	assert_int_equal(seen(WRITEV), 1);
	assert_int_equal(count(f, SPOOL_TMP), 0);
	assert_int_equal(count(f, SPOOL_NEW), 5);
	assert_int_equal(count(f, SPOOL_EVENTS), 6);
	assert_false(exists(at(f, SPOOL_NEW, event_of(1)->name)));
	assert_int_equal(inode(f, SPOOL_NEW, event_of(2)->name), before);
	reset_calls();
	assert_int_equal(journal_recover(&f->spool), 0);
	assert_int_equal(seen(SYNCFS), 0);
}

TEST(a_journal_whose_sync_fails_stays)
{
	struct fixture *f = *state;
	unsigned n = 2;

	die_after(f, store_some, &n);
	for (int later = 0; later < 2; later++) {
		calls.later = later != 0;
		make_fail(SYNCFS, 1, true, EIO);
		assert_int_equal(recover_quietly(&f->spool), -1);
		assert_true(journals(f, NULL) >= 1); /* the other of the two is empty */
		reset_calls();
		f->spool.distrusted = false; /* as a restart */
	}
	calls.later = false;
	assert_int_equal(journal_recover(&f->spool), 0);
	assert_int_equal(journals(f, NULL), 0);
}

/* So it is after a recovery that was killed, or where the kernel does not say which boot this is. */
TEST(on_another_boot_what_looks_whole_is_synced_before_the_journal_goes)
{
	struct fixture *f = *state;
	unsigned n = 3;

	die_after(f, store_some, &n);
	calls.later = true;
	reset_calls();
	assert_int_equal(journal_recover(&f->spool), 0);
	assert_true(seen(SYNCFS) > 0);
	assert_int_equal(journals(f, NULL), 0);
}

/* ---- after a power cut ---- */

/* What a power cut may leave of a file. */
enum kind { GONE, WHOLE, EMPTY, ZEROS, HALF, MIDDLE, ANOTHER, KINDS };

/* The states of three names, and in which queue the record has it: one number. */
enum { STATES = KINDS * KINDS * KINDS * 2 };

struct names {
	enum kind kind[3]; /* by where[] */
	enum spool_dir queue;
};

static const enum spool_dir where[] = {SPOOL_EVENTS, SPOOL_NEW, SPOOL_FAILED};

static struct names
names_of(unsigned number)
{
	return (struct names){{number % KINDS, number / KINDS % KINDS, number / KINDS / KINDS % KINDS},
	    number / KINDS / KINDS / KINDS == 0 ? SPOOL_NEW : SPOOL_FAILED};
}

static const struct event *
torn_event(unsigned number)
{
	return sized_event(number, 5000);
}

static void
put_kind(struct fixture *f, enum spool_dir dir, const struct event *event, enum kind kind)
{
	char *text = malloc(event->length);
	size_t length = kind == EMPTY ? 0 : kind == HALF ? event->length / 2 : event->length;

	assert_non_null(text);
	memcpy(text, event->text, event->length);
	if (kind == ZEROS)
		memset(text, 0, event->length);
	if (kind == MIDDLE)
		memset(text + 512, 0, 1024);
	if (kind == ANOTHER)
		text[event->length - 1] ^= 1;
	if (kind != GONE)
		put_bytes(at(f, dir, event->name), text, length);
	free(text);
}

static void
put_names(struct fixture *f, const struct event *event, const struct names *names)
{
	for (int i = 0; i < 3; i++) {
		int twin = 0;
		while (names->kind[twin] != names->kind[i])
			twin++;
		/* What is in the same state is one file, as it was stored. */
		if (twin == i)
			put_kind(f, where[i], event, names->kind[i]);
		else if (names->kind[i] != GONE)
			assert_int_equal(link(at(f, where[twin], event->name), at(f, where[i], event->name)), 0);
	}
}

/* What is to become of them; the same in other words than the code has. */
static bool
is_to_be_restored(const struct names *names)
{
	bool torn = false, queued = names->kind[1] != GONE || names->kind[2] != GONE;

	for (int i = 0; i < 3; i++) {
		if (names->kind[i] == ANOTHER)
			return false;
		torn = torn || (names->kind[i] != GONE && names->kind[i] != WHOLE);
	}
	return torn || names->kind[0] == GONE || !queued;
}

static void
expect_restored(struct fixture *f, const struct event *event, const struct names *names)
{
	bool queued = names->kind[1] != GONE || names->kind[2] != GONE;

	for (int i = 0; i < 3; i++) {
		bool wanted = i == 0 || (queued ? names->kind[i] != GONE : where[i] == names->queue);
		if (exists(at(f, where[i], event->name)) != wanted)
			fail_msg("%s/%s %s there", spool_dir_names[where[i]], event->name, wanted ? "is not" : "is");
		if (!wanted)
			continue;
		expect_bytes(f, where[i], event->name, event->text, event->length);
		assert_int_equal(inode(f, where[i], event->name), inode(f, SPOOL_EVENTS, event->name));
	}
}

static void
expect_as_it_was(struct fixture *f, const struct event *event, const struct names *names, const ino_t inodes[3])
{
	for (int i = 0; i < 3; i++) {
		assert_int_equal(inode(f, where[i], event->name), inodes[i]);
		if (names->kind[i] == WHOLE)
			expect_bytes(f, where[i], event->name, event->text, event->length);
	}
}

static void
note_inodes(struct fixture *f, const struct event *event, ino_t inodes[3])
{
	for (int i = 0; i < 3; i++)
		inodes[i] = inode(f, where[i], event->name);
}

TEST(whatever_is_missing_or_torn_is_whole_again_and_nothing_else_is_touched)
{
	struct fixture *f = *state;

	for (unsigned number = 0; number < STATES; number++) {
		const struct event *event = torn_event(number);
		struct names names = names_of(number);
		ino_t inodes[3];
		put_names(f, event, &names);
		note_inodes(f, event, inodes);
		bool to_be = is_to_be_restored(&names);
		if (spool_restore(&f->spool, event->name, names.queue, event->text, event->length, true) != to_be)
			fail_msg("%d in events/, %d in new/, %d in failed/", names.kind[0], names.kind[1],
			    names.kind[2]);
		if (to_be)
			expect_restored(f, event, &names);
		else
			expect_as_it_was(f, event, &names, inodes);
		assert_int_equal(spool_restore(&f->spool, event->name, names.queue, event->text, event->length, true), 0);
		assert_int_equal(count(f, SPOOL_TMP), 0);
	}
}

/* The names as they were at the power cut; the journal alone has the events. */
static bool
record_states(struct spool *spool, const void *data)
{
	(void)data;
	for (unsigned number = 0; number < STATES; number++)
		if (!record(spool->journal, torn_event(number), names_of(number).queue))
			return false;
	return true;
}

TEST(recovery_on_another_boot_does_so_with_all_that_a_journal_holds)
{
	struct fixture *f = *state;
	static ino_t inodes[STATES][3];
	long to_be = 0;

	die_after(f, record_states, NULL);
	for (unsigned number = 0; number < STATES; number++) {
		struct names names = names_of(number);
		put_names(f, torn_event(number), &names);
		note_inodes(f, torn_event(number), inodes[number]);
		to_be += is_to_be_restored(&names);
	}
	calls.later = true;
	assert_int_equal(journal_recover(&f->spool), to_be);
	for (unsigned number = 0; number < STATES; number++) {
		struct names names = names_of(number);
		if (is_to_be_restored(&names))
			expect_restored(f, torn_event(number), &names);
		else
			expect_as_it_was(f, torn_event(number), &names, inodes[number]);
	}
	assert_int_equal(count(f, SPOOL_TMP), 0);
	assert_int_equal(journal_recover(&f->spool), 0);
}

TEST(torn_is_what_is_the_event_as_far_as_it_goes_or_zero)
{
	enum { LENGTH = 9000 };
	static const struct {
		size_t length;      /* of what is found */
		size_t zero, zeros; /* from where, how many */
		size_t odd;         /* a byte that is neither, from 1; 0: none */
		int restored;
	} rows[] = {
		{LENGTH, 0, 0, 0, 0}, {LENGTH - 1, 0, 0, 0, 1}, {1, 0, 0, 0, 1}, {0, 0, 0, 0, 1}, {1, 0, 1, 0, 1},
		{LENGTH, 0, 1, 0, 1}, {LENGTH, LENGTH - 1, 1, 0, 1}, {LENGTH, 4096, 4096, 0, 1}, {4096, 0, 4096, 0, 1},
		{8192, 4095, 2, 0, 1}, {LENGTH, 0, LENGTH, 0, 1}, {LENGTH + 1, 0, 0, 0, 0}, {LENGTH + 1, 0, 100, 0, 0},
		{LENGTH, 0, 0, 1, 0}, {LENGTH, 0, 0, LENGTH, 0}, {LENGTH, 0, 8192, LENGTH, 0}, {100, 0, 0, 100, 0},
		{4097, 0, 0, 4097, 0}};
	struct fixture *f = *state;
	const struct event *event = sized_event(7, LENGTH);
	char text[LENGTH + 1];

	for (size_t i = 0; i < ROWS(rows); i++) {
		memcpy(text, event->text, LENGTH);
		text[LENGTH] = 0;
		memset(text + rows[i].zero, 0, rows[i].zeros);
		if (rows[i].odd != 0)
			text[rows[i].odd - 1] ^= 1;
		put_bytes(at(f, SPOOL_NEW, event->name), text, rows[i].length);
		assert_int_equal(link(at(f, SPOOL_NEW, event->name), at(f, SPOOL_EVENTS, event->name)), 0);
		int result = spool_restore(&f->spool, event->name, SPOOL_NEW, event->text, LENGTH, true);
		if (result != rows[i].restored)
			fail_msg("row %zu: %d", i, result);
		if (result == 1)
			expect_stored(f, event);
		else
			expect_bytes(f, SPOOL_EVENTS, event->name, text, rows[i].length);
		remove_event(f, event->name);
	}
}

static struct fixture *restoring;

static void
queue_another_delivery(void)
{
	put_bytes(at(restoring, SPOOL_NEW, "a.json"), "another", 7);
}

/* It is its writer's to record: were our file in events/, the writer would take it for a handled twin. */
TEST(what_another_delivery_queues_meanwhile_is_left_to_its_writer)
{
	struct fixture *f = restoring = *state;

	make_fail(LINKAT, 1, false, 0);
	calls.hook = queue_another_delivery;
	assert_int_equal(spool_restore(&f->spool, "a.json", SPOOL_NEW, "ours", 4, true), 0);
	assert_null(calls.hook);
	assert_int_equal(count(f, SPOOL_EVENTS), 0);
	assert_int_equal(count(f, SPOOL_TMP), 0);
	expect_bytes(f, SPOOL_NEW, "a.json", "another", 7);
}

TEST(what_is_no_file_or_no_name_is_left_alone)
{
	static const char *const names[] = {"", ".", "..", "../a.json", "a/b.json", "a", ".json", "a.b.json"};
	struct fixture *f = *state;
	struct stat st;

	for (size_t i = 0; i < ROWS(names); i++)
		assert_int_equal(spool_restore(&f->spool, names[i], SPOOL_NEW, "a", 1, true), 0);
	for (int dir = 0; dir < SPOOL_DIRS + 1; dir++)
		if (dir != SPOOL_NEW && dir != SPOOL_FAILED)
			assert_int_equal(spool_restore(&f->spool, "a.json", (enum spool_dir)dir, "a", 1, true), 0);
	for (int dir = 0; dir < SPOOL_DIRS; dir++)
		assert_int_equal(count(f, (enum spool_dir)dir), 0);
	file_write(in(f->path, "elsewhere"), "", 0640);
	for (int what = 0; what < 4; what++)
		for (int i = 0; i < 3; i++) {
			const char *path = at(f, where[i], "a.json");
			assert_int_equal(what == 0 ? symlink("../elsewhere", path) :
			        what == 1          ? symlink("../nowhere", path) :
			        what == 2          ? mkfifo(path, 0640) :
			                             mkdir(path, 0750), 0);
			assert_int_equal(spool_restore(&f->spool, "a.json", SPOOL_NEW, "a", 1, true), 0);
			assert_int_equal(lstat(path, &st), 0);
			assert_false(S_ISREG(st.st_mode));
			assert_int_equal(count(f, SPOOL_NEW) + count(f, SPOOL_EVENTS) + count(f, SPOOL_FAILED), 1);
			assert_int_equal(remove(path), 0);
		}
}

/* ---- how far a journal is believed ---- */

enum { BLOCK = 4096, RECORDS_AT = 96, HEADER_SIZE = 129 };

static bool
record_some(struct spool *spool, const void *number)
{
	for (unsigned i = 0; i < *(const unsigned *)number; i++)
		/* Less than a block: the nth batch is the nth block. */
		if (!record(spool->journal, sized_event(i, 100 + i), SPOOL_NEW))
			return false;
	return true;
}

/* The bytes of the journal that was written to; its name is put into name. The caller frees it. */
static char *
take_journal(struct fixture *f, char name[256], size_t *length)
{
	char names[2][256] = {"", ""};
	char *text = NULL;

	assert_int_equal(journals(f, names), 2);
	for (int i = 0; i < 2; i++) {
		/* "journal.PID.0" is the first that is. */
		if (strcmp(names[i] + strlen(names[i]) - 2, ".0") == 0) {
			text = file_read(at(f, SPOOL_TMP, names[i]), length);
			memcpy(name, names[i], sizeof(names[i]));
		}
		assert_int_equal(unlink(at(f, SPOOL_TMP, names[i])), 0);
	}
	assert_non_null(text);
	return text;
}

TEST(recovery_ends_at_the_first_batch_that_is_damaged)
{
	static const size_t places[] = {0, 7, 8, 15, 16, 17, 23, 24, 24 + 63, RECORDS_AT, RECORDS_AT + 4, RECORDS_AT + 6,
		RECORDS_AT + 8, RECORDS_AT + 30, RECORDS_AT + 8 + 10 + 99};
	struct fixture *f = *state;
	unsigned batches = 4;
	char name[256];
	size_t length;

	die_after(f, record_some, &batches);
	char *text = take_journal(f, name, &length);
	calls.later = true;
	for (size_t i = 0; i < ROWS(places); i++)
		for (unsigned damaged = 0; damaged < batches; damaged++) {
			char *byte = text + (1 + damaged) * BLOCK + places[i];
			*byte ^= 4;
			put_bytes(at(f, SPOOL_TMP, name), text, length);
			*byte ^= 4;
			if (journal_recover(&f->spool) != (long)damaged)
				fail_msg("byte %zu of batch %u", places[i], damaged);
			assert_int_equal(count(f, SPOOL_EVENTS), damaged);
			assert_int_equal(count(f, SPOOL_TMP), 0);
			for (unsigned k = 0; k < damaged; k++) {
				expect_stored(f, sized_event(k, 100 + k));
				remove_event(f, sized_event(k, 100 + k)->name);
			}
		}
	put_bytes(at(f, SPOOL_TMP, name), text, length);
	assert_int_equal(journal_recover(&f->spool), batches);
	free(text);
}

static bool
record_beyond_the_end(struct spool *spool, const void *number)
{
	unsigned recorded = 0;
	struct iovec piece;

	if (!journal_begin(spool->journal))
		return false;
	for (;; recorded++) {
		const struct event *event = sized_event(recorded, 100 << 10);
		piece = (struct iovec){(char *)(uintptr_t)event->text, event->length};
		if (!journal_record(spool->journal, event->name, SPOOL_FAILED, &piece, 1))
			break;
	}
	journal_end(spool->journal);
	return recorded == *(const unsigned *)number && !record(spool->journal, event_of(0), SPOOL_NEW);
}

TEST(a_journal_that_is_full_takes_no_more_and_is_read_to_its_end)
{
	struct fixture *f = *state;
	unsigned n = 77; /* (8 MiB - 256 KiB - 4 KiB) / 104 KiB, and one that begins before that */

	die_after(f, record_beyond_the_end, &n);
	calls.later = true;
	assert_int_equal(journal_recover(&f->spool), n);
	for (unsigned i = 0; i < n; i++) {
		const struct event *event = sized_event(i, 100 << 10);
		expect_bytes(f, SPOOL_FAILED, event->name, event->text, event->length);
	}
	assert_int_equal(count(f, SPOOL_NEW), 0);
}

static bool
record_and_turn(struct spool *spool, const void *turns)
{
	for (unsigned i = 0; i < 3; i++)
		if (!record(spool->journal, event_of(i), SPOOL_NEW))
			return false;
	for (unsigned turn = 0; turn < *(const unsigned *)turns; turn++) {
		journal_turn(spool->journal);
		if (!record(spool->journal, event_of(10 + turn), SPOOL_NEW))
			return false;
	}
	return !spool->distrusted && seen(SYNCFS) == (int)*(const unsigned *)turns;
}

TEST(what_was_recorded_before_a_turn_is_not_made_again)
{
	struct fixture *f = *state;

	calls.later = true;
	for (unsigned turns = 0; turns < 6; turns++) {
		calls.later = false;
		die_after(f, record_and_turn, &turns);
		calls.later = true;
		long expected = turns == 0 ? 3 : 1;
		assert_int_equal(journal_recover(&f->spool), expected);
		for (unsigned i = 0; i < 3; i++)
			assert_int_equal(exists(at(f, SPOOL_NEW, event_of(i)->name)), turns == 0);
		if (turns > 0)
			expect_stored(f, event_of(10 + turns - 1));
		for (unsigned i = 0; i < 20; i++)
			remove_event(f, event_of(i)->name);
		assert_int_equal(count(f, SPOOL_TMP), 0);
	}
}

/* The length is not yet proved right when the records are looked at. */
TEST(a_batch_that_says_it_is_longer_than_the_file_is_damaged)
{
	static const uint64_t beyond[] = {1, 4096 - RECORDS_AT, RECORDS_AT, RECORDS_AT + 1, 1 << 20, UINT64_MAX / 2};
	struct fixture *f = *state;
	unsigned batches = 2;
	char name[256];
	size_t length;

	die_after(f, record_some, &batches);
	char *text = take_journal(f, name, &length);
	calls.later = true;
	for (size_t i = 0; i < ROWS(beyond); i++) {
		uint64_t wrong = length - 2 * BLOCK - RECORDS_AT + beyond[i];
		memcpy(text + 2 * BLOCK + 16, &wrong, sizeof(wrong));
		put_bytes(at(f, SPOOL_TMP, name), text, length);
		assert_int_equal(journal_recover(&f->spool), 1);
		remove_event(f, sized_event(0, 100)->name);
	}
	free(text);
}

static struct spool *turning;

static void
record_meanwhile(void)
{
	record(turning->journal, event_of(5), SPOOL_NEW);
}

static bool
record_in_a_turn(struct spool *spool, const void *data)
{
	(void)data;
	turning = spool;
	if (!record(spool->journal, event_of(4), SPOOL_NEW))
		return false;
	make_fail(SYNCFS, 1, false, 0);
	calls.hook = record_meanwhile;
	journal_turn(spool->journal);
	return calls.hook == NULL && seen(SYNCFS) == 1 && record(spool->journal, event_of(6), SPOOL_NEW);
}

TEST(what_is_recorded_while_a_turn_syncs_is_in_the_other_file)
{
	struct fixture *f = *state;

	die_after(f, record_in_a_turn, NULL);
	calls.later = true;
	assert_int_equal(journal_recover(&f->spool), 2);
	expect_stored(f, event_of(5));
	expect_stored(f, event_of(6));
}

TEST(a_journal_that_is_damaged_or_too_short_goes_and_nothing_comes_of_it)
{
	struct fixture *f = *state;
	unsigned batches = 2;
	char name[256];
	size_t length;

	die_after(f, record_some, &batches);
	char *text = take_journal(f, name, &length);
	size_t lengths[] = {0, 1, 100, HEADER_SIZE, BLOCK, 2 * BLOCK, length - 1};
	for (int later = 0; later < 2; later++) {
		calls.later = later != 0;
		for (size_t i = 0; i < HEADER_SIZE + ROWS(lengths); i += i < 80 ? 9 : 1) {
			size_t damaged = i < HEADER_SIZE ? i : 0;
			if (i < HEADER_SIZE)
				text[damaged] ^= 4;
			put_bytes(at(f, SPOOL_TMP, name), text, i < HEADER_SIZE ? length : lengths[i - HEADER_SIZE]);
			if (i < HEADER_SIZE)
				text[damaged] ^= 4;
			if (journal_recover(&f->spool) != 0)
				fail_msg("byte or length %zu", i);
			assert_int_equal(count(f, SPOOL_TMP), 0);
			assert_int_equal(count(f, SPOOL_EVENTS) + count(f, SPOOL_NEW), 0);
		}
	}
	put_bytes(at(f, SPOOL_TMP, name), text, length);
	assert_int_equal(journal_recover(&f->spool), batches);
	free(text);
}

TEST(what_is_no_journal_stays)
{
	static const char *const names[] = {"journal", "ajournal.1.0", "Journal.1.0", "1753397465.000000001.12.3", "journa",
		".journal.1.0"};
	struct fixture *f = *state;
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	for (size_t i = 0; i < ROWS(names); i++) {
		assert_false(journal_is_name(names[i]));
		put(f, SPOOL_TMP, names[i], "");
	}
	/* Whoever may write to the spool's group can put them there; recovery must not stop at them. */
	file_write(in(f->path, "elsewhere"), "", 0640);
	assert_int_equal(symlink("../elsewhere", at(f, SPOOL_TMP, "journal.link")), 0);
	assert_int_equal(symlink("../nowhere", at(f, SPOOL_TMP, "journal.nowhere")), 0);
	assert_int_equal(mkdir(at(f, SPOOL_TMP, "journal.directory"), 0750), 0);
	assert_int_equal(mkfifo(at(f, SPOOL_TMP, "journal.fifo"), 0640), 0);
	snprintf(address.sun_path, sizeof(address.sun_path), "%s", at(f, SPOOL_TMP, "journal.socket"));
	assert_int_equal(bind(listener, (struct sockaddr *)&address, sizeof(address)), 0);
	close(listener);
	assert_int_equal(journal_recover(&f->spool), 0);
	assert_int_equal(count(f, SPOOL_TMP), ROWS(names) + 5);
}

TEST(a_journal_whose_owner_lives_is_left_alone)
{
	struct fixture *f = *state;
	unsigned n = 3;
	char names[2][256];
	int owner[2];

	die_after(f, store_some, &n);
	assert_int_equal(journals(f, names), 2);
	for (int i = 0; i < 2; i++) {
		owner[i] = open(at(f, SPOOL_TMP, names[i]), O_RDONLY | O_CLOEXEC);
		assert_int_equal(flock(owner[i], LOCK_SH | LOCK_NB), 0);
	}
	for (unsigned i = 0; i < n; i++)
		remove_event(f, event_of(i)->name);
	for (int later = 0; later < 2; later++) {
		calls.later = later != 0;
		assert_int_equal(journal_recover(&f->spool), 0);
		assert_int_equal(journals(f, NULL), 2);
		assert_int_equal(count(f, SPOOL_EVENTS), 0);
	}
	for (int i = 0; i < 2; i++)
		close(owner[i]);
	assert_int_equal(journal_recover(&f->spool), n);
	for (unsigned i = 0; i < n; i++)
		expect_stored(f, event_of(i));
}

/* A recovery beside us may find a file of ours before we have locked it. */
static struct fixture *beside;
static int found_beside;

static void
recover_beside(void)
{
	found_beside = journals(beside, NULL);
	journal_recover(&beside->spool);
}

TEST(a_file_that_a_recovery_took_away_before_it_was_locked_is_made_anew)
{
	struct fixture *f = *state;
	char names[2][256];

	beside = f;
	for (int nth = 1; nth <= 2; nth++) {
		struct journal *journal = journal_open(&f->spool);
		make_fail(FLOCK, nth, false, 0);
		calls.hook = recover_beside;
		int result = journal_prepare(journal);
		assert_null(calls.hook);
		reset_calls();
		assert_int_equal(found_beside, nth);
		assert_int_equal(result, 0);
		assert_int_equal(journals(f, names), 2);
		/* They are ours, not those that went. */
		assert_true(record(journal, event_of(1), SPOOL_NEW));
		assert_int_equal(journal_recover(&f->spool), 0);
		assert_int_equal(journals(f, names), 2);
		journal_close(journal);
		assert_int_equal(count(f, SPOOL_TMP), 0);
	}
}

/* ---- a recovery that fails ---- */

static bool
record_half_way(struct spool *spool, const void *data)
{
	(void)data;
	for (unsigned i = 0; i < 4; i++)
		if (!record(spool->journal, event_of(i), i == 3 ? SPOOL_FAILED : SPOOL_NEW))
			return false;
	return true;
}

static void
put_half_way(struct fixture *f, const char *journal, const char *text, size_t length)
{
	for (unsigned i = 0; i < 4; i++)
		remove_event(f, event_of(i)->name);
	put_kind(f, SPOOL_NEW, event_of(1), EMPTY);
	assert_int_equal(link(at(f, SPOOL_NEW, event_of(1)->name), at(f, SPOOL_EVENTS, event_of(1)->name)), 0);
	put_kind(f, SPOOL_NEW, event_of(2), HALF);
	put_bytes(at(f, SPOOL_TMP, journal), text, length);
}

TEST(a_recovery_that_fails_anywhere_keeps_the_journal_and_the_next_one_finishes)
{
	static const enum call which[] = {WRITEV, LINKAT, RENAMEAT, OPENAT, PREAD, SYNCFS};
	struct fixture *f = *state;
	char journal[256];
	size_t length;

	die_after(f, record_half_way, NULL);
	char *text = take_journal(f, journal, &length);
	calls.later = true;
	for (size_t i = 0; i < ROWS(which); i++) {
		int failures = 0;
		for (bool done = false; !done;) {
			put_half_way(f, journal, text, length);
			make_fail(which[i], failures + 1, false, ENOSPC);
			errno = 0;
			struct capture capture;
			capture_begin(&capture);
			long result = journal_recover(&f->spool);
			int error = errno;
			done = seen(which[i]) <= failures;
			reset_calls();
			char *logged = capture_end(&capture);
			f->spool.distrusted = false; /* as a restart */
			if (done) {
				assert_int_equal(result, 4);
				assert_string_equal(logged, "");
			} else {
				if (result != -1 || error != ENOSPC || count(f, SPOOL_TMP) != 1 ||
				    strstr(logged, strerror(ENOSPC)) == NULL)
					fail_msg("%s %d: %ld, %s", call_names[which[i]], failures + 1, result, logged);
				failures++;
				assert_int_equal(journals(f, NULL), 1);
				assert_in_range(journal_recover(&f->spool), 0, 4);
			}
			free(logged);
			assert_int_equal(count(f, SPOOL_TMP), 0);
			for (unsigned k = 0; k < 3; k++)
				expect_stored(f, event_of(k));
			expect_bytes(f, SPOOL_FAILED, event_of(3)->name, event_of(3)->text, event_of(3)->length);
			assert_int_equal(inode(f, SPOOL_FAILED, event_of(3)->name),
			    inode(f, SPOOL_EVENTS, event_of(3)->name));
		}
		assert_true(failures > 0);
	}
	free(text);
}

TEST(recovery_of_the_spool_never_removes_a_journal_for_its_age)
{
	static const struct {
		const char *name;
		bool stays;
	} rows[] = {{"1753397465.000000001.12.3", false}, {"leftover", false}, {"journal", false},
	    {"journal.1.2.3.0", true}};
	struct fixture *f = *state;
	struct timespec times[2];
	unsigned n = 2;

	clock_gettime(CLOCK_REALTIME, &times[0]);
	times[0].tv_sec -= 31536000;
	times[1] = times[0];
	for (size_t i = 0; i < ROWS(rows); i++) {
		put(f, SPOOL_TMP, rows[i].name, "");
		assert_int_equal(utimensat(AT_FDCWD, at(f, SPOOL_TMP, rows[i].name), times, 0), 0);
	}
	/* Its owner lives. */
	int owner = open(at(f, SPOOL_TMP, "journal.1.2.3.0"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(flock(owner, LOCK_SH), 0);
	assert_int_equal(spool_recover(&f->spool), 0);
	for (size_t i = 0; i < ROWS(rows); i++)
		if (exists(at(f, SPOOL_TMP, rows[i].name)) != rows[i].stays)
			fail_msg("%s", rows[i].name);
	close(owner);
	/* It can be read first: what it says that events/ and new/ lack is made, and counted. */
	die_after(f, store_some, &n);
	remove_event(f, event_of(0)->name);
	calls.later = true;
	assert_int_equal(spool_recover(&f->spool), 1);
	assert_int_equal(count(f, SPOOL_TMP), 0);
	expect_stored(f, event_of(0));
}

/* What cannot be read now must not go, whatever else recovery does. */
TEST(recovery_of_the_spool_says_when_a_journal_could_not_be_read)
{
	struct fixture *f = *state;
	struct capture capture;
	unsigned n = 2;

	die_after(f, store_some, &n);
	assert_int_equal(unlink(at(f, SPOOL_EVENTS, event_of(1)->name)), 0);
	make_fail(PREAD, 1, true, EIO);
	capture_begin(&capture);
	errno = 0;
	long result = spool_recover(&f->spool);
	int error = errno;
	reset_calls();
	char *logged = capture_end(&capture);
	assert_int_equal(result, -1);
	assert_int_equal(error, EIO);
	assert_non_null(strstr(logged, "recovery of a journal"));
	free(logged);
	assert_int_equal(journals(f, NULL), 2);
	/* The queues are seen to all the same. */
	expect_stored(f, event_of(1));
}

/* ---- storing ---- */

static void
nap(void)
{
	nanosleep(&(struct timespec){0, 1000000}, NULL);
}

/* The first crowd has the keeper make the files; wait until they can be used. */
static void
start_journal(struct fixture *f)
{
	reset_calls();
	f->spool.journal = journal_open(&f->spool);
	assert_non_null(f->spool.journal);
	for (int i = 0; !journal_begin(f->spool.journal); i++) {
		assert_true(i < 10000);
		nap();
	}
	journal_end(f->spool.journal);
	reset_calls();
}

static void
end_journal(struct fixture *f)
{
	journal_close(f->spool.journal);
	f->spool.journal = NULL;
}

static void
wait_until_gone(struct fixture *f)
{
	for (int i = 0; journals(f, NULL) > 0; i++) {
		assert_true(i < 10000);
		nap();
	}
}

TEST(less_than_a_crowd_never_makes_the_files)
{
	struct fixture *f = *state;

	journal_close(NULL);
	f->spool.journal = journal_open(&f->spool);
	for (int others = 0; others < 3; others++) {
		f->spool.storing = others;
		assert_int_equal(store(&f->spool, (unsigned)others), SPOOL_STORED);
		assert_int_equal(f->spool.storing, others);
	}
	/* Nor does what is no event on its way into a queue. */
	crowd_in(&f->spool);
	assert_int_equal(store_as(&f->spool, event_of(3), SPOOL_EVENTS), SPOOL_STORED);
	assert_int_equal(store_as(&f->spool, event_of(4), SPOOL_HOLD), SPOOL_STORED);
	end_journal(f);
	assert_int_equal(seen(PWRITE), 0);
	assert_int_equal(seen(FDATASYNC), 0);
	assert_int_equal(count(f, SPOOL_TMP), 0);
	/* The fourth does. */
	f->spool.journal = journal_open(&f->spool);
	f->spool.storing = 3;
	assert_int_equal(store(&f->spool, 5), SPOOL_STORED);
	end_journal(f);
	assert_true(seen(PWRITE) > 0);
	assert_int_equal(count(f, SPOOL_TMP), 0);
}

enum { THREADS = 12, EACH = 15 };

static struct {
	struct spool *spool;
	pthread_barrier_t barrier;
	bool twins; /* all store the same events */
	atomic_int results[SPOOL_ERROR + 1];
} crowd;

static void *
store_each(void *number)
{
	pthread_barrier_wait(&crowd.barrier);
	for (unsigned i = 0; i < EACH; i++) {
		unsigned n = i + (crowd.twins ? 0 : EACH * (unsigned)(uintptr_t)number);
		crowd.results[store_as(crowd.spool, sized_event(n, 100 + n * 20), SPOOL_NEW)]++;
	}
	return NULL;
}

/* A crowd: so many threads, each with so many events. Returns how many were stored. */
static int
store_all(struct spool *spool, bool twins)
{
	pthread_t threads[THREADS];

	memset(&crowd, 0, sizeof(crowd));
	crowd.spool = spool;
	crowd.twins = twins;
	crowd_in(spool); /* also the last one is of a crowd */
	pthread_barrier_init(&crowd.barrier, NULL, THREADS);
	for (uintptr_t i = 0; i < THREADS; i++)
		if (pthread_create(&threads[i], NULL, store_each, (void *)i) != 0)
			abort();
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&crowd.barrier);
	return crowd.results[SPOOL_STORED];
}

static void
expect_all_stored(struct fixture *f, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		expect_stored(f, sized_event(i, 100 + i * 20));
	assert_int_equal(count(f, SPOOL_NEW), n);
	assert_int_equal(count(f, SPOOL_EVENTS), n);
}

TEST(a_crowd_shares_the_journal_and_each_event_is_stored_once)
{
	struct fixture *f = *state;

	start_journal(f);
	assert_int_equal(journals(f, NULL), 2);
	calls.slow = 1000;
	assert_int_equal(store_all(&f->spool, false), THREADS * EACH);
	calls.slow = 0;
	assert_int_equal(seen(FSYNC), 0);
	/* They wait together: else it would be one an event. */
	assert_in_range(seen(FDATASYNC), 1, THREADS * EACH / 2);
	assert_int_equal(journals(f, NULL), 2);
	expect_all_stored(f, THREADS * EACH);
	end_journal(f);
	assert_true(seen(SYNCFS) > 0);
	assert_int_equal(count(f, SPOOL_TMP), 0);
}

TEST(of_twins_in_a_crowd_one_is_stored)
{
	struct fixture *f = *state;

	start_journal(f);
	assert_int_equal(store_all(&f->spool, true), EACH);
	assert_int_equal(crowd.results[SPOOL_DUPLICATE], (THREADS - 1) * EACH);
	expect_all_stored(f, EACH);
}

static bool
crowd_and_die(struct spool *spool, const void *data)
{
	(void)data;
	calls.slow = 1000;
	return store_all(spool, false) == THREADS * EACH && seen(FDATASYNC) < THREADS * EACH / 2;
}

TEST(what_a_crowd_recorded_together_is_made_again_one_by_one)
{
	struct fixture *f = *state;

	die_after(f, crowd_and_die, NULL);
	for (unsigned i = 0; i < THREADS * EACH; i++)
		remove_event(f, sized_event(i, 1)->name);
	calls.later = true;
	assert_int_equal(journal_recover(&f->spool), THREADS * EACH);
	expect_all_stored(f, THREADS * EACH);
	assert_int_equal(count(f, SPOOL_TMP), 0);
}

TEST(the_keeper_has_the_files_change_places_when_a_record_is_a_second_old)
{
	struct fixture *f = *state;
	char names[2][256];
	size_t length;

	start_journal(f);
	crowd_in(&f->spool);
	assert_int_equal(store(&f->spool, 1), SPOOL_STORED);
	assert_int_equal(seen(FDATASYNC), 1);
	assert_int_equal(seen(SYNCFS), 0);
	for (int i = 0; seen(FDATASYNC) < 2; i++) {
		assert_true(i < 10000);
		nap();
	}
	assert_int_equal(seen(SYNCFS), 1);
	/* As after a power cut now: the files hold nothing. */
	assert_int_equal(journals(f, names), 2);
	remove_event(f, event_of(1)->name);
	for (int i = 0; i < 2; i++) {
		char *text = file_read(at(f, SPOOL_TMP, names[i]), &length);
		snprintf(names[i], sizeof(names[i]), "journal.copy.%d", i);
		put_bytes(at(f, SPOOL_TMP, names[i]), text, length);
		free(text);
	}
	calls.later = true;
	assert_int_equal(journal_recover(&f->spool), 0);
	assert_int_equal(count(f, SPOOL_EVENTS), 0);
	assert_int_equal(journals(f, NULL), 2);
	/* It goes on with the other one. */
	reset_calls();
	assert_int_equal(store(&f->spool, 2), SPOOL_STORED);
	assert_int_equal(seen(FDATASYNC), 1);
	assert_int_equal(seen(FSYNC), 0);
}

TEST(what_fills_the_journal_is_stored_and_it_goes_on)
{
	struct fixture *f = *state;
	enum { MANY = 200, LENGTH = 100 << 10 };

	start_journal(f);
	crowd_in(&f->spool);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(store_as(&f->spool, sized_event(i, LENGTH), SPOOL_NEW), SPOOL_STORED);
	for (int i = 0; !journal_begin(f->spool.journal); i++) {
		assert_true(i < 10000);
		nap();
	}
	journal_end(f->spool.journal);
	assert_true(seen(SYNCFS) > 0);
	for (unsigned i = 0; i < MANY; i++)
		expect_stored(f, sized_event(i, LENGTH));
	end_journal(f);
	assert_int_equal(count(f, SPOOL_TMP), 0);
}

TEST(what_is_too_long_for_a_batch_is_stored_and_synced_by_itself)
{
	/* A batch is 128 KiB with its header, a block of reserve, the record's header and its name. */
	enum { FITS = (128 << 10) - BLOCK - RECORDS_AT - 8 - sizeof("msg_1.json") + 1 };
	static const struct {
		size_t length;
		bool fits;
	} rows[] = {{FITS, true}, {FITS + 1, false}, {LARGEST, false}, {0, true}};
	struct fixture *f = *state;

	start_journal(f);
	crowd_in(&f->spool);
	for (unsigned i = 0; i < ROWS(rows); i++) {
		const struct event *event = sized_event(i, rows[i].length);
		reset_calls();
		assert_int_equal(store_as(&f->spool, event, SPOOL_NEW), SPOOL_STORED);
		assert_int_equal(seen(FDATASYNC), rows[i].fits);
		assert_int_equal(seen(FSYNC), rows[i].fits ? 0 : 2); /* the file, its name */
		expect_stored(f, event);
	}
}

/* ---- what fails ---- */

TEST(what_cannot_be_written_is_stored_all_the_same_and_the_journal_goes)
{
	static const struct {
		enum call call;
		int error;
	} rows[] = {{PWRITE, ENOSPC}, {PWRITE, EIO}, {FDATASYNC, EIO}, {FDATASYNC, ENOSPC}};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ROWS(rows); i++) {
		struct capture capture;
		start_journal(f);
		crowd_in(&f->spool);
		assert_int_equal(store(&f->spool, 10 * i), SPOOL_STORED);
		make_fail(rows[i].call, 1, false, rows[i].error);
		capture_begin(&capture);
		enum spool_result result = store(&f->spool, 10 * i + 1);
		char *logged = capture_end(&capture);
		assert_int_equal(result, SPOOL_STORED);
		assert_non_null(strstr(logged, "each event is synced by itself"));
		assert_non_null(strstr(logged, strerror(rows[i].error)));
		free(logged);
		assert_true(seen(FSYNC) >= 2); /* the file and its name; and tmp/, by the keeper, sooner or later */
		int written = seen(PWRITE);
		assert_int_equal(store(&f->spool, 10 * i + 2), SPOOL_STORED);
		assert_int_equal(seen(PWRITE), written);
		assert_true(seen(FSYNC) >= 3); /* it may be written with O_DSYNC */
		for (unsigned k = 0; k < 3; k++)
			expect_stored(f, event_of(10 * i + k));
		wait_until_gone(f);
		/* What was recorded before was synced first. */
		if (seen(SYNCFS) != 1)
			fail_msg("row %u: %d", i, seen(SYNCFS));
		assert_int_equal(journal_begin(f->spool.journal), false);
		end_journal(f);
		assert_false(f->spool.distrusted);
	}
}

TEST(a_signal_is_no_failure)
{
	struct fixture *f = *state;

	start_journal(f);
	crowd_in(&f->spool);
	for (enum call call = PWRITE; call <= FDATASYNC; call++) {
		make_fail(call, 1, false, EINTR);
		assert_int_equal(store(&f->spool, (unsigned)call), SPOOL_STORED);
		assert_int_equal(seen(call), 2);
		assert_int_equal(seen(FSYNC), 0);
	}
}

TEST(a_write_that_fails_in_a_crowd_loses_no_event)
{
	struct fixture *f = *state;

	for (int nth = 1; nth < 8; nth += 3) {
		struct capture capture;
		start_journal(f);
		make_fail(FDATASYNC, nth, true, EIO);
		calls.slow = 1000;
		capture_begin(&capture);
		int stored = store_all(&f->spool, false);
		char *logged = capture_end(&capture);
		calls.slow = 0;
		assert_int_equal(lines_of(logged), 1);
		free(logged);
		assert_int_equal(stored, THREADS * EACH);
		/* No batch follows one that failed, for it would not be found. */
		assert_int_equal(seen(FDATASYNC), nth);
		expect_all_stored(f, THREADS * EACH);
		wait_until_gone(f);
		end_journal(f);
		for (unsigned i = 0; i < THREADS * EACH; i++)
			remove_event(f, sized_event(i, 1)->name);
	}
}

static void *
record_one(void *number)
{
	const struct event *event = event_of((unsigned)(uintptr_t)number);
	struct iovec piece = {(char *)(uintptr_t)event->text, event->length};

	if (!journal_begin(crowd.spool->journal))
		return NULL;
	bool good = journal_record(crowd.spool->journal, event->name, SPOOL_NEW, &piece, 1);
	journal_end(crowd.spool->journal);
	return good ? number : NULL;
}

TEST(nobody_in_a_batch_that_failed_is_told_that_it_was_recorded)
{
	struct fixture *f = *state;
	pthread_t threads[THREADS];
	struct capture capture;
	void *good;

	start_journal(f);
	crowd.spool = &f->spool;
	make_fail(FDATASYNC, 2, true, EIO);
	calls.slow = 50000;
	capture_begin(&capture);
	for (uintptr_t i = 1; i < THREADS; i++) {
		if (pthread_create(&threads[i], NULL, record_one, (void *)i) != 0)
			abort();
		/* The first has a batch of its own; while that is synced, all the others gather in the next. */
		while (seen(PWRITE) == 0)
			usleep(100);
	}
	for (uintptr_t i = 1; i < THREADS; i++) {
		pthread_join(threads[i], &good);
		assert_int_equal((uintptr_t)good, i == 1 ? i : 0);
	}
	free(capture_end(&capture));
	assert_int_equal(seen(FDATASYNC), 2);
}

TEST(files_that_cannot_be_made_leave_nothing_and_events_are_stored_all_the_same)
{
	static const struct {
		enum call call;
		int nth;
	} rows[] = {{OPENAT, 1}, {OPENAT, 2}, {PWRITE, 1}, {PWRITE, 100}, {PWRITE, 129}, {PWRITE, 130}, {PWRITE, 258},
	    {FDATASYNC, 1}, {FDATASYNC, 2}, {FLOCK, 1}, {FLOCK, 2}};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ROWS(rows); i++) {
		int before = descriptors();
		f->spool.journal = journal_open(&f->spool);
		make_fail(rows[i].call, rows[i].nth, false, ENOSPC);
		errno = 0;
		assert_int_equal(journal_prepare(f->spool.journal), -1);
		assert_int_equal(errno, ENOSPC);
		assert_int_equal(count(f, SPOOL_TMP), 0);
		assert_int_equal(descriptors(), before);
		end_journal(f);
		/* The keeper, when a crowd comes. */
		struct capture capture;
		f->spool.journal = journal_open(&f->spool);
		make_fail(rows[i].call, rows[i].nth, false, ENOSPC);
		if (rows[i].call == PWRITE || rows[i].call == FDATASYNC) {
			capture_begin(&capture);
			crowd_in(&f->spool);
			enum spool_result result = store(&f->spool, i);
			end_journal(f);
			char *logged = capture_end(&capture);
			assert_int_equal(result, SPOOL_STORED);
			assert_non_null(strstr(logged, "each event is synced by itself"));
			free(logged);
			expect_stored(f, event_of(i));
			assert_int_equal(count(f, SPOOL_TMP), 0);
			assert_int_equal(descriptors(), before);
		} else {
			end_journal(f);
		}
	}
}

TEST(a_turn_whose_sync_fails_ends_all_and_the_records_stay)
{
	struct fixture *f = *state;
	struct capture capture;

	f->spool.journal = journal_open(&f->spool);
	assert_int_equal(journal_prepare(f->spool.journal), 0);
	crowd_in(&f->spool);
	assert_int_equal(store(&f->spool, 1), SPOOL_STORED);
	make_fail(SYNCFS, 1, false, EIO);
	capture_begin(&capture);
	journal_turn(f->spool.journal);
	char *logged = capture_end(&capture);
	assert_int_equal(seen(SYNCFS), 1);
	assert_non_null(strstr(logged, "each event is synced by itself"));
	free(logged);
	assert_int_equal(seen(PWRITE), 0);
	/* It may have been anybody's data: events that are synced by themselves go on. */
	assert_int_equal(store(&f->spool, 2), SPOOL_STORED);
	f->spool.storing = 0;
	assert_int_equal(store(&f->spool, 3), SPOOL_STORED);
	end_journal(f);
	assert_int_equal(journals(f, NULL), 2);
	/* A restart, after a power cut. */
	remove_event(f, event_of(1)->name);
	calls.later = true;
	assert_int_equal(journal_recover(&f->spool), 1);
	expect_stored(f, event_of(1));
	assert_int_equal(count(f, SPOOL_EVENTS), 3);
}

TEST(a_file_that_cannot_be_emptied_ends_the_journal_alone)
{
	static const enum call which[] = {PWRITE, FDATASYNC};
	struct fixture *f = *state;

	for (unsigned i = 0; i < ROWS(which); i++) {
		struct capture capture;
		start_journal(f);
		crowd_in(&f->spool);
		assert_int_equal(store(&f->spool, 10 * i), SPOOL_STORED);
		make_fail(which[i], 1, true, EIO); /* the keeper's, in a second */
		capture_begin(&capture);
		for (int k = 0; journals(f, NULL) > 0 && k < 10000; k++)
			nap();
		char *logged = capture_end(&capture);
		assert_int_equal(journals(f, NULL), 0);
		assert_non_null(strstr(logged, "each event is synced by itself"));
		free(logged);
		assert_false(f->spool.distrusted);
		reset_calls();
		assert_int_equal(store(&f->spool, 10 * i + 1), SPOOL_STORED);
		assert_int_equal(seen(PWRITE), 0);
		expect_stored(f, event_of(10 * i));
		expect_stored(f, event_of(10 * i + 1));
		end_journal(f);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		SPOOL_TEST(on_the_same_boot_what_is_recorded_is_synced_and_nothing_is_queued_again),
		SPOOL_TEST(a_journal_whose_sync_fails_stays),
		SPOOL_TEST(on_another_boot_what_looks_whole_is_synced_before_the_journal_goes),
		SPOOL_TEST(whatever_is_missing_or_torn_is_whole_again_and_nothing_else_is_touched),
		SPOOL_TEST(recovery_on_another_boot_does_so_with_all_that_a_journal_holds),
		SPOOL_TEST(torn_is_what_is_the_event_as_far_as_it_goes_or_zero),
		SPOOL_TEST(what_another_delivery_queues_meanwhile_is_left_to_its_writer),
		SPOOL_TEST(what_is_no_file_or_no_name_is_left_alone),
		SPOOL_TEST(recovery_ends_at_the_first_batch_that_is_damaged),
		SPOOL_TEST(a_journal_that_is_full_takes_no_more_and_is_read_to_its_end),
		SPOOL_TEST(what_was_recorded_before_a_turn_is_not_made_again),
		SPOOL_TEST(a_batch_that_says_it_is_longer_than_the_file_is_damaged),
		SPOOL_TEST(what_is_recorded_while_a_turn_syncs_is_in_the_other_file),
		SPOOL_TEST(a_journal_that_is_damaged_or_too_short_goes_and_nothing_comes_of_it),
		SPOOL_TEST(what_is_no_journal_stays),
		SPOOL_TEST(a_journal_whose_owner_lives_is_left_alone),
		SPOOL_TEST(a_file_that_a_recovery_took_away_before_it_was_locked_is_made_anew),
		SPOOL_TEST(a_recovery_that_fails_anywhere_keeps_the_journal_and_the_next_one_finishes),
		SPOOL_TEST(recovery_of_the_spool_never_removes_a_journal_for_its_age),
		SPOOL_TEST(recovery_of_the_spool_says_when_a_journal_could_not_be_read),
		SPOOL_TEST(less_than_a_crowd_never_makes_the_files),
		SPOOL_TEST(a_crowd_shares_the_journal_and_each_event_is_stored_once),
		SPOOL_TEST(of_twins_in_a_crowd_one_is_stored),
		SPOOL_TEST(what_a_crowd_recorded_together_is_made_again_one_by_one),
		SPOOL_TEST(the_keeper_has_the_files_change_places_when_a_record_is_a_second_old),
		SPOOL_TEST(what_fills_the_journal_is_stored_and_it_goes_on),
		SPOOL_TEST(what_is_too_long_for_a_batch_is_stored_and_synced_by_itself),
		SPOOL_TEST(what_cannot_be_written_is_stored_all_the_same_and_the_journal_goes),
		SPOOL_TEST(a_signal_is_no_failure),
		SPOOL_TEST(a_write_that_fails_in_a_crowd_loses_no_event),
		SPOOL_TEST(nobody_in_a_batch_that_failed_is_told_that_it_was_recorded),
		SPOOL_TEST(files_that_cannot_be_made_leave_nothing_and_events_are_stored_all_the_same),
		SPOOL_TEST(a_turn_whose_sync_fails_ends_all_and_the_records_stay),
		SPOOL_TEST(a_file_that_cannot_be_emptied_ends_the_journal_alone),
	};

	return cmocka_run_group_tests_name("journal", tests, NULL, NULL);
}
