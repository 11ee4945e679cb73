/*
 * Owns the checks of the receiver itself, at its socket: no web server is involved. They show
 * whether a fault that the URL has is the receiver's or the web server's.
 */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <errno.h>
#include <limits.h>
#include <pwd.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/user.h"
#include "send/fastcgi_client.h"
#include "server/listener.h"

enum { FCGI_TIMEOUT_MS = 5000 };

/* ---- the socket ---- */

/*
 * The first directory on the way to path that is closed to the socket's group, and to all others
 * than its owner and its own group. False: there is none, or we cannot look at it.
 */
static bool
find_closed(const char *path, gid_t group, char dir[PATH_MAX], struct stat *st)
{
	for (const char *slash = strchr(path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
		snprintf(dir, PATH_MAX, "%.*s", (int)(slash - path), path);
		if (stat(dir, st) == 0 && (st->st_mode & S_IXOTH) == 0 &&
		    ((st->st_mode & S_IXGRP) == 0 || st->st_gid != group))
			return true;
	}
	return false;
}

/*
 * A web server of another user must come to the socket. Without PSAPI_LISTEN_GROUP it may be of the
 * receiver's user; and it may be in the directory's group as well.
 */
static void
check_way(struct doctor *d, struct finding *f, const char *path, const struct stat *st)
{
	char dir[PATH_MAX], name[USER_NAME_SIZE], remedy[PATH_MAX + 100];
	struct stat closed;

	user_group_name(st->st_gid, name);
	if (!find_closed(path, st->st_gid, dir, &closed)) {
		doctor_ok(f, "%s, of group %s (which must be the web server's)", path, name);
		return;
	}
	snprintf(remedy, sizeof(remedy),
	    "chmod o+x %s: the mode of the socket still decides who can connect", dir);
	/* A group of the directory's owner alone: receiver and web server may be of one user. */
	const struct passwd *owner = getpwuid(closed.st_uid);
	bool may_be_one = owner != NULL && owner->pw_gid == st->st_gid;
	if (*d->config->listen_group != '\0' && (closed.st_mode & S_IXGRP) == 0 && !may_be_one)
		doctor_failed(f, remedy,
		    "%s: mode %04o, closed to group %s: the web server cannot connect to %s", dir,
		    (unsigned)closed.st_mode & 07777, name, path);
	else
		doctor_remark(f, remedy,
		    "%s: mode %04o, closed to group %s: the web server can connect to %s only as "
		    "the directory's owner or in its group", dir, (unsigned)closed.st_mode & 07777, name,
		    path);
}

static void
check_mode_and_group(struct doctor *d, struct finding *f, const char *path, const struct stat *st)
{
	struct error error;
	gid_t wanted;

	if ((st->st_mode & S_IWOTH) != 0) {
		doctor_failed(f,
		    "mode 0660 and the web server's group: a program that can connect to a FastCGI socket "
		    "can\n"
		    "send the receiver anything, past the web server",
		    "%s: mode %04o lets every user connect to the receiver", path,
		    (unsigned)st->st_mode & 07777);
	} else if (listener_group(d->config->listen_group, &wanted, &error) == 0 &&
	           wanted != (gid_t)-1 && wanted != st->st_gid) {
		doctor_failed(f, "restart the receiver; its user must be a member of PSAPI_LISTEN_GROUP",
		    "%s: its group is not PSAPI_LISTEN_GROUP=%s", path, d->config->listen_group);
	} else {
		check_way(d, f, path, st);
	}
}

static void
check_socket(struct doctor *d, struct finding *f)
{
	const char *path = strncmp(d->listen, "unix:", 5) == 0 ? d->listen + 5 : NULL;
	struct stat st;

	if (*d->listen == '\0')
		doctor_skipped(f,
		    "no PSAPI_LISTEN: classic CGI, or another program made the socket (psapi doctor "
		    "--socket)");
	else if (path == NULL)
		doctor_ok(f, "%s, on loopback", d->listen);
	else if (lstat(path, &st) != 0 && errno == EACCES && d->not_owner)
		doctor_skipped(f, "%s: %s", path, strerror(errno));
	else if (lstat(path, &st) != 0)
		doctor_failed(f, NULL, "%s: %s", path, strerror(errno));
	else if (!S_ISSOCK(st.st_mode))
		doctor_failed(
		    f, "remove it, then start the receiver", "%s: exists, but is not a socket", path);
	else
		check_mode_and_group(d, f, path, &st);
}

/* ---- the receiver ---- */

/* Send the receiver a delivery, or with NULL a GET. Returns 0, or -1 with errno and the error. */
static int
ask(struct doctor *d, const struct delivery *delivery, struct fastcgi_client_answer *answer,
    struct error *error)
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

	return fastcgi_client_exchange(d->listen, &request, FCGI_TIMEOUT_MS, answer, error);
}

