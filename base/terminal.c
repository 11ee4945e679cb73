/* Owns escaping and colours. */
#define _GNU_SOURCE
#include "base/terminal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool
is_harmless(unsigned char c, bool lines)
{
	return (c >= 0x20 && c < 0x7f && c != '\\') || (lines && (c == '\n' || c == '\t'));
}

const char *
terminal_escape(char *to, size_t size, const char *text, size_t length, bool lines)
{
	static const char hex[] = "0123456789abcdef";
	size_t n = 0;

	for (size_t i = 0; i < length && n + 5 <= size; i++) {
		unsigned char c = (unsigned char)text[i];
		if (is_harmless(c, lines)) {
			to[n++] = text[i];
			continue;
		}
		to[n++] = '\\';
		to[n++] = 'x';
		to[n++] = hex[c >> 4];
		to[n++] = hex[c & 15];
	}
	to[n] = '\0';
	return to;
}

const char *
terminal_column(const char *text)
{
	static char buffers[8][TERMINAL_ESCAPED_SIZE(256)];
	static unsigned next;

	if (*text == '\0')
		return "-";
	return terminal_escape(buffers[next++ % 8], sizeof(buffers[0]), text, strlen(text), false);
}

void
terminal_print_escaped(const char *text, size_t length)
{
	char buffer[TERMINAL_ESCAPED_SIZE(1024)];

	for (size_t i = 0; i < length; i += 1024)
		fputs(terminal_escape(
		          buffer, sizeof(buffer), text + i, length - i < 1024 ? length - i : 1024, true),
		    stdout);
}

static bool
has_colours(void)
{
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");

	return isatty(STDOUT_FILENO) && (no_color == NULL || *no_color == '\0') &&
	    (term == NULL || strcmp(term, "dumb") != 0);
}

const char *
terminal_colour(enum colour colour)
{
	static const char *const sequences[] = {[COLOUR_NONE] = "\033[0m", [COLOUR_GOOD] = "\033[32m",
		[COLOUR_BAD] = "\033[31m", [COLOUR_WARN] = "\033[33m", [COLOUR_DIM] = "\033[2m",
		[COLOUR_BOLD] = "\033[1m"};
	static int known; /* 0: not asked yet, 1: no, 2: yes */

	if (known == 0)
		known = has_colours() ? 2 : 1;
	return known == 2 ? sequences[colour] : "";
}

void
terminal_print_json(json_t *object)
{
	json_dumpf(object, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(object);
}
