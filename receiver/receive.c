/*
 * Owns the decision: which checks in which order, which reason has which status,
 * what the sender is told. The reply is made to be read in the portal ("Message
 * Attempts"): never an expected signature, a secret or a path.
 */
#define _GNU_SOURCE
#include "receiver/receive.h"

#include <errno.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "base/datetime.h"
#include "events.h"
#include "receiver/hold.h"
#include "base/json_line.h"
#include "base/log.h"
#include "store/record.h"
#include "verify.h"

enum verdict {
	ACCEPTED,
	DUPLICATE,
	HELD,
	IGNORED,
	METHOD_NOT_ALLOWED,
	UNSUPPORTED_ENCODING,
	MISSING_HEADER,
	MALFORMED_HEADER,
	TRUNCATED_BODY,
	BODY_TOO_LARGE,
	STALE_TIMESTAMP,
	FUTURE_TIMESTAMP,
	SIGNATURE_MISMATCH,
	NO_SECRET,
	FULL,
	NOT_STORED
};

/* Bytes of a body after which freed memory goes back to the system. */
enum { TRIM_OVER = 128 * 1024 };

#define RETRY_AFTER "Retry-After: 60\r\n"

/* Reasons and their HTTP status: the one place where a verdict becomes HTTP. */
static const struct {
	const char *outcome; /* "status" of the reply, "outcome" of the attempts log */
	const char *reason;
	int status;
	const char *phrase;
	const char *header;
} verdicts[] = {
	[ACCEPTED] = {"accepted", NULL, 200, "OK", ""},
	[DUPLICATE] = {"duplicate", NULL, 200, "OK", ""},
	[HELD] = {"held", NULL, 200, "OK", ""},
	[IGNORED] = {"ignored", NULL, 200, "OK", ""},
	[METHOD_NOT_ALLOWED] = {"rejected", "method_not_allowed", 405, "Method Not Allowed",
	    "Allow: POST\r\n"},
	[UNSUPPORTED_ENCODING] = {"rejected", "unsupported_encoding", 415,
	    "Unsupported Media Type", ""},
	[MISSING_HEADER] = {"rejected", "missing_header", 400, "Bad Request", ""},
	[MALFORMED_HEADER] = {"rejected", "malformed_header", 400, "Bad Request", ""},
	[TRUNCATED_BODY] = {"rejected", "truncated_body", 400, "Bad Request", ""},
	[BODY_TOO_LARGE] = {"rejected", "body_too_large", 413, "Content Too Large", ""},
	[STALE_TIMESTAMP] = {"rejected", "stale_timestamp", 401, "Unauthorized", ""},
	[FUTURE_TIMESTAMP] = {"rejected", "future_timestamp", 401, "Unauthorized", ""},
	[SIGNATURE_MISMATCH] = {"rejected", "signature_mismatch", 401, "Unauthorized", ""},
	[NO_SECRET] = {"error", "no_secret", 503, "Service Unavailable", RETRY_AFTER},
	[FULL] = {"error", "spool_full", 503, "Service Unavailable", RETRY_AFTER},
	[NOT_STORED] = {"error", "spool_error", 503, "Service Unavailable", RETRY_AFTER},
};

static const struct {
	const char *name;   /* of the meta-variable */
	size_t length;
	const char *header; /* as the sender knows it */
} variables[VARIABLES] = {
#define NAMED(name) #name, sizeof(#name) - 1
	[REQUEST_METHOD] = {NAMED(REQUEST_METHOD), "method"},
	[CONTENT_LENGTH] = {NAMED(CONTENT_LENGTH), "content-length"},
	[REMOTE_ADDR] = {NAMED(REMOTE_ADDR), "remote address"},
	[HTTP_CONTENT_ENCODING] = {NAMED(HTTP_CONTENT_ENCODING), "content-encoding"},
	[HTTP_WEBHOOK_ID] = {NAMED(HTTP_WEBHOOK_ID), "webhook-id"},
	[HTTP_WEBHOOK_TIMESTAMP] = {NAMED(HTTP_WEBHOOK_TIMESTAMP), "webhook-timestamp"},
	[HTTP_WEBHOOK_SIGNATURE] = {NAMED(HTTP_WEBHOOK_SIGNATURE), "webhook-signature"},
#undef NAMED
};

