/* Text of any bytes, made fit for JSON: UTF-8 without NUL; how alike two words are. */
#ifndef PSAPI_TEXT_H
#define PSAPI_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

/* Whether bytes are printable ASCII that a JSON string holds without an escape. */
bool text_is_plain(const char *bytes, size_t length);

/* Whether bytes are UTF-8, as Jansson sees it: then json_line_add_string() loses nothing. */
bool text_is_utf8(const char *bytes, size_t length);

/*
 * Copy at most size - 1 of length bytes, and a NUL. A NUL among them becomes '?'; and
 * if the result is no UTF-8, so does everything beyond ASCII.
 */
void text_copy(char *to, size_t size, const char *bytes, size_t length);

/* A JSON string of a text, as text_copy() would have it; NULL without memory. */
json_t *text_json(const char *text);

/*
 * How many letters must be inserted, removed, changed, or swapped with the next one, to make b of
 * a: a typing error is one of these. Texts over 63 bytes are far from each other: SIZE_MAX.
 */
size_t text_distance(const char *a, const char *b);

/*
 * FNV-1a, 64 bits, of bytes that follow those of which hash is; TEXT_HASH: of none. It tells texts
 * apart, and protects nothing. Lanes are stored with it.
 */
#define TEXT_HASH 0xcbf29ce484222325U
uint64_t text_hash(uint64_t hash, const void *bytes, size_t length);

#endif
