/*
 * Owns the spool directory: how a file gets a name, in which order names appear,
 * and what is done with what a crash left behind. Every access is relative to a
 * directory descriptor, every name is made by spool_name() or checked like one.
 *
 * The protocol of spool_store(), whose order is the promise (in a crowd the journal takes the place of
 * both syncs, journal.c):
 *   1. an unnamed file (O_TMPFILE; else a name in tmp/): a synchronous write
 *   2. link it into new/ (or failed/)
 *   3. fsync that directory
 *   4. link it into events/
 * A crash before 3 leaves nothing or a whole file that the sender does not know
 * of: its retry meets EEXIST in step 2 and finishes the twin's work. A crash
 * after 3 is mended by spool_recover(). Whoever records a file that another has queued, or takes its
 * own back after a failure, holds a lock on it meanwhile: what was recorded is not withdrawn, nor the other way round.
 * events/ itself is synced by recovery and by drain: what a power cut takes from it is still in new/.
 */
#define _GNU_SOURCE
#include "store/spool/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>

#include "base/crypto.h"
#include "store/spool/journal.h"
#include "base/log.h"
#include "verify.h"

const char *const spool_dir_names[SPOOL_DIRS] = {
	"new", "events", "failed", "state", "hold", "tmp"};

#define FORMAT_FILE "format" /* made by no version of format 1 */

enum {
	DIR_MODE = 02770,
	FILE_MODE = 0640,
	NAME_ENCODED_MAX = 200,
	LEFTOVER_SECONDS = 3600,
	LOCK_WAIT_MS = 3000, /* the sender waits 5 s */
	LOCK_NAP_MS = 1,
	RECORD_AT_ONCE = 64, /* descriptors that recovery has open */
	CROWD = 4 /* events on their way at once, from which on they share the journal */
};

/* How a file can be given its names here: found out with the first event, then kept. */
enum link_way {
	LINK_UNKNOWN,
	LINK_EMPTY_PATH, /* unnamed, linkat(AT_EMPTY_PATH): CAP_DAC_READ_SEARCH, or Linux 6.10 */
	LINK_PROC,       /* unnamed, linkat(/proc/self/fd/N): open(2), O_TMPFILE */
	LINK_NAMED       /* a name in tmp/: no O_TMPFILE, or no /proc */
};

/* A file of this request on its way into the spool. */
struct draft {
	int fd;
	char name[64]; /* in tmp/; "" for an unnamed file */
};

/* ---- open ---- */

static int
make_directory(int parent, const char *name)
{
	if (mkdirat(parent, name, DIR_MODE & 0777) != 0)
		return errno == EEXIST ? 0 : -1;
	/* mkdir(2) obeys the umask and drops the set-group-ID bit. */
	return fchmodat(parent, name, DIR_MODE, 0);
}

static int
open_directory(int parent, const char *name, bool create)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 || errno != ENOENT || !create)
		return fd;
	/*
	 * tmp/ is made last, when all above it is on the disk: whoever finds it need not
	 * sync them, and no acknowledged event goes with a directory that a power cut took.
	 */
	if (strcmp(name, spool_dir_names[SPOOL_TMP]) == 0 && syncfs(parent) != 0)
		return -1;
	if (make_directory(parent, name) != 0)
		return -1;
	return openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* A spool that says that its format is another must not be read, or written, as if it were ours. */
