/* Owns the choice of a handler and the refusal of what others could have put there. */
#define _GNU_SOURCE
#include "drain/handler.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Who could change it? Returns 0, or -1 and one line in why. */
static int
check_writers(const char *path, const struct stat *st, char *why, size_t size)
{
	if (st->st_uid != 0 && st->st_uid != geteuid()) {
		snprintf(why, size,
		    "%s: owned by user %u, neither root nor the running user %u: mend with chown root",
		    path, (unsigned)st->st_uid, (unsigned)geteuid());
		return -1;
	}
	if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		snprintf(why, size, "%s: mode %04o lets others change it: mend with chmod go-w", path,
		    (unsigned)st->st_mode & 07777);
		return -1;
	}
	return 0;
}

int
handler_check_directory(const char *dir, char *why, size_t size)
{
	struct stat st;

	if (stat(dir, &st) != 0) {
		snprintf(why, size, "%s: %s: make it, and put handlers into it (PSAPI_HANDLERS)", dir,
		    strerror(errno));
		return -1;
	}
	if (!S_ISDIR(st.st_mode)) {
		snprintf(why, size, "%s: no directory (PSAPI_HANDLERS)", dir);
		return -1;
	}
	if (access(dir, X_OK) != 0) {
		snprintf(why, size, "%s: %s: the running user must be able to look into it", dir,
		    strerror(errno));
		return -1;
	}
	return check_writers(dir, &st, why, size);
}

/* path exists: may it be run? */
static int
check_handler(const char *path, char *why, size_t size)
{
	char real[PATH_MAX], directory[PATH_MAX];
	struct stat st;

	if (realpath(path, real) == NULL || stat(real, &st) != 0) {
		snprintf(why, size, "%s: %s", path, strerror(errno));
		return -1;
	}
	if (!S_ISREG(st.st_mode)) {
		snprintf(why, size, "%s: no regular file", path);
		return -1;
	}
	if (check_writers(real, &st, why, size) != 0)
		return -1;
	strcpy(directory, real);
	if (handler_check_directory(dirname(directory), why, size) != 0)
		return -1;
	if (access(real, X_OK) != 0) {
		snprintf(why, size, "%s: cannot be executed: mend with chmod +x", path);
		return -1;
	}
	return 0;
}

static bool
names_a_file(const char *type)
{
	return *type != '\0' && *type != '.' &&
	    strspn(type, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") ==
	    strlen(type);
}

/* DIR/NAME. Returns whether there is anything of that name, or that cannot be found out. */
static bool
look(const char *dir, const char *name, char *path, size_t size)
{
	struct stat st;

	return snprintf(path, size, "%s/%s", dir, name) < (int)size &&
	    (lstat(path, &st) == 0 || errno != ENOENT);
}

enum handler_result
handler_find(const char *dir, const char *type, char *path, size_t size, char *why,
    size_t why_size)
{
	char name[NAME_MAX + 1] = "";
	bool found = false;

	/* Each time: while somebody replaces the directory, "no handler" would be a lie. */
	if (handler_check_directory(dir, why, why_size) != 0)
		return HANDLER_REFUSED;
	if (names_a_file(type))
		snprintf(name, sizeof(name), "%s", type);
	while (*name != '\0' && !(found = look(dir, name, path, size))) {
		char *dot = strrchr(name, '.');
		if (dot == NULL)
			break;
		*dot = '\0';
	}
	if (!found && !look(dir, "default", path, size))
		return HANDLER_NONE;
	return check_handler(path, why, why_size) == 0 ? HANDLER_FOUND : HANDLER_REFUSED;
}
