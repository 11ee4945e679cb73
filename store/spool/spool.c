/*
 * Owns the spool's directories: that they are there, of one format and on one file
 * system, and how a name in them reaches the disk. Every access is relative to a
 * directory descriptor; every name is made by store_name() or checked like one.
 */
#define _GNU_SOURCE
#include "store/spool/spool.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/path.h"
#include "base/user.h"
#include "store/spool/owners.h"

const char *const spool_dir_names[SPOOL_DIRS] = {
	"new", "events", "failed", "state", "hold", "tmp"};

#define FORMAT_FILE "format" /* no program of format 1 makes it */

enum {
	DIR_MODE = 02770,
	FILE_MODE = 0640,
	LOCK_WAIT_MS = 10 * 60 * 1000 /* for a drain to end; what waits longer is told */
};

/* ---- open ---- */

static int
make_directory(int parent, const char *name)
{
	struct stat st;

	if (mkdirat(parent, name, DIR_MODE & 0777) != 0)
		return errno == EEXIST ? 0 : -1;
	/* Root makes it for the spool's owner. */
	if (geteuid() == 0 && parent != AT_FDCWD && user_of_spool(parent, ".", &st) == 0 &&
	    st.st_uid != 0 && fchownat(parent, name, st.st_uid, (gid_t)-1, AT_SYMLINK_NOFOLLOW) != 0)
		return -1;
	/* mkdir(2) obeys the umask and drops the set-group-ID bit. */
	return fchmodat(parent, name, DIR_MODE, 0);
}

/*
 * A directory of the spool may not be a link: files of another directory would be moved and
 * removed as if they were ours. The spool itself may be one.
 */
