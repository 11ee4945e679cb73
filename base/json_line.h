/*
 * One line of JSON in a buffer of the caller: for the reply, the attempts log and the
 * evidence, which a request writes without heap. Jansson escapes; only text that needs no
 * escaping is copied as it is.
 */
#ifndef PSAPI_JSON_LINE_H
#define PSAPI_JSON_LINE_H

#include <stdbool.h>
#include <stddef.h>

struct json_line {
	char *text; /* always with a NUL */
	size_t size, length;
	bool cut; /* something did not fit: length is then that of what did */
};

/* An empty line in buffer (size bytes, at least 1). */
void json_line_begin(struct json_line *line, char *buffer, size_t size);

/* Append text of our own: as it is. Never text from outside. */
void json_line_put(struct json_line *line, const char *text);
void json_line_put_number(struct json_line *line, long long number);

/* The same as printf(3) does: expensive, for rare lines. */
void json_line_add(struct json_line *line, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/*
 * Append bytes from outside as a JSON string in ASCII, with its quotes: control
 * bytes, DEL and all characters beyond ASCII are escaped, for U+009B and others control
 * a terminal. Bytes that are no UTF-8 become '?': text_is_utf8() tells before.
 */
void json_line_add_string(struct json_line *line, const char *bytes, size_t length);

#endif
