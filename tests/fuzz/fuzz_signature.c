/* The signature list and the timestamp, against OpenSSL. Input: timestamp, list, body. */
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "verify.h"

enum { NOW = 1753397465, TOLERANCE = 300 };

/* [1-9][0-9]{0,11}, written differently than in verify.c. */
static bool
is_timestamp(const char *text, size_t length)
{
	return length > 0 && length <= 12 && strspn(text, "0123456789") == length && *text != '0';
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct message m = {.id = "msg_1", .id_length = 5};
	struct keyring *keyring = verify_keyring_new();
	struct verification outcome;
	char signature[SIGNED_SIZE];
	size_t list_length;
	int64_t seconds = 0;

	MUST(verify_keyring_add(keyring, SECRET, strlen(SECRET)) == SECRET_GOOD);
	char *timestamp = field(&data, &size, &m.timestamp_length);
	char *list = field(&data, &size, &list_length);
	m.timestamp = timestamp;
	m.body = data;
	m.body_length = size;
	bool timed = verify_timestamp_parse(timestamp, m.timestamp_length, &seconds);
	MUST(timed == is_timestamp(timestamp, m.timestamp_length));
	MUST(!timed || seconds == atoll(timestamp));

	reference_sign(reference_key(), 24, m.id, m.id_length, timestamp, m.timestamp_length, data,
	    size, signature);
	/* Placeholders become what they stand for, so that good lists come up at all. */
	for (char *at = list; (at = strstr(at, "GOOD")) != NULL;)
		if (list_length - (size_t)(at - list) >= SIGNATURE_SIZE)
			memcpy(at, signature, SIGNATURE_SIZE);
		else
			at++;
	enum verify_result result =
	    verify(keyring, &m, list, list_length, NOW, TOLERANCE, &outcome);
	if (!timed) {
		MUST(result == VERIFY_ERROR);
	} else if (strlen(list) == list_length) { /* the reference stops at a NUL */
		MUST(outcome.matched == reference_lists(list, signature));
		MUST(result != VERIFY_ERROR && outcome.skew == NOW - seconds);
		bool in_time = llabs(NOW - seconds) <= TOLERANCE;
		MUST((result == VERIFY_OK) == (outcome.matched && in_time));
		MUST((result == VERIFY_MISMATCH) == (!outcome.matched && in_time));
	}
	verify_keyring_free(keyring);
	free(timestamp);
	free(list);
	return 0;
}
