/*
 * Owns the actions. Each is logged with the user's name, event by event, before it is answered.
 */
#define _GNU_SOURCE
#include "web/actions.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"
#include "web/answer.h"
#include "web/example_sender.h"
#include "web/tally.h"

/* A drain has the queue while its handlers run: wait this long for it. */
enum { LOCK_TRIES = 20, LOCK_WAIT_MS = 100 };

bool
actions_enabled(const struct web *web)
{
	return strcmp(web->config->web_actions, "yes") == 0;
}

bool
actions_allowed(const struct web *web, const struct request *request)
{
	return actions_enabled(web) && context_user(request) != NULL;
}

/* ---- the body ---- */

/*
 * The array of 1 to ACTIONS_IDS_MAX strings in member key of the body. Borrowed from *object, which
 * the caller frees; NULL: it is answered.
 */
static json_t *
read_ids(const char *body, size_t length, const char *key, json_t **object, struct reply *reply)
{
	json_error_t error;
	json_t *ids, *id;
	size_t i;

	*object = json_loadb(body, length, JSON_REJECT_DUPLICATES, &error);
	ids = json_object_get(*object, key);
	if (!json_is_array(ids) || json_array_size(ids) < 1 ||
	    json_array_size(ids) > ACTIONS_IDS_MAX) {
		answer_error(reply, 400, "the body must be an object with an array of 1 to 1000 strings");
		return NULL;
	}
	json_array_foreach(ids, i, id) {
		if (json_is_string(id) && json_string_length(id) <= QUERY_VALUE_MAX)
			continue;
		answer_error(reply, 400, "an id must be a string of up to 600 bytes");
		return NULL;
	}
	return ids;
}

/* ---- events ---- */

/* Begin to move events. Returns STORE_OK, or it is answered. */
static enum store_result
begin(struct web *web, struct reply *reply)
{
	enum store_result result = STORE_BUSY;
	struct error error;

	for (int i = 0; result == STORE_BUSY && i < LOCK_TRIES; i++) {
		if (i > 0)
			poll(NULL, 0, LOCK_WAIT_MS);
		result = store_work_begin(web->store, false, &error);
	}
	if (result == STORE_BUSY)
		answer_error(reply, 409, "psapi drain is running handlers now: try again in a moment");
	else if (result != STORE_OK)
		answer_error(reply, 503, error.text);
	return result;
}

static enum store_result
retry(struct store *store, const char *name, struct error *error)
{
	size_t moved;

	return store_retry(store, &name, 1, &moved, error);
}

static enum store_result
replay(struct store *store, const char *name, struct error *error)
{
	size_t moved;

	return store_replay(store, &name, 1, &moved, error);
}

struct action {
	const char *verb;
	enum store_result (*move)(struct store *store, const char *name, struct error *error);
};

/* The id comes last: whatever is in it, the user's name stands before it. */
static void
log_action(const char *user, const char *verb, const char *id, const char *why)
{
	log_line("user %s: %s%s %s%s%s", user, verb, why != NULL ? " refused:" : "", id,
	    why != NULL ? ": " : "", why != NULL ? why : "");
}

static void
add_refused(json_t *refused, const char *id, const char *why)
{
	json_array_append_new(refused, json_pack("{s:o,s:o}", "id", text_json(id), "why",
	    text_json(why)));
}

/* Move one. Returns whether it is done; else it is added to those refused. */
static bool
move_one(struct web *web, const struct action *action, const char *user, const char *id,
    json_t *refused)
{
	char name[STORE_NAME_SIZE];
	struct error error = {0};
	enum store_result result = store_lookup(web->store, id, name, &error);

	if (result == STORE_OK)
		result = action->move(web->store, name, &error);
	log_action(user, action->verb, id, result != STORE_OK ? error.text : NULL);
	if (result != STORE_OK)
		add_refused(refused, id, error.text);
	return result == STORE_OK;
}

