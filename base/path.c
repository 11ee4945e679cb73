/* Owns the search for the directory that keeps a process from a path. */
#define _GNU_SOURCE
#include "base/path.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/user.h"

const char *
path_remedy(const char *path, const char *otherwise, char text[PATH_REMEDY_SIZE])
{
	char reached[PATH_MAX] = "", user[USER_NAME_SIZE];

	/* After EACCES glibc leaves there the name that it could not look up (realpath(3)). */
	if (realpath(path, reached) != NULL || errno != EACCES || *reached != '/')
		return otherwise;
	snprintf(text, PATH_REMEDY_SIZE, "chmod a+x %.200s, which user %s cannot enter",
	    dirname(reached), user_name(geteuid(), user));
	return text;
}
