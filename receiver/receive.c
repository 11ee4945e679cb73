/*
 * Owns the decision: which checks in which order, which reason has which status,
 * what the sender is told. The reply is made to be read in the portal ("Message
 * Attempts"): never an expected signature, a secret or a path.
 *
 * A check returns PASSED, or the verdict, which ends the request. Before the first
 * secret nothing can be verified: where the checks need one, a request is held, and a
 * request that no secret would make acceptable is ignored.
 */
#define _GNU_SOURCE
#include "receiver/receive.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <strings.h>

#include "base/clock.h"
#include "base/json_line.h"
#include "base/log.h"
#include "events.h"
#include "verify.h"

enum verdict {
	PASSED, /* this check: the next one decides */
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

#define NO_STORE "Cache-Control: no-store\r\n"
#define RETRY_LATER NO_STORE "Retry-After: 60\r\n"

/* Reasons and their HTTP status: the one place where a verdict becomes HTTP. */
static const struct {
	const char *outcome; /* "status" of the reply, "outcome" of the attempts log */
	const char *reason;
	int status;
	const char *phrase;
	const char *header;
	bool final; /* no secret would change it: IGNORED before the first secret */
} verdicts[] = {
	[ACCEPTED] = {"accepted", NULL, 200, "OK", NO_STORE, false},
	[DUPLICATE] = {"duplicate", NULL, 200, "OK", NO_STORE, false},
	[HELD] = {"held", NULL, 200, "OK", NO_STORE, false},
	[IGNORED] = {"ignored", NULL, 200, "OK", NO_STORE, false},
	[METHOD_NOT_ALLOWED] = {"rejected", "method_not_allowed", 405, "Method Not Allowed",
	    NO_STORE "Allow: POST\r\n", false},
	[UNSUPPORTED_ENCODING] = {"rejected", "unsupported_encoding", 415, "Unsupported Media Type",
	    NO_STORE, true},
	[MISSING_HEADER] = {"rejected", "missing_header", 400, "Bad Request", NO_STORE, true},
	[MALFORMED_HEADER] = {"rejected", "malformed_header", 400, "Bad Request", NO_STORE, true},
	/* The sender sends an upload that broke off again. */
	[TRUNCATED_BODY] = {"rejected", "truncated_body", 400, "Bad Request", NO_STORE, false},
	[BODY_TOO_LARGE] = {"rejected", "body_too_large", 413, "Content Too Large", NO_STORE, true},
	[STALE_TIMESTAMP] = {"rejected", "stale_timestamp", 401, "Unauthorized", NO_STORE, false},
	[FUTURE_TIMESTAMP] = {"rejected", "future_timestamp", 401, "Unauthorized", NO_STORE, false},
	[SIGNATURE_MISMATCH] = {"rejected", "signature_mismatch", 401, "Unauthorized", NO_STORE,
	    false},
	[NO_SECRET] = {"error", "no_secret", 503, "Service Unavailable", RETRY_LATER, false},
	[FULL] = {"error", "spool_full", 503, "Service Unavailable", RETRY_LATER, false},
	[NOT_STORED] = {"error", "spool_error", 503, "Service Unavailable", RETRY_LATER, false},
};

/* The variables that decide. */
enum variable {
	REQUEST_METHOD,
	CONTENT_LENGTH,
	REMOTE_ADDR,
	HTTP_CONTENT_ENCODING,
	HTTP_WEBHOOK_ID,
	HTTP_WEBHOOK_TIMESTAMP,
	HTTP_WEBHOOK_SIGNATURE,
	/* The older names of the three, in the same order. */
	HTTP_SVIX_ID,
	HTTP_SVIX_TIMESTAMP,
	HTTP_SVIX_SIGNATURE,
	VARIABLES
};

enum { SIGNED_HEADERS = HTTP_SVIX_ID - HTTP_WEBHOOK_ID };

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
	[HTTP_SVIX_ID] = {NAMED(HTTP_SVIX_ID), "svix-id"},
	[HTTP_SVIX_TIMESTAMP] = {NAMED(HTTP_SVIX_TIMESTAMP), "svix-timestamp"},
	[HTTP_SVIX_SIGNATURE] = {NAMED(HTTP_SVIX_SIGNATURE), "svix-signature"},
#undef NAMED
};