/* A request on its way through the checks. */
struct examination {
	struct receiver *receiver;
	struct request *request;
	struct timespec now;
	struct message message; /* what is signed */
	const char *signatures;
	size_t signatures_length;
	long long declared; /* CONTENT_LENGTH, or -1 */
	char *body;         /* owned */
	bool cut;           /* the stream broke off */
	struct verification verification;
	bool timed;         /* verification.skew is known */
	char key[FINGERPRINT_SIZE];
	struct event event;
	char detail[256];   /* for the reply: text of our own */
};

void
receive_request_set(struct request *request, const char *name, size_t length, const char *value)
{
	for (int i = 0; i < VARIABLES; i++) {
		if (variables[i].length != length || memcmp(variables[i].name, name, length) != 0)
			continue;
		if (request->value[i] != NULL && strcmp(request->value[i], value) != 0)
			request->differs[i] = true;
		request->value[i] = value;
		return;
	}
}

/* The value of a variable, NULL if it is absent or empty. */
static const char *
value_of(const struct examination *x, enum variable variable)
{
	const char *value = x->request->value[variable];

	return value != NULL && *value != '\0' ? value : NULL;
}

/* ---- the checks, in their order ---- */

static enum verdict
check_method(struct examination *x)
{
	const char *method = value_of(x, REQUEST_METHOD);

	if (method != NULL && strcmp(method, "POST") == 0)
		return ACCEPTED;
	snprintf(x->detail, sizeof(x->detail), "webhooks are sent with POST");
	return METHOD_NOT_ALLOWED;
}

static enum verdict
check_encoding(struct examination *x)
{
	const char *encoding = value_of(x, HTTP_CONTENT_ENCODING);

	if (encoding == NULL || strcasecmp(encoding, "identity") == 0)
		return ACCEPTED;
	snprintf(x->detail, sizeof(x->detail),
	    "the signature is over the plain body: send it without Content-Encoding");
	return UNSUPPORTED_ENCODING;
}

static enum verdict
check_presence(struct examination *x)
{
	for (int i = HTTP_WEBHOOK_ID; i <= HTTP_WEBHOOK_SIGNATURE; i++) {
		if (value_of(x, (enum variable)i) != NULL)
			continue;
		snprintf(x->detail, sizeof(x->detail), "no %s header arrived, or it is empty",
		    variables[i].header);
		return MISSING_HEADER;
	}
	return ACCEPTED;
}

/*
 * A server may have joined a repeated header with ", " (RFC 9110, section 5.3).
 * Equal values are one value; then *length is cut to it. Different ones: false.
 */
static bool
unjoin(const char *value, size_t *length)
{
	const char *comma = strstr(value, ", ");
	size_t first = comma == NULL ? strlen(value) : (size_t)(comma - value);

	*length = first;
	while (comma != NULL) {
		const char *next = comma + 2;
		comma = strstr(next, ", ");
		size_t n = comma == NULL ? strlen(next) : (size_t)(comma - next);
		if (n != first || memcmp(next, value, n) != 0)
			return false;
	}
	return true;
}

/* Decimal digits alone. A number that no type holds is still one: far too large. */
static bool
parse_length(const char *text, size_t n, long long *length)
{
	*length = 0;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		if (*length < 1LL << 50)
			*length = *length * 10 + (text[i] - '0');
	}
	return n > 0;
}

