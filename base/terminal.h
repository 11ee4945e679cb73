/* What people see: text from outside made harmless, colours, widths, times, JSON lines. */
#ifndef PSAPI_TERMINAL_H
#define PSAPI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

/* Room for any text of n bytes, escaped, and a NUL. */
#define TERMINAL_ESCAPED_SIZE(n) (4 * (n) + 1)
/*
 * Copy length bytes so that they can steer no terminal and forge no column: what is
 * not printable ASCII, and the backslash, becomes \xHH, but for newlines and tabs
 * if lines. Cut at size. Returns to.
 */
const char *terminal_escape(char *to, size_t size, const char *text, size_t length, bool lines);

/*
 * A text for one column, escaped, "-" if it is empty. One of 8 static buffers, so up
 * to 8 can be in use in one printf(3).
 */
const char *terminal_column(const char *text);

/* Write any amount of text to standard output, escaped, newlines and tabs kept. */
void terminal_print_escaped(const char *text, size_t length);

enum colour { COLOUR_NONE, COLOUR_GOOD, COLOUR_BAD, COLOUR_WARN, COLOUR_DIM, COLOUR_BOLD };
/*
 * Begin or end (COLOUR_NONE) a colour: the sequence to print, or "" where standard
 * output is no terminal, TERM is "dumb" or NO_COLOR is set (https://no-color.org).
 */
const char *terminal_colour(enum colour colour);

/* ---- width and times ---- */

/* --wide: as if standard output were no terminal. --local-time: times of this machine's zone. */
void terminal_set_wide(void);
void terminal_set_local_time(void);

/* The columns of standard output; SIZE_MAX where it is no terminal, and with --wide. */
size_t terminal_width(void);

/* What the head of a column of times says of the zone: "UTC" or "LOCAL". */
const char *terminal_zone(void);
/* How times end: "Z", or an example of an offset. */
const char *terminal_offset(void);

/* Room for a time of either zone, or 48 bytes of any text, escaped. */
#define TERMINAL_TIME_SIZE TERMINAL_ESCAPED_SIZE(48)
/*
 * A time for people: ISO 8601, in UTC as it is, or with --local-time and the zone's offset. One
 * that is no time stays as it is, escaped. Returns to.
 */
const char *terminal_time_text(const char *text, char to[TERMINAL_TIME_SIZE]);
/* The same for Unix seconds. */
const char *terminal_time(int64_t seconds, char to[TERMINAL_TIME_SIZE]);

/* Print an object as one line of JSON, ASCII alone, and free it. */
void terminal_print_json(json_t *object);

#endif