/* One request and what is known of it so far. */
struct transaction {
	struct receiver *receiver;
	const struct request *request;
	struct timespec now;
	const char *value[VARIABLES]; /* NULL: absent or empty */
	bool differs[VARIABLES];      /* it is there twice, with different values */
	bool svix;                    /* the three headers have their older names */
	struct message message;       /* the signed parts */
	int64_t sent_at;              /* webhook-timestamp, Unix seconds */
	const char *signatures;
	size_t signatures_length;
	long long declared; /* CONTENT_LENGTH, or -1 */
	char *body;         /* owned */
	bool cut_off;       /* the body's stream ended too early */
	struct verification verification;
	bool skew_known;    /* of verification */
	char key[FINGERPRINT_SIZE];
	struct event event;
	char detail[256];   /* for the reply: text of our own */
};

static void
set_variable(struct transaction *t, enum variable variable, const char *value)
{
	const char **known = &t->value[variable];

	if (*known != NULL && strcmp(*known, value) != 0)
		t->differs[variable] = true;
	*known = value;
}

/* Whether one of the three signed headers is there, under the names that begin with first. */
static bool
has_signed(const struct transaction *t, enum variable first)
{
	return t->value[first] != NULL || t->value[first + 1] != NULL || t->value[first + 2] != NULL;
}

/*
 * Svix, which AgentSync sends with, also has svix-id, svix-timestamp and svix-signature for the
 * same. The two sets are never mixed: they count if nothing of the other set is there.
 */
static void
take_older_names(struct transaction *t)
{
	t->svix = !has_signed(t, HTTP_WEBHOOK_ID) && has_signed(t, HTTP_SVIX_ID);
	for (int i = 0; t->svix && i < SIGNED_HEADERS; i++) {
		t->value[HTTP_WEBHOOK_ID + i] = t->value[HTTP_SVIX_ID + i];
		t->differs[HTTP_WEBHOOK_ID + i] = t->differs[HTTP_SVIX_ID + i];
	}
}

/* The name of a header as the sender of this request knows it. */
static const char *
header_name(const struct transaction *t, enum variable variable)
{
	bool older = t->svix && variable >= HTTP_WEBHOOK_ID && variable <= HTTP_WEBHOOK_SIGNATURE;

	return variables[older ? variable + SIGNED_HEADERS : variable].header;
}

/* Take the variables that decide; of one that is there twice, the last value. */
static void
read_variables(struct transaction *t)
{
	for (char *const *variable = t->request->variables; *variable != NULL; variable++) {
		const char *equals = strchr(*variable, '=');
		size_t length = equals == NULL ? 0 : (size_t)(equals - *variable);
		for (int i = 0; i < VARIABLES; i++)
			if (variables[i].length == length && memcmp(variables[i].name, *variable, length) == 0)
				set_variable(t, (enum variable)i, equals + 1);
	}
	for (int i = 0; i < VARIABLES; i++)
		if (t->value[i] != NULL && *t->value[i] == '\0')
			t->value[i] = NULL;
	take_older_names(t);
}

/* ---- verdicts ---- */

/*
 * Whether the secret file is there and can be trusted, but holds no secret, no secret is in
 * force, and nothing was ever accepted: the portal sends a first request the moment an
 * endpoint is saved, when nobody can know its secret yet.
 */
static bool
awaits_first_secret(const struct transaction *t)
{
	struct receiver *receiver = t->receiver;
	const struct keyring *keyring = secrets_borrow(receiver->secrets);
	bool in_force = keyring != NULL;

	secrets_return(receiver->secrets, keyring);
	return !in_force && receiver->store != NULL && secrets_awaited(receiver->secrets) &&
	    store_is_empty(receiver->store);
}

/*
 * Answer 200 and store nothing; t->detail says why. Logged at most once a second: any client
 * can send such requests.
 */
