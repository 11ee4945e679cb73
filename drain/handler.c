/*
 * Owns the choice of a handler, and the judgement of one: others must not be able to change it,
 * for it runs with the rights of the spool's owner, and it must be able to start.
 */
#define _GNU_SOURCE
#include "drain/handler.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/user.h"
#include "drain/trust.h"

#define CORRECT_LINK "ls -l shows where it leads: correct or remove it"

/* ---- the directory ---- */

/* A walk was refused for a directory on the way to handlers: another place is the remedy. */
static void
name_setting(const char *setting, struct error *error)
{
	char text[sizeof(error->text)], remedy[128];

	if (strcmp(error->remedy, trust_elsewhere) != 0)
		return;
	snprintf(text, sizeof(text), "%s", error->text);
	snprintf(remedy, sizeof(remedy), "keep handlers where root and this user alone can write: %s",
	    setting);
	error_set(error, error->status, remedy, "%s", text);
}

/* Why the directory cannot be reached: error_number. Returns -1, with errno. */
static int
refuse_directory(const struct handler_directory *dir, int error_number, struct error *error)
{
	char user[USER_NAME_SIZE], remedy[128];

	if (error_number == ENOTDIR) {
		snprintf(remedy, sizeof(remedy), "%s must name a directory", dir->setting);
		error_set(error, EX_CONFIG, remedy, "%s: is not a directory", dir->path);
	} else if (error_number == EACCES) {
		error_set(error, EX_CONFIG, "chmod a+x this directory and those above it",
		    "%s: user %s has no access to it", dir->path, user_name(geteuid(), user));
	} else if (error_number == ELOOP) {
		error_set(error, EX_CONFIG, CORRECT_LINK, "%s: is a link that leads in a circle",
		    dir->path);
	} else {
		snprintf(remedy, sizeof(remedy), "make it, and put handlers into it (%s)", dir->setting);
		error_set(error, EX_CONFIG, remedy, "%s: %s", dir->path, strerror(error_number));
	}
	errno = error_number;
	return -1;
}

/* Walk to the directory. Returns 0, or -1 with the error and errno. */
static int
open_directory(const struct handler_directory *dir, struct trust *trust, struct error *error)
{
	switch (trust_open(trust, NULL, dir->path, error)) {
	case TRUST_OK:
		break;
	case TRUST_REFUSED:
		name_setting(dir->setting, error);
		errno = 0;
		return -1;
	case TRUST_FAILED:
		return refuse_directory(dir, errno, error);
	}
	int error_number = trust->file >= 0 ? ENOTDIR :
	    faccessat(trust->directory, ".", X_OK, 0) != 0 ? errno : 0;
	if (error_number == 0 && trust_check_directory(trust, error) == TRUST_OK)
		return 0;
	trust_close(trust);
	errno = 0;
	return error_number == 0 ? -1 : refuse_directory(dir, error_number, error);
}

int
handler_check_directory(const struct handler_directory *dir, struct error *error)
{
	struct trust trust;

	if (open_directory(dir, &trust, error) != 0)
		return -1;
	trust_close(&trust);
	return 0;
}

/* ---- one handler ---- */

/* Why it cannot be executed, by cause. */
static int
refuse_execution(const struct handler *handler, const struct trust *found, const struct stat *st,
    struct error *error)
{
	char user[USER_NAME_SIZE], remedy[128];
	const char *path = handler->path;
	struct statvfs mount;

	snprintf(remedy, sizeof(remedy),
	    "keep handlers on another file system (%s), or mount -o remount,exec", handler->setting);
	if (fstatvfs(found->file, &mount) == 0 && (mount.f_flag & ST_NOEXEC) != 0)
		error_set(error, EX_CONFIG, remedy, "%s: is on a file system that is mounted noexec", path);
	else if ((st->st_mode & 0111) == 0)
		error_set(error, EX_CONFIG, "chmod +x", "%s: is not executable", path);
	else
		error_set(error, EX_CONFIG, "chmod a+rx", "%s: mode %04o lets user %s not execute it", path,
		    (unsigned)st->st_mode & 07777, user_name(geteuid(), user));
	return -1;
}

/* Its bytes are read: without them nobody knows what would run. */
static int
check_content(struct handler *handler, const struct trust *found, struct error *error)
{
	char user[USER_NAME_SIZE];
	int fd = openat(found->directory, found->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);

	if (fd < 0) {
		const char *cause = strerror(errno), *remedy = errno == EACCES ? "chmod a+r" : NULL;
		error_set(error, EX_CONFIG, remedy, "%s: user %s cannot read it: %s", handler->path,
		    user_name(geteuid(), user), cause);
		return -1;
	}
	int result = program_check(fd, handler->path, &handler->program, error);
	close(fd);
	return result;
}

