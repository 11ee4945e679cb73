/*
 * Owns how files are written, reach the disk and get names. A name is given by descriptor, so
 * that exactly the file that was checked is linked.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "store/spool/spool.h"

enum { FILE_MODE = 0640, PIECES_MAX = 4 };

int
spool_file_settle(const struct spool *spool, int fd, mode_t mode)
{
	if (spool->masked && fchmod(fd, mode) != 0)
		return -1;
	return spool->must_give ? fchown(fd, spool->owner, (gid_t)-1) : 0;
}

static int
write_pieces(int fd, const struct iovec *pieces, int count)
{
	struct iovec iov[PIECES_MAX];
	int first = 0;

	if (count > 0)
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

/* Write the data back and allocate its blocks. The fsync of the name flushes the disk's cache. */
static int
write_back(int fd)
{
	int result;

	do
		result = sync_file_range(fd, 0, 0,
		    SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE | SYNC_FILE_RANGE_WAIT_AFTER);
	while (result != 0 && errno == EINTR);
	return result;
}

void
spool_file_temporary_name(struct spool *spool, char name[SPOOL_TEMPORARY_SIZE])
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(name, SPOOL_TEMPORARY_SIZE, "%lld.%09ld.%ld.%u", (long long)now.tv_sec, now.tv_nsec,
	    (long)getpid(), atomic_fetch_add(&spool->serial, 1));
}

bool
spool_file_is_temporary(const char *name)
{
	static const size_t least[] = {1, 9, 1, 1}; /* digits of time, nanoseconds, process, serial */
	size_t parts = sizeof(least) / sizeof(least[0]);

	for (size_t i = 0; i < parts; i++) {
		size_t digits = strspn(name, "0123456789");
		if (digits < least[i] || name[digits] != (i + 1 < parts ? '.' : '\0'))
			return false;
		name += digits + 1;
	}
	return true;
}

/*
 * Open an unnamed file in events/, so that it wakes no watcher of new/. Where that is not
 * possible, make one with a name in tmp/.
 */
static int
open_new(struct spool *spool, struct spool_file *file, int flags)
{
	*file = (struct spool_file){.fd = -1, .dir = SPOOL_TMP};
	flags |= O_WRONLY | O_CLOEXEC;
	if (!spool->filesystem.named_files) {
		file->fd = openat(spool->dir[SPOOL_EVENTS], ".", O_TMPFILE | flags, FILE_MODE);
		/* open(2), O_TMPFILE: EOPNOTSUPP from the file system, EISDIR from an old kernel. */
		if (file->fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL))
			return file->fd < 0 ? -1 : 0;
	}
	spool_file_temporary_name(spool, file->name);
	file->fd = openat(spool->dir[SPOOL_TMP], file->name, O_CREAT | O_EXCL | flags, FILE_MODE);
	file->temporary = file->fd >= 0;
	return file->fd < 0 ? -1 : 0;
}

int
spool_file_write(struct spool *spool, struct spool_file *file, const struct iovec *pieces,
    int count, bool durable)
{
	if (open_new(spool, file, durable && !spool->one_wait ? O_DSYNC : 0) != 0)
		return -1;
	if (spool_file_settle(spool, file->fd, FILE_MODE) == 0 &&
	    write_pieces(file->fd, pieces, count) == 0 &&
	    (!durable || !spool->one_wait || write_back(file->fd) == 0))
		return 0;
	spool_file_close(spool, file);
	return -1;
}

void
spool_file_close(struct spool *spool, struct spool_file *file)
{
	int saved = errno;

	if (file->fd >= 0)
		close(file->fd);
	if (file->temporary)
		unlinkat(spool->dir[SPOOL_TMP], file->name, 0);
	*file = (struct spool_file){.fd = -1};
	errno = saved;
}

/* open(2), O_TMPFILE. linkat(AT_EMPTY_PATH) needs a capability, or Linux 6.10. */
int
spool_file_link(struct spool *spool, const struct spool_file *file, enum spool_dir dir,
    const char *name)
{
	char path[32];

	if (spool->by_name)
		return linkat(spool->dir[file->dir], file->name, spool->dir[dir], name, 0);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	return linkat(AT_FDCWD, path, spool->dir[dir], name, AT_SYMLINK_FOLLOW);
}

int
spool_file_replace(struct spool *spool, const struct spool_file *file, enum spool_dir dir,
    const char *name)
{
	char other[SPOOL_TEMPORARY_SIZE];

	spool_file_temporary_name(spool, other);
	if (spool_file_link(spool, file, SPOOL_TMP, other) != 0)
		return -1;
	int result = renameat(spool->dir[SPOOL_TMP], other, spool->dir[dir], name);
	int saved = errno;
	if (result != 0)
		unlinkat(spool->dir[SPOOL_TMP], other, 0);
	errno = saved;
	return result;
}

/* Another file has another time, even with the same inode. */
bool
spool_file_is_parked(const struct store_identity *identity, const struct stat *st)
{
	return st->st_ino == identity->inode && st->st_dev == identity->device &&
	    (uint64_t)st->st_size == identity->size &&
	    st->st_mtim.tv_sec == identity->written.tv_sec &&
	    st->st_mtim.tv_nsec == identity->written.tv_nsec;
}

int
spool_file_is(struct spool *spool, const struct spool_file *file, enum spool_dir dir,
    const char *name)
{
	struct stat ours, there;

	if (file->parked == NULL && fstat(file->fd, &ours) != 0)
		return -1;
	if (fstatat(spool->dir[dir], name, &there, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? 0 : -1;
	if (file->parked != NULL)
		return spool_file_is_parked(file->parked, &there);
	return ours.st_ino == there.st_ino && ours.st_dev == there.st_dev;
}

int
spool_file_unlink(struct spool *spool, const struct spool_file *file, enum spool_dir dir,
    const char *name)
{
	int same = spool_file_is(spool, file, dir, name);

	if (same <= 0)
		return same;
	return unlinkat(spool->dir[dir], name, 0) == 0 || errno == ENOENT ? 0 : -1;
}

/* Whether the entry has the webhook-id that makes this name. */
static bool
is_named(const struct entry *entry, const char *name)
{
	char expected[STORE_NAME_SIZE];

	return store_name(entry->id, strlen(entry->id), expected) == 0 && strcmp(expected, name) == 0;
}

enum entry_result
spool_file_open(struct spool *spool, struct spool_file *file, enum spool_dir dir, const char *name,
    struct entry *entry, const char **why)
{
	*file = (struct spool_file){.fd = -1, .dir = dir};
	*why = "it is not named as events are";
	if (!store_name_valid(name))
		return ENTRY_INVALID;
	snprintf(file->name, sizeof(file->name), "%s", name);
	enum entry_result result = entry_open(spool->dir[dir], name, &file->fd, why);
	if (result == ENTRY_OK)
		result = entry_read(file->fd, entry, why);
	if (result == ENTRY_OK && !is_named(entry, name)) {
		entry_free(entry);
		*why = "it holds an event with another webhook-id than its name says";
		result = ENTRY_INVALID;
	}
	if (result != ENTRY_OK)
		spool_file_close(spool, file);
	return result;
}
