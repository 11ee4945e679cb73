/*
 * Owns the event's JSON: which types are known and what their data must be, and
 * the format of a spool file. Knows no directory.
 *
 * The body is never re-serialised: what Jansson makes of it only decides where
 * the file goes.
 */
#define _GNU_SOURCE
#include "events.h"

#include <stdalign.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include <jansson.h>

#include "base/json_line.h"
#include "base/log.h"
#include "verify.h"

/*
 * Where an event's JSON is while event_read() looks at it: some thirty pieces, all gone at
 * once. What does not fit is on the heap. NULL: nobody reads an event in this thread.
 */
struct scratch {
	size_t used;
	bool outgrown; /* some of it is on the heap */
	alignas(max_align_t) char bytes[4096];
};

static _Thread_local struct scratch *scratch;

static void *
from_scratch(size_t size)
{
	size_t whole = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);

	if (scratch == NULL)
		return NULL;
	if (size > sizeof(scratch->bytes) || whole > sizeof(scratch->bytes) - scratch->used) {
		scratch->outgrown = true;
		return NULL;
	}
	scratch->used += whole;
	return scratch->bytes + scratch->used - whole;
}

static void
free_or_leave(void *memory)
{
	uintptr_t at = (uintptr_t)memory, begin = scratch != NULL ? (uintptr_t)scratch->bytes : 0;

	if (scratch == NULL || at < begin || at >= begin + sizeof(scratch->bytes))
		free(memory);
}

/*
 * Jansson without memory goes on: its lexer writes past a buffer that did not grow
 * (2.14, lex_scan_string), a dump leaves a key out, a good event looks like no JSON.
 * So the process ends here, before it has answered: the sender tries again.
 */
static void *
allocate_or_end(size_t size)
{
	void *memory = from_scratch(size);

	if (memory == NULL)
		memory = malloc(size);

	if (memory == NULL) {
		log_line("out of memory for %zu bytes of JSON: ending", size);
		_exit(EX_OSERR);
	}
	return memory;
}

/* Before main(), in whatever program this is linked into: it is for all threads. */
static void __attribute__((constructor))
guard_jansson(void)
{
	json_set_alloc_funcs(allocate_or_end, free_or_leave);
}

/* A member of a known type's data, and the check that it is as documented. */
struct member {
	const char *name;
	bool (*check)(const char *text);
	const char *odd;
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

/* The number that n digits make. */
static int
number(const char *text, size_t n)
{
	int value = 0;

	for (size_t i = 0; i < n; i++)
		value = value * 10 + (text[i] - '0');
	return value;
}

static bool
is_npn(const char *text)
{
	size_t n = strlen(text);

	return n >= 1 && n <= 20 && all_digits(text, n);
}

/* The first 10 bytes are YYYY-MM-DD, a day that there is. */
static bool
begins_with_date(const char *text)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	if (strlen(text) < 10 || !all_digits(text, 4) || text[4] != '-' ||
	    !all_digits(text + 5, 2) || text[7] != '-' || !all_digits(text + 8, 2))
		return false;
	int year = number(text, 4), month = number(text + 5, 2), day = number(text + 8, 2);
	bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
	return month >= 1 && month <= 12 && day >= 1 &&
	    day <= days[month - 1] + (month == 2 && leap ? 1 : 0);
}

static bool
is_date(const char *text)
{
	return strlen(text) == 10 && begins_with_date(text);
}

/* ISO 8601 in UTC: 2025-07-25T15:53:01.579Z, the fraction as long as it likes. */
static bool
is_utc_time(const char *text)
{
	if (!begins_with_date(text) || strlen(text) < 20 || text[10] != 'T' ||
	    !all_digits(text + 11, 2) || text[13] != ':' || !all_digits(text + 14, 2) ||
	    text[16] != ':' || !all_digits(text + 17, 2))
		return false;
	if (number(text + 11, 2) > 23 || number(text + 14, 2) > 59 || number(text + 17, 2) > 60)
		return false;
	const char *zone = text + 19;
	size_t digits = *zone == '.' ? strspn(zone + 1, "0123456789") : 0;
	if (digits > 0)
		zone += 1 + digits;
	return strcmp(zone, "Z") == 0 || strcmp(zone, "+00:00") == 0;
}

/* ProducerSync API, "Webhook events". A new type is one row. */
static const struct known_type known_types[] = {
	{"producersync.updates_available",
	    {{"runDate", is_date, "data.runDate is no date (YYYY-MM-DD)"}}},
	{"producersync.npn.activated",
	    {{"npn", is_npn, "data.npn is no string of digits"},
	        {"activatedAt", is_utc_time, "data.activatedAt is no ISO 8601 time in UTC"}}},
	{"producersync.npn.deactivated",
	    {{"npn", is_npn, "data.npn is no string of digits"},
	        {"deactivatedAt", is_utc_time, "data.deactivatedAt is no ISO 8601 time in UTC"}}},
};

/* The probe of `psapi doctor`: proven and kept like any event, but nobody's work. */
#define DOCTOR_TYPE "psapi.doctor"

/* The string under name, or NULL if there is none or it holds a NUL. */
static const char *
string_member(const json_t *object, const char *name)
{
	const json_t *value = json_object_get(object, name);
	const char *text = json_string_value(value);

	return text != NULL && strlen(text) == json_string_length(value) ? text : NULL;
}

static void
copy_member(const json_t *object, const char *name, char *to, size_t size)
{
	const char *text = string_member(object, name);
	size_t length = text != NULL ? strnlen(text, size - 1) : 0;

	if (length > 0)
		memcpy(to, text, length);
	to[length] = '\0';
}