static int
check_format(const struct spool *spool, char *why, size_t size)
{
	int fd = openat(spool->root, FORMAT_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char text[16] = "";

	if (fd < 0 && errno == ENOENT)
		return 0;
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	int error = errno;
	if (fd >= 0)
		close(fd);
	text[strcspn(text, "\n")] = '\0';
	if (n >= 0 && strcmp(text, SPOOL_FORMAT) == 0)
		return 0;
	if (n < 0)
		snprintf(why, size, "%s/" FORMAT_FILE ": %s", spool->path, strerror(error));
	else
		snprintf(why, size, "%s/" FORMAT_FILE ": the spool has format %s, this program knows " SPOOL_FORMAT,
		    spool->path, text);
	errno = n < 0 ? error : EPROTONOSUPPORT;
	return -1;
}

int
spool_open(struct spool *spool, const char *path, bool create, char *why, size_t size)
{
	memset(spool, 0, sizeof(*spool));
	spool->path = path;
	for (int i = 0; i < SPOOL_DIRS; i++)
		spool->dir[i] = -1;
	spool->root = open_directory(AT_FDCWD, path, create);
	if (spool->root < 0) {
		snprintf(why, size, "%s: %s: make the spool directory, owned by the running user",
		    path, strerror(errno));
		return -1;
	}
	if (check_format(spool, why, size) != 0) {
		spool_close(spool);
		return -1;
	}
	for (int i = 0; i < SPOOL_DIRS; i++) {
		spool->dir[i] = open_directory(spool->root, spool_dir_names[i], create);
		if (spool->dir[i] >= 0)
			continue;
		snprintf(why, size, "%s/%s: %s: it must be a directory that the running user may write",
		    path, spool_dir_names[i], strerror(errno));
		spool_close(spool);
		return -1;
	}
	return 0;
}

void
spool_close(struct spool *spool)
{
	int saved = errno; /* of spool_open(), which may have stopped half-way */

	for (int i = 0; i < SPOOL_DIRS; i++)
		if (spool->dir[i] >= 0)
			close(spool->dir[i]);
	close(spool->root);
	errno = saved;
}

/* ---- names ---- */

static bool
is_plain(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	    c == '_' || c == '-';
}

int
spool_name(const void *id, size_t length, char name[SPOOL_NAME_SIZE])
{
	static const char hex[] = "0123456789ABCDEF";
	const unsigned char *byte = id;
	size_t n = 0;

	for (size_t i = 0; i < length; i++) {
		size_t more = is_plain(byte[i]) ? 1 : 3;
		if (n + more > NAME_ENCODED_MAX) {
			char digest[65];
			if (crypto_sha256_hex(id, length, digest) != 0)
				return -1;
			/* '%' and no hex digit: no encoded id begins like that. */
			snprintf(name, SPOOL_NAME_SIZE, "%%sha256-%s.json", digest);
			return 0;
		}
		if (more == 1) {
			name[n++] = (char)byte[i];
			continue;
		}
		name[n++] = '%';
		name[n++] = hex[byte[i] >> 4];
		name[n++] = hex[byte[i] & 15];
	}
	memcpy(name + n, ".json", sizeof(".json"));
	return 0;
}

/* The value of an upper-case hex digit, or -1. */
static int
hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool
spool_name_valid(const char *name)
{
	size_t length = strlen(name);

	if (length < 6 || strcmp(name + length - 5, ".json") != 0)
		return false;
	length -= 5;
	if (strncmp(name, "%sha256-", 8) == 0)
		return length == 8 + 64 && strspn(name + 8, "0123456789abcdef") == 64;
	if (length > NAME_ENCODED_MAX)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (is_plain((unsigned char)name[i]))
			continue;
		if (name[i] != '%' || i + 2 >= length)
			return false;
		int high = hex_value(name[i + 1]), low = hex_value(name[i + 2]);
		/* A byte that needs no encoding has one name alone: itself. */
		if (high < 0 || low < 0 || is_plain((unsigned char)(high * 16 + low)))
			return false;
		i += 2;
	}
	return true;
}

/* ---- a file on its way ---- */

static int
write_pieces(int fd, const struct iovec *pieces, int count)
{
	struct iovec iov[4];
	int first = 0;

	memcpy(iov, pieces, (size_t)count * sizeof(iov[0]));
	while (first < count) {
		ssize_t n = writev(fd, iov + first, count - first);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		for (; first < count && (size_t)n >= iov[first].iov_len; first++)
			n -= (ssize_t)iov[first].iov_len;
		if (first < count) {
			iov[first].iov_base = (char *)iov[first].iov_base + n;
			iov[first].iov_len -= (size_t)n;
		}
	}
	return 0;
}

static int
sync_fd(int fd)
{
	int result;

	do
		result = fsync(fd);
	while (result != 0 && errno == EINTR);
	return result;
}

/*
 * Lock a file of the spool. With wait, for at most LOCK_WAIT_MS: a reader of the
 * spool may lock it, too, and must not hold a request for good.
 */
static int
lock_fd(int fd, bool wait)
{
	for (int waited = 0;; waited += LOCK_NAP_MS) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 0;
		if (errno != EINTR && (errno != EWOULDBLOCK || !wait || waited >= LOCK_WAIT_MS))
			return -1;
		if (errno == EWOULDBLOCK)
			poll(NULL, 0, LOCK_NAP_MS);
	}
}

static void
name_draft(struct spool *spool, char *name, size_t size)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(name, size, "%lld.%09ld.%ld.%u", (long long)now.tv_sec, now.tv_nsec, (long)getpid(),
	    atomic_fetch_add(&spool->serial, 1));
}

