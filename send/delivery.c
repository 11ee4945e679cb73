/*
 * Owns the contents of deliveries: the table of documented examples, the envelope, ids, the
 * fault of each wrong kind, the sender's retry schedule.
 */
#define _GNU_SOURCE
#include "send/delivery.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sysexits.h>

#include <jansson.h>

#include "base/crypto.h"
#include "base/datetime.h"
#include "events.h"

/* ProducerSync API, "Webhook events": byte for byte as "Send Example" sends them. */
static const struct {
	const char *type, *body;
} examples[] = {
	{"producersync.updates_available",
	    "{\"data\":{\"runDate\":\"2025-07-24\"},\"id\":\"12345\","
	    "\"timestamp\":\"2025-07-24T22:51:05.206Z\",\"type\":\"producersync.updates_available\"}"},
	{"producersync.npn.activated",
	    "{\"data\":{\"activatedAt\":\"2025-07-25T15:53:01.579Z\",\"npn\":\"123456789\"},"
	    "\"id\":\"whe_123454321\",\"timestamp\":\"2025-07-25T15:53:01.579Z\","
	    "\"type\":\"producersync.npn.activated\"}"},
	{"producersync.npn.deactivated",
	    "{\"data\":{\"deactivatedAt\":\"2025-07-25T15:53:01.579Z\",\"npn\":\"123456789\"},"
	    "\"id\":\"whe_123454321\",\"timestamp\":\"2025-07-25T15:53:01.579Z\","
	    "\"type\":\"producersync.npn.deactivated\"}"},
};

enum { EXAMPLES = sizeof(examples) / sizeof(examples[0]), STALE_SECONDS = 86400 };

const char *const delivery_example_types[] = {"producersync.updates_available",
    "producersync.npn.activated", "producersync.npn.deactivated", NULL};

const char *const delivery_kind_names[DELIVERY_KINDS] = {
	[DELIVERY_SIGNED] = "signed", [DELIVERY_UNSIGNED] = "unsigned",
	[DELIVERY_TAMPERED] = "tampered", [DELIVERY_STALE] = "stale",
	[DELIVERY_WRONG_SECRET] = "wrong-secret"};

/* ---- events ---- */

const char *
delivery_example_body(const char *type)
{
	for (int i = 0; i < EXAMPLES; i++)
		if (strcmp(examples[i].type, type) == 0)
			return examples[i].body;
	return NULL;
}

