/* Owns the walk of a path, and the rules for owners and modes on it. */
#define _GNU_SOURCE
#include "drain/trust.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/user.h"

enum { LINKS_MAX = 40 }; /* as in path_resolution(7) */

const char trust_elsewhere[] = "keep it where root and this user alone can write";

/* ---- the rules ---- */

static bool
is_ours(const struct stat *st)
{
	return st->st_uid == 0 || st->st_uid == geteuid();
}

static bool
is_open(const struct trust *t, const struct stat *st)
{
	return (st->st_mode & t->others) != 0;
}

static enum trust_result
refuse_owner(const char *path, const struct stat *st, const char *remedy, struct error *error)
{
	char owner[USER_NAME_SIZE], running[USER_NAME_SIZE];

	error_set(error, EX_CONFIG, remedy,
	    "%s: owned by user %s, neither root nor the running user %s", path,
	    user_name(st->st_uid, owner), user_name(geteuid(), running));
	return TRUST_REFUSED;
}

static enum trust_result
refuse_mode(const char *path, const struct stat *st, const char *what, struct error *error)
{
	error_set(error, EX_CONFIG, "chmod go-w", "%s: mode %04o lets other users change %s", path,
	    (unsigned)st->st_mode & 07777, what);
	return TRUST_REFUSED;
}

/* What is at the end of a path: its owner and root alone may change it. */
static enum trust_result
check_end(const struct trust *t, int fd, const char *path, struct error *error)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return refuse_owner(path, &st, NULL, error);
	if (!is_ours(&st))
		return refuse_owner(path, &st, "chown root", error);
	return is_open(t, &st) ? refuse_mode(path, &st, "it", error) : TRUST_OK;
}

enum trust_result
trust_check_directory(const struct trust *trust, struct error *error)
{
	return check_end(trust, trust->directory, trust->path, error);
}

enum trust_result
trust_check_file(const struct trust *trust, const char *shown, struct error *error)
{
	enum trust_result result = trust_check_directory(trust, error);

	return result == TRUST_OK ? check_end(trust, trust->file, shown, error) : result;
}

/*
 * A directory on the way. In one like /tmp, mode 1777, other users can make files, but replace
 * none of ours: then what follows must be ours.
 */
static enum trust_result
check_way(struct trust *t, const struct stat *st, struct error *error)
{
	if (!is_ours(st))
		return refuse_owner(t->path, st, trust_elsewhere, error);
	t->shared = is_open(t, st);
	if (!t->shared || (st->st_mode & S_ISVTX) != 0)
		return TRUST_OK;
	return refuse_mode(t->path, st, "what is below it", error);
}

/* ---- the walk ---- */

void
trust_close(struct trust *t)
{
	int saved = errno;

	if (t->directory >= 0)
		close(t->directory);
	if (t->file >= 0)
		close(t->file);
	t->directory = t->file = -1;
	errno = saved;
}

/* The names that are still to be walked: take the first. False: there is none. */
static bool
take_name(char *rest, char name[NAME_MAX + 2])
{
	char *begin = rest + strspn(rest, "/");
	size_t n = strcspn(begin, "/");

	/* one byte more than any name has: a name that is cut is not there */
	snprintf(name, NAME_MAX + 2, "%.*s", (int)n, begin);
	do
		*rest++ = begin[n];
	while (begin[n++] != '\0');
	return *name != '\0';
}

static void
append_name(char path[PATH_MAX], const char *name)
{
	size_t length = strlen(path);

	if (strcmp(name, "..") != 0)
		snprintf(path + length, PATH_MAX - length, "%s%s", length > 1 ? "/" : "", name);
	else
		path[strrchr(path, '/') == path ? 1 : strrchr(path, '/') - path] = '\0';
}

