/*
 * Owns the bytes of the batch protocol: the JSON line of an event, and what a line of output
 * means. What a handler writes is untrusted: nothing here depends on it being well-formed, and
 * a line takes no more memory than BATCH_LINE_MAX.
 */
#define _GNU_SOURCE
#include "drain/batch_protocol.h"

#include <stdlib.h>
#include <string.h>

#include "base/crypto.h"
#include "base/json_line.h"
#include "base/text.h"

/* ---- to the handler ---- */

enum {
	FRAME_SIZE = 256, /* the names of the members, two numbers, braces */
	ESCAPED_MAX = 6   /* bytes of a byte in a JSON string */
};

/* Room for so many more bytes. Returns 0, or -1 without memory. */
static int
make_room(struct batch_input *input, size_t more)
{
	if (input->length + more <= input->room)
		return 0;
	size_t room = (input->length + more) * 2;
	char *text = realloc(input->text, room);
	if (text == NULL)
		return -1;
	input->text = text;
	input->room = room;
	return 0;
}

static void
put_text(struct json_line *line, const char *name, const char *text)
{
	json_line_put(line, name);
	json_line_add_string(line, text, strlen(text));
}

/* As in the record: an id that is no UTF-8 is null, and id_base64. */
static void
put_id(struct json_line *line, const char *id)
{
	char encoded[CRYPTO_BASE64_SIZE(8192)];
	size_t length = strlen(id);

	if (text_is_utf8(id, length) || length > 8192) {
		put_text(line, ",\"id\":", id);
		return;
	}
	crypto_base64_encode(id, length, encoded);
	put_text(line, ",\"id\":null,\"id_base64\":", encoded);
}

/* The signed bytes in one line; bytes that are no JSON as base64, as in the record. */
static void
put_event(struct json_line *line, const struct entry *entry)
{
	if (!entry->event.parsed) {
		json_line_put(line, ",\"event\":null,\"body_base64\":\"");
		crypto_base64_encode(entry->body, entry->body_length, line->text + line->length);
		line->length += strlen(line->text + line->length);
		json_line_put(line, "\"}\n");
		return;
	}
	json_line_put(line, ",\"event\":");
	char *to = line->text + line->length;
	for (size_t i = 0; i < entry->body_length; i++)
		to[i] = entry->body[i] == '\r' || entry->body[i] == '\n' ? ' ' : entry->body[i];
	line->length += entry->body_length;
	json_line_put(line, "}\n");
}

int
batch_protocol_write(struct batch_input *input, size_t n, const struct store_work *work)
{
	const struct entry *entry = &work->entry;
	const struct event *event = &entry->event;
	struct json_line line;
	size_t strings = strlen(entry->id) + strlen(event->type) + strlen(event->npn) +
	    strlen(event->timestamp) + strlen(work->path);
	size_t most = FRAME_SIZE + ESCAPED_MAX * strings + CRYPTO_BASE64_SIZE(entry->body_length);

	if (make_room(input, most) != 0)
		return -1;
	json_line_begin(&line, input->text + input->length, most);
	json_line_put(&line, "{\"n\":");
	json_line_put_number(&line, (long long)n);
	put_id(&line, entry->id);
	put_text(&line, ",\"type\":", event->type);
	put_text(&line, ",\"npn\":", event->npn);
	put_text(&line, ",\"timestamp\":", event->timestamp);
	json_line_put(&line, ",\"try\":");
	json_line_put_number(&line, work->state.tries + 1);
	put_text(&line, ",\"file\":", work->path);
	put_event(&line, entry);
	input->length += line.length;
	return line.cut ? -1 : 0;
}

/* ---- from the handler ---- */

static bool
is_blank(char byte)
{
	return byte == ' ' || byte == '\t';
}

/* The next word of [*at, end), and *at behind it and the blanks that follow. Returns its length. */
static size_t
take_word(const char **at, const char *end, const char **word)
{
	const char *p = *at;

	*word = p;
	while (p < end && !is_blank(*p))
		p++;
	size_t length = (size_t)(p - *word);
	while (p < end && is_blank(*p))
		p++;
	*at = p;
	return length;
}

static bool
is_word(const char *word, size_t length, const char *text)
{
	return length == strlen(text) && memcmp(word, text, length) == 0;
}

/* A number from 1 to 999,999,999; 0 if it is none. */
static size_t
number_of(const char *word, size_t length)
{
	size_t number = 0;

	if (length == 0 || length > 9 || *word == '0')
		return 0;
	for (size_t i = 0; i < length; i++) {
		if (word[i] < '0' || word[i] > '9')
			return 0;
		number = number * 10 + (size_t)(word[i] - '0');
	}
	return number;
}

