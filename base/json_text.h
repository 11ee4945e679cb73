/*
 * JSON shown as it was written. It is not parsed and written anew, so numbers (1.10, 1e5),
 * duplicate keys and escapes stay as they are. The texts must be valid JSON.
 */
#ifndef PSAPI_JSON_TEXT_H
#define PSAPI_JSON_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include <jansson.h>

/*
 * Print to standard output in one line, with its newline: every token as it is, line breaks
 * between tokens as blanks. ascii: tabs as well, and in strings DEL and characters beyond ASCII
 * appear as \uXXXX, which is the same string in JSON and cannot steer a terminal.
 */
void json_text_print_line(const char *text, size_t length, bool ascii);

/* Print to standard output with line breaks and indentation of our own, in ASCII. */
void json_text_print_indented(const char *text, size_t length);

/*
 * Print an object in one line and free it, as terminal_print_json() does, with one more
 * member at its end: key, whose value is the JSON text as it is.
 */
void json_text_print_with(json_t *object, const char *key, const char *text, size_t length);

/* The same two for another stream. ascii: as for json_text_print_line(). */
void json_text_write_indented(FILE *to, const char *text, size_t length, bool ascii);
void json_text_write_with(FILE *to, json_t *object, const char *key, const char *text,
    size_t length, bool ascii);

#endif