static enum verdict
ignore(struct transaction *t)
{
	static atomic_llong last;
	char why[sizeof(t->detail)];
	long long now = (long long)t->now.tv_sec;

	if (atomic_exchange(&last, now) != now)
		log_line("HOLD: there is no signing secret yet, and a request that cannot be held for it "
		         "was ignored (200): %s", t->detail);
	snprintf(why, sizeof(why), "%s", t->detail);
	snprintf(t->detail, sizeof(t->detail),
	    "this receiver waits for its signing secret and does not hold this request: %.160s", why);
	return IGNORED;
}

/* A verdict, and the detail that the sender is told. */
static enum verdict __attribute__((format(printf, 3, 4)))
conclude(struct transaction *t, enum verdict verdict, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(t->detail, sizeof(t->detail), format, ap);
	va_end(ap);
	return verdicts[verdict].final && awaits_first_secret(t) ? ignore(t) : verdict;
}

static enum verdict
conclude_stored(struct transaction *t, enum store_result result, const struct error *error)
{
	switch (result) {
	case STORE_OK:
		return ACCEPTED;
	case STORE_DUPLICATE:
		return conclude(t, DUPLICATE,
		    "this webhook-id was stored before; to process it again: psapi replay ID");
	case STORE_FULL: /* the store tells what is full: it may be another host's disk */
		if (error != NULL)
			error_log(error);
		return conclude(t, FULL, "the disk is full; send it again later");
	default:
		break;
	}
	if (error != NULL)
		error_log(error);
	return conclude(t, NOT_STORED, "the event could not be stored; this receiver's log says why");
}

/*
 * Whether another directory is at the spool's path, or none, as with a restore or a late mount:
 * nobody would see what is stored in the old one. Then *error is set. Looked at once a second.
 */
static bool
is_replaced(struct transaction *t, struct error *error)
{
	struct receiver *r = t->receiver;
	long long now = t->now.tv_sec;

	if (r->attempts != NULL && atomic_exchange(&r->looked, now) != now)
		atomic_store(&r->replaced, attempts_is_replaced(r->attempts));
	if (!atomic_load(&r->replaced))
		return false;
	error_set(error, EX_CONFIG, "restart the receiver",
	    "%s: was replaced, or mounted over, since the start: no drain would see the event",
	    r->config->spool);
	return true;
}

/* ---- before the first secret ---- */

/* The headers that were signed, and the signature or all signatures. */
static struct evidence
evidence_of(const struct transaction *t, const char *signature, size_t length)
{
	return (struct evidence){
		.id = t->message.id,
		.id_length = t->message.id_length,
		.timestamp = t->message.timestamp,
		.timestamp_length = t->message.timestamp_length,
		.signature = signature,
		.signature_length = length,
		.received_at = t->now,
	};
}

/* Hold the request, unverified. Its body is stored as base64: nothing unproven is parsed. */
static enum verdict
hold(struct transaction *t)
{
	struct evidence evidence = evidence_of(t, t->signatures, t->signatures_length);
	struct store *store = t->receiver->store;
	enum store_result result = STORE_FULL;
	struct record record;
	struct error error;

	if (is_replaced(t, &error))
		return conclude_stored(t, STORE_FAILED, &error);
	if (record_make(&record, &evidence, t->message.body, t->message.body_length, false) != 0)
		return conclude_stored(t, STORE_FAILED, NULL);
	if (!store_held_is_full(store, t->receiver->config->min_free))
		result = store_hold(store, &record, t->now, &error);
	record_free(&record);
	if (result == STORE_FULL)
		return conclude(t, FULL,
		    "no more requests can wait for the signing secret: configure it, psapi secret add");
	if (result != STORE_OK)
		return conclude_stored(t, result, &error);
	log_line("HOLD: there is no signing secret yet: %.100s is held unverified in %s/hold and "
	         "answered 200; add the endpoint's secret now: psapi secret add", t->message.id,
	    t->receiver->config->spool);
	return conclude(t, HELD,
	    "held until the signing secret is added (psapi secret add) and proves it");
}