static enum batch_verdict
verdict_of(const char *word, size_t length)
{
	static const char *const words[] = {[BATCH_OK] = "ok", "later", "failed"};

	for (int verdict = BATCH_OK; verdict <= BATCH_FAILED; verdict++)
		if (is_word(word, length, words[verdict]))
			return (enum batch_verdict)verdict;
	return BATCH_NOTHING;
}

/* What follows "ok": N, or "all COUNT". Nothing may follow that. */
static void
parse_ok(struct batch_result *result, const char *word, size_t length, const char *at,
    const char *end)
{
	result->line = BATCH_RESULT;
	if (is_word(word, length, "all")) {
		const char *count;
		size_t digits = take_word(&at, end, &count);
		result->line = BATCH_ALL;
		result->n = number_of(count, digits);
	}
	if (at < end && result->line == BATCH_ALL)
		result->n = 0;
	if (at < end || result->n == 0)
		result->line = BATCH_MALFORMED;
}

void
batch_protocol_parse(const char *line, size_t length, struct batch_result *result)
{
	const char *at = line, *end = line + length, *word;

	*result = (struct batch_result){.line = BATCH_OUTPUT};
	if (end > at && end[-1] == '\r')
		end--;
	while (end > at && is_blank(end[-1]))
		end--;
	size_t letters = take_word(&at, end, &word);
	result->verdict = verdict_of(word, letters);
	if (result->verdict == BATCH_NOTHING)
		return;
	letters = take_word(&at, end, &word);
	result->n = number_of(word, letters);
	if (result->verdict == BATCH_OK) {
		parse_ok(result, word, letters, at, end);
		return;
	}
	result->line = result->n == 0 ? BATCH_MALFORMED : BATCH_RESULT;
	result->text = at;
	result->length = (size_t)(end - at);
}

/* ---- lines ---- */

/*
 * Of a line that was cut, only a text may miss something: the end of a number may be in the rest.
 */
static void
parse_cut(struct batch_reader *reader, struct batch_result *result)
{
	batch_protocol_parse(reader->line, reader->length, result);
	if (reader->rest != BATCH_DROP || result->length > 0 || result->line == BATCH_MALFORMED)
		return;
	result->line = BATCH_MALFORMED;
	result->n = 0;
}

/* A line in the buffer. ended: its newline follows; complete: it is not cut by the end. */
static void
take_line(struct batch_reader *reader, bool ended, bool complete)
{
	struct batch_result result;

	parse_cut(reader, &result);
	if (result.line != BATCH_OUTPUT && complete) {
		reader->result(reader->data, &result, reader->line, reader->length);
	} else if (result.line == BATCH_OUTPUT) {
		reader->output(reader->data, reader->line, reader->length);
		if (ended)
			reader->output(reader->data, "\n", 1);
	}
	reader->length = 0;
}

/* The buffer is full, and there was no newline. Of a result the rest is dropped. */
static void
take_beginning(struct batch_reader *reader)
{
	struct batch_result result;

	batch_protocol_parse(reader->line, reader->length, &result);
	reader->rest = result.line == BATCH_OUTPUT ? BATCH_PASS : BATCH_DROP;
	if (reader->rest == BATCH_DROP)
		return; /* it is taken when its end is there */
	reader->output(reader->data, reader->line, reader->length);
	reader->length = 0;
}

/* Up to the newline or the end of what there is. Returns how many bytes were used. */
static size_t
take_part(struct batch_reader *reader, const char *bytes, size_t length)
{
	const char *newline = memchr(bytes, '\n', length);
	size_t part = newline == NULL ? length : (size_t)(newline - bytes);

	if (reader->rest == BATCH_PASS && part > 0)
		reader->output(reader->data, bytes, part);
	if (reader->rest == BATCH_BEGIN) {
		size_t room = sizeof(reader->line) - reader->length;
		part = part > room ? room : part;
		memcpy(reader->line + reader->length, bytes, part);
		reader->length += part;
		if (part == room && (part == length || bytes[part] != '\n')) {
			take_beginning(reader);
			return part;
		}
	}
	if (newline == NULL)
		return part;
	if (reader->rest == BATCH_PASS)
		reader->output(reader->data, "\n", 1);
	else
		take_line(reader, true, true);
	reader->rest = BATCH_BEGIN;
	return part + 1;
}

void
batch_protocol_read(struct batch_reader *reader, const char *bytes, size_t length)
{
	while (length > 0) {
		size_t used = take_part(reader, bytes, length);
		bytes += used;
		length -= used;
	}
}

void
batch_protocol_end(struct batch_reader *reader, bool complete)
{
	if (reader->length > 0)
		take_line(reader, false, complete);
	reader->rest = BATCH_BEGIN;
}
