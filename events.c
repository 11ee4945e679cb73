/*
 * Owns the event's JSON: which types are known, and what their data must be.
 *
 * The body is never written anew from the parsed JSON. Parsing only decides where the event goes.
 */
#define _GNU_SOURCE
#include "events.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <jansson.h>

#include "base/datetime.h"
#include "base/log.h"

/*
 * Without memory Jansson goes on with wrong results: its lexer writes past a buffer that did not
 * grow (2.14, lex_scan_string), a dump leaves a key out, a good event looks like no JSON. So the
 * process ends here, before it has answered: the sender tries again.
 */
static void *
allocate_or_end(size_t size)
{
	void *memory = malloc(size);

	if (memory == NULL) {
		log_line("out of memory for %zu bytes of JSON: ending", size);
		_exit(EX_OSERR);
	}
	return memory;
}

/* Runs before main() in each program that links this file, so it holds for all threads. */
static void __attribute__((constructor))
guard_jansson(void)
{
	json_set_alloc_funcs(allocate_or_end, free);
}

/* A member of a known type's data, and the check that it is as documented. */
struct member {
	const char *name;
	bool (*check)(const char *text);
	const char *invalid;
};

struct known_type {
	const char *type;
	struct member members[3];
};

static bool
all_digits(const char *text, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (text[i] < '0' || text[i] > '9')
			return false;
	return true;
}

static bool
is_npn(const char *text)
{
	size_t n = strlen(text);

	return n >= 1 && n <= 20 && all_digits(text, n);
}

/* ProducerSync API, "Webhook events". A new type is one row. */
static const struct known_type known_types[] = {
	{EVENTS_DAILY_TYPE,
	    {{"runDate", datetime_is_date, "data.runDate is no date (YYYY-MM-DD)"}}},
	{"producersync.npn.activated",
	    {{"npn", is_npn, "data.npn is no string of digits"},
	        {"activatedAt", datetime_is_utc, "data.activatedAt is no ISO 8601 time in UTC"}}},
	{"producersync.npn.deactivated",
	    {{"npn", is_npn, "data.npn is no string of digits"},
	        {"deactivatedAt", datetime_is_utc, "data.deactivatedAt is no ISO 8601 time in UTC"}}},
};

const char *
events_known_type(size_t i)
{
	return i < sizeof(known_types) / sizeof(known_types[0]) ? known_types[i].type : NULL;
}

/* The string under name, or NULL if there is none or it holds a NUL. */
static const char *
string_member(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	const char *text = json_string_value(value);

	return text != NULL && strlen(text) == json_string_length(value) ? text : NULL;
}

/* A text that is too long is cut between two characters, so that it stays UTF-8. */
static void
copy_member(const json_t *object, const char *name, char *to, size_t size)
{
	const char *text = string_member(object, name);
	size_t length = text != NULL ? strnlen(text, size - 1) : 0;

	while (length > 0 && ((unsigned char)text[length] & 0xc0) == 0x80)
		length--;
	if (length > 0)
		memcpy(to, text, length);
	to[length] = '\0';
}

static const char *
invalid_data(const char *type, const json_t *data)
{
	for (size_t i = 0; i < sizeof(known_types) / sizeof(known_types[0]); i++) {
		if (strcmp(known_types[i].type, type) != 0)
			continue;
		if (!json_is_object(data))
			return "data is no object";
		for (const struct member *m = known_types[i].members; m->name != NULL; m++) {
			const char *text = string_member(data, m->name);
			if (text == NULL || !m->check(text))
				return m->invalid;
		}
	}
	return NULL;
}

/* How deep a value nests: 0 for a scalar. */
static size_t
depth_of(const json_t *value)
{
	size_t deepest = 0;
	json_t *member;
	const char *key;
	size_t i;

	json_object_foreach ((json_t *)(uintptr_t)value, key, member) {
		size_t depth = depth_of(member);
		deepest = depth > deepest ? depth : deepest;
	}
	json_array_foreach (value, i, member) {
		size_t depth = depth_of(member);
		deepest = depth > deepest ? depth : deepest;
	}
	return json_is_object(value) || json_is_array(value) ? deepest + 1 : 0;
}

/*
 * Parse a body, and refuse one that could not be parsed again inside a record (record.h), one
 * level deeper: Jansson stops at JSON_PARSER_MAX_DEPTH. A short body cannot nest so deep.
 */
static json_t *
parse(const void *body, size_t length)
{
	json_error_t error;
	json_t *root = json_loadb(body, length,
	    JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);

	if (root != NULL && length >= 2 * JSON_PARSER_MAX_DEPTH &&
	    depth_of(root) >= JSON_PARSER_MAX_DEPTH) {
		json_decref(root);
		root = NULL;
	}
	return root;
}

void
events_seed(void)
{
	json_object_seed(0);
}

/* Fill in what a parsed event says, and where it goes. */
static void
read_event(const json_t *root, struct event *event)
{
	const json_t *data = json_object_get(root, "data");
	const char *type = string_member(root, "type");
	copy_member(root, "type", event->type, sizeof(event->type));
	copy_member(root, "id", event->id, sizeof(event->id));
	copy_member(root, "timestamp", event->timestamp, sizeof(event->timestamp));
	copy_member(data, "npn", event->npn, sizeof(event->npn));
	copy_member(data, "runDate", event->run_date, sizeof(event->run_date));
	if (!json_is_object(root))
		event->invalid = "the body is no JSON object";
	else if (type == NULL || *type == '\0')
		event->invalid = "the event has no type";
	else if (strcmp(type, EVENTS_DOCTOR_TYPE) == 0)
		event->queue = QUEUE_NONE;
	else if ((event->invalid = invalid_data(type, data)) == NULL)
		event->queue = QUEUE_NEW;
}

void
events_read(const void *body, size_t length, struct event *event)
{
	json_t *root = parse(body, length);

	memset(event, 0, sizeof(*event));
	event->queue = QUEUE_FAILED;
	event->parsed = root != NULL;
	if (root != NULL)
		read_event(root, event);
	else
		event->invalid = "the body is not JSON, or JSON beyond what can be parsed";
	json_decref(root);
}
