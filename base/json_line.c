/* Owns the writing of JSON lines: bounds and escaping. */
#include "base/json_line.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/text.h"

void
json_line_begin(struct json_line *line, char *buffer, size_t size)
{
	*line = (struct json_line){.text = buffer, .size = size};
	buffer[0] = '\0';
}

/* The room of the line, without its NUL. */
static size_t
room(const struct json_line *line)
{
	return line->size - line->length - 1;
}

void
json_line_add(struct json_line *line, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	int n = vsnprintf(line->text + line->length, line->size - line->length, format, ap);
	va_end(ap);
	if (n < 0 || (size_t)n > room(line)) {
		line->cut = true;
		line->length = line->size - 1;
		return;
	}
	line->length += (size_t)n;
}

static void
add_bytes(struct json_line *line, const char *bytes, size_t length)
{
	if (length > room(line)) {
		line->cut = true;
		length = room(line);
	}
	memcpy(line->text + line->length, bytes, length);
	line->length += length;
	line->text[line->length] = '\0';
}

void
json_line_put(struct json_line *line, const char *text)
{
	add_bytes(line, text, strlen(text));
}

void
json_line_put_number(struct json_line *line, long long number)
{
	char digits[24], *first = digits + sizeof(digits) - 1;
	unsigned long long rest = number < 0 ? -(unsigned long long)number : (unsigned long long)number;

	*first = '\0';
	do
		*--first = (char)('0' + rest % 10);
	while ((rest /= 10) != 0);
	if (number < 0)
		*--first = '-';
	json_line_put(line, first);
}

/* Text that needs escaping, by Jansson: rare, so that the heap does not matter. */
static void
add_escaped(struct json_line *line, const char *bytes, size_t length)
{
	json_t *string = json_stringn(bytes, length);
	char *text = string == NULL ? NULL :
	    json_dumps(string, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

	json_decref(string);
	for (const char *p = text; p != NULL && *p != '\0'; p++)
		/* Jansson lets DEL pass. */
		if (*p == 0x7f)
			add_bytes(line, "\\u007f", 6);
		else
			add_bytes(line, p, 1);
	line->cut |= text == NULL;
	free(text);
}

void
json_line_add_string(struct json_line *line, const char *bytes, size_t length)
{
	if (text_is_plain(bytes, length)) {
		add_bytes(line, "\"", 1);
		add_bytes(line, bytes, length);
		add_bytes(line, "\"", 1);
		return;
	}
	if (text_is_utf8(bytes, length)) {
		add_escaped(line, bytes, length);
		return;
	}
	char *copy = malloc(length);
	line->cut |= copy == NULL;
	for (size_t i = 0; copy != NULL && i < length; i++)
		copy[i] = (unsigned char)bytes[i] >= 0x80 ? '?' : bytes[i];
	if (copy != NULL)
		add_escaped(line, copy, length);
	free(copy);
}
