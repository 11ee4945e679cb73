/* Owns the checks of files: the spool and its file system, the secret, the handlers. */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/path.h"
#include "base/user.h"
#include "events.h"
#include "metrics/runs.h"
#include "secrets/secrets.h"

enum { INODES_MIN = 1000 };

/* ---- the spool ---- */

/* store_warnings()'s warn, for the check of the spool: the first fault is the finding. */
static void
find_fault(const struct error *warning, void *data)
{
	struct finding *f = data;

	if (warning->status != 0 && f->result != DOCTOR_FAILED)
		doctor_failed_for(f, warning);
}

/* The same for the check of storing: a promise that no program can keep there is a remark. */
static void
find_reservation(const struct error *warning, void *data)
{
	if (warning->status == 0)
		doctor_remark(data, warning->remedy, "%s", warning->text);
}

static void
explain_closed_spool(
    struct doctor *d, struct finding *f, const char *owner, const struct error *error)
{
	if (error->status == EX_NOPERM && d->not_owner)
		doctor_failed(f,
		    "run doctor as root, or as that user: this one has no access to spool, secret and "
		    "socket",
		    "%s: closed to all but %s and the group", d->config->spool, owner);
	else if (error->status == EX_CONFIG || error->status == EX_NOPERM)
		doctor_failed_for(f, error);
	else
		doctor_failed(f,
		    "the receiver makes the directories when it starts: does it run as their owner?", "%s",
		    error->text);
}

static void
explain_missing_spool(struct finding *f, const char *path, int number)
{
	const char *make = "make it, owned by the receiver's user, mode 2770:\n"
	    "install -d -o psapi -g psapi -m 2770 DIRECTORY; or name it with PSAPI_SPOOL";
	char closed[PATH_REMEDY_SIZE], remedy[PATH_REMEDY_SIZE + 64];

	/* A directory may be closed to the caller and open to the receiver. */
	snprintf(remedy, sizeof(remedy), "run doctor as root, or as the receiver's user; or %s",
	    path_remedy(path, "chmod 2770 the spool", closed));
	doctor_failed(f, number == EACCES ? remedy : make, "%s: %s", path, strerror(number));
}

static void
check_spool(struct doctor *d, struct finding *f)
{
	const char *path = d->config->spool;
	char user[USER_NAME_SIZE];
	struct error place = {0}, error;
	struct stat st;

	if (user_of_spool(AT_FDCWD, path, &st) != 0) {
		explain_missing_spool(f, path, errno);
		return;
	}
	bool closed = store_check_place(d->config, &place) == 0;
	if (!closed && place.status != 0) {
		doctor_failed_for(f, &place);
		return;
	}
	d->not_owner = st.st_uid != geteuid();
	user_name(st.st_uid, user);
	d->store = store_open(d->config, false, &error);
	if (d->store == NULL) {
		explain_closed_spool(d, f, user, &error);
		return;
	}
	doctor_ok(f, "%s, used by %s, mode %04o", path, user, (unsigned)st.st_mode & 07777);
	if (!closed)
		doctor_remark(f, place.remedy, "%s", place.text);
	store_warnings(d->store, find_fault, f);
}

static void
check_storing(struct doctor *d, struct finding *f)
{
	struct error error;
	char text[256];

	if (d->store == NULL) {
		doctor_skipped(f, "the spool cannot be opened");
	} else if (store_probe(d->store, &error) != STORE_OK) {
		doctor_failed_for(f, &error);
	} else {
		store_describe(d->store, text, sizeof(text));
		doctor_ok(f, "the way of an event works: %s", text);
		store_warnings(d->store, find_reservation, f);
	}
}

static void
check_space(struct doctor *d, struct finding *f)
{
	struct statvfs st;

	if (d->store == NULL || statvfs(d->config->spool, &st) != 0) {
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
	if (d->keyring != NULL && *error.text != '\0')
		doctor_remark(f, error.remedy, "%s", error.text);
	else if (d->keyring != NULL)
		doctor_ok(f, "%s: %zu usable", d->config->secret_file, verify_keyring_size(d->keyring));
	else if (d->not_owner && access(d->config->secret_file, R_OK) != 0 && errno == EACCES)
		doctor_skipped(f, "%s", error.text);
	else
		doctor_failed_for(f, &error);
}

/* ---- the handlers ---- */

static void
tell_survey(const struct handler_survey_finding *found, struct finding *f)
{
	switch (found->result) {
	case HANDLER_SURVEY_NONE:
		doctor_skipped(f, "%s", found->text);
		break;
	case HANDLER_SURVEY_OK:
		doctor_ok(f, "%s", found->text);
		break;
	case HANDLER_SURVEY_REMARK:
		doctor_remark(f, found->remedy, "%s", found->text);
		break;
	case HANDLER_SURVEY_FAILED:
		doctor_failed(f, found->remedy, "%s", found->text);
		break;
	}
}

static void
check_handlers(struct doctor *d, struct finding *f)
{
	struct runs runs = {0};

	if (d->store != NULL)
		runs_read(d->store, &runs);
	handler_survey(d->config, d->now - runs.chosen < EVENTS_DAILY_LATE_SECONDS, &d->handlers);
	tell_survey(&d->handlers.handlers, f);
}

static void
check_unused(struct doctor *d, struct finding *f)
{
	tell_survey(&d->handlers.unused, f);
}

const struct doctor_check doctor_local_checks[] = {
	{"spool", check_spool, "every directory in it must belong to the receiver's user: chown -R"},
	{"storing", check_storing,
	    "the spool needs a local file system with hard links, writable by the receiver's user"},
	{"space", check_space,
	    "remove some MiB of other files, such as old logs; then psapi prune --older-than 90d"},
	{"secret", check_secret,
	    "copy the signing secret from the endpoint's page in the portal: psapi secret add"},
	{"handlers", check_handlers, ""},
	{"unused", check_unused, ""},
	{0},
};
