/*
 * What the tests of the spool share. They stand between store/ and the kernel: the nth
 * system call fails, or something happens just before it, or all calls are written down.
 * A spool of their own, and events for it. All inline, as in helpers.h.
 */
#ifndef PSAPI_TESTS_SPOOL_HELPERS_H
#define PSAPI_TESTS_SPOOL_HELPERS_H

#include "helpers.h"

#include <dlfcn.h>
#include <errno.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "store/spool/spool.h"

/* ---- system calls of store/ ---- */

enum call {
	OPENAT = 1,
	WRITEV = 2,
	WRITE_BACK = 4, /* sync_file_range(2) */
	FSYNC = 8,
	LINKAT = 16,
	RENAMEAT = 32,
	UNLINKAT = 64,
	LOOK = 128, /* fstat(2), fstatat(2), faccessat(2) */
	READ = 256,
	FLOCK = 512,
	SETTLE = 1024, /* fchmod(2), fchown(2), fchmodat(2) */
	MKDIRAT = 2048,
	SYNCFS = 4096,
	EXCHANGE = 8192, /* renameat2(2) */
	ANY = 16383
};

static struct interference {
	int of;             /* which calls count */
	int nth;            /* this one of them, from 1, is met; 0: none */
	bool all;           /* and every one after it */
	int error;          /* errno that it fails with; 0: it does not fail */
	void (*hook)(void); /* what happens just before it */
	int seen;
	enum call met;      /* what the nth was */
	size_t most;        /* bytes that a writev(2) takes; 0: all */
} interference;

/* Nothing waits for the disk: it would take long, and shows nothing. */
static bool lazy;

/* The calls as a text, once spool is set: "create write fsync(new) ...". */
static struct {
	const struct spool *spool;
	char text[8192];
} trace;

static inline bool
interfere(enum call call)
{
	if (interference.nth == 0 || (interference.of & (int)call) == 0)
		return false;
	interference.seen++;
	int seen = interference.seen, nth = interference.nth;
	if (interference.all ? seen < nth : seen != nth)
		return false;
	int error = interference.error; /* the hook may arm the next one */
	interference.met = call;
	if (interference.hook != NULL)
		interference.hook();
	errno = error;
	return error != 0;
}

static inline const char *
place(int fd)
{
	for (int i = 0; i < SPOOL_DIRS; i++)
		if (fd == trace.spool->dir[i])
			return spool_dir_names[i];
	return fd == trace.spool->root ? "root" : "file";
}

static inline void
note(const char *what, int fd)
{
	size_t length = strlen(trace.text);

	if (trace.spool == NULL)
		return;
	snprintf(trace.text + length, sizeof(trace.text) - length, "%s%s%s%s%s", length > 0 ? " " : "",
	    what, fd >= 0 ? "(" : "", fd >= 0 ? place(fd) : "", fd >= 0 ? ")" : "");
}

static inline void
trace_begin(const struct spool *spool)
{
	trace.text[0] = '\0';
	trace.spool = spool;
}

static inline const char *
trace_end(void)
{
	trace.spool = NULL;
	return trace.text;
}

int
openat(int dir, const char *name, int flags, ...)
{
	va_list list;

	va_start(list, flags);
	/* O_TMPFILE is more than one bit. */
	bool unnamed = (flags & O_TMPFILE) == O_TMPFILE, creates = (flags & O_CREAT) != 0;
	mode_t mode = creates || unnamed ? va_arg(list, mode_t) : 0;
	va_end(list);
	if (unnamed || creates)
		note((flags & O_DSYNC) != 0 ? "create-dsync" : "create", dir);
	else
		note(strcmp(name, ".") == 0 ? "list" : "open", dir);
	if (interfere(OPENAT))
		return -1;
	return (int)syscall(SYS_openat, dir, name, lazy ? flags & ~(O_DSYNC) : flags, mode);
}

ssize_t
writev(int fd, const struct iovec *iov, int count)
{
	note("write", -1);
	if (interfere(WRITEV))
		return -1;
	if (interference.most == 0)
		return (ssize_t)syscall(SYS_writev, fd, iov, count);
	while (count > 1 && iov->iov_len == 0) {
		iov++;
		count--;
	}
	return write(fd, iov->iov_base,
	    iov->iov_len < interference.most ? iov->iov_len : interference.most);
}

int
sync_file_range(int fd, off_t from, off_t length, unsigned flags)
{
	/* All three, of the whole file: docs/design.md. */
	assert_true(from == 0 && length == 0 && flags == 7);
	note("write-back", -1);
	if (interfere(WRITE_BACK))
		return -1;
#ifdef SYS_sync_file_range
	return lazy ? 0 : (int)syscall(SYS_sync_file_range, fd, from, length, flags);
#else
	return fd >= 0 ? 0 : -1;
#endif
}