/* The receiver did not answer a GET, with errno. */
static void
explain_silence(struct doctor *d, struct finding *f, struct error *error)
{
	if (errno == ENOENT) {
		doctor_skipped(f, "there is no socket to ask it at");
	} else if (errno == EACCES && d->not_owner) {
		doctor_skipped(f, "%s", error->text);
	} else {
		if (errno == EACCES)
			snprintf(error->remedy, sizeof(error->remedy),
			    "this user must be a member of the socket's group, as the receiver and the web "
			    "server are");
		doctor_failed_for(f, error);
	}
}

static void
check_receiver(struct doctor *d, struct finding *f)
{
	struct doctor_reply reply;
	struct fastcgi_client_answer answer;
	char user[USER_NAME_SIZE];
	struct error error;

	if (*d->listen == '\0') {
		doctor_skipped(f, "it has no socket of its own");
		return;
	}
	if (ask(d, NULL, &answer, &error) != 0) {
		explain_silence(d, f, &error);
		return;
	}
	doctor_reply_read(&reply, answer.status, answer.body, strlen(answer.body));
	d->receiver_answers = reply.ours;
	if (!reply.ours || strcmp(reply.reason, "method_not_allowed") != 0)
		doctor_failed(f, "another program listens there: give each its own PSAPI_LISTEN",
		    "%s: answers %d, but not as psapi-fcgi does", d->listen, answer.status);
	else if (answer.user == (uid_t)-1)
		doctor_ok(f, "answers in %.1f ms", (double)answer.us / 1000);
	else
		doctor_ok(f, "answers in %.1f ms, runs as %s%s", (double)answer.us / 1000,
		    user_name(answer.user, user), answer.user == 0 ? " (better: a user of its own)" : "");
}

/* ---- a signed probe ---- */

/* The receiver refused our own signed probe: each cause has its remedy. */
static void
explain_refusal(struct doctor *d, struct finding *f, const struct doctor_reply *reply)
{
	static const struct {
		const char *word; /* of the reply: its reason or status */
		const char *remedy;
	} remedies[] = {
	    {"signature_mismatch",
	        "the receiver has other secrets in force than this file: is its PSAPI_SECRET_FILE "
	        "another one, or is\n"
	        "the file unreadable for its user (then it keeps the last good ones)? Its log says "
	        "which"},
	    {"no_secret",
	        "the receiver cannot read the secret file, or refuses it: chgrp to its group, chmod "
	        "0640; its log says why"},
	    {"held", "it sees an empty secret file: is its PSAPI_SECRET_FILE another one?"},
	    {"ignored", "it sees an empty secret file: is its PSAPI_SECRET_FILE another one?"},
	    {"spool_error",
	        "its log says which file cannot be written; after a failed fsync, and when the "
	        "spool's\n"
	        "directory was replaced since its start, it accepts nothing until a restart"},
	};
	const char *remedy = "the receiver's log says more";

	for (size_t i = 0; i < sizeof(remedies) / sizeof(remedies[0]); i++)
		if (strcmp(remedies[i].word, reply->reason) == 0 ||
		    strcmp(remedies[i].word, reply->word) == 0)
			remedy = remedies[i].remedy;
	if (strcmp(reply->reason, "spool_error") == 0 && *d->config->store != '\0')
		remedy = "the checks database, schema and replication above say why, or the receiver's log";
	doctor_failed(f, remedy, "a signed probe is answered %d %s%s%s", reply->status, reply->word,
	    *reply->reason != '\0' ? ", " : "", reply->reason);
}