/* A well-formed request, and no secret to verify it with. */
static enum verdict
check_without_secret(struct transaction *t)
{
	int64_t skew = t->now.tv_sec - t->sent_at;

	if (!awaits_first_secret(t))
		return conclude(t, NO_SECRET,
		    "this receiver has no usable signing secret yet; its log says why");
	t->verification.skew = skew;
	t->skew_known = true;
	if (verify_timestamp_in_tolerance(skew, t->receiver->config->tolerance) != VERIFY_OK) {
		snprintf(t->detail, sizeof(t->detail),
		    "%s is %lld s off this receiver's clock", header_name(t, HTTP_WEBHOOK_TIMESTAMP),
		    (long long)skew);
		return ignore(t);
	}
	enum verdict verdict = hold(t);
	/* A secret that came meanwhile was tried on the requests held before: try it again. */
	atomic_store(&t->receiver->adopted, 0);
	return verdict;
}

/* ---- the checks, in their order ---- */

static enum verdict
check_method(struct transaction *t)
{
	const char *method = t->value[REQUEST_METHOD];

	if (method != NULL && strcmp(method, "POST") == 0)
		return PASSED;
	return conclude(t, METHOD_NOT_ALLOWED, "webhooks are sent with POST");
}

static enum verdict
check_encoding(struct transaction *t)
{
	const char *encoding = t->value[HTTP_CONTENT_ENCODING];

	if (encoding == NULL || strcasecmp(encoding, "identity") == 0)
		return PASSED;
	return conclude(t, UNSUPPORTED_ENCODING,
	    "the signature is over the plain body: send it without Content-Encoding");
}

static enum verdict
check_presence(struct transaction *t)
{
	bool mixed = !t->svix && has_signed(t, HTTP_SVIX_ID);

	for (int i = HTTP_WEBHOOK_ID; i <= HTTP_WEBHOOK_SIGNATURE; i++)
		if (t->value[i] == NULL)
			return conclude(t, MISSING_HEADER, "no %s header arrived, or it is empty%s",
			    header_name(t, (enum variable)i), mixed ?
			    "; webhook- and svix- headers arrived, which must not be mixed" : "");
	return PASSED;
}

/*
 * A server may have joined a repeated header with ", " (RFC 9110, section 5.3).
 * Equal values are one value, and *length is its length. Returns false if they differ.
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

static enum verdict
check_form(struct transaction *t)
{
	static const enum variable headers[] = {HTTP_WEBHOOK_ID, HTTP_WEBHOOK_TIMESTAMP,
	    HTTP_WEBHOOK_SIGNATURE, CONTENT_LENGTH};
	size_t length[4] = {0};

	for (int i = 0; i < 4; i++) {
		const char *value = t->value[headers[i]];
		if (t->differs[headers[i]] || (value != NULL && !unjoin(value, &length[i])))
			return conclude(t, MALFORMED_HEADER,
			    "the %s header arrived twice, with different values",
			    header_name(t, headers[i]));
	}
	t->message.id = t->value[HTTP_WEBHOOK_ID];
	t->message.id_length = length[0];
	t->message.timestamp = t->value[HTTP_WEBHOOK_TIMESTAMP];
	t->message.timestamp_length = length[1];
	t->signatures = t->value[HTTP_WEBHOOK_SIGNATURE];
	t->signatures_length = length[2];
	if (t->message.id_length == 0)
		return conclude(t, MALFORMED_HEADER, "the %s header holds no id",
		    header_name(t, HTTP_WEBHOOK_ID));
	if (!verify_timestamp_parse(t->message.timestamp, t->message.timestamp_length, &t->sent_at))
		return conclude(t, MALFORMED_HEADER,
		    "%s must be Unix seconds, digits alone", header_name(t, HTTP_WEBHOOK_TIMESTAMP));
	const char *declared = t->value[CONTENT_LENGTH];
	if (declared != NULL && !request_length_parse(declared, length[3], &t->declared))
		return conclude(t, MALFORMED_HEADER, "content-length is no number of bytes");
	return PASSED;
}

static enum verdict
too_large(struct transaction *t)
{
	return conclude(t, BODY_TOO_LARGE, "the body is over the limit of %lld bytes",
	    t->receiver->config->max_body);
}

/* Read to the end of the stream, at most one byte over the limit. */
static enum verdict
read_body(struct transaction *t)
{
	size_t limit = (size_t)t->receiver->config->max_body, room;

	if (t->declared > (long long)limit)
		return too_large(t);
	/* One byte more than declared: the end of the stream is found without growing. */
	room = t->declared >= 0 ? (size_t)t->declared + 1 : 4096;
	for (;;) {
		char *grown = realloc(t->body, room);
		if (grown == NULL) {
			log_line("out of memory for a body of %zu bytes", room);
			return NOT_STORED;
		}
		t->body = grown;
		while (t->message.body_length < room) {
			ssize_t n = t->request->read(t->request->stream,
			    t->body + t->message.body_length, room - t->message.body_length);
			t->cut_off = n < 0;
			if (n <= 0) {
				t->message.body = t->body;
				return PASSED;
			}
			t->message.body_length += (size_t)n;
			if (t->message.body_length > limit)
				return too_large(t);
		}
		room = room * 2 < limit + 1 ? room * 2 : limit + 1;
	}
}

