/* Owns the checks of what is installed: spool, secret, handlers, socket, receiver. */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "base/user.h"
#include "send/fastcgi_client.h"
#include "drain/handler.h"
#include "secrets/secrets.h"

enum { FCGI_TIMEOUT_MS = 5000, INODES_MIN = 1000 };

/* ---- the spool ---- */

/* Each directory is its owner's, or its group's, like the spool itself. */
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
		doctor_found_bad(f, NULL, "%s/%s belongs to %s, the spool itself to another user", d->config->spool,
		    spool_dir_names[i], user_name(st.st_uid, user));
		return false;
	}
	return true;
}

static void
check_spool(struct doctor *d, struct finding *f)
{
	const char *path = d->config->spool;
	char why[512], user[USER_NAME_SIZE];
	struct stat st;

	if (stat(path, &st) != 0) {
		doctor_found_bad(f, "make it, owned by the receiver's user, mode 2770:\n"
		          "install -d -o psapi -g psapi -m 2770 DIRECTORY; or name it with PSAPI_SPOOL",
		    "%s: %s", path, strerror(errno));
		return;
	}
	if ((st.st_mode & S_IRWXO) != 0) {
		doctor_found_bad(f, "chmod 2770 DIRECTORY: whoever may look into it reads names, and may plant files",
		    "%s: mode %04o is open to every user", path, (unsigned)st.st_mode & 07777);
		return;
	}
	d->stranger = st.st_uid != geteuid();
	errno = 0;
	d->spool_opened = spool_open(&d->spool, path, false, why, sizeof(why)) == 0;
	if (!d->spool_opened && errno == EACCES && d->stranger)
		doctor_found_bad(f, "run doctor as root, or as that user: this one may not look at spool, secret and socket",
		    "%s: closed to all but %s and the group", path, user_name(st.st_uid, user));
	else if (!d->spool_opened && errno == EPROTONOSUPPORT)
		doctor_found_bad(f, "a later version has made it: install that one, or name another spool with PSAPI_SPOOL",
		    "%s", why);
	else if (!d->spool_opened)
		doctor_found_bad(f, "the receiver makes the directories when it starts: is it running as their owner?",
		    "%s", why);
	else if (check_owners(d, f))
		doctor_found_good(f, "%s, of user %s, mode %04o", path, user_name(st.st_uid, user),
		    (unsigned)st.st_mode & 07777);
}

static void
check_storing(struct doctor *d, struct finding *f)
{
	const char *step;

	if (!d->spool_opened)
		doctor_found_nothing(f, "the spool cannot be opened");
	else if (spool_probe(&d->spool, &step) != 0)
		doctor_found_bad(f, NULL, "cannot %s: %s", step, strerror(errno));
	else
		doctor_found_good(f, "files, hard links and fsync work");
}

static void
check_space(struct doctor *d, struct finding *f)
{
	struct statvfs st;

	if (!d->spool_opened || fstatvfs(d->spool.root, &st) != 0) {
		doctor_found_nothing(f, "the spool cannot be opened");
		return;
	}
	long long bytes = (long long)st.f_bavail * (long long)st.f_frsize;
	if (bytes < d->config->min_free)
		doctor_found_bad(f, NULL, "%lld MiB free: under PSAPI_MIN_FREE (%lld MiB) 503 is answered",
		    bytes >> 20, d->config->min_free >> 20);
	else if (st.f_files > 0 && st.f_favail < INODES_MIN)
		doctor_found_bad(f, NULL, "%llu inodes free: an event is a file", (unsigned long long)st.f_favail);
	else
		doctor_found_good(f, "%lld MiB and %llu inodes free", bytes >> 20, (unsigned long long)st.f_favail);
}

/* ---- secret and handlers ---- */

static void
check_secret(struct doctor *d, struct finding *f)
{
	char why[512];

	d->keyring = secrets_read(d->config->secret_file, why, sizeof(why));
	if (d->keyring != NULL)
		doctor_found_good(f, "%s: %zu usable", d->config->secret_file, verify_keyring_size(d->keyring));
	else if (access(d->config->secret_file, R_OK) == 0 || errno != EACCES)
		doctor_found_bad(f, NULL, "%s", why);
	else if (d->stranger)
		doctor_found_nothing(f, "%s", why);
	else
		doctor_found_bad(f, "the receiver must be able to read it: chgrp to its group, chmod 0640", "%s", why);
}

