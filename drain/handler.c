/*
 * Owns the choice of a handler, and the refusal of handlers that other users can change: they
 * would run with the rights of the spool's owner.
 */
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
#include <sysexits.h>
#include <unistd.h>

/* Whether root and the running user alone can change it. Returns 0, or -1 with the error. */
static int
check_writers(const char *path, const struct stat *st, struct error *error)
{
	if (st->st_uid != 0 && st->st_uid != geteuid()) {
		error_set(error, EX_CONFIG, "chown root",
		    "%s: owned by user %u, neither root nor the running user %u", path,
		    (unsigned)st->st_uid, (unsigned)geteuid());
		return -1;
	}
	if ((st->st_mode & (S_IWGRP | S_IWOTH)) != 0) {
		error_set(error, EX_CONFIG, "chmod go-w", "%s: mode %04o lets other users change it", path,
		    (unsigned)st->st_mode & 07777);
		return -1;
	}
	return 0;
}

int
handler_check_directory(const char *dir, struct error *error)
{
	struct stat st;

	if (stat(dir, &st) != 0)
		error_set(error, EX_CONFIG, "make it, and put handlers into it (PSAPI_HANDLERS)", "%s: %s",
		    dir, strerror(errno));
	else if (!S_ISDIR(st.st_mode))
		error_set(error, EX_CONFIG, "PSAPI_HANDLERS must name a directory",
		    "%s: is not a directory", dir);
	else if (access(dir, X_OK) != 0)
		error_set(error, EX_CONFIG, "the running user must have access to it", "%s: %s", dir,
		    strerror(errno));
	else
		return check_writers(dir, &st, error);
	return -1;
}

/* Whether the file at path may be run. Returns 0, or -1 with the error. */
static int
check_handler(const char *path, struct error *error)
{
	char real[PATH_MAX], directory[PATH_MAX];
	struct stat st;

	if (realpath(path, real) == NULL || stat(real, &st) != 0) {
		error_set(error, EX_CONFIG, NULL, "%s: %s", path, strerror(errno));
		return -1;
	}
	if (!S_ISREG(st.st_mode)) {
		error_set(error, EX_CONFIG, "a handler is a program: move it away",
		    "%s: is not a regular file", path);
		return -1;
	}
	strcpy(directory, real);
	if (check_writers(real, &st, error) != 0 ||
	    handler_check_directory(dirname(directory), error) != 0)
		return -1;
	if (access(real, X_OK) == 0)
		return 0;
	error_set(error, EX_CONFIG, "chmod +x", "%s: is not executable", path);
	return -1;
}

static bool
can_be_file_name(const char *type)
{
	return *type != '\0' && *type != '.' &&
	    strspn(type, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") ==
	    strlen(type);
}

/* DIR/NAME into path. Returns whether such a file exists, or may exist (EACCES). */
static bool
may_exist(const char *dir, const char *name, char *path, size_t size)
{
	struct stat st;

	return snprintf(path, size, "%s/%s", dir, name) < (int)size &&
	    (lstat(path, &st) == 0 || errno != ENOENT);
}

enum handler_result
handler_find(const char *dir, const char *type, char *path, size_t size, struct error *error)
{
	char name[NAME_MAX + 1] = "";
	bool found = false;

	/* Each time: while an administrator replaces the directory, "no handler" would be wrong. */
	if (handler_check_directory(dir, error) != 0)
		return HANDLER_REFUSED;
	if (can_be_file_name(type))
		snprintf(name, sizeof(name), "%s", type);
	while (*name != '\0' && !(found = may_exist(dir, name, path, size))) {
		char *dot = strrchr(name, '.');
		if (dot == NULL)
			break;
		*dot = '\0';
	}
	if (!found && !may_exist(dir, "default", path, size))
		return HANDLER_NONE;
	return check_handler(path, error) == 0 ? HANDLER_FOUND : HANDLER_REFUSED;
}
