/*
 * Preloaded into a receiver: a call that waits for the disk succeeds without waiting, so that
 * disk.py can see whether it would notice. WITHOUT in the environment says which:
 *
 *   sync_file_range   the wait for the data, on the way with one wait
 *   O_DSYNC           the wait for the data, on the way with two: the flag of open(2), RWF_DSYNC,
 *                     and fsync of a file that has no name yet
 *   fsync             the wait for the name, and each flush of the disk: fsync, fdatasync, syncfs
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *without = "";

__attribute__((constructor)) static void
read_environment(void)
{
	const char *value = getenv("WITHOUT");
	if (value != NULL)
		without = strdup(value);
}

static bool
left_out(const char *call)
{
	return strcmp(without, call) == 0;
}

static bool
is_unnamed(int fd)
{
	struct stat st;
	return fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink == 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define WRAP_SYNC(name) \
	int name(int fd) \
	{ \
		if (left_out("fsync") || (left_out("O_DSYNC") && is_unnamed(fd))) \
			return 0; \
		return REAL(name)(fd); \
	}

WRAP_SYNC(fsync)
WRAP_SYNC(fdatasync)
WRAP_SYNC(syncfs)

int
sync_file_range(int fd, off64_t offset, off64_t length, unsigned flags)
{
	if (left_out("sync_file_range"))
		return 0;
	return REAL(sync_file_range)(fd, offset, length, flags);
}

ssize_t
pwritev2(int fd, const struct iovec *pieces, int count, off_t offset, int flags)
{
	if (left_out("O_DSYNC"))
		flags &= ~(RWF_DSYNC | RWF_SYNC);
	return REAL(pwritev2)(fd, pieces, count, offset, flags);
}

static int
flags_left(int flags)
{
	return left_out("O_DSYNC") ? flags & ~O_SYNC : flags; /* O_DSYNC is one of the bits of O_SYNC */
}

#define WRAP_OPEN(name, parameters, ...) \
	int name parameters \
	{ \
		va_list rest; \
		va_start(rest, flags); \
		mode_t mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(rest, mode_t) : 0; \
		va_end(rest); \
		return REAL(name)(__VA_ARGS__, flags_left(flags), mode); \
	}

WRAP_OPEN(open, (const char *path, int flags, ...), path)
WRAP_OPEN(openat, (int dir, const char *path, int flags, ...), dir, path)
#ifdef __USE_LARGEFILE64
WRAP_OPEN(open64, (const char *path, int flags, ...), path)
WRAP_OPEN(openat64, (int dir, const char *path, int flags, ...), dir, path)
#endif