static void
check_handlers(struct doctor *d, struct finding *f)
{
	const char *dir = d->config->handlers;
	DIR *stream = opendir(dir);
	char why[512], path[PATH_MAX];
	int count = 0;

	if (stream == NULL && errno == ENOENT) {
		doctor_found_nothing(f, "%s is not there: fine if a script of your own reads new/", dir);
		return;
	}
	if (stream == NULL || handler_check_directory(dir, why, sizeof(why)) != 0) {
		if (stream != NULL)
			closedir(stream);
		doctor_found_bad(f, NULL, "%s", stream == NULL ? strerror(errno) : why);
		return;
	}
	doctor_found_good(f, "%s", dir);
	for (struct dirent *entry; f->mark != MARK_BAD && (entry = readdir(stream)) != NULL;) {
		if (entry->d_name[0] == '.')
			continue;
		count++;
		if (handler_find(dir, entry->d_name, path, sizeof(path), why, sizeof(why)) == HANDLER_REFUSED)
			doctor_found_bad(f, NULL, "%s", why);
	}
	closedir(stream);
	if (f->mark != MARK_BAD && count == 0)
		doctor_found_nothing(f, "%s holds no handler: psapi drain would move every event to failed/", dir);
	else if (f->mark != MARK_BAD)
		doctor_found_good(f, "%s: %d", dir, count);
}

/* ---- socket and receiver ---- */

static void
check_socket(struct doctor *d, struct finding *f)
{
	const char *path = strncmp(d->listen, "unix:", 5) == 0 ? d->listen + 5 : NULL;
	const struct group *wanted = *d->config->listen_group != '\0' ?
	    getgrnam(d->config->listen_group) : NULL;
	struct stat st;

	if (*d->listen == '\0') {
		doctor_found_nothing(f, "no PSAPI_LISTEN: classic CGI, or a socket that another made (psapi doctor --socket)");
	} else if (path == NULL) {
		doctor_found_good(f, "%s, on loopback", d->listen);
	} else if (lstat(path, &st) != 0 && errno == EACCES && d->stranger) {
		doctor_found_nothing(f, "%s: %s", path, strerror(errno));
	} else if (lstat(path, &st) != 0) {
		doctor_found_bad(f, NULL, "%s: %s", path, strerror(errno));
	} else if (!S_ISSOCK(st.st_mode)) {
		doctor_found_bad(f, "remove it, then start the receiver", "%s: is there, and no socket", path);
	} else if ((st.st_mode & S_IWOTH) != 0) {
		doctor_found_bad(f, "mode 0660 and the web server's group: whoever can talk to a FastCGI socket is as "
		          "good as inside the receiver", "%s: mode %04o lets every user at the receiver", path,
		    (unsigned)st.st_mode & 07777);
	} else if (wanted != NULL && wanted->gr_gid != st.st_gid) {
		doctor_found_bad(f, "restart the receiver; its user must be a member of PSAPI_LISTEN_GROUP",
		    "%s: its group is not PSAPI_LISTEN_GROUP=%s", path, d->config->listen_group);
	} else {
		const struct group *group = getgrgid(st.st_gid);
		doctor_found_good(f, "%s, of group %s (which must be the web server's)", path,
		    group != NULL ? group->gr_name : "?");
	}
}

/* Ask the receiver itself. headers: of a delivery, or NULL for a GET. */
static int
ask(struct doctor *d, const struct delivery *delivery, struct fastcgi_client_answer *answer, char *why,
    size_t size)
{
	const char *values[3] = {"", "", ""};
	char length[24];

	for (int i = 0; delivery != NULL && i < 3; i++)
		values[i] = strchr(delivery->headers[i], ' ') + 1;
	snprintf(length, sizeof(length), "%zu", delivery != NULL ? delivery->length : 0);
	const char *params[] = {"GATEWAY_INTERFACE", "CGI/1.1", "SERVER_PROTOCOL", "HTTP/1.1",
		"REQUEST_METHOD", delivery != NULL ? "POST" : "GET", "REMOTE_ADDR", "127.0.0.1",
		"SCRIPT_NAME", "/psapi-doctor", "CONTENT_LENGTH", length, "HTTP_WEBHOOK_ID", values[0],
		"HTTP_WEBHOOK_TIMESTAMP", values[1], "HTTP_WEBHOOK_SIGNATURE", values[2], NULL};
	struct fastcgi_client_request request = {params, delivery != NULL ? delivery->body : NULL,
		delivery != NULL ? delivery->length : 0};

	return fastcgi_client_exchange(d->listen, &request, FCGI_TIMEOUT_MS, answer, why, size);
}

