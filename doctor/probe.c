/*
 * Owns the checks of what the receiver makes of requests that reach it by the URL:
 * what must be refused is, what is signed arrives as it was signed and is accepted.
 * Like those before, each finds nothing where an earlier one has named the fault.
 */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "receiver/attempts_reader.h"
#include "send/sender.h"

enum {
	LARGE_BYTES = 350 * 1000, /* the largest bodies that the sender has */
	SLOW_US = 1000000
};

/* ---- requests ---- */

/* A probe of this kind, and what became of it. */
static void
probe(struct doctor *d, enum delivery_kind kind, const char *id, size_t size,
    struct http_answer *answer, struct answer_seen *seen)
{
	char *body = doctor_probe_body(id, d->now, size);
	struct delivery delivery = {.length = 0};

	*seen = (struct answer_seen){.status = 0};
	*answer = (struct http_answer){.failure = HTTP_BROKEN};
	if (body != NULL && delivery_make(&delivery, kind, d->keyring, id, time(NULL), body,
	                        strlen(body)) == 0) {
		doctor_exchange(d, "POST", &delivery, answer);
		doctor_answer_read(seen, answer->status, answer->body, answer->length);
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
		doctor_found_nothing(f, "psapi-fcgi is not reached");
	return d->reached;
}

static bool
can_sign(struct doctor *d, struct finding *f)
{
	if (!is_reached(d, f))
		return false;
	if (d->keyring == NULL)
		doctor_found_nothing(f, "there is no usable secret to sign with");
	return d->keyring != NULL;
}

/* ---- what must be refused ---- */

static void
check_get(struct doctor *d, struct finding *f)
{
	struct http_answer answer;

	if (!is_reached(d, f))
		return;
	doctor_exchange(d, "GET", NULL, &answer);
	if (answer.status / 100 == 4)
		doctor_found_good(f, "%d", answer.status);
	else
		doctor_found_bad(f, NULL, "GET is answered %d %s", answer.status, answer.error);
	free(answer.body);
}

static void
check_unsigned(struct doctor *d, struct finding *f)
{
	if (!is_reached(d, f))
		return;
	if (strcmp(d->seen.word, "ignored") == 0)
		doctor_found_nothing(f, "the receiver waits for its first secret");
	else if (d->seen.status / 100 == 4 || strcmp(d->seen.reason, "no_secret") == 0)
		doctor_found_good(f, "%d %s", d->seen.status, d->seen.reason);
	else
		doctor_found_bad(f, NULL, "what has no signature is answered %d %s", d->seen.status, d->seen.word);
}

/* ---- a signed probe, looked at from three sides ---- */

static void
check_headers(struct doctor *d, struct finding *f)
{
	struct http_answer answer;

	if (!can_sign(d, f))
		return;
	delivery_new_id(d->probe_id);
	probe(d, DELIVERY_SIGNED, d->probe_id, 0, &answer, &d->probe);
	if (!d->probe.ours) {
		if (answer.status > 0)
			doctor_explain_status(f, &answer);
		else
			doctor_found_bad(f, "the first request was answered, this one not: does something between inspect bodies "
			             "or headers (mod_security, a WAF)?", "%s", answer.error);
	} else if (strcmp(d->probe.reason, "missing_header") == 0 ||
	    strcmp(d->probe.reason, "malformed_header") == 0) {
		doctor_found_bad(f, NULL, "%s", d->probe.detail);
	} else {
		doctor_found_good(f, "webhook-id, webhook-timestamp and webhook-signature");
	}
	free(answer.body);
}

/* Bytes of our probe's body as the receiver counted them, from its log here; -1: not known. */
static long long
bytes_logged(struct doctor *d)
{
	struct attempts_reader *reader = attempts_reader_open(d->config->spool, ATTEMPTS_NEWEST_FIRST, false);
	struct attempts_line line;
	int64_t bytes = -1;

	while (reader != NULL && bytes < 0 && attempts_reader_next(reader, &line))
		if (attempts_reader_is(&line, ATTEMPTS_WEBHOOK_ID, d->probe_id))
			attempts_reader_number(&line, ATTEMPTS_BYTES, &bytes);
	attempts_reader_close(reader);
	return bytes;
}

/*
 * The same for a probe that was refused. Refusals that follow one another closely are
 * not logged each, so it is sent once more, after a while.
 */
static long long
bytes_arrived(struct doctor *d)
{
	struct timespec pause = {.tv_nsec = 200 * 1000000L};
	long long bytes = bytes_logged(d);
	struct http_answer answer;
	struct answer_seen seen;

	if (bytes >= 0 || !d->spool_opened)
		return bytes;
	nanosleep(&pause, NULL);
	probe(d, DELIVERY_SIGNED, d->probe_id, 0, &answer, &seen);
	free(answer.body);
	return bytes_logged(d);
}

/* The receiver says that the signature does not match: changed on its way, or another secret? */
static void
judge_mismatch(struct doctor *d, struct finding *f)
{
	char *body = doctor_probe_body(d->probe_id, d->now, 0);
	long long sent = body == NULL ? -1 : (long long)strlen(body), arrived = bytes_arrived(d);

	free(body);
	if (arrived >= 0 && arrived != sent)
		doctor_found_bad(f, NULL, "%lld bytes were sent, %lld arrived", sent, arrived);
	else if (d->proven_locally)
		doctor_found_bad(f, NULL, "the same secret proves a probe that comes straight to the receiver, but not one that "
		                   "comes over this URL%s", arrived < 0 ? ", or another receiver answers there" : "");
	else
		doctor_found_nothing(f, "cannot be told from a wrong secret");
	d->body_changed = f->mark == MARK_BAD;
}

static void
check_body(struct doctor *d, struct finding *f)
{
	if (!can_sign(d, f))
		return;
	if (!d->probe.ours || strstr(d->probe.reason, "_header") != NULL)
		doctor_found_nothing(f, "no signed probe was judged");
	else if (strcmp(d->probe.reason, "truncated_body") == 0)
		doctor_found_bad(f, NULL, "it does not arrive whole: %s", d->probe.detail);
	else if (strcmp(d->probe.reason, "signature_mismatch") == 0)
		judge_mismatch(d, f);
	else
		doctor_found_good(f, "it arrives as it was signed");
}

static void
check_signed(struct doctor *d, struct finding *f)
{
	const char *reason = d->probe.reason;

	if (!can_sign(d, f))
		return;
	if (!d->probe.ours || strstr(reason, "_header") != NULL || strcmp(reason, "truncated_body") == 0 ||
	    (strcmp(reason, "signature_mismatch") == 0 && d->body_changed))
		doctor_found_nothing(f, "see above");
	else if (strcmp(d->probe.word, "accepted") == 0)
		doctor_found_good(f, "200 accepted");
	else if (strcmp(reason, "stale_timestamp") == 0 || strcmp(reason, "future_timestamp") == 0)
		doctor_found_bad(f, "the clock of this machine, or of the receiver's: timedatectl", "%d %s: %s",
		    d->probe.status, reason, d->probe.detail);
	else
		doctor_found_bad(f, NULL, "%d %s: %s", d->probe.status, *reason != '\0' ? reason : d->probe.word,
		    d->probe.detail);
}

static void
check_duplicate(struct doctor *d, struct finding *f)
{
	struct http_answer answer;
	struct answer_seen seen;

	if (!can_sign(d, f))
		return;
	if (strcmp(d->probe.word, "accepted") != 0) {
		doctor_found_nothing(f, "nothing was accepted");
		return;
	}
	probe(d, DELIVERY_SIGNED, d->probe_id, 0, &answer, &seen);
	if (strcmp(seen.word, "duplicate") == 0)
		doctor_found_good(f, "200 duplicate");
	else
		doctor_found_bad(f, NULL, "the same webhook-id again is answered %d %s", seen.status, seen.word);
	free(answer.body);
}

static void
check_refused(struct doctor *d, struct finding *f, enum delivery_kind kind)
{
	char id[DELIVERY_ID_SIZE];
	struct http_answer answer;
	struct answer_seen seen;

	if (!can_sign(d, f))
		return;
	if (strcmp(d->probe.word, "accepted") != 0) {
		doctor_found_nothing(f, "nothing was accepted");
		return;
	}
	delivery_new_id(id);
	probe(d, kind, id, 0, &answer, &seen);
	if (seen.status / 100 == 4)
		doctor_found_good(f, "%d %s", seen.status, seen.reason);
	else
		doctor_found_bad(f, NULL, "it is answered %d %s", seen.status, seen.word);
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

/* A large body under a wrong signature: that it is refused for that shows that it arrived. */
static void
check_size(struct doctor *d, struct finding *f)
{
	char id[DELIVERY_ID_SIZE];
	struct http_answer answer;
	struct answer_seen seen;

	if (!can_sign(d, f))
		return;
	if (!d->probe.ours) {
		doctor_found_nothing(f, "no signed probe gets there");
		return;
	}
	delivery_new_id(id);
	probe(d, DELIVERY_WRONG_SECRET, id, LARGE_BYTES, &answer, &seen);
	if (seen.ours && strcmp(seen.reason, "body_too_large") == 0)
		doctor_found_bad(f, "set PSAPI_MAX_BODY to 1048576, the default, and restart the receiver", "%d %s: %s",
		    seen.status, seen.reason, seen.detail);
	else if (seen.ours)
		doctor_found_good(f, "a body of %d kB gets to the receiver", LARGE_BYTES / 1000);
	else if (answer.status == 413 || answer.status == 500 || answer.status == 0)
		doctor_found_bad(f, NULL, "a body of %d kB is answered %d %s by %s, and does not get to the receiver",
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
		doctor_found_bad(f, NULL, "%.1f s: the sender gives up after %d s", (double)slowest / 1e6,
		    SENDER_LIMIT_MS / 1000);
	else
		doctor_found_good(f, "%.0f ms at most%s", (double)slowest / 1000,
		    slowest >= SLOW_US ? ": slow, but in time" : "");
}

const struct check doctor_probe_checks[] = {
	{"get-refused", check_get,
	    "something before the receiver answers GET: a static file, a cache, another location"},
	{"unsigned-refused", check_unsigned, "something before the receiver answers in its place: a cache, another location"},
	{"headers", check_headers,
	    "something on the way drops or doubles request headers.\n"
	    "nginx: include fastcgi_params in the same location as fastcgi_pass, no fastcgi_pass_request_headers off,\n"
	    "no fastcgi_param HTTP_WEBHOOK_...; a proxy before it: proxy_pass_request_headers on.\n"
	    "Apache: no RequestHeader unset or edit for them"},
	{"body", check_body,
	    "something on the way changes the body, and the signature is over its very bytes.\n"
	    "nginx: fastcgi_pass_request_body on, no proxy_set_body. Apache: no SetInputFilter, InputSed, mod_security\n"
	    "that rewrites. Before them: a WAF or CDN that re-formats JSON"},
	{"signed-accepted", check_signed,
	    "compare the endpoint's signing secret in the portal with psapi secret list; the receiver's log says more"},
	{"again-duplicate", check_duplicate,
	    "two receivers with two spools answer at this URL: events would be handled twice. Give them one PSAPI_SPOOL"},
	{"tampered-refused", check_tampered, "what answers at this URL does not verify signatures"},
	{"stale-refused", check_stale,
	    "set PSAPI_TOLERANCE to 300, the default: a captured request could be replayed for as long as it says"},
	{"size", check_size,
	    "nginx: client_max_body_size 2m; in the location. Apache: LimitRequestBody 2097152, with mod_fcgid\n"
	    "FcgidMaxRequestLen 2097152 (its default is 131072). A proxy or WAF before them has a limit, too"},
	{"latency", check_latency,
	    "nginx: no limit_req without nodelay, no limit_rate; the receiver: more PSAPI_THREADS, a faster disk under\n"
	    "the spool (fsync); psapi attempts shows the milliseconds that the receiver itself took"},
	{0},
};