/* flags: O_DSYNC, or 0 for what need not be on the disk. */
static int
open_named(struct spool *spool, struct draft *draft, int flags)
{
	name_draft(spool, draft->name, sizeof(draft->name));
	draft->fd = openat(spool->dir[SPOOL_TMP], draft->name,
	    O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | flags, FILE_MODE);
	return draft->fd < 0 ? -1 : 0;
}

/*
 * Unnamed in events/: a link within one directory costs less under Landlock, and who watches new/ is not woken by what
 * has no name. flags: O_DSYNC, or 0 for what the journal has on the disk.
 */
static int
open_draft(struct spool *spool, struct draft *draft, int flags)
{
	*draft = (struct draft){.fd = -1};
	if (atomic_load(&spool->link_way) == LINK_UNKNOWN && access("/proc/self/fd", F_OK) != 0)
		atomic_store(&spool->link_way, LINK_NAMED);
	if (atomic_load(&spool->link_way) != LINK_NAMED) {
		draft->fd = openat(spool->dir[SPOOL_EVENTS], ".", O_TMPFILE | O_WRONLY | O_CLOEXEC | flags,
		    FILE_MODE);
		if (draft->fd >= 0)
			return 0;
		/* open(2), O_TMPFILE: EOPNOTSUPP from the file system, EISDIR from an old kernel. */
		if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)
			return -1;
		atomic_store(&spool->link_way, LINK_NAMED);
	}
	return open_named(spool, draft, flags);
}

/* Close, and take the name in tmp/ away. What was linked elsewhere stays. */
static void
close_draft(struct spool *spool, struct draft *draft)
{
	if (draft->fd >= 0)
		close(draft->fd);
	if (draft->name[0] != '\0')
		unlinkat(spool->dir[SPOOL_TMP], draft->name, 0);
	*draft = (struct draft){.fd = -1};
}

/*
 * Open and write a draft: on the disk with the write if flags is O_DSYNC, open(2). Returns 0;
 * or -1 with errno and nothing left.
 */
static int
write_draft(struct spool *spool, struct draft *draft, const struct iovec *pieces, int count, int flags)
{
	if (open_draft(spool, draft, flags) != 0)
		return -1;
	if (write_pieces(draft->fd, pieces, count) == 0)
		return 0;
	int saved = errno;
	close_draft(spool, draft);
	errno = saved;
	return -1;
}

static int
link_unnamed(enum link_way way, int fd, int dir, const char *name)
{
	char path[32];

	if (way == LINK_EMPTY_PATH)
		return linkat(fd, "", dir, name, AT_EMPTY_PATH);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, dir, name, AT_SYMLINK_FOLLOW);
}

/* Link the draft into one of the spool's directories. Returns 0, or -1 with errno. */
static int
link_draft(struct spool *spool, struct draft *draft, enum spool_dir dir, const char *name)
{
	int to = spool->dir[dir];

	if (draft->name[0] != '\0')
		return linkat(spool->dir[SPOOL_TMP], draft->name, to, name, 0);
	enum link_way way = (enum link_way)atomic_load(&spool->link_way);
	if (way == LINK_UNKNOWN) {
		/* Without the capability it is ENOENT, linkat(2). */
		way = LINK_EMPTY_PATH;
		int result = link_unnamed(way, draft->fd, to, name);
		if (result != 0 && errno != EEXIST) {
			way = LINK_PROC;
			result = link_unnamed(way, draft->fd, to, name);
		}
		if (result == 0 || errno == EEXIST)
			atomic_store(&spool->link_way, way);
		return result;
	}
	return link_unnamed(way, draft->fd, to, name);
}

enum owner { OURS, NOT_OURS, OWNER_UNKNOWN };

