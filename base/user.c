/* Owns the look-up of user names, and how root becomes the owner of a spool. */
#define _GNU_SOURCE
#include "base/user.h"

#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ENTRY_SIZE = 1024 }; /* of a user or group; a longer one counts as nameless */

/* A static program cannot look names up: glibc would load shared libraries for it. */
static const struct passwd *
find(uid_t user)
{
#ifdef PSAPI_STATIC
	(void)user;
	return NULL;
#else
	return getpwuid(user);
#endif
}

/* All groups of a user, or none but its own where it has no name. */
static int
take_groups(const struct passwd *user)
{
#ifdef PSAPI_STATIC
	(void)user;
	return setgroups(0, NULL);
#else
	return user == NULL ? setgroups(0, NULL) : initgroups(user->pw_name, user->pw_gid);
#endif
}

const char *
user_name(uid_t user, char name[USER_NAME_SIZE])
{
	snprintf(name, USER_NAME_SIZE, "%u", (unsigned)user);
#ifndef PSAPI_STATIC
	struct passwd entry, *found = NULL;
	char text[ENTRY_SIZE];

	if (getpwuid_r(user, &entry, text, sizeof(text), &found) == 0 && found != NULL)
		snprintf(name, USER_NAME_SIZE, "%s", entry.pw_name);
#endif
	return name;
}

const char *
user_group_name(gid_t group, char name[USER_NAME_SIZE])
{
	snprintf(name, USER_NAME_SIZE, "%u", (unsigned)group);
#ifndef PSAPI_STATIC
	struct group entry, *found = NULL;
	char text[ENTRY_SIZE];

	if (getgrgid_r(group, &entry, text, sizeof(text), &found) == 0 && found != NULL)
		snprintf(name, USER_NAME_SIZE, "%s", entry.gr_name);
#endif
	return name;
}

int
user_of_spool(int at, const char *path, struct stat *st)
{
	char events[PATH_MAX];
	struct stat inside;

	if (fstatat(at, path, st, 0) != 0)
		return -1;
	snprintf(events, sizeof(events), "%s/events", path);
	if (st->st_uid == 0 && fstatat(at, events, &inside, AT_SYMLINK_NOFOLLOW) == 0) {
		st->st_uid = inside.st_uid;
		st->st_gid = inside.st_gid;
	}
	return 0;
}

/* As sudo(8) -u does: handlers and libraries find that user's files, not root's. */
static int
set_environment(uid_t user, const struct passwd *entry)
{
	char name[USER_NAME_SIZE];

	user_name(user, name);
	if (setenv("HOME", entry == NULL ? "/" : entry->pw_dir, 1) != 0 ||
	    setenv("USER", name, 1) != 0)
		return -1;
	return setenv("LOGNAME", name, 1);
}

int
user_become_owner(const char *spool)
{
	struct stat st;

	if (geteuid() != 0 || user_of_spool(AT_FDCWD, spool, &st) != 0 || st.st_uid == 0)
		return 0;
	const struct passwd *owner = find(st.st_uid);
	if (take_groups(owner) != 0 || setgid(owner == NULL ? st.st_gid : owner->pw_gid) != 0 ||
	    set_environment(st.st_uid, owner) != 0)
		return -1;
	return setuid(st.st_uid);
}

/*
 * Take the effective ids of the owner of a spool. changed: whether there is something to set back.
 * Returns 0, or -1 with errno.
 */
static int
enter(const struct stat *st, bool *changed)
{
	const struct passwd *owner = find(st->st_uid);

	/* Root without CAP_SETGID, as in a container, can neither take groups nor set them. */
	*changed = take_groups(owner) == 0;
	if (!*changed || setegid(owner == NULL ? st->st_gid : owner->pw_gid) != 0)
		return -1;
	return seteuid(st->st_uid);
}

int
user_as_owner(const char *spool, void (*act)(void *data), void *data)
{
	struct stat st;
	gid_t group = getegid();

	if (geteuid() != 0 || user_of_spool(AT_FDCWD, spool, &st) != 0 || st.st_uid == 0) {
		act(data);
		return 0;
	}
	int count = getgroups(0, NULL);
	gid_t *groups = calloc((size_t)count + 1, sizeof(*groups));
	if (groups == NULL || getgroups(count, groups) != count) {
		free(groups);
		return -1;
	}
	bool changed;
	int result = enter(&st, &changed);
	if (result == 0)
		act(data);
	if (changed &&
	    (seteuid(0) != 0 || setegid(group) != 0 || setgroups((size_t)count, groups) != 0))
		abort(); /* nobody knows who we are */
	free(groups);
	return result;
}