int
fsync(int fd)
{
	if (trace.spool != NULL)
		note("fsync", fd);
	return interfere(FSYNC) ? -1 : lazy ? 0 : (int)syscall(SYS_fsync, fd);
}

int
syncfs(int fd)
{
	note("syncfs", -1);
	return interfere(SYNCFS) ? -1 : lazy ? 0 : (int)syscall(SYS_syncfs, fd);
}

int
linkat(int from, const char *old, int to, const char *new, int flags)
{
	note("link", to);
	return interfere(LINKAT) ? -1 : (int)syscall(SYS_linkat, from, old, to, new, flags);
}

int
renameat(int from, const char *old, int to, const char *new)
{
	note("rename", to);
	return interfere(RENAMEAT) ? -1 : (int)syscall(SYS_renameat2, from, old, to, new, 0);
}

int
renameat2(int from, const char *old, int to, const char *new, unsigned flags)
{
	note("exchange", to);
	return interfere(EXCHANGE) ? -1 : (int)syscall(SYS_renameat2, from, old, to, new, flags);
}

int
unlinkat(int dir, const char *name, int flags)
{
	note("unlink", dir);
	return interfere(UNLINKAT) ? -1 : (int)syscall(SYS_unlinkat, dir, name, flags);
}

int
mkdirat(int dir, const char *name, mode_t mode)
{
	note("mkdir", -1);
	return interfere(MKDIRAT) ? -1 : (int)syscall(SYS_mkdirat, dir, name, mode);
}

/* These have other forms in the kernel: the C library's own are behind ours. */
int
fstat(int fd, struct stat *st)
{
	static int (*next)(int, struct stat *);

	if (next == NULL)
		next = (int (*)(int, struct stat *))dlsym(RTLD_NEXT, "fstat");
	return interfere(LOOK) ? -1 : next(fd, st);
}

int
fstatat(int dir, const char *name, struct stat *st, int flags)
{
	static int (*next)(int, const char *, struct stat *, int);

	if (next == NULL)
		next = (int (*)(int, const char *, struct stat *, int))dlsym(RTLD_NEXT, "fstatat");
	return interfere(LOOK) ? -1 : next(dir, name, st, flags);
}

int
faccessat(int dir, const char *name, int mode, int flags)
{
	static int (*next)(int, const char *, int, int);

	if (next == NULL)
		next = (int (*)(int, const char *, int, int))dlsym(RTLD_NEXT, "faccessat");
	return interfere(LOOK) ? -1 : next(dir, name, mode, flags);
}

ssize_t
read(int fd, void *data, size_t size)
{
	return interfere(READ) ? -1 : (ssize_t)syscall(SYS_read, fd, data, size);
}

int
flock(int fd, int operation)
{
	note("flock", -1);
	return interfere(FLOCK) ? -1 : (int)syscall(SYS_flock, fd, operation);
}

int
fchmod(int fd, mode_t mode)
{
	return interfere(SETTLE) ? -1 : (int)syscall(SYS_fchmod, fd, mode);
}

int
fchown(int fd, uid_t user, gid_t group)
{
	return interfere(SETTLE) ? -1 : (int)syscall(SYS_fchown, fd, user, group);
}

int
fchmodat(int dir, const char *name, mode_t mode, int flags)
{
	return interfere(SETTLE) || flags != 0 ? -1 : (int)syscall(SYS_fchmodat, dir, name, mode);
}

/* ---- a spool of its own ---- */

struct fixture {
	char path[256];
	struct spool spool;
	struct error error; /* of the last call */
	int descriptors;    /* before it was opened */
};

/* The one that a hook works on. */
static struct fixture *hooked;

static inline int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	void *path;

	if (f == NULL || sandbox_make(&path) != 0)
		return -1;
	memset(&interference, 0, sizeof(interference));
	trace.spool = NULL;
	lazy = true;
	snprintf(f->path, sizeof(f->path), "%s", (char *)path);
	free(path);
	f->descriptors = descriptors();
	*state = hooked = f;
	return spool_open(&f->spool, f->path, true, true, &f->error) == STORE_OK ? 0 : -1;
}

static inline int
teardown(void **state)
{
	struct fixture *f = *state;
	void *path = strdup(f->path);

	memset(&interference, 0, sizeof(interference));
	trace.spool = NULL;
	spool_close(&f->spool);
	int left = descriptors() - f->descriptors;
	free(f);
	return sandbox_remove(&path) != 0 || left != 0 ? -1 : 0;
}

#define SPOOL_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* What a restart of the process changes. */
static inline void
restart(struct fixture *f)
{
	spool_close(&f->spool);
	assert_int_equal(spool_open(&f->spool, f->path, true, true, &f->error), STORE_OK);
}

