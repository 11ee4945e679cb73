/* Owns escaping, colours, and what the options of the command line say about the output. */
#define _GNU_SOURCE
#include "base/terminal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/datetime.h"

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

/* ---- width and times ---- */

static bool wide, local_time;

void
terminal_set_wide(void)
{
	wide = true;
}

void
terminal_set_local_time(void)
{
	local_time = true;
}

size_t
terminal_width(void)
{
	struct winsize size = {0};
	const char *columns = getenv("COLUMNS");

	if (wide || !isatty(STDOUT_FILENO))
		return SIZE_MAX;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0)
		return size.ws_col;
	int number = columns != NULL ? atoi(columns) : 0;
	return number > 0 ? (size_t)number : 80;
}

const char *
terminal_zone(void)
{
	return local_time ? "LOCAL" : "UTC";
}

const char *
terminal_offset(void)
{
	return local_time ? "+00:00" : "Z";
}

/* milliseconds < 0: to the second. */
static bool
format_local(time_t seconds, int milliseconds, char to[TERMINAL_TIME_SIZE])
{
	struct tm tm;
	char fraction[8] = "", zone[8];

	if (localtime_r(&seconds, &tm) == NULL)
		return false;
	size_t n = strftime(to, TERMINAL_TIME_SIZE, "%Y-%m-%dT%H:%M:%S", &tm);
	if (milliseconds >= 0)
		snprintf(fraction, sizeof(fraction), ".%03d", milliseconds % 1000);
	strftime(zone, sizeof(zone), "%z", &tm);
	snprintf(to + n, TERMINAL_TIME_SIZE - n, "%s%.3s:%s", fraction, zone, zone + 3);
	return true;
}

const char *
terminal_time_text(const char *text, char to[TERMINAL_TIME_SIZE])
{
	int64_t at;

	if (local_time && datetime_is_utc(text) && datetime_parse(text, &at)) {
		int64_t rest = (at % NANOSECONDS + NANOSECONDS) % NANOSECONDS;
		int milliseconds = strchr(text, '.') != NULL ? (int)(rest / 1000000) : -1;
		if (format_local((time_t)((at - rest) / NANOSECONDS), milliseconds, to))
			return to;
	}
	return *text == '\0' ? strcpy(to, "-") :
	                       terminal_escape(to, TERMINAL_TIME_SIZE, text, strlen(text), false);
}

const char *
terminal_time(int64_t seconds, char to[TERMINAL_TIME_SIZE])
{
	char text[DATETIME_TEXT_SIZE];

	datetime_text(seconds, text);
	return terminal_time_text(text, to);
}

void
terminal_print_json(json_t *object)
{
	json_dumpf(object, stdout, JSON_COMPACT | JSON_ENSURE_ASCII);
	putchar('\n');
	json_decref(object);
}
