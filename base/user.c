/* Owns the look-up of user names. */
#define _GNU_SOURCE
#include "base/user.h"

#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

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
	const struct passwd *entry = find(user);

	if (entry != NULL)
		snprintf(name, USER_NAME_SIZE, "%s", entry->pw_name);
	else
		snprintf(name, USER_NAME_SIZE, "#%u", (unsigned)user);
	return name;
}

int
user_become_owner(const char *path)
{
	struct stat st;

	if (geteuid() != 0 || stat(path, &st) != 0 || st.st_uid == 0)
		return 0;
	const struct passwd *owner = find(st.st_uid);
	if (take_groups(owner) != 0 || setgid(owner == NULL ? st.st_gid : owner->pw_gid) != 0)
		return -1;
	return setuid(st.st_uid);
}