static char *
envelope(const char *type, json_t *data, time_t now)
{
	char at[DATETIME_ISO_SIZE], id[DELIVERY_ID_SIZE];

	datetime_iso((struct timespec){.tv_sec = now}, at);
	delivery_new_id(id);
	json_t *event = json_pack("{s:O,s:s,s:s,s:s}", "data", data, "id", id, "timestamp", at,
	    "type", type);
	char *text = event == NULL ? NULL : json_dumps(event, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(event);
	return text;
}

char *
delivery_event_body(const char *type, const char *data, time_t now, struct error *error)
{
	const char *example = delivery_example_body(type);
	json_error_t fault;
	char *text = NULL;

	if (data == NULL && example == NULL) {
		error_set(error, EX_DATAERR, "give its data with --data, or the whole event with --file",
		    "there is no example of the type \"%s\"", type);
		return NULL;
	}
	if (data == NULL) {
		text = strdup(example);
	} else {
		json_t *parsed = json_loads(data, JSON_DECODE_ANY, &fault);
		if (parsed == NULL) {
			error_set(error, EX_DATAERR, NULL, "--data is not JSON: %s (at byte %d)", fault.text,
			    fault.position);
			return NULL;
		}
		text = envelope(type, parsed, now);
		json_decref(parsed);
	}
	if (text == NULL)
		error_set(error, EX_DATAERR, NULL, "\"%s\" cannot be the type of an event", type);
	return text;
}

/* ---- ids and secrets ---- */

static void
random_bytes(void *bytes, size_t length)
{
	for (size_t n = 0; n < length;) {
		ssize_t more = getrandom((char *)bytes + n, length - n, 0);
		if (more > 0)
			n += (size_t)more;
	}
}

void
delivery_new_id(char id[DELIVERY_ID_SIZE])
{
	static const char digits[] =
	    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
	unsigned char bytes[4 + 27 - (sizeof(EVENTS_TEST_ID) - 1)];
	size_t n = (size_t)snprintf(id, DELIVERY_ID_SIZE, "%s", EVENTS_TEST_ID);

	random_bytes(bytes, sizeof(bytes));
	for (size_t i = 0; i < sizeof(bytes); i++)
		id[n++] = digits[bytes[i] % 62];
	id[n] = '\0';
}

/* A keyring of one random secret. NULL without memory. */
static struct keyring *
random_keyring(void)
{
	struct keyring *keyring = verify_keyring_new();
	unsigned char bytes[24];
	char text[CRYPTO_BASE64_SIZE(sizeof(bytes))];

	random_bytes(bytes, sizeof(bytes));
	crypto_base64_encode(bytes, sizeof(bytes), text);
	if (keyring != NULL && verify_keyring_add(keyring, text, strlen(text)) != SECRET_GOOD) {
		verify_keyring_free(keyring);
		keyring = NULL;
	}
	return keyring;
}

/* ---- a request ---- */

static int
sign(struct delivery *d, const struct keyring *keyring, const struct message *message)
{
	char one[SIGNATURE_SIZE + 1];
	size_t n = (size_t)snprintf(d->signature, sizeof(d->signature), "webhook-signature:");

	for (size_t i = 0; i < verify_keyring_size(keyring) && i < DELIVERY_SIGNATURES_MAX; i++) {
		if (verify_keyring_sign(keyring, i, message, one) != 0)
			return -1;
		n += (size_t)snprintf(d->signature + n, sizeof(d->signature) - n, " %s", one);
	}
	return 0;
}

/* Another body of the same length: JSON stays JSON, as an attacker would have it. */
static int
tamper(struct delivery *d)
{
	static const char digits[] = "0123456789";
	size_t n = d->length;

	d->altered = malloc(n + 1);
	if (d->altered == NULL)
		return -1;
	memcpy(d->altered, d->body, n);
	for (size_t i = 0; i < n; i++) {
		if (memchr(digits, d->altered[i], 10) == NULL)
			continue;
		d->altered[i] = d->altered[i] == '9' ? '8' : (char)(d->altered[i] + 1);
		d->body = d->altered;
		return 0;
	}
	d->altered[n] = ' ';
	d->body = d->altered;
	d->length = n + 1;
	return 0;
}

int
delivery_make(struct delivery *d, enum delivery_kind kind, const struct keyring *keyring,
    const char *id, time_t now, const void *body, size_t length)
{
	struct keyring *wrong = kind == DELIVERY_WRONG_SECRET ? random_keyring() : NULL;
	int n = 0, result = 0;

	*d = (struct delivery){.body = body, .length = length};
	if (kind == DELIVERY_STALE)
		now -= STALE_SECONDS;
	size_t id_at = (size_t)snprintf(d->id, sizeof(d->id), "webhook-id: ");
	snprintf(d->id + id_at, sizeof(d->id) - id_at, "%s", id);
	size_t time_at = (size_t)snprintf(d->timestamp, sizeof(d->timestamp), "webhook-timestamp: ");
	snprintf(d->timestamp + time_at, sizeof(d->timestamp) - time_at, "%lld", (long long)now);
	d->headers[n++] = d->id;
	d->headers[n++] = d->timestamp;
	if (kind != DELIVERY_UNSIGNED) {
		struct message message = {id, strlen(id), d->timestamp + time_at,
			strlen(d->timestamp + time_at), body, length};
		const struct keyring *with = kind == DELIVERY_WRONG_SECRET ? wrong : keyring;
		result = with == NULL ? -1 : sign(d, with, &message);
		d->headers[n++] = d->signature;
	}
	d->headers[n++] = "content-type: application/json";
	if (result == 0 && kind == DELIVERY_TAMPERED)
		result = tamper(d);
	verify_keyring_free(wrong);
	return result;
}

void
delivery_free(struct delivery *d)
{
	free(d->altered);
	d->altered = NULL;
}

bool
delivery_expected(enum delivery_kind kind, int status)
{
	if (kind == DELIVERY_SIGNED)
		return status / 100 == 2;
	return status / 100 == 4 && status != 404 && status != 405;
}

long long
delivery_backoff_ms(int tries, unsigned random, double scale, long retry_after)
{
	static const int seconds[] = {5, 300, 1800, 7200, 18000, 36000};
	enum { STEPS = sizeof(seconds) / sizeof(seconds[0]) };
	double wait = seconds[tries < 1 ? 0 : tries <= STEPS ? tries - 1 : STEPS - 1];

	wait *= 0.8 + 0.4 * ((double)(random % 10001) / 10000);
	if (retry_after > seconds[STEPS - 1])
		retry_after = seconds[STEPS - 1];
	if ((double)retry_after > wait)
		wait = (double)retry_after;
	return (long long)(wait * 1000 * scale);
}