static void
check_receiver(struct doctor *d, struct finding *f)
{
	struct answer_seen seen;
	struct fastcgi_client_answer answer;
	char why[512], user[USER_NAME_SIZE];

	if (*d->listen == '\0') {
		doctor_found_nothing(f, "it has no socket of its own");
		return;
	}
	if (ask(d, NULL, &answer, why, sizeof(why)) != 0) {
		if (errno == ENOENT || (errno == EACCES && d->stranger))
			doctor_found_nothing(f, "%s", errno == ENOENT ? "there is no socket to ask it at" : why);
		else
			doctor_found_bad(f, errno == EACCES ?
			    "this user must be in the socket's group to ask: the receiver's, and the web server's" : NULL,
			    "%s%s", why,
			    errno == ECONNREFUSED ? ": the socket is there, and nobody listens" : "");
		return;
	}
	doctor_answer_read(&seen, answer.status, answer.body, strlen(answer.body));
	d->answers = seen.ours;
	if (!seen.ours || strcmp(seen.reason, "method_not_allowed") != 0)
		doctor_found_bad(f, "another program listens there: give each its own PSAPI_LISTEN",
		    "%s: answers %d, but not as psapi-fcgi does", d->listen, answer.status);
	else if (answer.user == (uid_t)-1)
		doctor_found_good(f, "answers in %.1f ms", (double)answer.us / 1000);
	else
		doctor_found_good(f, "answers in %.1f ms, runs as %s%s", (double)answer.us / 1000,
		    user_name(answer.user, user), answer.user == 0 ? " (better: a user of its own)" : "");
}

/* What a refusal of our own signed probe means. */
static void
explain_refusal(struct finding *f, const struct answer_seen *seen)
{
	const char *remedy = "the receiver's log says more";

	if (strcmp(seen->reason, "signature_mismatch") == 0)
		remedy = "the receiver has other secrets in force than this file: is its PSAPI_SECRET_FILE another, or "
		         "the file unreadable for its user (it keeps the last good ones)? Its log says which";
	else if (strcmp(seen->reason, "no_secret") == 0)
		remedy = "the receiver cannot read the secret file, or refuses it: chgrp to its group, chmod 0640; its "
		         "log says why";
	else if (strcmp(seen->word, "held") == 0 || strcmp(seen->word, "ignored") == 0)
		remedy = "it sees an empty secret file: is its PSAPI_SECRET_FILE another one?";
	else if (strcmp(seen->reason, "spool_error") == 0)
		remedy = "its log says which file cannot be written; after a failed fsync it accepts nothing until it "
		         "is restarted";
	doctor_found_bad(f, remedy, "a signed probe is answered %d %s%s%s", seen->status, seen->word,
	    *seen->reason != '\0' ? ", " : "", seen->reason);
}

static void
check_stored(struct doctor *d, struct finding *f, const char *id)
{
	char name[SPOOL_NAME_SIZE];

	if (!d->spool_opened || spool_name(id, strlen(id), name) != 0 ||
	    spool_find(&d->spool, name) == SPOOL_DUPLICATE)
		doctor_found_good(f, "a signed probe is accepted and stored");
	else
		doctor_found_bad(f, "compare PSAPI_SPOOL of the receiver (its unit, its -f file) with this configuration's",
		    "a signed probe is accepted, but not into %s: the receiver has another spool",
		    d->config->spool);
}

static void
check_accepts(struct doctor *d, struct finding *f)
{
	char why[512], id[DELIVERY_ID_SIZE];
	struct delivery delivery = {.length = 0};
	struct fastcgi_client_answer answer;
	struct answer_seen seen;

	if (!d->answers || d->keyring == NULL) {
		doctor_found_nothing(f, "%s", d->keyring == NULL ? "there is no usable secret" : "no receiver answers");
		return;
	}
	delivery_new_id(id);
	char *body = doctor_probe_body(id, d->now, 0);
	if (body == NULL ||
	    delivery_make(&delivery, DELIVERY_SIGNED, d->keyring, id, time(NULL), body, strlen(body)) != 0) {
		doctor_found_nothing(f, "out of memory");
	} else if (ask(d, &delivery, &answer, why, sizeof(why)) != 0) {
		doctor_found_nothing(f, "%s", why);
	} else {
		doctor_answer_read(&seen, answer.status, answer.body, strlen(answer.body));
		d->proven_locally = seen.ours && strcmp(seen.word, "accepted") == 0;
		if (d->proven_locally)
			check_stored(d, f, id);
		else
			explain_refusal(f, &seen);
	}
	delivery_free(&delivery);
	free(body);
}

const struct check doctor_local_checks[] = {
	{"spool", check_spool, "every directory in it must belong to the receiver's user: chown -R"},
	{"storing", check_storing,
	    "the spool needs a local file system with hard links, writable by the receiver's user"},
	{"space", check_space, "make room, or psapi prune --older-than 90d"},
	{"secret", check_secret,
	    "copy the signing secret from the endpoint's page in the portal: psapi secret add"},
	{"handlers", check_handlers, "what others may write to is not run: chown root, chmod go-w"},
	{"socket", check_socket, "start the receiver: psapi-fcgi makes the socket (PSAPI_LISTEN)"},
	{"receiver", check_receiver,
	    "start the receiver (systemctl start psapi-fcgi, or psapi-fcgi by hand); psapi-fcgi -t says what "
	    "keeps it from starting"},
	{"accepts", check_accepts, ""},
	{0},
};
