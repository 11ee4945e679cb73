/*
 * The text of a secret file as editors and tools leave it: byte order marks, UTF-16, NUL bytes
 * and other characters that nobody sees. Both readers of the file clean it in the same way.
 */
#ifndef PSAPI_SECRETTEXT_H
#define PSAPI_SECRETTEXT_H

#include <stdbool.h>
#include <stddef.h>

/*
 * Clean length bytes of text in place, with a NUL at its end, for which there must be room.
 * Returns the new length. *found: what was cleaned, in words ("UTF-16", ...); NULL: nothing.
 * *blank: it had NUL bytes, and nothing is left: no empty file, but one that lost its contents.
 */
size_t secrettext_clean(char *text, size_t length, const char **found, bool *blank);

#endif
