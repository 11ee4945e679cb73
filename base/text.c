/* Owns what becomes of text that no JSON string can hold. */
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
