/*
 * Owns the checks of the receiver behind the URL: it refuses what it must refuse, and a signed
 * probe arrives as it was signed and is accepted. Each check is skipped if an earlier one has
 * named the fault already.
 */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "receiver/attempts_reader.h"
#include "send/sender.h"

enum {
	LARGE_BYTES = 350 * 1000, /* the largest bodies that the sender sends */
	SLOW_US = 1000000
};

/* ---- requests ---- */

/* Send a probe of this kind, and read the reply. The caller frees answer->body. */
static void
probe(struct doctor *d, enum delivery_kind kind, const char *id, size_t size,
    struct http_answer *answer, struct doctor_reply *reply)
{
	char *body = doctor_probe_body(id, d->now, size);
	struct delivery delivery = {.length = 0};

	*reply = (struct doctor_reply){.status = 0};
	*answer = (struct http_answer){.failure = HTTP_BROKEN};
	if (body != NULL && delivery_make(&delivery, kind, d->keyring, id, time(NULL), body,
	                        strlen(body)) == 0) {
		doctor_exchange(d, "POST", &delivery, answer);
		doctor_reply_read(reply, answer->status, answer->body, answer->length);
	}
	if (size == 0 && answer->us > d->slowest_us)
		d->slowest_us = answer->us;
	delivery_free(&delivery);
	free(body);
}

static bool
is_reached(struct doctor *d, struct finding *f)
{
	if (!d->reached)
		doctor_skipped(f, "psapi-fcgi is not reached");
	return d->reached;
}

static bool
can_sign(struct doctor *d, struct finding *f)
{
	if (!is_reached(d, f))
		return false;
	if (d->keyring == NULL)
		doctor_skipped(f, "there is no usable secret to sign with");
	return d->keyring != NULL;
}

/* ---- requests that must be refused ---- */

static void
check_get(struct doctor *d, struct finding *f)
{
	struct http_answer answer;

	if (!is_reached(d, f))
		return;
	doctor_exchange(d, "GET", NULL, &answer);
	if (answer.status / 100 == 4)
		doctor_ok(f, "%d", answer.status);
	else
		doctor_failed(f, NULL, "GET is answered %d %s", answer.status, answer.error);
	free(answer.body);
}

static void
check_unsigned(struct doctor *d, struct finding *f)
{
	if (!is_reached(d, f))
		return;
	if (strcmp(d->first_reply.word, "ignored") == 0)
		doctor_skipped(f, "the receiver waits for its first secret");
	else if (d->first_reply.status / 100 == 4 || strcmp(d->first_reply.reason, "no_secret") == 0)
		doctor_ok(f, "%d %s", d->first_reply.status, d->first_reply.reason);
	else
		doctor_failed(f, NULL, "a request without a signature is answered %d %s",
		    d->first_reply.status, d->first_reply.word);
}

/* ---- a signed probe: its headers, its body, its acceptance ---- */

static void
check_headers(struct doctor *d, struct finding *f)
{
	struct http_answer answer;

	if (!can_sign(d, f))
		return;
	delivery_new_id(d->probe_id);
	probe(d, DELIVERY_SIGNED, d->probe_id, 0, &answer, &d->probe_reply);
	if (!d->probe_reply.ours) {
		if (answer.status > 0)
			doctor_explain_status(f, &answer);
		else
			doctor_failed(f,
			    "the first request was answered, this one not: does a program on the way inspect "
			    "bodies or\n"
			    "headers (mod_security, a WAF)?",
			    "%s", answer.error);
	} else if (strcmp(d->probe_reply.reason, "missing_header") == 0 ||
	    strcmp(d->probe_reply.reason, "malformed_header") == 0) {
		doctor_failed(f, NULL, "%s", d->probe_reply.detail);
	} else {
		doctor_ok(f, "webhook-id, webhook-timestamp and webhook-signature");
	}
	free(answer.body);
}

/* Bytes of the probe's body that the receiver counted, from the attempts log; -1: not known. */
static long long
bytes_logged(struct doctor *d)
{
	struct attempts_reader *reader =
	    attempts_reader_open(d->config->spool, ATTEMPTS_NEWEST_FIRST, false);
	struct attempts_line line;
	int64_t bytes = -1;

	while (reader != NULL && bytes < 0 && attempts_reader_next(reader, &line))
		if (attempts_reader_is(&line, ATTEMPTS_WEBHOOK_ID, d->probe_id))
			attempts_reader_number(&line, ATTEMPTS_BYTES, &bytes);
	attempts_reader_close(reader);
	return bytes;
}