static enum verdict
check_truncation(struct transaction *t)
{
	if (!t->cut_off && (long long)t->message.body_length >= t->declared)
		return PASSED;
	if (t->declared >= 0)
		return conclude(t, TRUNCATED_BODY, "%zu of %lld bytes arrived before the upload ended",
		    t->message.body_length, t->declared);
	return conclude(t, TRUNCATED_BODY, "the upload broke off after %zu bytes",
	    t->message.body_length);
}

static enum verdict
out_of_tolerance(struct transaction *t, enum verdict verdict)
{
	long long skew = t->verification.skew;

	return conclude(t, verdict,
	    "%s is %lld s %s this receiver's clock, %lld s are tolerated; %s",
	    header_name(t, HTTP_WEBHOOK_TIMESTAMP), skew < 0 ? -skew : skew,
	    skew < 0 ? "ahead of" : "behind", t->receiver->config->tolerance,
	    t->verification.matched ? "the signature matched: check the clocks" :
	                              "the signature did not match either");
}

static enum verdict
check_signature(struct transaction *t)
{
	const struct keyring *keyring = secrets_borrow(t->receiver->secrets);

	if (keyring == NULL)
		return check_without_secret(t);
	enum verify_result result = verify(keyring, &t->message, t->signatures,
	    t->signatures_length, t->now.tv_sec, t->receiver->config->tolerance,
	    &t->verification);
	t->skew_known = result != VERIFY_ERROR;
	if (t->verification.matched) {
		/* The fingerprint outlives the keyring. */
		memcpy(t->key, t->verification.key, sizeof(t->key));
		t->verification.key = t->key;
	}
	secrets_return(t->receiver->secrets, keyring);
	switch (result) {
	case VERIFY_OK:
		return PASSED;
	case VERIFY_STALE:
		return out_of_tolerance(t, STALE_TIMESTAMP);
	case VERIFY_FUTURE:
		return out_of_tolerance(t, FUTURE_TIMESTAMP);
	case VERIFY_MISMATCH:
		return conclude(t, SIGNATURE_MISMATCH,
		    "no signature matches a configured secret: compare the endpoint's signing "
		    "secret, or the body was changed on its way");
	case VERIFY_ERROR:
		break;
	}
	log_line("mbedTLS failed to compute a signature");
	return NOT_STORED;
}

/* ---- storing an authentic event ---- */

static enum verdict
store_as(struct transaction *t, const char *name)
{
	static const enum store_destination destinations[] = {[QUEUE_NEW] = STORE_QUEUE,
		[QUEUE_FAILED] = STORE_DEAD_LETTER, [QUEUE_NONE] = STORE_ARCHIVE};
	struct evidence evidence = evidence_of(t, t->verification.signature, SIGNATURE_SIZE);
	struct record record;
	struct store_intake intake = {.name = name, .destination = destinations[t->event.queue],
		.reason = t->event.invalid, .now = t->now, .event = &t->event, .record = &record};
	struct error error;

	if (record_make(&record, &evidence, t->message.body, t->message.body_length,
	        t->event.parsed) != 0)
		return conclude_stored(t, STORE_FAILED, NULL);
	enum store_result result = store_put(t->receiver->store, &intake, &error);
	record_free(&record);
	return conclude_stored(t, result, &error);
}

