/* What people see: text from outside made harmless, colours, JSON lines. */
#ifndef PSAPI_TERMINAL_H
#define PSAPI_TERMINAL_H

#include <stdbool.h>
#include <stddef.h>

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

/* Print an object as one line of JSON, ASCII alone, and free it. */
void terminal_print_json(json_t *object);

#endif
