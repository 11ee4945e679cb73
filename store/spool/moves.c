/*
 * Owns moves and their order. A move is link, sync of the target, unlink: without
 * the sync a power cut could keep the unlink and forget the link, and the event
 * would wait nowhere. rename(2) would not do: between two links of one file it does
 * nothing.
 */
#define _GNU_SOURCE
#include "store/spool/moves.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "base/user.h"
#include "store/spool/handler_state.h"

/*
 * Open the lock's file, and make it if it is missing. For reading alone: a user of the spool's
 * group may hold a lock of the owner's, whose mode is 0640.
 */
static int
open_lock(struct spool *spool)
{
	int fd;

	do {
		fd = openat(spool->root, LOCK_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
		if (fd >= 0 || errno != ENOENT)
			return fd;
		fd = openat(spool->root, LOCK_FILE, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
	} while (fd < 0 && errno == EEXIST);
	if (fd < 0 || spool_own(spool, fd) == 0)
		return fd;
	int saved = errno;
	close(fd);
	unlinkat(spool->root, LOCK_FILE, 0);
	errno = saved;
	return -1;
}

int
moves_lock(struct spool *spool, bool wait)
{
	int fd = open_lock(spool);
	int result;

	if (fd < 0)
		return -1;
	do
		result = flock(fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB);
	while (result != 0 && errno == EINTR && wait);
	if (result == 0)
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

bool
moves_has(struct spool *spool, enum spool_dir dir, const char *name)
{
	return faccessat(spool->dir[dir], name, F_OK, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT;
}

int
moves_link(struct spool *spool, enum spool_dir from, enum spool_dir to, const char *name)
{
	return linkat(spool->dir[from], name, spool->dir[to], name, 0) == 0 || errno == EEXIST ? 0 : -1;
}

int
moves_drop(struct spool *spool, enum spool_dir dir, const char *name)
{
	return unlinkat(spool->dir[dir], name, 0) == 0 || errno == ENOENT ? 0 : -1;
}

int
moves_whole(struct spool *spool, enum spool_dir from, enum spool_dir to, const char *name)
{
	if (moves_link(spool, from, to, name) != 0 || spool_sync(spool, to) != 0)
		return -1;
	return moves_drop(spool, from, name);
}

int
moves_done(struct spool *spool, const char *name)
{
	if (handler_state_remove(spool, name) != 0 || moves_drop(spool, SPOOL_FAILED, name) != 0)
		return -1;
	return moves_drop(spool, SPOOL_NEW, name);
}

void
moves_owner_explain(const struct stat *st, const char *what, int error, char *why, size_t size)
{
	char user[USER_NAME_SIZE];

	snprintf(why, size, "%s: %s: it is %s's; run it as that user: sudo -u %s psapi ...", what,
	    strerror(error), user_name(st->st_uid, user), user);
}

void
moves_explain(struct spool *spool, enum spool_dir dir, const char *name, char *why, size_t size)
{
	char what[4096];
	struct stat st;
	int error = errno;

	snprintf(what, sizeof(what), "%s/%s/%s", spool->path, spool_dir_names[dir], name);
	/* The file's owner, or for a file that cannot be looked at, the directory's. */
	bool found = fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) == 0 ||
	    fstat(spool->dir[dir], &st) == 0;
	if ((error == EPERM || error == EACCES) && found && st.st_uid != geteuid())
		moves_owner_explain(&st, what, error, why, size);
	else
		snprintf(why, size, "%s: %s%s", what, strerror(error),
		    error == ENOSPC || error == EDQUOT ? ": make room on its file system" :
		    error == EROFS ? ": mount its file system writable" :
		                     "");
	errno = error;
}

int
moves_lock_failed(struct spool *spool)
{
	char why[4400], what[4096];
	struct stat st;
	int error = errno;

	snprintf(what, sizeof(what), "%s/%s", spool->path, LOCK_FILE);
	if ((error == EPERM || error == EACCES) && fstat(spool->root, &st) == 0 &&
	    st.st_uid != geteuid())
		moves_owner_explain(&st, what, error, why, sizeof(why));
	else
		snprintf(why, sizeof(why), "%s: %s", what, strerror(error));
	log_line("%s", why);
	return error == EPERM || error == EACCES ? EX_NOPERM : EX_CANTCREAT;
}
