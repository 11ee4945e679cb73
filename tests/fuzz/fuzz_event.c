/* Any body: it is read without harm, and its spool file is JSON that holds it byte for byte. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/crypto.h"
#include "events.h"
#include "oracle.h"
#include "store/record.h"
#include "verify.h"

static char *
joined(const struct record *record, size_t *length)
{
	char *text = NULL;

	*length = 0;
	for (int i = 0; i < record->count; i++) {
		text = realloc(text, *length + record->iov[i].iov_len + 1);
		if (record->iov[i].iov_len > 0)
			memcpy(text + *length, record->iov[i].iov_base, record->iov[i].iov_len);
		*length += record->iov[i].iov_len;
	}
	return text;
}

static void
check_file(const char *text, size_t length, const uint8_t *body, size_t size, bool parsed)
{
	json_t *file = json_loadb(text, length, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
	const char *first_end = memchr(text, '\n', length);

	MUST(json_is_object(file) && first_end != NULL && text[length - 1] == '\n');
	if (parsed) {
		MUST((size_t)(text + length - first_end) == size + 4);
		MUST(size == 0 || memcmp(first_end + 1, body, size) == 0);
	} else {
		const char *encoded = json_string_value(json_object_get(file, "body_base64"));
		char *decoded = malloc(size + 1);
		MUST(encoded != NULL);
		MUST(crypto_base64_decode(encoded, strlen(encoded), decoded, size + 1) == (long)size);
		MUST(size == 0 || memcmp(decoded, body, size) == 0);
		free(decoded);
	}
	json_decref(file);
}

/* Input: the webhook-id, then the body. */
int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct evidence evidence = {.timestamp = "1753397465", .timestamp_length = 10,
		.signature = "v1,CMVfFHNS8HOFZHaPNsdiSntUQTOzRIn3oLxxFP4uyCg=",
		.signature_length = SIGNATURE_SIZE, .received_at = {1753397465, 0}};
	struct record record;
	struct event event;
	size_t length;

	char *id = field(&data, &size, &evidence.id_length);
	evidence.id = id;
	events_read(data, size, &event);
	MUST((event.queue == QUEUE_FAILED) == (event.invalid != NULL));
	MUST(event.parsed || event.queue == QUEUE_FAILED);
	if (record_make(&record, &evidence, data, size, event.parsed) == 0) {
		char *text = joined(&record, &length);
		check_file(text, length, data, size, event.parsed);
		free(text);
		record_free(&record);
	}
	free(id);
	return 0;
}