static int
open_existing(int parent, const char *name)
{
	if (parent == AT_FDCWD)
		return openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

static int
open_directory(int parent, const char *name, bool create)
{
	int fd = open_existing(parent, name);

	if (fd >= 0 || errno != ENOENT || !create)
		return fd;
	/*
	 * tmp/ is made last, when all above it is on the disk: a process that finds it need not
	 * sync them, and no acknowledged event goes with a directory that a power cut took.
	 */
	if (strcmp(name, spool_dir_names[SPOOL_TMP]) == 0 && syncfs(parent) != 0)
		return -1;
	if (make_directory(parent, name) != 0)
		return -1;
	return open_existing(parent, name);
}

/* A spool of another format must not be read, or written, as if it were of ours. */
static int
check_format(const struct spool *spool, struct error *error)
{
	char text[16];
	ssize_t n = spool_read_text(spool->root, FORMAT_FILE, text, sizeof(text));
	int number = errno;

	if (n < 0 && number == ENOENT)
		return 0;
	text[strcspn(text, "\n")] = '\0';
	if (n >= 0 && strcmp(text, SPOOL_FORMAT) == 0)
		return 0;
	if (n < 0)
		error_set(error, EX_NOINPUT, NULL, "%s/" FORMAT_FILE ": %s", spool->path, strerror(number));
	else
		error_set(error, EX_CONFIG,
		    "a later version made it: install that one, or name another directory with PSAPI_SPOOL",
		    "%s/" FORMAT_FILE ": the spool has format %s, this program knows " SPOOL_FORMAT,
		    spool->path, text);
	return -1;
}

/* Find out what holds for the spool and this process as long as it runs. */
static int
detect(struct spool *spool)
{
	mode_t mask = umask(0);
	struct stat st;

	umask(mask);
	if (user_of_spool(spool->root, ".", &st) != 0)
		return -1;
	spool->owner = st.st_uid;
	spool->must_give = geteuid() == 0 && st.st_uid != 0;
	spool->masked = (mask & FILE_MODE) != 0;
	spool->by_name = access("/proc/self/fd", F_OK) != 0;
	filesystem_detect(spool->dir[SPOOL_EVENTS], &spool->filesystem);
	spool->filesystem.named_files |= spool->by_name;
	spool->one_wait = spool->filesystem.one_wait && !spool->forced;
	return 0;
}

/*
 * The remedy for a file or directory of another user. It is the spool owner's: then the caller is
 * the wrong one; or a third user's, then the file is. False if it is our own.
 */
static bool
explain_owner(const struct spool *spool, const struct stat *st, char *remedy, size_t size)
{
	char owner[USER_NAME_SIZE], other[USER_NAME_SIZE];

	if (st->st_uid == geteuid() || (st->st_uid == spool->owner && geteuid() == 0))
		return false;
	user_name(spool->owner, owner);
	if (st->st_uid != spool->owner)
		snprintf(remedy, size, "it belongs to %s: as root, chown -R %s %.300s",
		    user_name(st->st_uid, other), owner, spool->path);
	else if (spool->intake && st->st_uid != 0)
		snprintf(remedy, size, "the receiver must run as %s, whose spool it is", owner);
	else if (spool->intake)
		snprintf(remedy, size, "as root, chown -R %s %.300s", user_name(geteuid(), other),
		    spool->path);
	else if (st->st_uid != 0)
		snprintf(remedy, size, isdigit((unsigned char)*owner) ? "run it as root, or as user %s" :
		    "run it as root, or as the spool's owner: sudo -u %s psapi ...", owner);
	else
		snprintf(remedy, size, "run it as root, whose spool it is; or as root, chown USER %.300s",
		    spool->path);
	return true;
}

/* Why errno came of the spool, or of a directory in it; *st is of that, unless it is unknown. */
static void
explain_refusal(const struct spool *spool, const char *name, int number, const struct stat *st,
    struct error *error)
{
	const char *slash = *name != '\0' ? "/" : "";
	const char *remedy = number != ENOENT ?
	    "it must be a directory that the running user may write" : spool->intake ?
	    "make it, owned by the running user; PSAPI_SPOOL names another" :
	    "the receiver makes it when it starts; --spool or PSAPI_SPOOL names another";
	char owner[512], closed[PATH_REMEDY_SIZE];

	if (st != NULL && S_ISLNK(st->st_mode)) {
		error_set(error, EX_CONFIG, "replace it by a directory", "%s%s%s: is a symbolic link",
		    spool->path, slash, name);
		return;
	}
	if (number == EACCES && st != NULL && explain_owner(spool, st, owner, sizeof(owner)))
		remedy = owner;
	else if (number == EACCES && st != NULL && (st->st_mode & 0700) != 0700)
		remedy = "chmod u+rwx";
	else if (number == EACCES && st == NULL)
		remedy = path_remedy(spool->path, remedy, closed);
	error_set(error, number == EACCES ? EX_NOPERM : EX_NOINPUT, remedy, "%s%s%s: %s", spool->path,
	    slash, name, strerror(number));
}

static enum store_result
refuse(struct spool *spool, const char *name, struct error *error)
{
	int number = errno;
	struct stat root, st;
	const struct stat *found = user_of_spool(AT_FDCWD, spool->path, &root) == 0 ? &root : NULL;

	spool->owner = found != NULL ? root.st_uid : geteuid();
	if (*name != '\0')
		found = fstatat(spool->root, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? &st : NULL;
	explain_refusal(spool, name, number, found, error);
	return STORE_FAILED;
}

void
spool_without(struct spool *spool, const char *path)
{
	*spool = (struct spool){.path = path, .root = -1, .lock = -1, .wait_ms = LOCK_WAIT_MS};
	for (int i = 0; i < SPOOL_DIRS; i++)
		spool->dir[i] = -1;
}

enum store_result
spool_open(struct spool *spool, const char *path, bool two_waits, bool create, struct error *error)
{
	enum store_result result = STORE_OK;

	spool_without(spool, path);
	spool->forced = two_waits;
	spool->intake = create;
	spool->root = open_directory(AT_FDCWD, path, create);
	if (spool->root < 0)
		return refuse(spool, "", error);
	if (check_format(spool, error) != 0)
		result = STORE_FAILED;
	for (int i = 0; i < SPOOL_DIRS && result == STORE_OK; i++) {
		spool->dir[i] = open_directory(spool->root, spool_dir_names[i], create);
		if (spool->dir[i] < 0)
			result = refuse(spool, spool_dir_names[i], error);
	}
	if (result == STORE_OK && detect(spool) != 0)
		result = refuse(spool, "", error);
	if (result != STORE_OK)
		spool_close(spool);
	return result;
}

void
spool_close(void *engine)
{
	struct spool *spool = engine;

	spool_work_end(spool);
	for (int i = 0; i < SPOOL_DIRS; i++)
		if (spool->dir[i] >= 0)
			close(spool->dir[i]);
	close(spool->root);
}

/* The owner makes lock and the attempts log in the spool itself. */
static void
warn_of_root(struct spool *spool, void (*warn)(const struct error *, void *), void *data)
{
	char owner[USER_NAME_SIZE], group[USER_NAME_SIZE], remedy[512];
	struct error warning;
	struct stat st;

	if (geteuid() != spool->owner || user_of_spool(spool->root, ".", &st) != 0 ||
	    access(spool->path, W_OK | X_OK) == 0 || errno != EACCES)
		return; /* a read-only file system is the probe's finding */
	user_name(spool->owner, owner);
	snprintf(remedy, sizeof(remedy), "as root: chown %s:%s %.200s; chmod 2770 %.200s", owner,
	    user_group_name(st.st_gid, group), spool->path, spool->path);
	error_set(&warning, EX_CONFIG, remedy, "%s: %s, who owns what is in it, cannot write to it",
	    spool->path, owner);
	warn(&warning, data);
}

/* Each directory must have the spool's owner, or its group with write permission. */
static void
warn_of_owners(struct spool *spool, void (*warn)(const struct error *, void *), void *data)
{
	struct error warning;
	char owner[USER_NAME_SIZE], other[USER_NAME_SIZE], remedy[PATH_MAX];
	struct stat root, st;

	if (user_of_spool(spool->root, ".", &root) != 0)
		return;
	for (int i = 0; i < SPOOL_DIRS; i++) {
		if (fstat(spool->dir[i], &st) != 0 || st.st_uid == root.st_uid ||
		    (st.st_gid == root.st_gid && (st.st_mode & 0070) == 0070))
			continue;
		snprintf(remedy, sizeof(remedy), "chown -R %s %s", user_name(root.st_uid, owner),
		    spool->path);
		error_set(&warning, EX_CONFIG, remedy, "%s/%s belongs to %s, the spool itself to %s",
		    spool->path, spool_dir_names[i], user_name(st.st_uid, other), owner);
		warn(&warning, data);
	}
}

void
spool_warnings(struct spool *spool, void (*warn)(const struct error *, void *), void *data)
{
	const struct filesystem *found = &spool->filesystem;
	struct error warning;

	if (found->warning != NULL) {
		error_set(&warning, 0, found->remedy, "%s: %s", spool->path, found->warning);
		warn(&warning, data);
	}
	warn_of_root(spool, warn, data);
	warn_of_owners(spool, warn, data);
	owners_check_files(spool, warn, data);
}

void
spool_describe(void *engine, char *text, size_t size)
{
	const struct spool *spool = engine;

	if (spool->one_wait)
		snprintf(text, size, "%s, one wait for the disk", spool->filesystem.type);
	else
		snprintf(text, size, "%s, two waits for the disk (%s)", spool->filesystem.type,
		    spool->forced ? "PSAPI_SYNC=two" : spool->filesystem.why_two);
}

int
spool_missing(const char *path)
{
	char sub[PATH_MAX + 16];
	int missing = 0;

	for (int i = 0; i < SPOOL_DIRS; i++) {
		snprintf(sub, sizeof(sub), "%s/%s", path, spool_dir_names[i]);
		missing += access(sub, F_OK) != 0 && errno == ENOENT;
	}
	return missing;
}

void
spool_remove(const char *path)
{
	char sub[PATH_MAX + 16];

	for (int i = 0; i < SPOOL_DIRS; i++) {
		snprintf(sub, sizeof(sub), "%s/%s", path, spool_dir_names[i]);
		rmdir(sub);
	}
	rmdir(path);
}

/* ---- names ---- */

DIR *
spool_open_stream(const struct spool *spool, enum spool_dir dir)
{
	int fd = openat(spool->dir[dir], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);

	if (stream == NULL)
		io_close(fd);
	return stream;
}

int
spool_lock_directory(const struct spool *spool, enum spool_dir dir, int64_t milliseconds)
{
	int fd = openat(spool->dir[dir], ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 || io_lock(fd, milliseconds) == 0)
		return fd;
	io_close(fd);
	return -1;
}

ssize_t
spool_read_text(int directory, const char *name, char *text, size_t size)
{
	int fd = openat(directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = fd < 0 ? -1 : io_read_all(fd, text, size - 1);

	io_close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n;
}

int
spool_each(struct spool *spool, enum spool_dir dir,
    int (*visit)(struct spool *, enum spool_dir, const char *, void *), void *data)
{
	int result = 0;
	DIR *stream = spool_open_stream(spool, dir);

	if (stream == NULL)
		return -1;
	while (result == 0) {
		errno = 0;
		struct dirent *entry = readdir(stream);
		if (entry == NULL) {
			result = errno == 0 ? 0 : -1;
			break;
		}
		if (entry->d_name[0] != '.')
			result = visit(spool, dir, entry->d_name, data);
	}
	int saved = errno;
	closedir(stream);
	errno = saved;
	return result;
}

bool
spool_has(struct spool *spool, enum spool_dir dir, const char *name)
{
	return faccessat(spool->dir[dir], name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

/* ---- the disk ---- */

static int
sync_fd(int fd)
{
	int result;

	do
		result = fsync(fd);
	while (result != 0 && errno == EINTR);
	return result;
}

int
spool_sync(struct spool *spool, enum spool_dir dir, int file)
{
	bool wanted = dir != SPOOL_DIRS && (file < 0 || !spool->one_wait);
	int result = wanted ? sync_fd(spool->dir[dir]) : 0;

	if (result == 0 && file >= 0)
		result = sync_fd(file);
	if (result == 0) {
		/* The kernel reports an error to one thread only: it may have been about our name. */
		if (!atomic_load(&spool->distrusted))
			return 0;
		errno = EIO;
		return -1;
	}
	int saved = errno;
	if (!atomic_exchange(&spool->distrusted, true))
		log_line("%s: fsync: %s: nothing is accepted until a restart", spool->path,
		    strerror(errno));
	errno = saved;
	return -1;
}

/* ---- errors ---- */

static const struct {
	int number;
	int status;
	const char *remedy;
} causes[] = {
	{ENOSPC, EX_IOERR, "make room on its file system"},
	{EDQUOT, EX_IOERR, "make room in the user's quota"},
	{EROFS, EX_IOERR, "mount its file system writable"},
	{EXDEV, EX_CONFIG, "keep the whole spool on one file system, without a mount inside it"},
	{EMLINK, EX_IOERR, "its file system must allow hard links"},
	{EIO, EX_IOERR, "look for the disk's errors in the kernel's log (dmesg)"},
	{EACCES, EX_NOPERM, "the running user must be able to use it"},
	{EWOULDBLOCK, EX_TEMPFAIL, "another process has locked it: fuser -v shows which"},
	{EPERM, EX_NOPERM, "its file system must allow hard links to the running user, and lsattr -d "
	                   "show no i or a"},
};

bool
spool_is_one_file(int number)
{
	return number == EACCES || number == EPERM || number == EIO || number == ELOOP;
}

enum store_result
spool_failed(struct spool *spool, const char *step, enum spool_dir dir, const char *name,
    struct error *error)
{
	int number = errno, status = EX_IOERR;
	int fd = dir == SPOOL_DIRS ? spool->root : spool->dir[dir];
	const char *remedy = NULL;
	char owner[512];
	struct stat st;

	for (size_t i = 0; i < sizeof(causes) / sizeof(causes[0]); i++) {
		if (causes[i].number != number)
			continue;
		status = causes[i].status;
		remedy = causes[i].remedy;
	}
	/* The file's owner; where stat(2) is refused, the directory's. */
	if (status == EX_NOPERM &&
	    (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || fstat(fd, &st) == 0) &&
	    explain_owner(spool, &st, owner, sizeof(owner)))
		remedy = owner;
	error_set(error, status, remedy, "%s/%s%s%s: cannot %s: %s", spool->path,
	    dir == SPOOL_DIRS ? "" : spool_dir_names[dir],
	    dir != SPOOL_DIRS && *name != '\0' ? "/" : "", name, step, strerror(number));
	errno = number;
	return number == ENOSPC || number == EDQUOT ? STORE_FULL : STORE_FAILED;
}