static void
explain_elsewhere(struct doctor *d, struct finding *f)
{
	if (store_is_shared(d->store))
		doctor_failed(f,
		    "restart the receiver; then compare its PSAPI_STORE (its unit, its -f file) with this\n"
		    "configuration's",
		    "a signed probe is accepted, but not into the shared store (PSAPI_STORE)");
	else
		doctor_failed(f,
		    "compare PSAPI_SPOOL of the receiver (its unit, its -f file) with this "
		    "configuration's.\n"
		    "In a container or a unit with mounts of its own: is it the same directory there?",
		    "a signed probe is accepted, but not into %s: the receiver has another spool",
		    d->config->spool);
}

/* Our own look into the store failed: that says nothing of the receiver's, and is not repeated. */
static void
explain_unknown(struct doctor *d, struct finding *f, const struct error *error)
{
#define NOT_KNOWN "a signed probe is accepted; whether it is stored is not known: %s"
	if (d->unreadable || d->store_failed)
		doctor_skipped(f, NOT_KNOWN, error->text);
	else
		doctor_failed(f, error->remedy, NOT_KNOWN, error->text);
	d->unreadable = true;
#undef NOT_KNOWN
}

/* The probe was accepted: is it in this store? */
static void
check_stored(struct doctor *d, struct finding *f, const char *id)
{
	struct error error = {.text = "the store cannot be read"};
	enum store_result result = STORE_OK;
	char name[STORE_NAME_SIZE];

	if (d->unreadable)
		result = STORE_FAILED;
	else if (d->store != NULL)
		result = store_lookup(d->store, id, name, &error);
	if (result == STORE_FAILED) {
		explain_unknown(d, f, &error);
	} else if (result != STORE_OK) {
		explain_elsewhere(d, f);
	} else {
		doctor_ok(f, "a signed probe is accepted and stored");
		if (d->store != NULL)
			snprintf(d->direct_id, sizeof(d->direct_id), "%s", id);
	}
}

static void
send_probe(struct doctor *d, struct finding *f, const char *id, const char *body)
{
	struct delivery delivery = {.length = 0};
	struct fastcgi_client_answer answer;
	struct doctor_reply reply;
	struct error error;

	if (delivery_make(&delivery, DELIVERY_SIGNED, d->keyring, id, time(NULL), body, strlen(body)) !=
	    0) {
		doctor_skipped(f, "out of memory");
	} else if (ask(d, &delivery, &answer, &error) != 0) {
		doctor_skipped(f, "%s", error.text);
	} else {
		doctor_reply_read(&reply, answer.status, answer.body, strlen(answer.body));
		d->accepted_directly = reply.ours && strcmp(reply.word, "accepted") == 0;
		if (d->accepted_directly)
			check_stored(d, f, id);
		else
			explain_refusal(d, f, &reply);
	}
	delivery_free(&delivery);
}

static void
check_accepts(struct doctor *d, struct finding *f)
{
	char id[DELIVERY_ID_SIZE];

	if (d->keyring == NULL || !d->receiver_answers) {
		doctor_skipped(
		    f, "%s", d->keyring == NULL ? "there is no usable secret" : "no receiver answers");
		return;
	}
	delivery_new_id(id);
	char *body = doctor_probe_body(id, d->now, 0);
	if (body != NULL)
		send_probe(d, f, id, body);
	else
		doctor_skipped(f, "out of memory");
	free(body);
}

const struct doctor_check doctor_receiver_checks[] = {
	{"socket", check_socket, "start the receiver: psapi-fcgi makes the socket (PSAPI_LISTEN)"},
	{"receiver", check_receiver,
	    "start the receiver (systemctl start psapi-fcgi, or psapi-fcgi by hand); psapi-fcgi -t "
	    "says what keeps it\n"
	    "from starting"},
	{"accepts", check_accepts, ""},
	{0},
};