static enum verdict
check_form(struct examination *x)
{
	static const enum variable headers[] = {HTTP_WEBHOOK_ID, HTTP_WEBHOOK_TIMESTAMP,
	    HTTP_WEBHOOK_SIGNATURE, CONTENT_LENGTH};
	size_t length[4] = {0};
	int64_t seconds;

	for (int i = 0; i < 4; i++) {
		const char *value = value_of(x, headers[i]);
		if (x->request->differs[headers[i]] || (value != NULL && !unjoin(value, &length[i]))) {
			snprintf(x->detail, sizeof(x->detail),
			    "the %s header arrived twice, with different values",
			    variables[headers[i]].header);
			return MALFORMED_HEADER;
		}
	}
	x->message.id = value_of(x, HTTP_WEBHOOK_ID);
	x->message.id_length = length[0];
	x->message.timestamp = value_of(x, HTTP_WEBHOOK_TIMESTAMP);
	x->message.timestamp_length = length[1];
	x->signatures = value_of(x, HTTP_WEBHOOK_SIGNATURE);
	x->signatures_length = length[2];
	if (x->message.id_length == 0) {
		snprintf(x->detail, sizeof(x->detail), "the webhook-id header holds no id");
		return MALFORMED_HEADER;
	}
	if (!verify_timestamp_parse(x->message.timestamp, x->message.timestamp_length, &seconds)) {
		snprintf(x->detail, sizeof(x->detail),
		    "webhook-timestamp must be Unix seconds, digits alone");
		return MALFORMED_HEADER;
	}
	const char *declared = value_of(x, CONTENT_LENGTH);
	if (declared != NULL && !parse_length(declared, length[3], &x->declared)) {
		snprintf(x->detail, sizeof(x->detail), "content-length is no number of bytes");
		return MALFORMED_HEADER;
	}
	return ACCEPTED;
}

static enum verdict
too_large(struct examination *x)
{
	snprintf(x->detail, sizeof(x->detail), "the body is over the limit of %lld bytes",
	    x->receiver->config->max_body);
	return BODY_TOO_LARGE;
}

/* Read to the end of the stream, at most one byte over the limit. */
static enum verdict
read_body(struct examination *x)
{
	size_t limit = (size_t)x->receiver->config->max_body, room;

	if (x->declared > (long long)limit)
		return too_large(x);
	/* One byte more than is expected, to meet the end without growing. */
	room = x->declared >= 0 ? (size_t)x->declared + 1 : 4096;
	for (;;) {
		char *grown = realloc(x->body, room);
		if (grown == NULL) {
			log_line("out of memory for a body of %zu bytes", room);
			return NOT_STORED;
		}
		x->body = grown;
		while (x->message.body_length < room) {
			ssize_t n = x->request->read(x->request->stream,
			    x->body + x->message.body_length, room - x->message.body_length);
			x->cut = n < 0;
			if (n <= 0) {
				x->message.body = x->body;
				return ACCEPTED;
			}
			x->message.body_length += (size_t)n;
			if (x->message.body_length > limit)
				return too_large(x);
		}
		room = room * 2 < limit + 1 ? room * 2 : limit + 1;
	}
}

static enum verdict
check_truncation(struct examination *x)
{
	if (!x->cut && (long long)x->message.body_length >= x->declared)
		return ACCEPTED;
	if (x->declared >= 0)
		snprintf(x->detail, sizeof(x->detail),
		    "%zu of %lld bytes arrived before the upload ended", x->message.body_length,
		    x->declared);
	else
		snprintf(x->detail, sizeof(x->detail), "the upload broke off after %zu bytes",
		    x->message.body_length);
	return TRUNCATED_BODY;
}

static enum verdict
off_by(struct examination *x, enum verdict verdict)
{
	long long skew = x->verification.skew;

	snprintf(x->detail, sizeof(x->detail),
	    "webhook-timestamp is %lld s %s this receiver's clock, %lld s are tolerated; %s",
	    skew < 0 ? -skew : skew, skew < 0 ? "ahead of" : "behind",
	    x->receiver->config->tolerance,
	    x->verification.matched ? "the signature matched: check the clocks" :
	                              "the signature did not match either");
	return verdict;
}

