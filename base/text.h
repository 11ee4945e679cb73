/* Text of any bytes, made fit for JSON: UTF-8 without NUL. */
#ifndef PSAPI_TEXT_H
#define PSAPI_TEXT_H

#include <stddef.h>

#include <jansson.h>

/*
 * Copy at most size - 1 of length bytes, and a NUL. A NUL among them becomes '?'; and
 * if the result is no UTF-8, so does everything beyond ASCII.
 */
void text_copy(char *to, size_t size, const char *bytes, size_t length);

/* A JSON string of a text, as text_copy() would have it; NULL without memory. */
json_t *text_json(const char *text);

#endif