/* The path of NAME in one of the directories; NAME "" is the directory. */
static inline const char *
at(const struct fixture *f, enum spool_dir dir, const char *name)
{
	char relative[512];

	snprintf(relative, sizeof(relative), "%s/%s", spool_dir_names[dir], name);
	return in(f->path, relative);
}

/* How many names, those with a dot among them. */
static inline int
count(const struct fixture *f, enum spool_dir dir)
{
	return names_in(at(f, dir, ""));
}

static inline bool
has(const struct fixture *f, enum spool_dir dir, const char *name)
{
	return exists(at(f, dir, name));
}

static inline ino_t
inode(const struct fixture *f, enum spool_dir dir, const char *name)
{
	struct stat st;

	return lstat(at(f, dir, name), &st) == 0 ? st.st_ino : 0;
}

/* Whether NAME is the same file in two directories. */
static inline bool
is_one_file(const struct fixture *f, enum spool_dir a, enum spool_dir b, const char *name)
{
	return inode(f, a, name) != 0 && inode(f, a, name) == inode(f, b, name);
}

static inline void
put(const struct fixture *f, enum spool_dir dir, const char *name, const char *text)
{
	file_write(at(f, dir, name), text, 0640);
}

static inline void
drop(const struct fixture *f, enum spool_dir dir, const char *name)
{
	unlink(at(f, dir, name));
}

static inline void
link_again(const struct fixture *f, enum spool_dir from, enum spool_dir to, const char *name)
{
	assert_int_equal(link(at(f, from, name), at(f, to, name)), 0);
}

static inline void
expect_text(const struct fixture *f, enum spool_dir dir, const char *name, const char *text)
{
	size_t length;
	char *found = file_read(at(f, dir, name), &length);

	if (found == NULL)
		fail_msg("no %s/%s", spool_dir_names[dir], name);
	if (length != strlen(text) || memcmp(found, text, length) != 0)
		fail_msg("%s/%s has other contents: %s", spool_dir_names[dir], name, found);
	free(found);
}

static inline void
age(const struct fixture *f, enum spool_dir dir, const char *name, int64_t modified)
{
	struct timespec times[2] = {{.tv_sec = modified}, {.tv_sec = modified}};

	assert_int_equal(utimensat(AT_FDCWD, at(f, dir, name), times, AT_SYMLINK_NOFOLLOW), 0);
}

/* ---- events ---- */

#define BODY "{\"type\":\"x.y\",\"timestamp\":\"2025-07-24T22:51:05Z\",\"data\":{\"npn\":\"7\"}}"
#define RECEIVED 1753397466 /* Unix seconds */

/* A delivery. Concurrent duplicates have one id and two senders: so their records differ. */
struct delivery {
	char name[STORE_NAME_SIZE];
	struct event event;
	struct record record;
	struct store_intake intake;
};

static inline void
delivery_make(struct delivery *d, const char *id, const char *sender, const char *body,
    int64_t received, enum store_destination destination)
{
	char signature[128];
	struct evidence evidence = {.id = id, .id_length = strlen(id), .timestamp = "1753397465",
		.timestamp_length = 10, .signature = signature, .received_at = {.tv_sec = received}};

	evidence.signature_length = (size_t)snprintf(signature, sizeof(signature), "v1,%s", sender);
	assert_int_equal(store_name(id, strlen(id), d->name), 0);
	events_read(body, strlen(body), &d->event);
	assert_int_equal(record_make(&d->record, &evidence, body, strlen(body), d->event.parsed), 0);
	d->intake = (struct store_intake){.name = d->name, .destination = destination,
		.reason = "the event has no type", .now = {.tv_sec = received}, .event = &d->event,
		.record = &d->record};
}

/* The record of a delivery, as it is in a file. Short ones; good for the next seven calls. */
static inline const char *
record_of(const char *id, const char *sender, const char *body, int64_t received)
{
	static char texts[8][4096];
	static unsigned turn;
	char *text = texts[turn++ % ROWS(texts)], *end = text;
	struct delivery d;

	delivery_make(&d, id, sender, body, received, STORE_QUEUE);
	for (int i = 0; i < d.record.count; i++) {
		assert_true((size_t)(end - text) + d.record.iov[i].iov_len < sizeof(texts[0]));
		memcpy(end, d.record.iov[i].iov_base, d.record.iov[i].iov_len);
		end += d.record.iov[i].iov_len;
	}
	*end = '\0';
	record_free(&d.record);
	return text;
}

/* Of two who deliver the event: the record of ours, and of theirs. */
static inline const char *
ours(const char *id)
{
	return record_of(id, "ours", BODY, RECEIVED);
}

static inline const char *
theirs(const char *id)
{
	return record_of(id, "theirs", BODY, RECEIVED);
}