static enum verdict
check_signature(struct examination *x)
{
	const struct keyring *keyring = secrets_borrow(x->receiver->secrets);

	if (keyring == NULL) {
		snprintf(x->detail, sizeof(x->detail),
		    "this receiver has no usable signing secret yet; its log says why");
		return NO_SECRET;
	}
	enum verify_result result = verify(keyring, &x->message, x->signatures,
	    x->signatures_length, x->now.tv_sec, x->receiver->config->tolerance,
	    &x->verification);
	x->timed = result != VERIFY_ERROR;
	if (x->verification.matched) {
		/* The fingerprint outlives the keyring. */
		memcpy(x->key, x->verification.key, sizeof(x->key));
		x->verification.key = x->key;
	}
	secrets_return(x->receiver->secrets, keyring);
	switch (result) {
	case VERIFY_OK:
		return ACCEPTED;
	case VERIFY_STALE:
		return off_by(x, STALE_TIMESTAMP);
	case VERIFY_FUTURE:
		return off_by(x, FUTURE_TIMESTAMP);
	case VERIFY_MISMATCH:
		snprintf(x->detail, sizeof(x->detail),
		    "no signature matches a configured secret: compare the endpoint's signing "
		    "secret, or the body was changed on its way");
		return SIGNATURE_MISMATCH;
	case VERIFY_ERROR:
		break;
	}
	log_line("mbedTLS failed to compute a signature");
	return NOT_STORED;
}

/* ---- storing what is authentic ---- */

/* Why an odd event waits in failed/, for whoever looks after it. */
static int
explain(struct examination *x, const char *name)
{
	char at[DATETIME_ISO_SIZE], text[512];
	struct json_line line;

	datetime_iso(x->now, at);
	json_line_begin(&line, text, sizeof(text));
	json_line_add(&line, "{\"tries\":0,\"failed_at\":\"%s\",\"reason\":\"%s\"}\n", at, x->event.odd);
	if (!line.cut && spool_write_state(x->receiver->spool, name, text) == 0)
		return 0;
	log_line("state/%s: %s", name, strerror(errno));
	return -1;
}

static enum verdict
verdict_of(struct examination *x, enum spool_result result)
{
	switch (result) {
	case SPOOL_STORED:
		return ACCEPTED;
	case SPOOL_DUPLICATE:
		snprintf(x->detail, sizeof(x->detail),
		    "this webhook-id was stored before; to process it again: psapi replay ID");
		return DUPLICATE;
	case SPOOL_FULL:
		snprintf(x->detail, sizeof(x->detail), "the disk is full; send it again later");
		return FULL;
	case SPOOL_ABSENT:
	case SPOOL_ERROR:
		break;
	}
	snprintf(x->detail, sizeof(x->detail),
	    "the event could not be stored; this receiver's log says why");
	return NOT_STORED;
}

static enum verdict
store_as(struct examination *x, const char *name)
{
	static const enum spool_dir queues[] = {
		[QUEUE_NEW] = SPOOL_NEW, [QUEUE_FAILED] = SPOOL_FAILED, [QUEUE_NONE] = SPOOL_EVENTS};
	struct evidence evidence = {
		.id = x->message.id,
		.id_length = x->message.id_length,
		.timestamp = x->message.timestamp,
		.timestamp_length = x->message.timestamp_length,
		.signature = x->verification.signature,
		.signature_length = SIGNATURE_SIZE,
		.received_at = x->now,
	};
	struct record record;

	if (record_make(&record, &evidence, x->message.body, x->message.body_length,
	        x->event.parsed) != 0)
		return verdict_of(x, SPOOL_ERROR);
	enum spool_result result = spool_store(x->receiver->spool, name,
	    queues[x->event.queue], record.iov, record.count);
	record_free(&record);
	return verdict_of(x, result);
}

