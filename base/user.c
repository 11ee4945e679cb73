/* Owns the look-up of user names. */
#include "base/user.h"

#include <pwd.h>
#include <stdio.h>

const char *
user_name(uid_t user, char name[USER_NAME_SIZE])
{
	const struct passwd *entry = getpwuid(user);

	if (entry != NULL)
		snprintf(name, USER_NAME_SIZE, "%s", entry->pw_name);
	else
		snprintf(name, USER_NAME_SIZE, "#%u", (unsigned)user);
	return name;
}