/* The last check: the event is stored, or has been before. Never PASSED. */
static enum verdict
store(struct transaction *t)
{
	struct store *store = t->receiver->store;
	char name[STORE_NAME_SIZE];
	struct error error;

	events_read(t->message.body, t->message.body_length, &t->event);
	if (store == NULL || store_name(t->message.id, t->message.id_length, name) != 0)
		return conclude_stored(t, STORE_FAILED, NULL);
	if (!store_is_shared(store) && is_replaced(t, &error))
		return conclude_stored(t, STORE_FAILED, &error);
	enum store_result found = store_find(store, name, &error);
	if (found != STORE_ABSENT)
		return conclude_stored(t, found, &error);
	if (store_is_full(store, t->receiver->config->min_free))
		return conclude_stored(t, STORE_FULL, NULL);
	enum verdict verdict = store_as(t, name);
	if (verdict == ACCEPTED && t->event.queue == QUEUE_FAILED)
		return conclude(t, ACCEPTED,
		    "the signature is good, but the event is invalid and is a dead letter now: %s",
		    t->event.invalid);
	return verdict;
}

/* ---- the reply and the log ---- */

static void
fill_reply(enum verdict verdict, const char *detail, struct reply *reply)
{
	struct json_line body;

	json_line_begin(&body, reply->text, sizeof(reply->text));
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
	reply->type = "application/json";
	reply->header = verdicts[verdict].header;
	reply->body = reply->text;
	reply->length = body.length;
	reply->heap = NULL;
}

/* Bytes of the id, also of a request that was refused before its form was checked. */
static size_t
id_length(const struct transaction *t)
{
	const char *id = t->value[HTTP_WEBHOOK_ID];

	if (t->message.id != NULL)
		return t->message.id_length;
	return id != NULL ? strlen(id) : 0;
}

static void
log_attempt(const struct transaction *t, enum verdict verdict, int64_t start)
{
	struct attempt attempt = {
		.at = t->now,
		.outcome = verdicts[verdict].outcome,
		.status = verdicts[verdict].status,
		.reason = verdicts[verdict].reason,
		.webhook_id = t->value[HTTP_WEBHOOK_ID],
		.webhook_id_length = id_length(t),
		.type = t->event.type,
		.npn = t->event.npn,
		.event_id = t->event.id,
		.remote_addr = t->value[REMOTE_ADDR],
		.bytes = t->message.body_length,
		.skew_known = t->skew_known,
		.skew = t->verification.skew,
		.key = t->verification.key,
		.us = clock_microseconds() - start,
	};

	if (t->receiver->attempts != NULL)
		attempts_write(t->receiver->attempts, &attempt);
}

void
receive(struct receiver *receiver, const struct request *request, struct timespec now,
    struct reply *reply)
{
	static enum verdict (*const checks[])(struct transaction *) = {check_method,
		check_encoding, check_presence, check_form, read_body, check_truncation,
		check_signature, store};
	struct transaction t = {
		.receiver = receiver, .request = request, .now = now, .declared = -1};
	enum verdict verdict = PASSED;
	int64_t start = clock_microseconds();

	read_variables(&t);
	for (int i = 0; verdict == PASSED; i++)
		verdict = checks[i](&t);
	log_attempt(&t, verdict, start);
	fill_reply(verdict, t.detail, reply);
	free(t.body);
	/* Give the memory of a large body's JSON back, or 32 threads would keep as much for good. */
	if (t.message.body_length > TRIM_OVER)
		malloc_trim(0);
}

void
receive_unconfigured(struct reply *reply)
{
	fill_reply(NOT_STORED, "this receiver is not configured; its log says why", reply);
}
