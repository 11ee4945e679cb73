/* Owns the checks of files: the spool and its file system, the secret, the handlers. */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/user.h"
#include "drain/handler.h"
#include "secrets/secrets.h"

enum { INODES_MIN = 1000 };

/* ---- the spool ---- */

/* Each directory must belong to the spool's owner, or be writable for its group. */
static bool
check_owners(struct doctor *d, struct finding *f)
{
	char user[USER_NAME_SIZE];
	struct stat root, st;

	if (fstat(d->spool.root, &root) != 0)
		return true;
	for (int i = 0; i < SPOOL_DIRS; i++) {
		if (fstat(d->spool.dir[i], &st) != 0)
			continue;
		bool by_group = st.st_gid == root.st_gid && (st.st_mode & 0070) == 0070;
		if (st.st_uid == root.st_uid || by_group)
			continue;
		doctor_failed(f, NULL, "%s/%s belongs to %s, the spool itself to another user",
		    d->config->spool, spool_dir_names[i], user_name(st.st_uid, user));
		return false;
	}
	return true;
}

/* The spool cannot be opened, with errno. */
static void
explain_closed_spool(struct doctor *d, struct finding *f, const char *owner, const char *why)
{
	if (errno == EACCES && d->not_owner)
		doctor_failed(f,
		    "run doctor as root, or as that user: this one has no access to spool, secret and "
		    "socket",
		    "%s: closed to all but %s and the group", d->config->spool, owner);
	else if (errno == EPROTONOSUPPORT)
		doctor_failed(f,
		    "a later version has made it: install that one, or name another spool with PSAPI_SPOOL",
		    "%s", why);
	else
		doctor_failed(f,
		    "the receiver makes the directories when it starts: does it run as their owner?", "%s",
		    why);
}

static void
check_spool(struct doctor *d, struct finding *f)
{
	const char *path = d->config->spool;
	char why[512], user[USER_NAME_SIZE];
	struct stat st;

	if (stat(path, &st) != 0) {
		doctor_failed(f, "make it, owned by the receiver's user, mode 2770:\n"
		    "install -d -o psapi -g psapi -m 2770 DIRECTORY; or name it with PSAPI_SPOOL",
		    "%s: %s", path, strerror(errno));
		return;
	}
	if ((st.st_mode & S_IRWXO) != 0) {
		doctor_failed(f,
		    "chmod 2770 DIRECTORY: other users could read ids, and add files of their own",
		    "%s: mode %04o is open to every user", path, (unsigned)st.st_mode & 07777);
		return;
	}
	d->not_owner = st.st_uid != geteuid();
	user_name(st.st_uid, user);
	errno = 0;
	d->spool_opened = spool_open(&d->spool, path, false, why, sizeof(why)) == 0;
	if (!d->spool_opened)
		explain_closed_spool(d, f, user, why);
	else if (check_owners(d, f))
		doctor_ok(f, "%s, of user %s, mode %04o", path, user, (unsigned)st.st_mode & 07777);
}

static void
check_storing(struct doctor *d, struct finding *f)
{
	const char *step;

	if (!d->spool_opened)
		doctor_skipped(f, "the spool cannot be opened");
	else if (spool_probe(&d->spool, &step) != 0)
		doctor_failed(f, NULL, "cannot %s: %s", step, strerror(errno));
	else
		doctor_ok(f, "files, hard links and fsync work");
}

static void
check_space(struct doctor *d, struct finding *f)
{
	struct statvfs st;

	if (!d->spool_opened || fstatvfs(d->spool.root, &st) != 0) {
		doctor_skipped(f, "the spool cannot be opened");
		return;
	}
	long long bytes = (long long)st.f_bavail * (long long)st.f_frsize;
	if (bytes < d->config->min_free)
		doctor_failed(f, NULL,
		    "%lld MiB free: under PSAPI_MIN_FREE (%lld MiB) the receiver answers 503", bytes >> 20,
		    d->config->min_free >> 20);
	else if (st.f_files > 0 && st.f_favail < INODES_MIN)
		doctor_failed(
		    f, NULL, "%llu inodes free: an event is a file", (unsigned long long)st.f_favail);
	else
		doctor_ok(f, "%lld MiB and %llu inodes free", bytes >> 20, (unsigned long long)st.f_favail);
}

/* ---- the secret ---- */

static void
check_secret(struct doctor *d, struct finding *f)
{
	struct error error;

	d->keyring = secrets_read(d->config->secret_file, &error);
	if (d->keyring != NULL)
		doctor_ok(f, "%s: %zu usable", d->config->secret_file, verify_keyring_size(d->keyring));
	else if (access(d->config->secret_file, R_OK) == 0 || errno != EACCES)
		doctor_failed(f, NULL, "%s", error.text);
	else if (d->not_owner)
		doctor_skipped(f, "%s", error.text);
	else
		doctor_failed(
		    f, "the receiver must be able to read it: chgrp to its group, chmod 0640", "%s", error.text);
}

/* ---- the handlers ---- */

/* Every handler in the directory must be one that drain would run. */
static void
check_each_handler(struct finding *f, const char *dir, DIR *stream)
{
	char path[PATH_MAX];
	struct error error;
	int count = 0;

	for (struct dirent *entry; (entry = readdir(stream)) != NULL;) {
		if (entry->d_name[0] == '.')
			continue;
		count++;
		if (handler_find(dir, entry->d_name, path, sizeof(path), &error) == HANDLER_REFUSED) {
			doctor_failed_for(f, &error);
			return;
		}
	}
	if (count == 0)
		doctor_skipped(f, "%s has no handler: psapi drain would move every event to failed/", dir);
	else
		doctor_ok(f, "%s: %d", dir, count);
}

static void
check_handlers(struct doctor *d, struct finding *f)
{
	const char *dir = d->config->handlers;
	DIR *stream = opendir(dir);
	struct error error;

	if (stream == NULL && errno == ENOENT)
		doctor_skipped(f, "%s does not exist: right if a script of your own reads new/", dir);
	else if (stream == NULL)
		doctor_failed(f, "the running user must have access to it", "%s: %s", dir, strerror(errno));
	else if (handler_check_directory(dir, &error) != 0)
		doctor_failed_for(f, &error);
	else
		check_each_handler(f, dir, stream);
	if (stream != NULL)
		closedir(stream);
}

const struct check doctor_local_checks[] = {
	{"spool", check_spool, "every directory in it must belong to the receiver's user: chown -R"},
	{"storing", check_storing,
	    "the spool needs a local file system with hard links, writable by the receiver's user"},
	{"space", check_space, "make room, or psapi prune --older-than 90d"},
	{"secret", check_secret,
	    "copy the signing secret from the endpoint's page in the portal: psapi secret add"},
	{"handlers", check_handlers,
	    "psapi drain runs no handler that other users can change: chown root, chmod go-w"},
	{0},
};
