/*
 * Owns the wrappers. One macro a shape; a call that the program begins to use is one
 * line here (missed_calls() in faults.py finds out what is missing).
 */
#define _GNU_SOURCE
#include "shim.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <unistd.h>

#define REAL(name) \
	static __typeof__(&name) real; \
	if (real == NULL) \
	real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* A call that is counted and may fail; done: what to log of it once it has succeeded. */
#define WRAP(type, bad, name, parameters, arguments, done) \
	type name parameters \
	{ \
		REAL(name); \
		if (shim_enter(#name) == FAIL) \
			return bad; \
		type result = real arguments; \
		int saved = errno; \
		if (result != bad) \
			done; \
		shim_leave(); \
		errno = saved; \
		return result; \
	}
#define NOTHING (void)0

WRAP(int, -1, fstat, (int fd, struct stat *st), (fd, st), NOTHING)
WRAP(int, -1, stat, (const char *path, struct stat *st), (path, st), NOTHING)
WRAP(int, -1, lstat, (const char *path, struct stat *st), (path, st), NOTHING)
WRAP(int, -1, fstatvfs, (int fd, struct statvfs *st), (fd, st), NOTHING)
WRAP(int, -1, statx, (int dir, const char *path, int flags, unsigned mask, struct statx *st),
    (dir, path, flags, mask, st), NOTHING)
WRAP(int, -1, statvfs, (const char *path, struct statvfs *st), (path, st), NOTHING)
WRAP(int, -1, fchmodat, (int dir, const char *path, mode_t mode, int flags),
    (dir, path, mode, flags), NOTHING)
WRAP(int, -1, fchmod, (int fd, mode_t mode), (fd, mode), NOTHING)
WRAP(int, -1, chmod, (const char *path, mode_t mode), (path, mode), NOTHING)
WRAP(int, -1, fchown, (int fd, uid_t user, gid_t group), (fd, user, group), NOTHING)
WRAP(int, -1, fchownat, (int dir, const char *path, uid_t user, gid_t group, int flags),
    (dir, path, user, group, flags), NOTHING)
WRAP(int, -1, ftruncate, (int fd, off_t length), (fd, length), NOTHING)
WRAP(int, -1, futimens, (int fd, const struct timespec times[2]), (fd, times), NOTHING)
WRAP(int, -1, utimensat, (int dir, const char *path, const struct timespec times[2], int flags),
    (dir, path, times, flags), NOTHING)
WRAP(ssize_t, -1, pread, (int fd, void *buffer, size_t size, off_t offset),
    (fd, buffer, size, offset), NOTHING)
WRAP(int, -1, sync_file_range, (int fd, off_t offset, off_t length, unsigned flags),
    (fd, offset, length, flags), NOTHING)
WRAP(int, -1, scandirat, (int dir, const char *path, struct dirent ***list,
    int (*wanted)(const struct dirent *),
    int (*compare)(const struct dirent **, const struct dirent **)),
    (dir, path, list, wanted, compare), NOTHING)
WRAP(DIR *, NULL, fdopendir, (int fd), (fd), NOTHING)
WRAP(DIR *, NULL, opendir, (const char *path), (path), NOTHING)
WRAP(FILE *, NULL, fopen, (const char *path, const char *mode), (path, mode), NOTHING)
WRAP(FILE *, NULL, fdopen, (int fd, const char *mode), (fd, mode), NOTHING)
WRAP(ssize_t, -1, getdelim, (char **line, size_t *room, int end, FILE *file),
    (line, room, end, file), NOTHING)
WRAP(ssize_t, -1, getline, (char **line, size_t *room, FILE *file), (line, room, file), NOTHING)
/* Its end is a NULL that is no failure: errno stays as it was, as the program expects. */
WRAP(struct dirent *, NULL, readdir, (DIR *stream), (stream), NOTHING)
WRAP(int, -1, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode),
    oplog_made(dir, path))
WRAP(int, -1, mkdir, (const char *path, mode_t mode), (path, mode), oplog_made(AT_FDCWD, path))
WRAP(int, -1, unlink, (const char *path), (path), oplog_unlinked(AT_FDCWD, path))

/* Steps that others see: a driver may hold the process before them. */
#define WRAP_STEP(name, dir, parameters, arguments, done) \
	static int inner_##name parameters; \
	int name parameters \
	{ \
		oplog_step(#name, dir); \
		if (oplog_forbids(#name, dir)) \
			return -1; \
		return inner_##name arguments; \
	} \
	static int inner_##name parameters \
	{ \
		REAL(name); \
		if (shim_enter(#name) == FAIL) \
			return -1; \
		int result = real arguments; \
		int saved = errno; \
		if (result == 0) \
			done; \
		shim_leave(); \
		errno = saved; \
		return result; \
	}

WRAP_STEP(fsync, fd, (int fd), (fd), oplog_synced(fd))
WRAP_STEP(fdatasync, fd, (int fd), (fd), oplog_synced(fd))
WRAP_STEP(syncfs, fd, (int fd), (fd), oplog_synced_all())
WRAP_STEP(unlinkat, dir, (int dir, const char *path, int flags), (dir, path, flags),
    oplog_unlinked(dir, path))
WRAP_STEP(renameat, to, (int from, const char *old, int to, const char *new), (from, old, to, new),
    oplog_renamed(from, old, to, new))
WRAP_STEP(rename, AT_FDCWD, (const char *old, const char *new), (old, new),
    oplog_renamed(AT_FDCWD, old, AT_FDCWD, new))
WRAP_STEP(fstatat, dir, (int dir, const char *path, struct stat *st, int flags),
    (dir, path, st, flags), NOTHING)
WRAP_STEP(faccessat, dir, (int dir, const char *path, int mode, int flags),
    (dir, path, mode, flags), NOTHING)

int
access(const char *path, int mode)
{
	REAL(access);
	if (shim_enter("access") == FAIL)
		return -1;
	if (shim_without("proc") && strncmp(path, "/proc", 5) == 0) {
		errno = ENOENT;
		return -1;
	}
	int result = real(path, mode);
	shim_leave();
	return result;
}

int
linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
	REAL(linkat);
	oplog_step("linkat", to_dir);
	if (oplog_forbids("linkat", to_dir) || shim_enter("linkat") == FAIL)
		return -1;
	if (strncmp(from, "/proc", 5) == 0 && shim_without("proc")) {
		errno = ENOENT;
		return -1;
	}
	int result = real(from_dir, from, to_dir, to, flags);
	int saved = errno;
	if (result == 0)
		oplog_linked(from_dir, from, to_dir, to);
	shim_leave();
	errno = saved;
	return result;
}

/* Waiting for a lock is a step: the driver lets the one that holds it go on. */
int
flock(int fd, int operation)
{
	REAL(flock);
	if (shim_enter("flock") == FAIL)
		return -1;
	int result = real(fd, operation | LOCK_NB);
	while (result != 0 && errno == EWOULDBLOCK && (operation & LOCK_NB) == 0) {
		oplog_step("blocked", -1);
		result = real(fd, operation | LOCK_NB);
	}
	int saved = errno;
	shim_leave();
	errno = saved;
	return result;
}

/* ---- the file system, which may be another than it is ---- */

int
fstatfs(int fd, struct statfs *st)
{
	REAL(fstatfs);
	if (shim_enter("fstatfs") == FAIL)
		return -1;
	int result = real(fd, st);
	if (result == 0 && shim_with("one_wait"))
		st->f_type = 0x58465342; /* statfs(2): XFS */
	shim_leave();
	return result;
}

int
ioctl(int fd, unsigned long request, ...)
{
	REAL(ioctl);
	va_list ap;

	va_start(ap, request);
	void *argument = va_arg(ap, void *);
	va_end(ap);
	if (request != FS_IOC_FSGETXATTR || !shim_with("one_wait"))
		return real(fd, request, argument);
	if (shim_enter("ioctl") == FAIL)
		return -1;
	memset(argument, 0, sizeof(struct fsxattr));
	shim_leave();
	return 0;
}

/* ---- open: three spellings, one wrapper ---- */

static int
open_any(const char *name, int dir, const char *path, int flags, mode_t mode)
{
	static int (*real)(int, const char *, int, ...);

	if (real == NULL)
		real = (int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat");
	/* Reading what another may have put there meanwhile; -1 would be the answer. */
	if (dir >= 0 && (flags & (O_CREAT | O_DIRECTORY)) == 0)
		oplog_step(name, dir);
	if (shim_enter(name) == FAIL)
		return -1;
	if ((flags & O_TMPFILE) == O_TMPFILE && shim_without("tmpfile")) {
		errno = EOPNOTSUPP;
		return -1;
	}
	int fd = real(dir, path, flags, mode);
	int saved = errno;
	if (fd >= 0)
		oplog_opened(fd, path, flags);
	shim_leave();
	errno = saved;
	return fd;
}

static mode_t
mode_of(int flags, va_list ap)
{
	return (flags & O_CREAT) != 0 || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(ap, mode_t) : 0;
}

int
open(const char *path, int flags, ...)
{
	va_list ap;

	va_start(ap, flags);
	mode_t mode = mode_of(flags, ap);
	va_end(ap);
	return open_any("open", AT_FDCWD, path, flags, mode);
}

int
openat(int dir, const char *path, int flags, ...)
{
	va_list ap;

	va_start(ap, flags);
	mode_t mode = mode_of(flags, ap);
	va_end(ap);
	return open_any("openat", dir, path, flags, mode);
}

int __open_2(const char *path, int flags);
int
__open_2(const char *path, int flags)
{
	return open_any("open", AT_FDCWD, path, flags, 0);
}

int __openat_2(int dir, const char *path, int flags);
int
__openat_2(int dir, const char *path, int flags)
{
	return open_any("openat", dir, path, flags, 0);
}

/* close(2): the descriptor is gone whatever it returns. */
int
close(int fd)
{
	REAL(close);
	bool failed = shim_enter("close") == FAIL;
	int saved = errno;
	int result = real(fd);
	shim_leave();
	if (!failed)
		return result;
	errno = saved;
	return -1;
}

int
closedir(DIR *stream)
{
	REAL(closedir);
	bool failed = shim_enter("closedir") == FAIL;
	int saved = errno;
	int result = real(stream);
	shim_leave();
	if (!failed)
		return result;
	errno = saved;
	return -1;
}

/* ---- reading and writing, which may stop half-way ---- */

ssize_t
read(int fd, void *buffer, size_t size)
{
	REAL(read);
	/* Short: 30 bytes, which is short for a secret file as well. */
	enum fate fate = shim_enter("read");
	if (fate == FAIL)
		return -1;
	ssize_t result = real(fd, buffer, fate == CUT_SHORT && size > 30 ? 30 : size);
	shim_leave();
	return result;
}

ssize_t __read_chk(int fd, void *buffer, size_t size, size_t room);
ssize_t
__read_chk(int fd, void *buffer, size_t size, size_t room)
{
	if (size > room)
		abort();
	return read(fd, buffer, size);
}

ssize_t __pread_chk(int fd, void *buffer, size_t size, off_t offset, size_t room);
ssize_t
__pread_chk(int fd, void *buffer, size_t size, off_t offset, size_t room)
{
	if (size > room)
		abort();
	return pread(fd, buffer, size, offset);
}

static off_t
position(int fd)
{
	off_t at = lseek(fd, 0, SEEK_CUR);

	return at < 0 ? 0 : at;
}

ssize_t
write(int fd, const void *data, size_t length)
{
	REAL(write);
	if (fd == STDOUT_FILENO)
		oplog_step("answer", -1);
	enum fate fate = shim_enter("write");
	if (fate == FAIL)
		return -1;
	off_t offset = position(fd);
	ssize_t result = real(fd, data, fate == CUT_SHORT && length > 1 ? length / 2 : length);
	int saved = errno;
	if (result > 0)
		oplog_written(fd, offset, data, (size_t)result);
	shim_leave();
	errno = saved;
	return result;
}

ssize_t
writev(int fd, const struct iovec *pieces, int count)
{
	REAL(writev);
	enum fate fate = shim_enter("writev");
	if (fate == FAIL)
		return -1;
	if (fate == CUT_SHORT) {
		/* Half of the first piece alone, or all of it if it is one byte. */
		size_t half = pieces[0].iov_len > 1 ? pieces[0].iov_len / 2 : pieces[0].iov_len;
		struct iovec piece = {pieces[0].iov_base, half};
		off_t at = position(fd);
		ssize_t n = real(fd, &piece, 1);
		if (n > 0)
			oplog_written(fd, at, piece.iov_base, (size_t)n);
		return n;
	}
	off_t offset = position(fd);
	ssize_t result = real(fd, pieces, count);
	int saved = errno;
	for (ssize_t i = 0, left = result; i < count && left > 0; i++) {
		size_t n = (size_t)left < pieces[i].iov_len ? (size_t)left : pieces[i].iov_len;
		oplog_written(fd, offset, pieces[i].iov_base, n);
		offset += (off_t)n;
		left -= (ssize_t)n;
	}
	/* What is open for that is on the disk when the call returns, open(2). */
	if (result > 0 && (fcntl(fd, F_GETFL) & O_DSYNC) != 0)
		oplog_synced(fd);
	shim_leave();
	errno = saved;
	return result;
}

ssize_t
pwrite(int fd, const void *data, size_t length, off_t offset)
{
	REAL(pwrite);
	enum fate fate = shim_enter("pwrite");
	if (fate == FAIL)
		return -1;
	ssize_t result = real(fd, data, fate == CUT_SHORT && length > 1 ? length / 2 : length, offset);
	int saved = errno;
	if (result > 0)
		oplog_written(fd, offset, data, (size_t)result);
	shim_leave();
	errno = saved;
	return result;
}

/* ---- memory: glibc's own names, because dlsym() allocates ---- */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

static bool
no_memory(void)
{
	if (shim_enter("allocation") != FAIL)
		return false;
	errno = ENOMEM;
	return true;
}

void *
malloc(size_t size)
{
	return no_memory() ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
	return no_memory() ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
	return no_memory() ? NULL : __libc_realloc(old, size);
}

/* Memory for secrets (securemem.c). */
void *
mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	REAL(mmap);
	return no_memory() ? MAP_FAILED : real(at, size, protection, flags, fd, offset);
}
