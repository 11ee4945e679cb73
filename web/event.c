/* Owns the answer about one event. */
#define _GNU_SOURCE
#include "web/event.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_text.h"
#include "base/text.h"
#include "receiver/evidence.h"
#include "secrets/secrets.h"
#include "web/answer.h"
#include "web/deliveries.h"

/* Find and read it. Returns whether it is there, and the caller frees its entry; else answered. */
static bool
find(struct web *web, const struct web_query *query, char name[STORE_NAME_SIZE],
    struct store_item *item, struct reply *reply)
{
	struct error error;

	if (query->value[QUERY_ID][0] == '\0') {
		answer_error(reply, 400, "which event? id=WEBHOOK-ID");
		return false;
	}
	enum store_result result = store_lookup(web->store, query->value[QUERY_ID], name, &error);
	if (result == STORE_OK)
		result = store_get(web->store, name, item, &error);
	if (result == STORE_OK)
		return true;
	if (result == STORE_FAILED)
		error_log(&error);
	answer_error(reply, result == STORE_FAILED ? 503 : 404, result != STORE_ABSENT ? error.text :
	        "no event is stored under this id: it was refused, never came, or was pruned");
	return false;
}

/* What `psapi verify --json` says of it. */
static json_t *
proof(const struct web *web, const struct entry *entry)
{
	struct error error;
	struct keyring *ring = secrets_read(web->config->secret_file, &error);
	const char *key = ring != NULL ? evidence_key(&ring, 1, entry) : NULL;
	json_t *object = json_pack("{s:b,s:s}", "good", key != NULL, key != NULL ? "key" : "why",
	    key != NULL ? key : ring == NULL ? error.text : evidence_unproven);

	verify_keyring_free(ring);
	return object;
}

/* The body for reading: other white space between its tokens, and nothing else changed. */
static json_t *
payload(const struct entry *entry)
{
	char *text = NULL;
	size_t length = 0;
	FILE *to = entry->event.parsed ? open_memstream(&text, &length) : NULL;

	if (to == NULL)
		return NULL;
	json_text_write_indented(to, entry->body, entry->body_length, false);
	json_t *string = fclose(to) == 0 ? json_stringn_nocheck(text, length) : NULL;
	free(text);
	return string;
}

static void
add_members(struct web *web, const struct store_item *item, json_t *object)
{
	const struct event *event = &item->entry.event;
	bool whole;

	json_object_set_new(object, "name", json_string(item->name));
	json_object_set_new(object, "type", text_json(event->type));
	json_object_set_new(object, "npn", text_json(event->npn));
	json_object_set_new(object, "event_id", text_json(event->id));
	json_object_set_new(object, "timestamp", text_json(event->timestamp));
	if (event->invalid != NULL)
		json_object_set_new(object, "invalid", json_string(event->invalid));
	json_object_set_new(object, "probe", json_boolean(event->queue == QUEUE_NONE));
	json_object_set_new(object, "verified", proof(web, &item->entry));
	json_t *text = payload(&item->entry);
	if (text != NULL)
		json_object_set_new(object, "payload", text);
	json_object_set_new(object, "deliveries",
	    deliveries_of(web, item->entry.id, item->entry.received, &whole));
	json_object_set_new(object, "deliveries_whole", json_boolean(whole));
}

/* Answer with the object, which is freed, and the body as its last member. */
static void
answer(const struct request *request, const struct entry *entry, json_t *object,
    struct reply *reply)
{
	bool parsed = entry->event.parsed;
	char *text = NULL;
	size_t length = 0;
	FILE *to = open_memstream(&text, &length);

	if (to == NULL) {
		json_decref(object);
		answer_error(reply, 503, "out of memory");
		return;
	}
	json_text_write_with(to, object, "event", parsed ? entry->body : "null",
	    parsed ? entry->body_length : 4, true);
	if (fclose(to) != 0) {
		free(text);
		text = NULL;
	}
	answer_json_text(reply, request, text, length);
}

void
event_answer(struct web *web, const struct request *request, const struct web_query *query,
    struct reply *reply)
{
	char name[STORE_NAME_SIZE];
	struct store_item item;

	if (!find(web, query, name, &item, reply))
		return;
	json_t *object = store_json_details(&item);
	add_members(web, &item, object);
	answer(request, &item.entry, object, reply);
	entry_free(&item.entry);
}

void
event_answer_shown(struct web *web, const struct request *request, const struct web_query *query,
    struct reply *reply)
{
	char name[STORE_NAME_SIZE];
	struct store_item item;

	if (!find(web, query, name, &item, reply))
		return;
	answer(request, &item.entry, store_json_details(&item), reply);
	entry_free(&item.entry);
}