static const char *
odd_data(const char *type, const json_t *data)
{
	for (size_t i = 0; i < sizeof(known_types) / sizeof(known_types[0]); i++) {
		if (strcmp(known_types[i].type, type) != 0)
			continue;
		if (!json_is_object(data))
			return "data is no object";
		for (const struct member *m = known_types[i].members; m->name != NULL; m++) {
			const char *text = string_member(data, m->name);
			if (text == NULL || !m->check(text))
				return m->odd;
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
 * Parse a body that can be parsed again inside the object of a spool file, one
 * level down. Jansson stops at JSON_PARSER_MAX_DEPTH; shorter ones cannot reach it.
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
event_seed(void)
{
	json_object_seed(0);
}

static void
look_at(const json_t *root, struct event *event)
{
	const json_t *data = json_object_get(root, "data");
	const char *type = string_member(root, "type");
	copy_member(root, "type", event->type, sizeof(event->type));
	copy_member(root, "id", event->id, sizeof(event->id));
	copy_member(root, "timestamp", event->timestamp, sizeof(event->timestamp));
	copy_member(data, "npn", event->npn, sizeof(event->npn));
	copy_member(data, "runDate", event->run_date, sizeof(event->run_date));
	if (!json_is_object(root))
		event->odd = "the body is no JSON object";
	else if (type == NULL || *type == '\0')
		event->odd = "the event has no type";
	else if (strcmp(type, DOCTOR_TYPE) == 0)
		event->queue = QUEUE_NONE;
	else if ((event->odd = odd_data(type, data)) == NULL)
		event->queue = QUEUE_NEW;
}

void
event_read(const void *body, size_t length, struct event *event)
{
	struct scratch here;

	here.used = 0;
	here.outgrown = false;
	scratch = &here;
	json_t *root = parse(body, length);
	memset(event, 0, sizeof(*event));
	event->queue = QUEUE_FAILED;
	event->parsed = root != NULL;
	if (root != NULL)
		look_at(root, event);
	else
		event->odd = "the body is not JSON, or JSON beyond what can be parsed";
	/* Else it goes with this function's stack. */
	if (here.outgrown)
		json_decref(root);
	scratch = NULL;
}

static void
put_digits(char *text, int digits, int number)
{
	for (; digits > 0; number /= 10)
		text[--digits] = (char)('0' + number % 10);
}

void
iso_time(struct timespec time, char text[ISO_TIME_SIZE])
{
	/* Each event has two of them, nearly always of the same second. */
	static _Thread_local struct {
		time_t second;
		char text[ISO_TIME_SIZE];
	} last = {0, "1970-01-01T00:00:00.000Z"};
	struct tm tm;

	if (time.tv_sec != last.second) {
		gmtime_r(&time.tv_sec, &tm);
		put_digits(last.text, 4, tm.tm_year + 1900);
		put_digits(last.text + 5, 2, tm.tm_mon + 1);
		put_digits(last.text + 8, 2, tm.tm_mday);
		put_digits(last.text + 11, 2, tm.tm_hour);
		put_digits(last.text + 14, 2, tm.tm_min);
		put_digits(last.text + 17, 2, tm.tm_sec);
		last.second = time.tv_sec;
	}
	memcpy(text, last.text, ISO_TIME_SIZE);
	put_digits(text + 20, 3, (int)(time.tv_nsec / 1000000));
}

/*
 * The evidence as the beginning of a JSON object. An id that is no UTF-8 is no JSON
 * string: base64, as a body. encoded holds BASE64_SIZE(id_length) bytes for that.
 */
static void
add_evidence(struct line *line, const struct evidence *e, char *encoded)
{
	char received[ISO_TIME_SIZE];

	line_put(line, "{\"webhook_id\":");
	if (encoded == NULL) {
		line_add_string(line, e->id, e->id_length);
	} else {
		base64_encode(e->id, e->id_length, encoded);
		line_put(line, "null,\"webhook_id_base64\":\"");
		line_put(line, encoded);
		line_put(line, "\"");
	}
	line_put(line, ",\"webhook_timestamp\":");
	line_add_string(line, e->timestamp, e->timestamp_length);
	line_put(line, ",\"webhook_signature\":");
	line_add_string(line, e->signature, e->signature_length);
	iso_time(e->received_at, received);
	line_put(line, ",\"received_at\":\"");
	line_put(line, received);
	line_put(line, "\",\"event\":");
}

/* Bytes that a head can take at most: every byte escaped as \uXXXX, twice that for pairs. */
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
	struct line head;

	memset(record, 0, offsetof(struct record, head));
	if (!text_is_utf8(evidence->id, evidence->id_length) &&
	    (encoded_id = malloc(BASE64_SIZE(evidence->id_length))) == NULL)
		return -1;
	if (size > sizeof(record->head))
		record->heap[0] = malloc(size);
	if (!parsed)
		record->heap[1] = malloc(BASE64_SIZE(length));
	if ((size > sizeof(record->head) && record->heap[0] == NULL) ||
	    (!parsed && record->heap[1] == NULL)) {
		free(encoded_id);
		record_free(record);
		return -1;
	}
	if (record->heap[0] != NULL)
		line_begin(&head, record->heap[0], size);
	else
		line_begin(&head, record->head, sizeof(record->head));
	add_evidence(&head, evidence, encoded_id);
	line_put(&head, parsed ? "\n" : "null,\"body_base64\":\"");
	free(encoded_id);
	if (!parsed)
		base64_encode(body, length, record->heap[1]);
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
