/*
 * Owns the record of what a program did to the spool, one line an operation, for
 * powercut.py; and the steps at which a driver may hold it. Paths are relative to
 * FAULT_ROOT; what is elsewhere is not recorded. The first word is FAULT_ROLE.
 *
 *   ROLE create INODE            ROLE link INODE PATH
 *   ROLE write INODE OFFSET HEX  ROLE unlink PATH
 *   ROLE sync INODE              ROLE rename FROM TO
 *   ROLE syncdir PATH            ROLE mkdir PATH
 *   ROLE syncfs                  ROLE answer HEX (standard output)
 */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static char root[PATH_MAX];
static const char *role = "?";
static size_t root_length;
static int step_in = -1, step_out = -1;

void
oplog_start(void)
{
	const char *path = getenv("FAULT_ROOT"), *steps = getenv("FAULT_STEPS");

	if (path != NULL)
		root_length = (size_t)snprintf(root, sizeof(root), "%s", path);
	if (getenv("FAULT_ROLE") != NULL)
		role = strdup(getenv("FAULT_ROLE"));
	if (steps != NULL)
		sscanf(steps, "%d,%d", &step_in, &step_out);
}

/* The last part of the path of descriptor dir. */
static const char *
last_part(int dir, char path[PATH_MAX])
{
	char link[64];

	snprintf(link, sizeof(link), "/proc/self/fd/%d", dir);
	ssize_t n = syscall(SYS_readlink, link, path, PATH_MAX - 1);
	path[n < 0 ? 0 : n] = '\0';
	const char *slash = strrchr(path, '/');
	return slash != NULL ? slash + 1 : "";
}

/* Whether dir is one of those that two writers meet in. */
static bool
is_shared(int dir)
{
	char path[PATH_MAX];
	const char *name = last_part(dir, path);

	return strcmp(name, "new") == 0 || strcmp(name, "failed") == 0 ||
	    strcmp(name, "events") == 0;
}

bool
oplog_forbids(const char *name, int dir)
{
	const char *wanted = getenv("FAULT_FAIL"), *error = getenv("FAULT_ERROR");
	char path[PATH_MAX], call[PATH_MAX + 64];

	if (wanted == NULL || error == NULL)
		return false;
	snprintf(call, sizeof(call), "%s:%s", name, last_part(dir, path));
	errno = atoi(error);
	return strcmp(call, wanted) == 0;
}

void
oplog_step(const char *name, int dir)
{
	int saved = errno;
	char line[64], byte;

	if (step_out < 0 || (dir >= 0 && !is_shared(dir)))
		return;
	int n = snprintf(line, sizeof(line), "%s\n", name);
	shim_say(step_out, line, (size_t)n);
	syscall(SYS_read, step_in, &byte, 1);
	errno = saved;
}

static void __attribute__((format(printf, 1, 2)))
say(const char *format, ...)
{
	static char line[PATH_MAX * 2];
	va_list ap;

	int n = snprintf(line, sizeof(line), "%s ", role);
	va_start(ap, format);
	n += vsnprintf(line + n, sizeof(line) - (size_t)n, format, ap);
	va_end(ap);
	shim_say(shim_log, line, (size_t)n);
}

/* The path of name in dir below the root, "." for the root itself; or NULL. */
static const char *
below_root(int dir, const char *name, char path[PATH_MAX])
{
	char link[64], base[PATH_MAX] = "";

	if (shim_log < 0 || root_length == 0)
		return NULL;
	if (name[0] != '/') {
		snprintf(link, sizeof(link), dir == AT_FDCWD ? "/proc/self/cwd" :
		                                               "/proc/self/fd/%d", dir);
		ssize_t n = syscall(SYS_readlink, link, base, sizeof(base) - 1);
		base[n < 0 ? 0 : n] = '\0';
	}
	int n = snprintf(path, PATH_MAX, "%s%s%s", base, *base != '\0' && *name != '\0' ? "/" : "",
	    name);
	if (n >= PATH_MAX || strncmp(path, root, root_length) != 0)
		return NULL;
	if (path[root_length] == '\0')
		return ".";
	return path[root_length] == '/' ? path + root_length + 1 : NULL;
}

static ino_t
inode_at(int dir, const char *name, int flags)
{
	struct stat st;

	return syscall(SYS_newfstatat, dir, name, &st, flags) == 0 ? st.st_ino : 0;
}

void
oplog_opened(int fd, const char *path, int flags)
{
	char full[PATH_MAX];
	ino_t inode = inode_at(fd, "", AT_EMPTY_PATH);

	if (below_root(fd, "", full) == NULL)
		return;
	if ((flags & O_TMPFILE) == O_TMPFILE)
		say("create %lu\n", (unsigned long)inode);
	else if ((flags & O_CREAT) != 0 && (flags & O_EXCL) != 0) {
		say("create %lu\n", (unsigned long)inode);
		say("link %lu %s\n", (unsigned long)inode, below_root(fd, "", full));
	}
	(void)path;
}

/* Ours are not counted. */
void *__libc_malloc(size_t size);

static void
say_bytes(const char *head, const unsigned char *data, size_t length)
{
	char *line = __libc_malloc(strlen(head) + 2 * length + 2);
	int n = sprintf(line, "%s", head);

	for (size_t i = 0; i < length; i++)
		n += sprintf(line + n, "%02x", data[i]);
	line[n++] = '\n';
	shim_say(shim_log, line, (size_t)n);
	free(line);
}

void
oplog_written(int fd, off_t offset, const void *data, size_t length)
{
	char head[128], full[PATH_MAX];

	if (shim_log < 0)
		return;
	if (fd == STDOUT_FILENO)
		snprintf(head, sizeof(head), "%s answer ", role);
	else if (below_root(fd, "", full) != NULL)
		snprintf(head, sizeof(head), "%s write %lu %lld ", role,
		    (unsigned long)inode_at(fd, "", AT_EMPTY_PATH), (long long)offset);
	else
		return;
	say_bytes(head, data, length);
}

void
oplog_synced(int fd)
{
	char full[PATH_MAX];
	const char *path = below_root(fd, "", full);
	struct stat st;

	if (path == NULL || syscall(SYS_newfstatat, fd, "", &st, AT_EMPTY_PATH) != 0)
		return;
	if (S_ISDIR(st.st_mode))
		say("syncdir %s\n", path);
	else
		say("sync %lu\n", (unsigned long)st.st_ino);
}

void
oplog_synced_all(void)
{
	say("syncfs\n");
}

void
oplog_linked(int from_dir, const char *from, int to_dir, const char *to)
{
	char full[PATH_MAX];
	const char *path = below_root(to_dir, to, full);

	(void)from_dir;
	(void)from;
	if (path != NULL)
		say("link %lu %s\n", (unsigned long)inode_at(to_dir, to, AT_SYMLINK_NOFOLLOW), path);
}

void
oplog_unlinked(int dir, const char *name)
{
	char full[PATH_MAX];
	const char *path = below_root(dir, name, full);

	if (path != NULL)
		say("unlink %s\n", path);
}

void
oplog_renamed(int from_dir, const char *from, int to_dir, const char *to)
{
	char one[PATH_MAX], two[PATH_MAX];
	const char *old = below_root(from_dir, from, one), *new = below_root(to_dir, to, two);

	if (old != NULL && new != NULL)
		say("rename %s %s\n", old, new);
}

void
oplog_made(int dir, const char *name)
{
	char full[PATH_MAX];
	const char *path = below_root(dir, name, full);

	if (path != NULL)
		say("mkdir %s\n", path);
}
