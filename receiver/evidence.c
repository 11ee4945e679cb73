/* Owns the proof of a stored event, for `psapi verify` and the page. */
#include "receiver/evidence.h"

#include <string.h>

const char evidence_unproven[] =
    "no secret known here signed this: its contents were changed, or another secret signed "
    "it (--secret-file)";

const char *
evidence_key(struct keyring *const *rings, int count, const struct entry *entry)
{
	struct message message = {
		.id = entry->id,
		.id_length = strlen(entry->id),
		.timestamp = entry->timestamp,
		.timestamp_length = strlen(entry->timestamp),
		.body = entry->body,
		.body_length = entry->body_length,
	};
	struct verification outcome;
	int64_t signed_at;

	if (!verify_timestamp_parse(message.timestamp, message.timestamp_length, &signed_at))
		return NULL;
	for (int i = 0; i < count; i++)
		if (verify(rings[i], &message, entry->signature, strlen(entry->signature), signed_at, 0,
		        &outcome) == VERIFY_OK)
			return outcome.key;
	return NULL;
}