static enum verdict
store(struct examination *x)
{
	char name[SPOOL_NAME_SIZE];

	events_read(x->message.body, x->message.body_length, &x->event);
	if (x->receiver->spool == NULL ||
	    spool_name(x->message.id, x->message.id_length, name) != 0)
		return verdict_of(x, SPOOL_ERROR);
	enum spool_result found = spool_find(x->receiver->spool, name);
	if (found != SPOOL_ABSENT)
		return verdict_of(x, found);
	if (spool_is_full(x->receiver->spool, x->receiver->config->min_free))
		return verdict_of(x, SPOOL_FULL);
	if (x->event.queue == QUEUE_FAILED && explain(x, name) != 0)
		return verdict_of(x, errno == ENOSPC || errno == EDQUOT ? SPOOL_FULL : SPOOL_ERROR);
	enum verdict verdict = store_as(x, name);
	if (verdict != ACCEPTED && verdict != DUPLICATE && x->event.queue == QUEUE_FAILED)
		unlinkat(x->receiver->spool->dir[SPOOL_STATE], name, 0);
	if (verdict == ACCEPTED && x->event.odd != NULL)
		snprintf(x->detail, sizeof(x->detail),
		    "authentic, but it needs a look and waits in failed: %s", x->event.odd);
	return verdict;
}

/* ---- before the first secret ---- */

/* Loud, but not once for each request that anyone can send. */
static void
say_ignored(struct examination *x)
{
	static atomic_llong last;
	long long now = (long long)x->now.tv_sec;

	if (atomic_exchange(&last, now) != now)
		log_line("HOLD: there is no signing secret yet, and a request that cannot be held for it "
		         "was ignored (200): %s", x->detail);
}

static enum verdict
ignore(struct examination *x)
{
	char why[sizeof(x->detail)];

	say_ignored(x);
	snprintf(why, sizeof(why), "%s", x->detail);
	snprintf(x->detail, sizeof(x->detail),
	    "this receiver waits for its signing secret and does not keep this: %.160s", why);
	return IGNORED;
}

static enum verdict
keep(struct examination *x)
{
	struct evidence evidence = {
		.id = x->message.id,
		.id_length = x->message.id_length,
		.timestamp = x->message.timestamp,
		.timestamp_length = x->message.timestamp_length,
		.signature = x->signatures,
		.signature_length = x->signatures_length,
		.received_at = x->now,
	};
	struct spool *spool = x->receiver->spool;
	enum spool_result result = SPOOL_FULL;

	if (!spool_is_full(spool, x->receiver->config->min_free))
		result = hold_keep(spool, &evidence, x->message.body, x->message.body_length);
	if (result == SPOOL_FULL) {
		snprintf(x->detail, sizeof(x->detail),
		    "no more requests can wait for the signing secret: configure it, psapi secret add");
		return FULL;
	}
	if (result != SPOOL_STORED)
		return verdict_of(x, SPOOL_ERROR);
	log_line("HOLD: there is no signing secret yet: %.100s is kept unverified in %s/hold and answered "
	         "200; add the endpoint's secret now: psapi secret add", x->message.id, spool->path);
	snprintf(x->detail, sizeof(x->detail),
	    "kept until the signing secret is configured, which proves it: psapi secret add");
	return HELD;
}

/*
 * The first request comes before its secret can be known. A refusal that a secret
 * would not change, or the want of one, becomes a hold while nothing was ever
 * accepted; an upload that broke off is sent again anyway.
 */