/* Whether an error names the thing (relative to the spool) and the cause, errno. */
static inline bool
tells(const struct fixture *f, const struct error *error, const char *thing, int cause)
{
	char begin[512], end[256];
	size_t length = strlen(error->text);

	int n = snprintf(begin, sizeof(begin), "%s/%s: ", f->path, thing);
	int m = snprintf(end, sizeof(end), ": %s", strerror(cause));
	return strncmp(error->text, begin, (size_t)n) == 0 && length > (size_t)m &&
	    strcmp(error->text + length - m, end) == 0 && strchr(error->text, '\n') == NULL;
}

/* Our delivery arrives. */
static inline enum store_result
store(struct fixture *f, const char *id, enum store_destination destination)
{
	struct delivery d;

	delivery_make(&d, id, "ours", BODY, RECEIVED, destination);
	memset(&f->error, 0, sizeof(f->error));
	enum store_result result = spool_put(&f->spool, &d.intake, &f->error);
	record_free(&d.record);
	if (result == STORE_FULL || result == STORE_FAILED)
		assert_true(f->error.status != 0 && *f->error.text != '\0');
	return result;
}

/* The same, and what is logged meanwhile: the caller frees it. */
static inline char *
store_captured(struct fixture *f, const char *id, enum store_destination destination,
    enum store_result *result)
{
	struct capture capture;

	capture_begin(&capture);
	*result = store(f, id, destination);
	return capture_end(&capture);
}

/* The same, and whatever is logged is as it should be. */
static inline enum store_result
store_quietly(struct fixture *f, const char *id, enum store_destination destination)
{
	enum store_result result;

	free(store_captured(f, id, destination, &result));
	return result;
}

/* Where an event is queued, and committed. */
static inline void
expect_stored(const struct fixture *f, enum spool_dir queue, const char *name, const char *text)
{
	expect_text(f, queue, name, text);
	if (!is_one_file(f, queue, SPOOL_EVENTS, name))
		fail_msg("%s/%s is not the file in events/", spool_dir_names[queue], name);
	assert_int_equal(count(f, SPOOL_TMP), 0);
}

/* ---- the ways of a file to its names ---- */

static const struct way {
	const char *what;
	bool named_files, by_name, one_wait;
} ways[] = {
	{"unnamed, two waits", false, false, false},
	{"unnamed, one wait", false, false, true},
	{"named, two waits", true, false, false},
	{"named, one wait", true, false, true},
	{"without /proc, two waits", true, true, false},
	{"without /proc, one wait", true, true, true},
};

static inline void
go_the_way(struct fixture *f, const struct way *way)
{
	f->spool.filesystem.named_files = way->named_files;
	f->spool.by_name = way->by_name;
	f->spool.one_wait = way->one_wait;
}

/* ---- mounts ---- */

static inline bool
write_to(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool written = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	close(fd);
	return written;
}

/* A mount namespace of this process's own, which an ordinary user may have, too. */
static inline bool
may_mount(void)
{
	uid_t uid = geteuid();
	char users[64], groups[64];

	snprintf(users, sizeof(users), "%u %u 1", (unsigned)uid, (unsigned)uid);
	snprintf(groups, sizeof(groups), "%u %u 1", (unsigned)getegid(), (unsigned)getegid());
	if (unshare(CLONE_NEWNS | (uid == 0 ? 0 : CLONE_NEWUSER)) != 0)
		return false;
	if (uid != 0 &&
	    (!write_to("/proc/self/uid_map", users) ||
	        !write_to("/proc/self/setgroups", "deny") ||
	        !write_to("/proc/self/gid_map", groups)))
		return false;
	return mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) == 0;
}

#define SKIPPED "skipped: "

/*
 * Run a part of a test in a process that has its own mounts. It returns what failed, or
 * NULL; or SKIPPED and the reason, if this machine does not allow it. Returns false then.
 */
static inline bool
in_own_mounts(const char *(*run)(void *data), void *data)
{
	int status, channel[2];
	char text[1024];
	pid_t child;

	assert_int_equal(pipe2(channel, O_CLOEXEC), 0);
	assert_true((child = fork()) >= 0);
	if (child == 0) {
		const char *failed = may_mount() ? run(data) : SKIPPED "no mount namespace";
		if (failed != NULL && write(channel[1], failed, strlen(failed)) < 0)
			_exit(2);
		_exit(failed == NULL ? 0 : 1);
	}
	close(channel[1]);
	ssize_t n = read(channel[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	close(channel[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	if (strncmp(text, SKIPPED, strlen(SKIPPED)) == 0) {
		print_message("%s\n", text);
		return false;
	}
	if (status != 0)
		fail_msg("%s", text);
	return true;
}

#endif
