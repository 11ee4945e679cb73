/* Owns what is cleaned away from the text of a secret file. No copy of a secret is made. */
#include "secrets/secrettext.h"

#include <string.h>

static const char utf16[] = "UTF-16, as Windows writes it";
static const char mark[] = "a byte order mark";
static const char zeros[] = "NUL bytes";
static const char unseen[] = "characters that are not seen (U+00A0, U+200B, U+2060)";

/* 0: no UTF-16; else the place of the low byte in a pair, plus one. */
static int
utf16_order(const unsigned char *text, size_t length)
{
	if (length >= 2 && text[0] == 0xff && text[1] == 0xfe)
		return 1;
	if (length >= 2 && text[0] == 0xfe && text[1] == 0xff)
		return 2;
	/* Without a mark: two ASCII characters. */
	if (length >= 4 && text[0] != 0 && text[1] == 0 && text[2] != 0 && text[3] == 0)
		return 1;
	if (length >= 4 && text[0] == 0 && text[1] != 0 && text[2] == 0 && text[3] != 0)
		return 2;
	return 0;
}

/* Into ASCII, of which a secret file is made. Another character becomes a '?'. */
static size_t
narrow(unsigned char *text, size_t length, int order)
{
	size_t n = 0;

	for (size_t i = 0; i + 1 < length; i += 2) {
		unsigned low = text[i + (order == 1 ? 0 : 1)], high = text[i + (order == 1 ? 1 : 0)];
		unsigned unit = high << 8 | low;
		if (unit == 0xfeff)
			continue;
		text[n++] = unit < 0x80 ? (unsigned char)unit : '?';
	}
	return n;
}

/* Bytes at the beginning of text that are dropped, and what they are. */
static size_t
droppable(const unsigned char *text, size_t length, const char **found)
{
	static const struct {
		const char *bytes;
		size_t length;
		const char *name;
	} marks[] = {{"\0", 1, zeros}, {"\xef\xbb\xbf", 3, mark}, {"\xc2\xa0", 2, unseen},
	    {"\xe2\x80\x8b", 3, unseen}, {"\xe2\x81\xa0", 3, unseen}};

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		if (marks[i].length > length || memcmp(text, marks[i].bytes, marks[i].length) != 0)
			continue;
		if (*found == NULL)
			*found = marks[i].name;
		return marks[i].length;
	}
	return 0;
}

size_t
secrettext_clean(char *buffer, size_t length, const char **found, bool *blank)
{
	unsigned char *text = (unsigned char *)buffer;
	int order = utf16_order(text, length);
	size_t n = 0, before = length, step;
	bool zero = memchr(text, 0, length) != NULL;

	*found = order != 0 ? utf16 : NULL;
	if (order != 0)
		length = narrow(text, length, order);
	for (size_t i = 0; i < length; i += step) {
		step = droppable(text + i, length - i, found);
		if (step == 0) {
			/* A CR alone ends a line, too: old editors write it so. */
			bool ends = text[i] == '\r' && i + 1 < length && text[i + 1] != '\n';
			text[n++] = ends ? '\n' : text[i];
			step = 1;
		}
	}
	memset(text + n, 0, before - n); /* a rest of a secret, too */
	text[n] = '\0';
	*blank = n == 0 && zero && before > 0;
	return n;
}
