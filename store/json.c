/*
 * Owns the JSON of an event: the keys of `psapi list --json` and `psapi show --json`, which the
 * page's API has as well.
 */
#define _GNU_SOURCE
#include <stdlib.h>

#include "base/crypto.h"
#include "base/datetime.h"
#include "base/text.h"
#include "store/store.h"

static void
set_text(json_t *object, const char *key, const char *text)
{
	json_object_set_new(object, key, text_json(text));
}

static void
set_text_if_any(json_t *object, const char *key, const char *text)
{
	if (*text != '\0')
		set_text(object, key, text);
}

static void
set_time(json_t *object, const char *key, int64_t seconds)
{
	char text[DATETIME_TEXT_SIZE];

	if (seconds == 0)
		return;
	datetime_text(seconds, text);
	set_text(object, key, text);
}

json_t *
store_json_row(const struct store_item *item)
{
	const struct event *event = &item->entry.event;
	json_t *object = json_object();

	set_text(object, "webhook_id", item->entry.id);
	set_text(object, "file", item->name);
	set_text(object, "status", store_status_text(item->status));
	set_text(object, "type", event->type);
	set_text(object, "npn", event->npn);
	set_text(object, "timestamp", event->timestamp);
	set_text(object, "event_id", event->id);
	set_text(object, "received_at", item->entry.received_at);
	json_object_set_new(object, "tries", json_integer(item->state.tries));
	set_time(object, "due_at", item->state.due_at);
	set_time(object, "failed_at", item->state.failed_at);
	set_text_if_any(object, "reason", item->state.reason);
	return object;
}

/* A body that is not JSON, in the form that the spool's files have. */
static void
set_encoded_body(json_t *object, const struct entry *entry)
{
	char *text = malloc(CRYPTO_BASE64_SIZE(entry->body_length));

	if (text == NULL)
		return;
	crypto_base64_encode(entry->body, entry->body_length, text);
	json_object_set_new(object, "body_base64", json_string(text));
	free(text);
}

json_t *
store_json_details(const struct store_item *item)
{
	const struct entry *entry = &item->entry;
	const struct handler_state *state = &item->state;
	json_t *object = json_object();

	set_text_if_any(object, "webhook_id", entry->id);
	set_text_if_any(object, "status", store_status_text(item->status));
	set_text_if_any(object, "file", item->path);
	set_text_if_any(object, "received_at", entry->received_at);
	set_text_if_any(object, "webhook_timestamp", entry->timestamp);
	set_text_if_any(object, "webhook_signature", entry->signature);
	json_object_set_new(object, "tries", json_integer(state->tries));
	set_time(object, "tried_at", state->tried_at);
	set_time(object, "due_at", state->due_at);
	set_time(object, "failed_at", state->failed_at);
	set_text_if_any(object, "handler", state->handler);
	set_text_if_any(object, "reason", state->reason);
	set_text_if_any(object, "stderr", state->stderr_end);
	if (!entry->event.parsed)
		set_encoded_body(object, entry);
	return object;
}
