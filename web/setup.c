/* Owns the answers about the receiver itself. No secret is in them. */
#define _GNU_SOURCE
#include "web/setup.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "doctor/doctor.h"
#include "receiver/last_match.h"
#include "secrets/secretfile.h"
#include "web/actions.h"
#include "web/answer.h"
#include "web/example_sender.h"
#include "web/overview.h"

enum { MATCH_LINES = 50000 };

static json_t *
secret_rows(const struct web *web, const struct secretfile_entry *entries, size_t count)
{
	json_t *rows = json_array();
	struct last_match *matches = calloc(count + 1, sizeof(*matches));

	if (matches == NULL)
		return rows;
	for (size_t i = 0; i < count; i++)
		memcpy(matches[i].fingerprint, entries[i].fingerprint, FINGERPRINT_SIZE);
	last_match_find_within(web->config->spool, matches, (int)count, MATCH_LINES);
	for (size_t i = 0; i < count; i++)
		json_array_append_new(rows, last_match_json(&entries[i], matches[i].at));
	free(matches);
	return rows;
}

/* What is wrong and its remedy, as one line. */
static json_t *
error_json(const struct error *error)
{
	char line[1600];

	return text_json(error_line(error, line, sizeof(line)));
}

/* "secrets"; also "secrets_error", where they cannot be read. */
static void
set_secrets(const struct web *web, json_t *object)
{
	struct secretfile_entry *entries = NULL;
	struct error error;
	size_t count = 0;

	if (secretfile_list(web->config->secret_file, &entries, &count, &error) != 0)
		json_object_set_new(object, "secrets_error", error_json(&error));
	json_object_set_new(object, "secrets", secret_rows(web, entries, count));
	free(entries);
}

/* A held request: unverified, so nothing of its contents but what names it. NULL: it is gone. */
static json_t *
held_row(struct web *web, const char *name)
{
	struct error ignored; /* it was adopted meanwhile */
	struct entry entry;

	if (store_held_read(web->store, name, &entry, &ignored) != STORE_OK)
		return NULL;
	json_t *row = json_pack("{s:s,s:o,s:s,s:i}", "name", name, "webhook_id", text_json(entry.id),
	    "received_at", entry.received_at, "bytes", (int)entry.body_length);
	entry_free(&entry);
	return row;
}

/* "held"; also "held_error", where they cannot be listed. */
static void
set_held(struct web *web, json_t *object)
{
	json_t *rows = json_array();
	char **names = NULL;
	struct error error;
	int count = store_held(web->store, &names, &error);

	for (int i = 0; i < count; i++) {
		json_t *row = held_row(web, names[i]);
		if (row != NULL)
			json_array_append_new(rows, row);
	}
	if (count >= 0)
		store_held_free(names);
	else
		json_object_set_new(object, "held_error", error_json(&error));
	json_object_set_new(object, "held", rows);
}

void
setup_answer(struct web *web, const struct request *request, struct reply *reply)
{
	char store[512];

	store_describe(web->store, store, sizeof(store));
	json_t *object = json_pack("{s:s,s:o,s:o*,s:s}", "version", PSAPI_VERSION, "store",
	    text_json(store), "verdict", overview_verdict(web), "endpoint_url",
	    web->config->endpoint_url);
	set_secrets(web, object);
	set_held(web, object);
	json_object_set_new(object, "doctor", doctor_last(web->store));
	answer_json(reply, request, object);
}

void
setup_answer_session(struct web *web, const struct request *request, struct reply *reply)
{
	const char *user = context_user(request);

	answer_json(reply, request,
	    json_pack("{s:o*,s:b,s:b,s:b,s:s}", "user", user != NULL ? text_json(user) : NULL,
	        "actions", actions_allowed(web, request), "enabled", actions_enabled(web), "send",
	        web->alone ? example_sender_configured(web->config) : web->sender >= 0, "version",
	        PSAPI_VERSION));
}