/*
 * The same for a probe that was refused. The receiver logs a limited number of refusals per second,
 * so if the probe is not in the log, it is sent once more.
 */
static long long
bytes_arrived(struct doctor *d)
{
	struct timespec pause = {.tv_nsec = 200 * 1000000L};
	long long bytes = bytes_logged(d);
	struct http_answer answer;
	struct doctor_reply reply;

	if (bytes >= 0 || d->store == NULL)
		return bytes;
	nanosleep(&pause, NULL);
	probe(d, DELIVERY_SIGNED, d->probe_id, 0, &answer, &reply);
	free(answer.body);
	return bytes_logged(d);
}

/* The signature does not match: was the body changed on the way, or are the secrets different? */
static void
judge_mismatch(struct doctor *d, struct finding *f)
{
	char *body = doctor_probe_body(d->probe_id, d->now, 0);
	long long sent = body == NULL ? -1 : (long long)strlen(body), arrived = bytes_arrived(d);

	free(body);
	if (arrived >= 0 && arrived != sent)
		doctor_failed(f, NULL, "%lld bytes were sent, %lld arrived", sent, arrived);
	else if (d->accepted_directly)
		doctor_failed(f, NULL,
		    "the same secret proves a probe that comes straight to the receiver, but not one that "
		    "comes over this URL%s",
		    arrived < 0 ? ", or another receiver answers there" : "");
	else
		doctor_skipped(f, "a changed body cannot be told from a wrong secret");
	d->body_changed = f->result == DOCTOR_FAILED;
}

static void
check_body(struct doctor *d, struct finding *f)
{
	if (!can_sign(d, f))
		return;
	if (!d->probe_reply.ours || strstr(d->probe_reply.reason, "_header") != NULL)
		doctor_skipped(f, "no signed probe was verified");
	else if (strcmp(d->probe_reply.reason, "truncated_body") == 0)
		doctor_failed(f, NULL, "it does not arrive complete: %s", d->probe_reply.detail);
	else if (strcmp(d->probe_reply.reason, "signature_mismatch") == 0)
		judge_mismatch(d, f);
	else
		doctor_ok(f, "it arrives as it was signed");
}

static void
check_signed(struct doctor *d, struct finding *f)
{
	const char *reason = d->probe_reply.reason;

	if (!can_sign(d, f))
		return;
	if (!d->probe_reply.ours || strstr(reason, "_header") != NULL ||
	    strcmp(reason, "truncated_body") == 0 ||
	    (strcmp(reason, "signature_mismatch") == 0 && d->body_changed))
		doctor_skipped(f, "see the failed check above");
	else if (strcmp(d->probe_reply.word, "accepted") == 0)
		doctor_ok(f, "200 accepted");
	else if (strcmp(reason, "stale_timestamp") == 0 || strcmp(reason, "future_timestamp") == 0)
		doctor_failed(f, "set the clock of this machine, or of the receiver's: timedatectl",
		    "%d %s: %s", d->probe_reply.status, reason, d->probe_reply.detail);
	else
		doctor_failed(f, NULL, "%d %s: %s", d->probe_reply.status,
		    *reason != '\0' ? reason : d->probe_reply.word, d->probe_reply.detail);
}

static void
check_duplicate(struct doctor *d, struct finding *f)
{
	struct http_answer answer;
	struct doctor_reply reply;

	if (!can_sign(d, f))
		return;
	if (strcmp(d->probe_reply.word, "accepted") != 0) {
		doctor_skipped(f, "nothing was accepted");
		return;
	}
	probe(d, DELIVERY_SIGNED, d->probe_id, 0, &answer, &reply);
	if (strcmp(reply.word, "duplicate") == 0)
		doctor_ok(f, "200 duplicate");
	else
		doctor_failed(
		    f, NULL, "the same webhook-id again is answered %d %s", reply.status, reply.word);
	free(answer.body);
}

static void
check_refused(struct doctor *d, struct finding *f, enum delivery_kind kind)
{
	char id[DELIVERY_ID_SIZE];
	struct http_answer answer;
	struct doctor_reply reply;

	if (!can_sign(d, f))
		return;
	if (strcmp(d->probe_reply.word, "accepted") != 0) {
		doctor_skipped(f, "nothing was accepted");
		return;
	}
	delivery_new_id(id);
	probe(d, kind, id, 0, &answer, &reply);
	if (reply.status / 100 == 4)
		doctor_ok(f, "%d %s", reply.status, reply.reason);
	else
		doctor_failed(f, NULL, "it is answered %d %s", reply.status, reply.word);
	free(answer.body);
}

