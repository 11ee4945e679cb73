/* Owns how an event and its evidence become a record, psapi-spool(5). */
#include "store/record.h"

#include <stdlib.h>
#include <string.h>

#include "base/crypto.h"
#include "base/datetime.h"
#include "base/json_line.h"
#include "base/text.h"

/*
 * The evidence as the beginning of a JSON object. An id that is no UTF-8 is no JSON
 * string: base64, as a body. encoded holds CRYPTO_BASE64_SIZE(id_length) bytes for that.
 */
static void
add_evidence(struct json_line *line, const struct evidence *e, char *encoded)
{
	char received[DATETIME_ISO_SIZE];

	json_line_put(line, "{\"webhook_id\":");
	if (encoded == NULL) {
		json_line_add_string(line, e->id, e->id_length);
	} else {
		crypto_base64_encode(e->id, e->id_length, encoded);
		json_line_put(line, "null,\"webhook_id_base64\":\"");
		json_line_put(line, encoded);
		json_line_put(line, "\"");
	}
	json_line_put(line, ",\"webhook_timestamp\":");
	json_line_add_string(line, e->timestamp, e->timestamp_length);
	json_line_put(line, ",\"webhook_signature\":");
	json_line_add_string(line, e->signature, e->signature_length);
	datetime_iso(e->received_at, received);
	json_line_put(line, ",\"received_at\":\"");
	json_line_put(line, received);
	json_line_put(line, "\",\"event\":");
}

/* Bytes that an evidence line takes at most: every byte of a text may be escaped as \uXXXX. */
static size_t
head_size(const struct evidence *e)
{
	return 256 + 6 * (e->id_length + e->timestamp_length + e->signature_length);
}

int
record_make(struct record *record, const struct evidence *evidence, const void *body,
    size_t length, bool parsed)
{
	static char end_parsed[] = "\n}\n", end_encoded[] = "\"}\n";
	size_t size = head_size(evidence);
	char *encoded_id = NULL;
	struct json_line head;

	memset(record, 0, offsetof(struct record, head));
	if (!text_is_utf8(evidence->id, evidence->id_length) &&
	    (encoded_id = malloc(CRYPTO_BASE64_SIZE(evidence->id_length))) == NULL)
		return -1;
	if (size > sizeof(record->head))
		record->heap[0] = malloc(size);
	if (!parsed)
		record->heap[1] = malloc(CRYPTO_BASE64_SIZE(length));
	if ((size > sizeof(record->head) && record->heap[0] == NULL) ||
	    (!parsed && record->heap[1] == NULL)) {
		free(encoded_id);
		record_free(record);
		return -1;
	}
	if (record->heap[0] != NULL)
		json_line_begin(&head, record->heap[0], size);
	else
		json_line_begin(&head, record->head, sizeof(record->head));
	add_evidence(&head, evidence, encoded_id);
	json_line_put(&head, parsed ? "\n" : "null,\"body_base64\":\"");
	free(encoded_id);
	if (!parsed)
		crypto_base64_encode(body, length, record->heap[1]);
	char *middle = parsed ? (char *)(uintptr_t)body : record->heap[1];
	char *end = parsed ? end_parsed : end_encoded;
	record->iov[0] = (struct iovec){head.text, head.length};
	record->iov[1] = (struct iovec){middle, parsed ? length : strlen(middle)};
	record->iov[2] = (struct iovec){end, strlen(end)};
	record->count = 3;
	if (!head.cut)
		return 0;
	record_free(record);
	return -1;
}

void
record_free(struct record *record)
{
	free(record->heap[0]);
	free(record->heap[1]);
	record->heap[0] = record->heap[1] = NULL;
}