static enum verdict
hold(struct examination *x, enum verdict verdict)
{
	if (verdict != UNSUPPORTED_ENCODING && verdict != MISSING_HEADER &&
	    verdict != MALFORMED_HEADER && verdict != BODY_TOO_LARGE && verdict != NO_SECRET)
		return verdict;
	if (x->receiver->spool == NULL ||
	    !hold_applies(x->receiver->spool, x->receiver->secrets))
		return verdict;
	if (verdict != NO_SECRET)
		return ignore(x);
	int64_t seconds = 0, tolerance = x->receiver->config->tolerance;
	verify_timestamp_parse(x->message.timestamp, x->message.timestamp_length, &seconds);
	x->verification.skew = x->now.tv_sec - seconds;
	x->timed = true;
	if (x->verification.skew >= -tolerance && x->verification.skew <= tolerance) {
		enum verdict kept = keep(x);
		/* A secret that came meanwhile has been tried on what was held before: try it again. */
		atomic_store(&x->receiver->adopted, 0);
		return kept;
	}
	snprintf(x->detail, sizeof(x->detail), "webhook-timestamp is %lld s off this receiver's clock",
	    (long long)x->verification.skew);
	return ignore(x);
}

/* ---- the reply and the log ---- */

static void
fill_reply(enum verdict verdict, const char *detail, struct reply *reply)
{
	struct json_line body;

	json_line_begin(&body, reply->body, sizeof(reply->body));
	json_line_put(&body, "{\"status\":\"");
	json_line_put(&body, verdicts[verdict].outcome);
	if (verdicts[verdict].reason != NULL) {
		json_line_put(&body, "\",\"reason\":\"");
		json_line_put(&body, verdicts[verdict].reason);
	}
	json_line_put(&body, "\"");
	if (*detail != '\0') {
		json_line_put(&body, ",\"detail\":");
		json_line_add_string(&body, detail, strlen(detail));
	}
	json_line_put(&body, "}\n");
	reply->status = verdicts[verdict].status;
	reply->phrase = verdicts[verdict].phrase;
	reply->header = verdicts[verdict].header;
}

static long long
microseconds_since(const struct timespec *start)
{
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	return (end.tv_sec - start->tv_sec) * 1000000LL + (end.tv_nsec - start->tv_nsec) / 1000;
}

static void
log_attempt(const struct examination *x, enum verdict verdict, const struct timespec *start)
{
	const char *id = value_of(x, HTTP_WEBHOOK_ID);
	struct attempt attempt = {
		.at = x->now,
		.outcome = verdicts[verdict].outcome,
		.status = verdicts[verdict].status,
		.reason = verdicts[verdict].reason,
		.webhook_id = id,
		.webhook_id_length = x->message.id != NULL ? x->message.id_length :
		    id != NULL                             ? strlen(id) :
		                                             0,
		.type = x->event.type,
		.event_id = x->event.id,
		.remote_addr = value_of(x, REMOTE_ADDR),
		.bytes = x->message.body_length,
		.timed = x->timed,
		.skew = x->verification.skew,
		.key = x->verification.key,
		.us = microseconds_since(start),
	};

	if (x->receiver->attempts != NULL)
		attempts_write(x->receiver->attempts, &attempt);
}

void
receive(struct receiver *receiver, struct request *request, struct timespec now,
    struct reply *reply)
{
	static enum verdict (*const checks[])(struct examination *) = {check_method,
	    check_encoding, check_presence, check_form, read_body, check_truncation,
	    check_signature, store};
	struct examination x = {
		.receiver = receiver, .request = request, .now = now, .declared = -1};
	enum verdict verdict = ACCEPTED;
	struct timespec start;

	clock_gettime(CLOCK_MONOTONIC, &start);
	for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]) && verdict == ACCEPTED; i++)
		verdict = checks[i](&x);
	verdict = hold(&x, verdict);
	log_attempt(&x, verdict, &start);
	fill_reply(verdict, x.detail, reply);
	free(x.body);
	/* What a large body's JSON took is given back, or 32 of them would stay for good. */
	if (x.message.body_length > TRIM_OVER)
		malloc_trim(0);
}

void
receive_unconfigured(struct reply *reply)
{
	fill_reply(NOT_STORED, "this receiver is not configured; its log says why", reply);
}