static void
move_all(struct web *web, const struct action *action, const struct request *request,
    const json_t *ids, struct reply *reply)
{
	json_t *refused = json_array();
	size_t i, moved = 0;
	json_t *id;

	json_array_foreach(ids, i, id)
		moved += move_one(web, action, context_user(request), json_string_value(id), refused);
	if (moved > 0)
		tally_forget(web->tally);
	answer_json(reply, request,
	    json_pack("{s:i,s:o}", "moved", (int)moved, "refused", refused));
}

static void
act(struct web *web, const struct action *action, const struct request *request, const char *body,
    size_t length, struct reply *reply)
{
	json_t *object, *ids = read_ids(body, length, "ids", &object, reply);

	if (ids != NULL) {
		pthread_mutex_lock(&web->acting);
		if (begin(web, reply) == STORE_OK) {
			move_all(web, action, request, ids, reply);
			store_work_end(web->store);
		}
		pthread_mutex_unlock(&web->acting);
	}
	json_decref(object);
}

void
actions_retry(struct web *web, const struct request *request, const char *body, size_t length,
    struct reply *reply)
{
	static const struct action action = {"retry", retry};

	act(web, &action, request, body, length, reply);
}

void
actions_replay(struct web *web, const struct request *request, const char *body, size_t length,
    struct reply *reply)
{
	static const struct action action = {"replay", replay};

	act(web, &action, request, body, length, reply);
}

void
actions_done(struct web *web, const struct request *request, const char *body, size_t length,
    struct reply *reply)
{
	static const struct action action = {"done", store_finish};

	act(web, &action, request, body, length, reply);
}

/* ---- held requests ---- */

/* Whether it is a name of a held request: only such a name reaches the store. */
static bool
is_held(struct web *web, const char *name)
{
	struct error ignored;
	char **names = NULL;
	int count = store_held(web->store, &names, &ignored);
	bool found = false;

	for (int i = 0; i < count; i++)
		found |= strcmp(names[i], name) == 0;
	if (count >= 0)
		store_held_free(names);
	return found;
}

void
actions_discard(struct web *web, const struct request *request, const char *body, size_t length,
    struct reply *reply)
{
	json_t *object, *name, *refused = json_array();
	json_t *names = read_ids(body, length, "names", &object, reply);
	struct error error;
	size_t i, moved = 0;

	json_array_foreach(names, i, name) {
		const char *text = json_string_value(name);
		bool done = is_held(web, text) && store_held_remove(web->store, text, &error) == STORE_OK;
		const char *why = done ? NULL : "no such held request: it was adopted or discarded";
		log_action(context_user(request), "discard held request", text, why);
		moved += done;
		if (!done)
			add_refused(refused, text, why);
	}
	if (moved > 0)
		tally_forget(web->tally);
	if (names != NULL)
		answer_json(reply, request,
		    json_pack("{s:i,s:O}", "moved", (int)moved, "refused", refused));
	json_decref(refused);
	json_decref(object);
}

/* ---- an example ---- */

void
actions_send(struct web *web, const struct request *request, const char *body, size_t length,
    struct reply *reply)
{
	json_t *object = json_loadb(body, length, JSON_REJECT_DUPLICATES, NULL);
	const char *type = json_string_value(json_object_get(object, "type"));
	char *text = NULL;

	if (web->sender < 0) {
		answer_error(reply, 409, "PSAPI_ENDPOINT_URL is not set: the page cannot send");
	} else if (type == NULL || !example_sender_knows(type)) {
		answer_error(reply, 400, "type must be that of an example");
	} else {
		log_action(context_user(request), "send example", type, NULL);
		pthread_mutex_lock(&web->sending);
		text = example_sender_send(web->sender, type);
		pthread_mutex_unlock(&web->sending);
		if (text == NULL)
			answer_error(reply, 502, "the sending process has ended: restart psapi-web");
		else
			answer_json_text(reply, request, text, strlen(text));
	}
	json_decref(object);
}
