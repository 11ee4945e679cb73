/*
 * A record read back, whatever is in it: refused with a reason, or what record_make() writes of
 * it reads as the same event again. The same bytes as a state are harmless.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "base/datetime.h"
#include "oracle.h"
#include "store/entry.h"
#include "store/handler_state.h"
#include "store/record.h"

/* entry_parse() with a copy of the bytes. */
static const char *
parse(struct entry *entry, const void *data, size_t size)
{
	char *text = malloc(size + 1);

	MUST(text != NULL);
	if (size > 0)
		memcpy(text, data, size);
	return entry_parse(entry, text, size);
}

/* What record_make() writes, which the caller frees. */
static char *
write_again(const struct entry *entry, size_t *size)
{
	int64_t seconds = entry->received / NANOSECONDS - (entry->received % NANOSECONDS < 0);
	struct evidence evidence = {
		.id = entry->id,
		.id_length = strlen(entry->id),
		.timestamp = entry->timestamp,
		.timestamp_length = strlen(entry->timestamp),
		.signature = entry->signature,
		.signature_length = strlen(entry->signature),
		.received_at = {seconds, entry->received - seconds * NANOSECONDS},
	};
	struct record record;
	char *text = NULL;

	MUST(record_make(&record, &evidence, entry->body, entry->body_length,
	         entry->decoded == NULL) == 0);
	*size = 0;
	for (int i = 0; i < record.count; i++) {
		text = realloc(text, *size + record.iov[i].iov_len + 1);
		MUST(text != NULL);
		if (record.iov[i].iov_len > 0)
			memcpy(text + *size, record.iov[i].iov_base, record.iov[i].iov_len);
		*size += record.iov[i].iov_len;
	}
	record_free(&record);
	return text;
}

static void
check_again(const struct entry *entry)
{
	struct entry again;
	size_t size;
	char *text = write_again(entry, &size);

	MUST(parse(&again, text, size) == NULL);
	free(text);
	MUST(strcmp(again.id, entry->id) == 0 && strcmp(again.timestamp, entry->timestamp) == 0);
	MUST(strcmp(again.signature, entry->signature) == 0);
	MUST(again.body_length == entry->body_length &&
	    memcmp(again.body, entry->body, entry->body_length) == 0);
	/* Written to the millisecond. */
	MUST(again.received <= entry->received && entry->received - again.received < 1000000);
	MUST(entry_lane(&again.event) == entry_lane(&entry->event));
	entry_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct entry entry;
	struct handler_state state;
	const char *why = parse(&entry, data, size);

	if (why == NULL) {
		check_again(&entry);
		entry_free(&entry);
	} else {
		MUST(*why != '\0');
	}
	if (handler_state_parse((const char *)data, size, &state))
		MUST(strlen(state.stderr_end) <= HANDLER_STATE_STDERR_MAX && state.tries >= 0);
	return 0;
}