/* Whose file name in dir is: the draft's own, another's or nobody's; or, with errno, it cannot be seen now. */
static enum owner
owner_of(struct spool *spool, const struct draft *draft, enum spool_dir dir, const char *name)
{
	struct stat ours, theirs;

	if (fstat(draft->fd, &ours) != 0)
		return OWNER_UNKNOWN;
	if (fstatat(spool->dir[dir], name, &theirs, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? NOT_OURS : OWNER_UNKNOWN;
	return ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev ? OURS : NOT_OURS;
}

/* Take back a name, but only while it is this draft's. */
static void
unlink_ours(struct spool *spool, const struct draft *draft, enum spool_dir dir, const char *name)
{
	int saved = errno;

	if (owner_of(spool, draft, dir, name) == OURS)
		unlinkat(spool->dir[dir], name, 0);
	errno = saved;
}

/* ---- accept ---- */

enum spool_result
spool_find(struct spool *spool, const char *name)
{
	if (faccessat(spool->dir[SPOOL_EVENTS], name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return SPOOL_DUPLICATE;
	if (errno == ENOENT)
		return SPOOL_ABSENT;
	log_line("%s/events/%s: %s", spool->path, name, strerror(errno));
	return SPOOL_ERROR;
}

bool
spool_is_full(struct spool *spool, long long min_free)
{
	struct statvfs st;
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
	if (atomic_load(&spool->looked) == now.tv_sec &&
	    atomic_load(&spool->available) / 2 >= min_free)
		return false;
	if (fstatvfs(spool->root, &st) != 0)
		return false;
	long long available = (long long)(st.f_bavail * st.f_frsize);
	atomic_store(&spool->available, available);
	atomic_store(&spool->looked, now.tv_sec);
	return available < min_free;
}

static enum spool_result
failure(struct spool *spool, const char *step, const char *name)
{
	if (errno == ENOSPC || errno == EDQUOT)
		return SPOOL_FULL;
	log_line("%s: %s %s: %s", spool->path, step, name, strerror(errno));
	return SPOOL_ERROR;
}

/*
 * Sync a directory. After a failure the kernel may have dropped the changes and
 * call the next fsync a success, so the process accepts nothing more.
 */
static int
sync_directory(struct spool *spool, enum spool_dir dir)
{
	if (sync_fd(spool->dir[dir]) == 0) {
		/* The kernel tells one thread of an error alone: it may have been about our name. */
		if (!atomic_load(&spool->distrusted))
			return 0;
		errno = EIO;
		return -1;
	}
	int saved = errno;
	if (!atomic_exchange(&spool->distrusted, true))
		log_line("%s/%s: fsync: %s: nothing is accepted until a restart", spool->path,
		    spool_dir_names[dir], strerror(errno));
	errno = saved;
	return -1;
}

/*
 * Open and lock the file that has a name in a queue, so that its writer does not take it back; wait says
 * whether to wait for who has the lock. Returns a descriptor to be closed; or -1 with ENOENT if the name is
 * gone by then, EWOULDBLOCK if another (still) has the lock.
 */
static int
lock_entry(struct spool *spool, enum spool_dir queue, const char *name, bool wait)
{
	for (;;) {
		int fd = openat(spool->dir[queue], name,
		    O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
		struct draft entry = {.fd = fd};
		struct stat st;
		if (fd < 0)
			return -1;
		if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
			close(fd);
			errno = EINVAL; /* no event: somebody has put it there */
			return -1;
		}
		enum owner owner = lock_fd(fd, wait) == 0 ? owner_of(spool, &entry, queue, name) : OWNER_UNKNOWN;
		if (owner == OURS)
			return fd;
		int saved = errno;
		close(fd);
		if (owner == OWNER_UNKNOWN) {
			errno = saved;
			return -1;
		}
		/* Another file has the name by now. */
	}
}

/*
 * Record the locked file of a queue, whose name is synced. Returns 0, or -1 with errno: ENOENT also if another
 * file has the name by now, which is its writer's, and not synced.
 */
static int
record_entry(struct spool *spool, const struct draft *entry, enum spool_dir queue, const char *name)
{
	enum owner owner = owner_of(spool, entry, queue, name);

	if (owner == OURS)
		return linkat(spool->dir[queue], name, spool->dir[SPOOL_EVENTS], name, 0);
	errno = owner == NOT_OURS ? ENOENT : errno;
	return -1;
}

/*
 * Step 2 met a twin's file of the same name: it is on its way, or its writer died.
 * Do the rest of its work, then the answer is right whatever became of the twin.
 */
static enum spool_result
finish_twin(struct spool *spool, enum spool_dir queue, const char *name)
{
	struct draft twin = {.fd = lock_entry(spool, queue, name, true)};
	enum spool_result result = SPOOL_DUPLICATE;

	/*
	 * ENOENT and not recorded, here and below: a quick script has handled it before its writer got
	 * to step 4, or the writer failed and took it back. The next try will tell.
	 */
	if (twin.fd < 0)
		return errno == ENOENT && spool_find(spool, name) == SPOOL_DUPLICATE ?
		    SPOOL_DUPLICATE : failure(spool, "open the twin of", name);
	if (spool_find(spool, name) != SPOOL_DUPLICATE) {
		if (sync_directory(spool, queue) != 0)
			result = failure(spool, "fsync for", name);
		else if (record_entry(spool, &twin, queue, name) != 0 && errno != EEXIST &&
		    (errno != ENOENT || spool_find(spool, name) != SPOOL_DUPLICATE))
			result = failure(spool, "record the twin of", name);
	}
	close(twin.fd);
	return result;
}

/* Step 4 found that a quick script has handled the event and removed its only name. */
static enum spool_result
record_copy(struct spool *spool, const char *name, const struct iovec *pieces, int count)
{
	struct draft copy;

	if (write_draft(spool, &copy, pieces, count, O_DSYNC) != 0)
		return failure(spool, "write", name);
	int result = link_draft(spool, &copy, SPOOL_EVENTS, name);
	int saved = errno;
	close_draft(spool, &copy);
	errno = saved;
	return result == 0 || errno == EEXIST ? SPOOL_STORED : failure(spool, "record", name);
}

/*
 * A step after 2 failed, with errno: take the queued name back, unless somebody has recorded the file for us, and
 * vouches for it. Who is about to has the lock; if we do not get it, the name stays for our twin or recovery.
 */
static enum spool_result
withdraw(struct spool *spool, struct draft *draft, enum spool_dir queue, const char *name, const char *step)
{
	int error = errno;
	bool locked = lock_fd(draft->fd, true) == 0;

	errno = error;
	enum spool_result result = failure(spool, step, name);
	enum owner recorded = owner_of(spool, draft, SPOOL_EVENTS, name);
	if (locked && recorded == NOT_OURS)
		unlink_ours(spool, draft, queue, name);
	return recorded == OURS ? SPOOL_STORED : result;
}

/* Steps 2 to 4 for a draft that is written, and on the disk; with its name to be, if the journal has it. */
static enum spool_result
queue_draft(struct spool *spool, struct draft *draft, enum spool_dir queue, const char *name,
    const struct iovec *pieces, int count, bool in_journal)
{
	if (link_draft(spool, draft, queue, name) != 0)
		return errno == EEXIST ? finish_twin(spool, queue, name) :
		                         failure(spool, "queue", name);
	if (!in_journal && sync_directory(spool, queue) != 0)
		return withdraw(spool, draft, queue, name, "fsync for");
	if (link_draft(spool, draft, SPOOL_EVENTS, name) == 0)
		return SPOOL_STORED;
	if (errno == ENOENT)
		return record_copy(spool, name, pieces, count);
	if (errno != EEXIST)
		return withdraw(spool, draft, queue, name, "record");
	enum owner recorded = owner_of(spool, draft, SPOOL_EVENTS, name);
	if (recorded == OWNER_UNKNOWN)
		return failure(spool, "see who has recorded", name);
	if (recorded == OURS)
		return SPOOL_STORED;
	/* A twin was accepted and handled since step 0. Without the lock: nobody else can record ours any more. */
	unlink_ours(spool, draft, queue, name);
	return SPOOL_DUPLICATE;
}

/*
 * A file with one name, which is synced before the answer: an event that is recorded, but
 * nobody's work; a request that is held.
 */
static enum spool_result
record_draft(struct spool *spool, struct draft *draft, enum spool_dir dir, const char *name)
{
	if (link_draft(spool, draft, dir, name) != 0)
		return errno == EEXIST ? SPOOL_DUPLICATE : failure(spool, "record", name);
	if (sync_directory(spool, dir) == 0)
		return SPOOL_STORED;
	unlink_ours(spool, draft, dir, name);
	return failure(spool, "fsync for", name);
}

/* Steps 1 to 4, each waiting for the disk. */
static enum spool_result
store_alone(struct spool *spool, const char *name, enum spool_dir queue, const struct iovec *pieces,
    int count)
{
	enum spool_result result;
	struct draft draft;

	if (write_draft(spool, &draft, pieces, count, O_DSYNC) != 0)
		return failure(spool, "write", name);
	if (queue == SPOOL_EVENTS || queue == SPOOL_HOLD)
		result = record_draft(spool, &draft, queue, name);
	else
		result = queue_draft(spool, &draft, queue, name, pieces, count, false);
	close_draft(spool, &draft);
	return result;
}

/* The same, when the journal waits for all that are on their way. */
static enum spool_result
store_in_crowd(struct spool *spool, const char *name, enum spool_dir queue, const struct iovec *pieces,
    int count)
{
	enum spool_result result;
	struct draft draft;

	if (write_draft(spool, &draft, pieces, count, 0) != 0)
		result = failure(spool, "write", name);
	else if (journal_record(spool->journal, name, queue, pieces, count))
		result = queue_draft(spool, &draft, queue, name, pieces, count, true);
	else if (sync_fd(draft.fd) != 0)
		result = failure(spool, "fsync", name);
	else
		result = queue_draft(spool, &draft, queue, name, pieces, count, false);
	close_draft(spool, &draft);
	return result;
}

enum spool_result
spool_store(struct spool *spool, const char *name, enum spool_dir queue,
    const struct iovec *pieces, int count)
{
	enum spool_result result;

	if (atomic_load(&spool->distrusted))
		return SPOOL_ERROR;
	bool crowd = atomic_fetch_add(&spool->storing, 1) + 1 >= CROWD;
	if (crowd && spool->journal != NULL && (queue == SPOOL_NEW || queue == SPOOL_FAILED) &&
	    journal_begin(spool->journal)) {
		result = store_in_crowd(spool, name, queue, pieces, count);
		journal_end(spool->journal);
	} else {
		result = store_alone(spool, name, queue, pieces, count);
	}
	atomic_fetch_sub(&spool->storing, 1);
	return result;
}

int
spool_probe(struct spool *spool, const char **step)
{
	struct iovec piece = {(char *)(uintptr_t)"probe\n", 6};
	struct draft draft;
	char one[64], two[64];
	int result = -1;

	snprintf(one, sizeof(one), "probe.%ld.1", (long)getpid());
	snprintf(two, sizeof(two), "probe.%ld.2", (long)getpid());
	*step = "write and sync a file";
	if (write_draft(spool, &draft, &piece, 1, O_DSYNC) != 0)
		return -1;
	*step = "make a hard link";
	if (link_draft(spool, &draft, SPOOL_TMP, one) == 0 &&
	    linkat(spool->dir[SPOOL_TMP], one, spool->dir[SPOOL_TMP], two, 0) == 0) {
		*step = "sync a directory";
		result = sync_fd(spool->dir[SPOOL_TMP]);
	}
	int saved = errno;
	unlinkat(spool->dir[SPOOL_TMP], one, 0);
	unlinkat(spool->dir[SPOOL_TMP], two, 0);
	close_draft(spool, &draft);
	errno = saved;
	return result;
}

int
spool_own(const struct spool *spool, int fd)
{
	struct stat root, st;

	if (fstat(spool->root, &root) != 0 || fstat(fd, &st) != 0)
		return -1;
	/* Only if needed: the receiver has the right umask, and may not call these in its sandbox. */
	if ((st.st_mode & 07777) != FILE_MODE && fchmod(fd, FILE_MODE) != 0)
		return -1;
	return geteuid() == 0 && st.st_uid != root.st_uid ? fchown(fd, root.st_uid, root.st_gid) : 0;
}

int
spool_write_state(struct spool *spool, const char *name, const char *text)
{
	struct draft draft = {.fd = -1};
	struct iovec piece = {(char *)(uintptr_t)text, strlen(text)};

	if (open_named(spool, &draft, 0) != 0)
		return -1;
	int result = spool_own(spool, draft.fd);
	if (result == 0)
		result = write_pieces(draft.fd, &piece, 1);
	if (result == 0)
		result = renameat(spool->dir[SPOOL_TMP], draft.name, spool->dir[SPOOL_STATE], name);
	if (result == 0)
		draft.name[0] = '\0';
	int saved = errno;
	close_draft(spool, &draft);
	errno = saved;
	return result;
}

/* ---- recovery ---- */

int
spool_sync(struct spool *spool, enum spool_dir dir)
{
	return sync_directory(spool, dir);
}

int
spool_each(struct spool *spool, enum spool_dir dir,
    int (*visit)(struct spool *, enum spool_dir, const char *, void *), void *data)
{
	int result = 0;
	int fd = openat(spool->dir[dir], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);

	if (stream == NULL) {
		if (fd >= 0)
			close(fd);
		return -1;
	}
	while (result == 0) {
		errno = 0;
		struct dirent *entry = readdir(stream);
		if (entry == NULL) {
			result = errno == 0 ? 0 : -1;
			break;
		}
		if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
			result = visit(spool, dir, entry->d_name, data);
	}
	int saved = errno;
	closedir(stream);
	errno = saved;
	return result;
}

/* What a name has, next to what a journal says that it should. */
enum found { FOUND_NOTHING, FOUND_IT, FOUND_TORN, FOUND_ANOTHER, FOUND_ERROR };

/*
 * Torn: as far as it is there, it is the text, or zeros where the data did not get to the disk. An error, with
 * errno: it cannot be opened now.
 */
static enum found
look_at(struct spool *spool, enum spool_dir dir, const char *name, const char *text, size_t length)
{
	int fd = openat(spool->dir[dir], name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	bool torn = false, other = false;
	char part[4096];
	struct stat st;
	size_t at = 0;
	ssize_t n = 0;

	if (fd < 0) /* a symbolic link, a socket: somebody has put it there */
		return errno == ENOENT                     ? FOUND_NOTHING :
		       errno == ELOOP || errno == ENXIO ? FOUND_ANOTHER :
		                                          FOUND_ERROR;
	/* What the disk failed to take is clean, and as it should be, in memory alone: have it read from the disk. */
	posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	bool known = fstat(fd, &st) == 0;
	other = known && !S_ISREG(st.st_mode);
	while (known && !other && ((n = read(fd, part, sizeof(part))) > 0 || (n < 0 && errno == EINTR)))
		for (ssize_t i = 0; i < n && !other; i++, at++) {
			other = at >= length || (part[i] != text[at] && part[i] != 0);
			torn = torn || (!other && part[i] != text[at]);
		}
	int saved = errno;
	close(fd);
	errno = saved;
	if (!known || (!other && n < 0))
		return FOUND_ERROR;
	return other ? FOUND_ANOTHER : torn || at < length ? FOUND_TORN : FOUND_IT;
}

/* A file by one of its names. */
struct place {
	enum spool_dir dir;
	const char *name;
};

static bool
is_one_file(struct spool *spool, struct place one, struct place other)
{
	struct stat a, b;

	return fstatat(spool->dir[one.dir], one.name, &a, AT_SYMLINK_NOFOLLOW) == 0 &&
	    fstatat(spool->dir[other.dir], other.name, &b, AT_SYMLINK_NOFOLLOW) == 0 && a.st_ino == b.st_ino;
}

/* Give the file another name: a new one (EEXIST: there is one by now), or instead of what has it. */
static int
put_back(struct spool *spool, struct place from, struct place to, enum found found)
{
	int tmp = spool->dir[SPOOL_TMP];
	char other[64];

	if (found == FOUND_NOTHING)
		return linkat(spool->dir[from.dir], from.name, spool->dir[to.dir], to.name, 0);
	name_draft(spool, other, sizeof(other));
	if (linkat(spool->dir[from.dir], from.name, tmp, other, 0) != 0)
		return -1;
	int result = renameat(tmp, other, spool->dir[to.dir], to.name);
	int saved = errno;
	if (result != 0)
		unlinkat(tmp, other, 0);
	errno = saved;
	return result;
}

int
spool_restore(struct spool *spool, const char *name, enum spool_dir queue, const char *text,
    size_t length, bool forgotten)
{
	static const enum spool_dir places[] = {SPOOL_NEW, SPOOL_FAILED, SPOOL_EVENTS}; /* as ever */
	struct iovec piece = {(char *)(uintptr_t)text, length};
	struct place source = {.dir = SPOOL_DIRS, .name = name};
	struct draft draft = {.fd = -1};
	enum found found[SPOOL_DIRS];
	bool torn = false, restored = false;
	int result = 0;

	if (!spool_name_valid(name) || (queue != SPOOL_NEW && queue != SPOOL_FAILED))
		return 0;
	for (int i = 0; i < 3; i++) {
		found[places[i]] = look_at(spool, places[i], name, text, length);
		if (found[places[i]] == FOUND_ANOTHER || found[places[i]] == FOUND_ERROR)
			return found[places[i]] == FOUND_ANOTHER ? 0 : -1;
		torn = torn || found[places[i]] == FOUND_TORN;
		if (found[places[i]] == FOUND_IT)
			source.dir = places[i];
	}
	bool queued = found[SPOOL_NEW] != FOUND_NOTHING || found[SPOOL_FAILED] != FOUND_NOTHING;
	bool wanted = !queued && (forgotten || found[SPOOL_EVENTS] != FOUND_IT);
	if (torn || source.dir == SPOOL_DIRS) {
		if (open_named(spool, &draft, 0) != 0)
			return -1;
		source = (struct place){.dir = SPOOL_TMP, .name = draft.name};
		result = write_pieces(draft.fd, &piece, 1);
	}
	for (int i = 0; i < 3 && result == 0; i++) {
		struct place place = {.dir = places[i], .name = name};
		if ((found[place.dir] == FOUND_NOTHING && place.dir != SPOOL_EVENTS &&
		        (!wanted || place.dir != queue)) || is_one_file(spool, source, place))
			continue;
		result = put_back(spool, source, place, found[place.dir]);
		restored = restored || result == 0;
		/* Another delivery has come meanwhile. In a queue it is its writer's to record. */
		if (result != 0 && errno == EEXIST) {
			result = 0;
			break;
		}
	}
	int saved = errno;
	close_draft(spool, &draft);
	errno = saved;
	return result == 0 ? restored : -1;
}

/* The names of a queue as one text, each with its NUL. */
struct names {
	char *text;
	size_t length, room;
};

static int
collect(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct names *names = data;
	size_t size = strlen(name) + 1;

	(void)spool;
	(void)dir;
	if (!spool_name_valid(name))
		return 0;
	if (names->length + size > names->room) {
		size_t room = names->room * 2 + 4096;
		char *text = realloc(names->text, room);
		if (text == NULL)
			return -1;
		names->text = text;
		names->room = room;
	}
	memcpy(names->text + names->length, name, size);
	names->length += size;
	return 0;
}

static int
remove_if_old(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	const time_t *now = data;
	struct stat st;

	if (!journal_is_name(name) && fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode) && *now - st.st_mtime > LEFTOVER_SECONDS)
		unlinkat(spool->dir[dir], name, 0);
	return 0;
}

static bool
is_regular(struct spool *spool, enum spool_dir dir, const char *name)
{
	struct stat st;

	return fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

/* Files of a queue that events/ lacks, with our lock on each. */
struct locked {
	int count;
	struct {
		int fd;
		const char *name;
	} entry[RECORD_AT_ONCE];
};

/*
 * Lock the file of one name, if events/ lacks it. Returns 0, also if there is nothing to do, or -1
 * with errno.
 */
static int
lock_to_record(struct spool *spool, enum spool_dir queue, const char *name, struct locked *locked)
{
	if (faccessat(spool->dir[SPOOL_EVENTS], name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 ||
	    !is_regular(spool, queue, name))
		return 0;
	int fd = lock_entry(spool, queue, name, false);
	if (fd < 0)
		/* ENOENT: handled meanwhile, or withdrawn. EWOULDBLOCK: somebody is at it. */
		return errno == ENOENT || errno == EWOULDBLOCK ? 0 : -1;
	locked->entry[locked->count].fd = fd;
	locked->entry[locked->count++].name = name;
	return 0;
}

/*
 * Sync the queue, record the locked files, let go of them. Returns how many were recorded, or -1 with errno.
 */
static long
record_locked(struct spool *spool, enum spool_dir queue, struct locked *locked)
{
	int failed = sync_directory(spool, queue) != 0 ? errno : 0;
	long recorded = 0;

	for (int i = 0; i < locked->count; i++) {
		struct draft entry = {.fd = locked->entry[i].fd};
		if (failed == 0 && record_entry(spool, &entry, queue, locked->entry[i].name) == 0)
			recorded++;
		else if (failed == 0 && errno != EEXIST && errno != ENOENT)
			failed = errno;
		close(entry.fd);
	}
	locked->count = 0;
	errno = failed;
	return failed == 0 ? recorded : -1;
}

/* Record what one queue holds, beside live writers: as finish_twin(), but many with one sync. */
static long
recover_queue(struct spool *spool, enum spool_dir queue)
{
	struct locked locked = {.count = 0};
	struct names names = {0};
	size_t next = 0;
	long recorded = 0;
	int failed = 0;

	if (spool_each(spool, queue, collect, &names) != 0)
		failed = errno;
	/* Once at least: also what is recorded may be here by the link of a move that was not synced. */
	do {
		for (; failed == 0 && next < names.length && locked.count < RECORD_AT_ONCE;
		    next += strlen(names.text + next) + 1)
			if (lock_to_record(spool, queue, names.text + next, &locked) != 0)
				failed = errno;
		long result = record_locked(spool, queue, &locked);
		if (result < 0)
			failed = errno;
		else
			recorded += result;
	} while (failed == 0 && next < names.length);
	free(names.text);
	if (failed == 0)
		return recorded;
	errno = failed;
	log_line("%s/%s: recovery: %s", spool->path, spool_dir_names[queue], strerror(errno));
	return -1;
}

long
spool_recover(struct spool *spool)
{
	time_t now = time(NULL);
	long restored = journal_recover(spool);
	int error = errno; /* of the first that failed */
	long from_new = recover_queue(spool, SPOOL_NEW);
	error = restored < 0 ? error : errno;
	long from_failed = recover_queue(spool, SPOOL_FAILED);
	error = restored < 0 || from_new < 0 ? error : errno;

	if (restored < 0 || from_new < 0 || from_failed < 0) {
		errno = error;
		return -1;
	}
	if (from_new + from_failed > 0 && sync_directory(spool, SPOOL_EVENTS) != 0)
		return -1;
	spool_each(spool, SPOOL_TMP, remove_if_old, &now);
	return restored + from_new + from_failed;
}
