/* Owns the printing of JSON text token by token. */
#include "base/json_text.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Depth of indentation at most: a body may nest two thousand levels deep. */
enum { INDENT_MAX = 40 };

/* ---- tokens ---- */

static bool
is_blank(char c)
{
	return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* Bytes of the string that begins with a quote, with both quotes. */
static size_t
string_length(const char *text, size_t length)
{
	size_t n = 1;

	while (n < length && text[n] != '"')
		n += text[n] == '\\' && n + 1 < length ? 2 : 1;
	return n < length ? n + 1 : length;
}

/* The character that begins at text, of *size bytes; U+FFFD of one byte if it is no UTF-8. */
static uint32_t
character(const char *text, size_t length, size_t *size)
{
	unsigned char first = (unsigned char)text[0];
	size_t n = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
	uint32_t value = n == 1 ? first : first & (0xffU >> (n + 1));

	*size = 1;
	if ((n == 1 && first >= 0x80) || n > length)
		return 0xfffd;
	for (size_t i = 1; i < n; i++) {
		if (((unsigned char)text[i] & 0xc0) != 0x80)
			return 0xfffd;
		value = value << 6 | ((unsigned char)text[i] & 0x3f);
	}
	*size = n;
	return value;
}

static void
print_string(FILE *to, const char *text, size_t length, bool ascii)
{
	size_t size;

	if (!ascii) {
		fwrite(text, 1, length, to);
		return;
	}
	for (size_t i = 0; i < length; i += size) {
		uint32_t c = character(text + i, length - i, &size);
		if (c >= 0x20 && c < 0x7f)
			putc((int)c, to);
		else if (c < 0x10000)
			fprintf(to, "\\u%04x", (unsigned)c);
		else
			fprintf(to, "\\u%04x\\u%04x", (unsigned)(0xd7c0 + (c >> 10)),
			    (unsigned)(0xdc00 + (c & 0x3ff)));
	}
}

/* ---- in one line ---- */

static void
print_tokens(FILE *to, const char *text, size_t length, bool ascii)
{
	for (size_t i = 0; i < length;) {
		if (text[i] == '"') {
			size_t n = string_length(text + i, length - i);
			print_string(to, text + i, n, ascii);
			i += n;
			continue;
		}
		putc(text[i] == '\n' || text[i] == '\r' || (ascii && text[i] == '\t') ? ' ' : text[i], to);
		i++;
	}
}

void
json_text_print_line(const char *text, size_t length, bool ascii)
{
	print_tokens(stdout, text, length, ascii);
	putchar('\n');
}

void
json_text_write_with(FILE *to, json_t *object, const char *key, const char *text, size_t length,
    bool ascii)
{
	char *members =
	    json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));

	json_decref(object);
	if (members == NULL)
		return;
	size_t n = strlen(members) - 1; /* without its brace */
	fprintf(to, "%.*s%s\"%s\":", (int)n, members, n > 1 ? "," : "", key);
	print_tokens(to, text, length, ascii);
	fputs("}\n", to);
	free(members);
}

void
json_text_print_with(json_t *object, const char *key, const char *text, size_t length)
{
	json_text_write_with(stdout, object, key, text, length, isatty(STDOUT_FILENO));
}

/* ---- indented ---- */

static void
break_line(FILE *to, size_t depth)
{
	putc('\n', to);
	for (size_t i = 0; i < depth && i < INDENT_MAX; i++)
		fputs("  ", to);
}

/* The index of the next token from i on. */
static size_t
next_token(const char *text, size_t length, size_t i)
{
	while (i < length && is_blank(text[i]))
		i++;
	return i;
}

void
json_text_write_indented(FILE *to, const char *text, size_t length, bool ascii)
{
	size_t depth = 0, next;

	for (size_t i = next_token(text, length, 0); i < length; i = next_token(text, length, next)) {
		next = i + 1;
		switch (text[i]) {
		case '"':
			next = i + string_length(text + i, length - i);
			print_string(to, text + i, next - i, ascii);
			break;
		case '{':
		case '[':
			putc(text[i], to);
			next = next_token(text, length, next);
			if (next < length && (text[next] == '}' || text[next] == ']'))
				putc(text[next++], to);
			else
				break_line(to, ++depth);
			break;
		case '}':
		case ']':
			break_line(to, depth > 0 ? --depth : 0);
			putc(text[i], to);
			break;
		case ',':
			putc(',', to);
			break_line(to, depth);
			break;
		case ':':
			fputs(": ", to);
			break;
		default: /* of a number, true, false or null */
			putc(text[i], to);
		}
	}
	putc('\n', to);
}

void
json_text_print_indented(const char *text, size_t length)
{
	json_text_write_indented(stdout, text, length, true);
}
