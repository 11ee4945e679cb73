/*
 * The protocol of batch handlers. Any output of a handler: however it is cut into parts, it means
 * the same, no byte of it is invented, and a result is one that a second reader finds, too. Any
 * event: its line is one line of JSON that says the same. Input: one byte, the length of a part;
 * then the output, which is also the event.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "drain/batch_protocol.h"
#include "oracle.h"

/* ---- what a handler writes ---- */

struct seen {
	char *text;
	size_t length;
	const char *input;
	size_t size;
};

static void
note(struct seen *seen, char kind, const char *bytes, size_t length)
{
	seen->text = realloc(seen->text, seen->length + length + 1);
	MUST(seen->text != NULL);
	/* Output that comes in parts is one output. */
	if (kind == 'r')
		seen->text[seen->length++] = kind;
	memcpy(seen->text + seen->length, bytes, length);
	seen->length += length;
}

static void
output(void *data, const char *bytes, size_t length)
{
	struct seen *seen = data;

	MUST(memmem(seen->input, seen->size, bytes, length) != NULL);
	note(seen, 'o', bytes, length);
}

/* A second opinion: scanf(3)'s. */
static void
check_result(const struct batch_result *result, const char *line, size_t length)
{
	char text[BATCH_LINE_MAX + 1], word[BATCH_LINE_MAX + 1], more[BATCH_LINE_MAX + 1];
	unsigned long long n = 0;

	memcpy(text, line, length);
	text[length] = '\0';
	MUST(sscanf(text, "%[a-z]", word) == 1);
	MUST(strcmp(word, "ok") == 0 || strcmp(word, "later") == 0 || strcmp(word, "failed") == 0);
	MUST((result->verdict == BATCH_OK) == (strcmp(word, "ok") == 0));
	MUST((result->verdict == BATCH_FAILED) == (strcmp(word, "failed") == 0));
	if (result->line == BATCH_ALL) {
		MUST(sscanf(text, "ok all %llu %s", &n, more) == 1 && n == result->n && n > 0);
		return;
	}
	if (result->n > 0)
		MUST(sscanf(text, "%*[a-z] %llu", &n) == 1 && n == result->n);
	MUST(result->line == BATCH_MALFORMED || n > 0);
	MUST(result->length == 0 || memmem(line, length, result->text, result->length) != NULL);
}

static void
take_result(void *data, const struct batch_result *result, const char *line, size_t length)
{
	char text[64];

	MUST(length <= BATCH_LINE_MAX && result->line != BATCH_OUTPUT);
	check_result(result, line, length);
	snprintf(text, sizeof(text), "%d %d %zu %zu;", (int)result->line, (int)result->verdict,
	    result->n, result->length);
	note(data, 'r', text, strlen(text));
}

static struct seen
read_in_parts(const char *data, size_t size, size_t part)
{
	struct seen seen = {.input = data, .size = size};
	struct batch_reader reader = {.result = take_result, .output = output, .data = &seen};

	for (size_t i = 0; i < size; i += part)
		batch_protocol_read(&reader, data + i, size - i < part ? size - i : part);
	batch_protocol_end(&reader, true);
	return seen;
}

/* ---- what a handler reads ---- */

#define FLAGS (JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL)

static void
check_line(const struct batch_input *input, const struct store_work *work)
{
	const struct entry *entry = &work->entry;

	MUST(input->length > 0 && memchr(input->text, '\n', input->length) ==
	    input->text + input->length - 1 && memchr(input->text, '\r', input->length) == NULL);
	json_t *line = json_loadb(input->text, input->length, FLAGS, NULL);
	if (line == NULL && entry->body_length > 2 * (JSON_PARSER_MAX_DEPTH - 2))
		return; /* one level deeper than the event, it may be too deep for Jansson */
	MUST(json_is_object(line) && json_number_value(json_object_get(line, "n")) == 3);
	const char *id = json_string_value(json_object_get(line, "id"));
	MUST(id == NULL || strcmp(id, entry->id) == 0);
	MUST(id != NULL || json_object_get(line, "id_base64") != NULL);
	MUST(strcmp(json_string_value(json_object_get(line, "npn")), entry->event.npn) == 0);
	json_t *event = json_object_get(line, "event");
	json_t *body = json_loadb(entry->body, entry->body_length, FLAGS, NULL);
	MUST(entry->event.parsed ? json_equal(event, body) : json_is_null(event));
	json_decref(body);
	json_decref(line);
}

static void
write_event(char *data, size_t size)
{
	static struct store_work work;
	struct batch_input input = {0};

	work.entry.id = strndup(data, size);
	work.entry.body = data;
	work.entry.body_length = size;
	events_read(data, size, &work.entry.event);
	if (*work.entry.id != '\0') {
		MUST(batch_protocol_write(&input, 3, &work) == 0);
		check_line(&input, &work);
	}
	free(input.text);
	free(work.entry.id);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	char *copy = malloc(size);
	MUST(copy != NULL);
	memcpy(copy, data + 1, size - 1);
	struct seen whole = read_in_parts(copy, size - 1, size);
	struct seen parts = read_in_parts(copy, size - 1, 1U + *data);
	MUST(whole.length == parts.length);
	MUST(whole.length == 0 || memcmp(whole.text, parts.text, whole.length) == 0);
	free(whole.text);
	free(parts.text);
	write_event(copy, size - 1);
	free(copy);
	return 0;
}
