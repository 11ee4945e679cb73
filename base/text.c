/* Owns what becomes of text that no JSON string can hold, the distance of words, and hashes. */
#include "base/text.h"

#include <stdlib.h>
#include <string.h>

bool
text_is_plain(const char *bytes, size_t length)
{
	/* A quarter of the instructions that five comparisons a byte take. */
	static const bool plain[256] = {
		[' ' ... '"' - 1] = true, ['"' + 1 ... '\\' - 1] = true, ['\\' + 1 ... '~'] = true};

	for (size_t i = 0; i < length; i++)
		if (!plain[(unsigned char)bytes[i]])
			return false;
	return true;
}

bool
text_is_utf8(const char *bytes, size_t length)
{
	if (text_is_plain(bytes, length))
		return true;
	json_t *string = json_stringn(bytes, length);
	json_decref(string);
	return string != NULL;
}

void
text_copy(char *to, size_t size, const char *bytes, size_t length)
{
	if (length > size - 1)
		length = size - 1;
	memcpy(to, bytes, length);
	to[length] = '\0';
	for (size_t i = 0; i < length; i++)
		if (to[i] == '\0')
			to[i] = '?';
	/* A character that was cut in half is enough: better its neighbours than nothing. */
	if (text_is_utf8(to, length))
		return;
	for (size_t i = 0; i < length; i++)
		if ((unsigned char)to[i] >= 0x80)
			to[i] = '?';
}

json_t *
text_json(const char *text)
{
	size_t length = strlen(text);

	if (text_is_utf8(text, length))
		return json_stringn(text, length);
	char *copy = malloc(length + 1);
	if (copy == NULL)
		return NULL;
	text_copy(copy, length + 1, text, length);
	json_t *string = json_string(copy);
	free(copy);
	return string;
}

static size_t
least(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Optimal string alignment: rows of the table of all beginnings of a and b. */
size_t
text_distance(const char *a, const char *b)
{
	enum { MAX = 63 };
	size_t rows[3][MAX + 1], n = strlen(a), m = strlen(b);

	if (n > MAX || m > MAX)
		return SIZE_MAX;
	for (size_t i = 0; i <= n; i++) {
		size_t *row = rows[i % 3], *above = rows[(i + 2) % 3], *two = rows[(i + 1) % 3];
		row[0] = i;
		for (size_t j = 1; j <= m; j++) {
			if (i == 0) {
				row[j] = j;
				continue;
			}
			row[j] = least(above[j - 1] + (a[i - 1] != b[j - 1]), least(above[j], row[j - 1]) + 1);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				row[j] = least(row[j], two[j - 2] + 1);
		}
	}
	return rows[n % 3][m];
}

uint64_t
text_hash(uint64_t hash, const void *bytes, size_t length)
{
	const unsigned char *byte = bytes;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ byte[i]) * 0x100000001b3U;
	return hash;
}
