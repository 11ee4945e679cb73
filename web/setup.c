/* Owns the answers about the receiver itself. No secret is in them. */
#define _GNU_SOURCE
#include "web/setup.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "receiver/last_match.h"
#include "secrets/secretfile.h"
#include "web/actions.h"
#include "web/answer.h"
#include "web/overview.h"

enum { MATCH_LINES = 50000 };

static json_t *
secrets_json(const struct web *web)
{
	struct secretfile_entry *entries = NULL;
	json_t *rows = json_array();
	struct error ignored; /* a check says what is wrong */
	size_t count;

	if (secretfile_list(web->config->secret_file, &entries, &count, &ignored) != 0)
		return rows;
	struct last_match *matches = calloc(count + 1, sizeof(*matches));
	if (matches != NULL) {
		for (size_t i = 0; i < count; i++)
			memcpy(matches[i].fingerprint, entries[i].fingerprint, FINGERPRINT_SIZE);
		last_match_find_within(web->config->spool, matches, (int)count, MATCH_LINES);
		for (size_t i = 0; i < count; i++)
			json_array_append_new(rows, last_match_json(&entries[i], matches[i].at));
	}
	free(matches);
	free(entries);
	return rows;
}

/* The held requests: unverified, so nothing of their contents but what names them. */
static json_t *
held_json(struct web *web)
{
	json_t *rows = json_array();
	char **names = NULL;
	struct error ignored;
	int count = store_held(web->store, &names, &ignored);

	for (int i = 0; i < count; i++) {
		struct entry entry;
		if (store_held_read(web->store, names[i], &entry, &ignored) != STORE_OK)
			continue;
		json_array_append_new(rows, json_pack("{s:s,s:o,s:s,s:i}", "name", names[i], "webhook_id",
		    text_json(entry.id), "received_at", entry.received_at, "bytes",
		    (int)entry.body_length));
		entry_free(&entry);
	}
	if (count >= 0)
		store_held_free(names);
	return rows;
}

void
setup_answer(struct web *web, const struct request *request, struct reply *reply)
{
	char store[512];

	store_describe(web->store, store, sizeof(store));
	answer_json(reply, request,
	    json_pack("{s:s,s:o,s:o,s:o,s:o*,s:s}", "version", PSAPI_VERSION, "store", text_json(store),
	        "secrets", secrets_json(web), "held", held_json(web), "verdict",
	        overview_verdict(web), "endpoint_url",
	        web->config->endpoint_url));
}

void
setup_answer_session(struct web *web, const struct request *request, struct reply *reply)
{
	const char *user = context_user(request);

	answer_json(reply, request,
	    json_pack("{s:o*,s:b,s:b,s:b,s:s}", "user", user != NULL ? text_json(user) : NULL, 
	        "actions", actions_allowed(web, request), "enabled", actions_enabled(web), "send",
	        web->courier >= 0, "version", PSAPI_VERSION));
}