static void
check_tampered(struct doctor *d, struct finding *f)
{
	check_refused(d, f, DELIVERY_TAMPERED);
}

static void
check_stale(struct doctor *d, struct finding *f)
{
	check_refused(d, f, DELIVERY_STALE);
}

/* ---- size and time ---- */

/* A large body with a wrong signature: a refusal for the signature shows that it arrived. */
static void
check_size(struct doctor *d, struct finding *f)
{
	char id[DELIVERY_ID_SIZE];
	struct http_answer answer;
	struct doctor_reply reply;

	if (!can_sign(d, f))
		return;
	if (!d->probe_reply.ours) {
		doctor_skipped(f, "no signed probe reaches the receiver");
		return;
	}
	delivery_new_id(id);
	probe(d, DELIVERY_WRONG_SECRET, id, LARGE_BYTES, &answer, &reply);
	if (reply.ours && strcmp(reply.reason, "body_too_large") == 0)
		doctor_failed(f, "set PSAPI_MAX_BODY to 1048576, the default, and restart the receiver",
		    "%d %s: %s", reply.status, reply.reason, reply.detail);
	else if (reply.ours)
		doctor_ok(f, "a body of %d kB reaches the receiver", LARGE_BYTES / 1000);
	else if (answer.status == 413 || answer.status == 500 || answer.status == 0)
		doctor_failed(f, NULL,
		    "a body of %d kB is answered %d %s by %s, and does not reach the receiver",
		    LARGE_BYTES / 1000, answer.status, answer.error,
		    *answer.server != '\0' ? answer.server : "the web server");
	else
		doctor_explain_status(f, &answer);
	free(answer.body);
}

static void
check_latency(struct doctor *d, struct finding *f)
{
	int64_t slowest = d->first.us > d->slowest_us ? d->first.us : d->slowest_us;

	if (!is_reached(d, f))
		return;
	if (slowest >= SENDER_LIMIT_MS * 1000LL)
		doctor_failed(f, NULL, "%.1f s: the sender gives up after %d s", (double)slowest / 1e6,
		    SENDER_LIMIT_MS / 1000);
	else
		doctor_ok(f, "%.0f ms at most%s", (double)slowest / 1000,
		    slowest >= SLOW_US ? ": slow, but in time" : "");
}

const struct doctor_check doctor_probe_checks[] = {
	{"get-refused", check_get,
	    "another program answers GET before the receiver: a static file, a cache, another "
	    "location"},
	{"unsigned-refused", check_unsigned,
	    "another program answers in the receiver's place: a cache, another location"},
	{"headers", check_headers,
	    "a program on the way drops or doubles request headers.\n"
	    "nginx: include fastcgi_params in the same location as fastcgi_pass, no "
	    "fastcgi_pass_request_headers off,\n"
	    "no fastcgi_param HTTP_WEBHOOK_...; a proxy before it: proxy_pass_request_headers on.\n"
	    "Apache: no RequestHeader unset or edit for them"},
	{"body", check_body,
	    "a program on the way changes the body, and the signature is over its exact bytes.\n"
	    "nginx: fastcgi_pass_request_body on, no proxy_set_body. Apache: no SetInputFilter, "
	    "InputSed, mod_security\n"
	    "that rewrites. Before them: a WAF or CDN that re-formats JSON"},
	{"signed-accepted", check_signed,
	    "compare the endpoint's signing secret in the portal with psapi secret list; the "
	    "receiver's log says more"},
	{"again-duplicate", check_duplicate,
	    "two receivers with two spools answer at this URL: events would be handled twice. Give "
	    "them one PSAPI_SPOOL"},
	{"tampered-refused", check_tampered,
	    "the program that answers at this URL does not verify signatures"},
	{"stale-refused", check_stale,
	    "set PSAPI_TOLERANCE to 300, the default: for that long a captured request can be sent "
	    "again"},
	{"size", check_size,
	    "nginx: client_max_body_size 2m; in the location. Apache: LimitRequestBody 2097152, with "
	    "mod_fcgid\n"
	    "FcgidMaxRequestLen 2097152 (its default is 131072). A proxy or WAF before them may have "
	    "a limit, too"},
	{"latency", check_latency,
	    "nginx: no limit_req without nodelay, no limit_rate; the receiver: more PSAPI_THREADS, a "
	    "faster disk under\n"
	    "the spool (fsync); psapi attempts shows the milliseconds that the receiver itself took"},
	{0},
};