/* Whether the file that a walk has found may be run. Returns 0, or -1 with the error. */
static int
check_found(struct handler *handler, const struct trust *found, struct error *error)
{
	struct stat st;

	if (found->file < 0 || fstat(found->file, &st) != 0 || !S_ISREG(st.st_mode)) {
		error_set(error, EX_CONFIG, "a handler is a program: move it away",
		    "%s: is not a regular file", handler->path);
		return -1;
	}
	if (trust_check_file(found, handler->path, error) != TRUST_OK)
		return -1;
	if (faccessat(found->directory, found->name, X_OK, 0) != 0)
		return refuse_execution(handler, found, &st, error);
	return check_content(handler, found, error);
}

static int
check_handler(struct handler *handler, const struct trust *directory, struct error *error)
{
	struct trust found;
	char user[USER_NAME_SIZE];
	int result = -1;

	switch (trust_open(&found, directory, strrchr(handler->path, '/') + 1, error)) {
	case TRUST_OK:
		result = check_found(handler, &found, error);
		trust_close(&found);
		break;
	case TRUST_FAILED:
		if (errno == EACCES)
			error_set(error, EX_CONFIG, "chmod a+x the directories on the way to it",
			    "%s: user %s has no access to it", handler->path, user_name(geteuid(), user));
		else if (errno == ELOOP)
			error_set(error, EX_CONFIG, CORRECT_LINK, "%s: is a link that leads in a circle",
			    handler->path);
		else
			error_set(error, EX_CONFIG, errno == ENOENT ?
			    "it is a link whose target is missing: correct or remove it" : NULL,
			    "%s: %s", handler->path, strerror(errno));
		break;
	case TRUST_REFUSED:
		name_setting(handler->setting, error);
		break;
	}
	return result;
}

/* ---- the choice ---- */

static bool
can_be_file_name(const char *type)
{
	return *type != '\0' && *type != '.' &&
	    strspn(type, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-") ==
	    strlen(type);
}

/* Whether such a file exists, or may exist (EACCES). Then the handler has its path. */
static bool
may_exist(const struct trust *directory, const char *dir, const char *name,
    struct handler *handler)
{
	struct stat st;

	return snprintf(handler->path, sizeof(handler->path), "%s/%s", dir, name) <
	    (int)sizeof(handler->path) &&
	    (fstatat(directory->directory, name, &st, AT_SYMLINK_NOFOLLOW) == 0 || errno != ENOENT);
}

/* The most specific name for the type. */
static bool
choose(const struct trust *directory, const char *dir, const char *type, struct handler *handler)
{
	char name[NAME_MAX + 1] = "";

	if (can_be_file_name(type))
		snprintf(name, sizeof(name), "%s", type);
	while (*name != '\0') {
		handler->specificity = strlen(name);
		if (may_exist(directory, dir, name, handler))
			return true;
		char *dot = strrchr(name, '.');
		*(dot != NULL ? dot : name) = '\0';
	}
	handler->specificity = 0;
	return may_exist(directory, dir, "default", handler);
}

enum handler_result
handler_find(const struct handler_directory *dir, const char *type, struct handler *handler,
    struct error *error)
{
	struct trust directory;
	enum handler_result result = HANDLER_NONE;

	*handler = (struct handler){.directory = -1, .setting = dir->setting};
	/* Each time: while an administrator replaces the directory, "no handler" would be wrong. */
	if (open_directory(dir, &directory, error) != 0)
		return HANDLER_REFUSED;
	if (choose(&directory, dir->path, type, handler))
		result = check_handler(handler, &directory, error) == 0 ? HANDLER_FOUND : HANDLER_REFUSED;
	if (result == HANDLER_FOUND) {
		handler->directory = directory.directory;
		directory.directory = -1;
	}
	trust_close(&directory);
	return result;
}

void
handler_close(struct handler *handler)
{
	if (handler->directory >= 0)
		close(handler->directory);
	handler->directory = -1;
}

const char *
handler_broken(int exit_status)
{
	switch (exit_status) {
	case 126:
		return "a program that it calls cannot be executed";
	case 127:
		return "a program that it calls was not found: is it in PATH where psapi drain is started?";
	default:
		return NULL;
	}
}
