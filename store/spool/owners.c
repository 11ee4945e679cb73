/*
 * Owns the question whether the spool's owner can use each file in it. One file of another user,
 * that root has made or a backup brought, holds up its lane; a lock of another user all of drain.
 */
#define _GNU_SOURCE
#include "store/spool/owners.h"

#include <fcntl.h>
#include <stdio.h>
#include <sysexits.h>

#include "base/user.h"

enum { FILES_MAX = 10000, EVENTS_MAX = 1000 };

/* The files of one directory. */
struct survey {
	const struct stat *root; /* the spool's */
	long left;               /* to be looked at */
	long unusable;
	bool other;              /* one of them is another user's; else the mode is wrong */
	char name[STORE_NAME_SIZE]; /* of the first */
	struct stat st;             /* of it */
};

/*
 * Whether the owner can read the file, and make a link to it: for a file of another user the
 * kernel asks for reading and writing (proc(5), protected_hardlinks).
 */
static bool
is_usable(const struct stat *root, const struct stat *st, mode_t other)
{
	if (st->st_uid == root->st_uid)
		return (st->st_mode & 0400) != 0;
	return st->st_gid == root->st_gid && (st->st_mode & other) == other;
}

static int
look(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct survey *s = data;
	struct stat st;
	mode_t other = dir == SPOOL_STATE || dir == SPOOL_HOLD ? 0040 : 0060;

	if (fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode) ||
	    is_usable(s->root, &st, other))
		return --s->left > 0 ? 0 : 1;
	s->other |= st.st_uid != s->root->st_uid;
	if (s->unusable++ == 0) {
		snprintf(s->name, sizeof(s->name), "%s", name);
		s->st = st;
	}
	return --s->left > 0 ? 0 : 1;
}

static void
report(struct spool *spool, const char *where, const struct survey *s,
    void (*warn)(const struct error *, void *), void *data)
{
	char owner[USER_NAME_SIZE], user[USER_NAME_SIZE], remedy[512], more[64] = "";
	struct error warning;

	user_name(s->root->st_uid, owner);
	snprintf(remedy, sizeof(remedy), s->other ? "as root: chown -R %s %.300s" :
	    "as %s: chmod -R u+rwX %.300s", owner, spool->path);
	if (s->unusable > 1)
		snprintf(more, sizeof(more), ", and %ld more there", s->unusable - 1);
	error_set(&warning, EX_NOPERM, remedy,
	    "%s/%s%s%s: of user %s, mode %04o: %s, who owns the spool, cannot use it%s", spool->path,
	    where, *where != '\0' ? "/" : "", s->name, user_name(s->st.st_uid, user),
	    (unsigned)s->st.st_mode & 07777, owner, more);
	warn(&warning, data);
}

void
owners_check_files(struct spool *spool, void (*warn)(const struct error *, void *), void *data)
{
	static const enum spool_dir dirs[] = {
	    SPOOL_NEW, SPOOL_FAILED, SPOOL_STATE, SPOOL_HOLD, SPOOL_EVENTS};
	struct stat root, lock;

	if (user_of_spool(spool->root, ".", &root) != 0)
		return;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		struct survey s = {
		    .root = &root, .left = dirs[i] == SPOOL_EVENTS ? EVENTS_MAX : FILES_MAX};
		if (spool_each(spool, dirs[i], look, &s) >= 0 && s.unusable > 0)
			report(spool, spool_dir_names[dirs[i]], &s, warn, data);
	}
	struct survey s = {.root = &root, .unusable = 1, .name = "lock"};
	if (fstatat(spool->root, "lock", &lock, AT_SYMLINK_NOFOLLOW) != 0 ||
	    is_usable(&root, &lock, 0040))
		return;
	s.st = lock;
	s.other = lock.st_uid != root.st_uid;
	report(spool, "", &s, warn, data);
}