/* Go into a directory; takes fd. The last one is checked by the caller of trust_open(). */
static enum trust_result
enter(struct trust *t, int fd, const char *name, bool last, struct error *error)
{
	struct stat st;

	if (t->directory >= 0)
		close(t->directory);
	t->directory = fd;
	append_name(t->path, name);
	if (fstat(fd, &st) != 0)
		return TRUST_FAILED;
	return last ? TRUST_OK : check_way(t, &st, error);
}

static enum trust_result
enter_root(struct trust *t, struct error *error)
{
	int fd = open("/", O_PATH | O_DIRECTORY | O_CLOEXEC);

	strcpy(t->path, "/");
	return fd < 0 ? TRUST_FAILED : enter(t, fd, "", false, error);
}

/* Put the target of the link fd in front of rest. */
static enum trust_result
follow(struct trust *t, int fd, char rest[PATH_MAX], struct error *error)
{
	char target[PATH_MAX];
	ssize_t n = readlinkat(fd, "", target, sizeof(target) - 1);

	if (n < 0)
		return TRUST_FAILED;
	target[n] = '\0';
	errno = ++t->links > LINKS_MAX ? ELOOP : ENAMETOOLONG;
	if (t->links > LINKS_MAX || (size_t)n + 1 + strlen(rest) >= PATH_MAX)
		return TRUST_FAILED;
	memmove(rest + n + 1, rest, strlen(rest) + 1);
	memcpy(rest, target, (size_t)n);
	rest[n] = '/';
	return *target == '/' ? enter_root(t, error) : TRUST_OK;
}

/* Look one name up. */
static enum trust_result
step(struct trust *t, const char *name, char rest[PATH_MAX], struct error *error)
{
	enum trust_result result;
	struct stat st;
	int fd = openat(t->directory, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return TRUST_FAILED;
	if (fstat(fd, &st) == 0 && S_ISDIR(st.st_mode))
		return enter(t, fd, name, rest[strspn(rest, "/")] == '\0', error);
	if (t->shared && !is_ours(&st)) {
		char path[PATH_MAX];
		snprintf(path, sizeof(path), "%s", t->path);
		append_name(path, name);
		close(fd);
		return refuse_owner(path, &st, trust_elsewhere, error);
	}
	if (S_ISLNK(st.st_mode)) {
		result = follow(t, fd, rest, error);
		close(fd);
		return result;
	}
	t->file = fd;
	snprintf(t->name, sizeof(t->name), "%s", name);
	errno = ENOTDIR;
	return rest[strspn(rest, "/")] == '\0' ? TRUST_OK : TRUST_FAILED;
}

/* t: as new, with the rule that counts. from: where a relative path begins; NULL: at the root. */
static enum trust_result
walk(struct trust *t, const struct trust *from, const char *path, struct error *error)
{
	char rest[PATH_MAX], name[NAME_MAX + 2];
	enum trust_result result = TRUST_OK;

	errno = ENAMETOOLONG;
	if (snprintf(rest, sizeof(rest), "%s", path) >= (int)sizeof(rest))
		return TRUST_FAILED;
	if (*path == '/' || from == NULL) {
		result = enter_root(t, error);
	} else {
		strcpy(t->path, from->path);
		t->shared = from->shared;
		if ((t->directory = fcntl(from->directory, F_DUPFD_CLOEXEC, 3)) < 0)
			result = TRUST_FAILED;
	}
	while (result == TRUST_OK && take_name(rest, name))
		if (strcmp(name, ".") != 0)
			result = step(t, name, rest, error);
	if (result != TRUST_OK)
		trust_close(t);
	return result;
}

enum trust_result
trust_open(struct trust *t, const struct trust *from, const char *path, struct error *error)
{
	*t = (struct trust){.directory = -1, .file = -1, .others = S_IWGRP | S_IWOTH};
	return walk(t, from, path, error);
}

enum trust_result
trust_open_group(struct trust *t, const char *path, struct error *error)
{
	*t = (struct trust){.directory = -1, .file = -1, .others = S_IWOTH};
	return walk(t, NULL, path, error);
}
