/* Owns the JSON of a state. A key that is not there is zero or "". */
#define _GNU_SOURCE
#include "store/handler_state.h"

#include <string.h>

#include <jansson.h>

#include "base/text.h"
#include "base/datetime.h"

static void
get_text(const json_t *object, const char *key, char *to, size_t size)
{
	const json_t *value = json_object_get(object, key);

	if (json_is_string(value))
		text_copy(to, size, json_string_value(value), json_string_length(value));
}

static int64_t
get_time(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	int64_t nanoseconds;

	return text != NULL && datetime_parse(text, &nanoseconds) ? nanoseconds / NANOSECONDS : 0;
}

bool
handler_state_parse(const char *text, size_t length, struct handler_state *state)
{
	json_t *object = json_loadb(text, length, 0, NULL);

	memset(state, 0, sizeof(*state));
	if (!json_is_object(object)) {
		json_decref(object);
		return false;
	}
	json_int_t tries = json_integer_value(json_object_get(object, "tries"));
	state->tries = tries < 0 || tries > 1000000 ? 0 : (int)tries;
	state->tried_at = get_time(object, "tried_at");
	state->due_at = get_time(object, "due_at");
	state->failed_at = get_time(object, "failed_at");
	state->alone = json_is_true(json_object_get(object, "alone"));
	get_text(object, "handler", state->handler, sizeof(state->handler));
	get_text(object, "reason", state->reason, sizeof(state->reason));
	get_text(object, "stderr", state->stderr_end, sizeof(state->stderr_end));
	json_decref(object);
	return true;
}

static void
set_text(json_t *object, const char *key, const char *text)
{
	if (*text != '\0')
		json_object_set_new(object, key, text_json(text));
}

static void
set_time(json_t *object, const char *key, int64_t seconds)
{
	char text[DATETIME_TEXT_SIZE];

	datetime_text(seconds, text);
	if (seconds != 0)
		set_text(object, key, text);
}

char *
handler_state_format(const struct handler_state *state)
{
	json_t *object = json_object();

	json_object_set_new(object, "tries", json_integer(state->tries));
	set_time(object, "tried_at", state->tried_at);
	set_time(object, "due_at", state->due_at);
	set_time(object, "failed_at", state->failed_at);
	if (state->alone)
		json_object_set_new(object, "alone", json_true());
	set_text(object, "handler", state->handler);
	set_text(object, "reason", state->reason);
	set_text(object, "stderr", state->stderr_end);
	char *text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(object);
	return text;
}
