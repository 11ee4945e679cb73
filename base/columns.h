/*
 * A table for people that fits its terminal: columns are shortened, then dropped, by priority.
 * Where standard output is no terminal, and with --wide, it is as wide as it is.
 */
#ifndef PSAPI_COLUMNS_H
#define PSAPI_COLUMNS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/terminal.h"

#define COLUMNS_MAX 16

enum columns_kind {
	COLUMNS_TEXT,
	COLUMNS_NUMBER, /* at the right */
	COLUMNS_TIME,   /* shortened to the second; the head has the zone */
	COLUMNS_TYPE    /* of an event: shortened at its beginning, where all types are alike */
};

struct columns_spec {
	const char *head;
	enum columns_kind kind;
	size_t width; /* longer texts push the later columns, if there is room for the whole table */
	size_t least; /* it may be shortened to this; 0: not at all */
	int drop;     /* the lowest is dropped first; 0: never */
};

/* A table. The last column, and one that is not dropped, is not filled with blanks. */
struct columns {
	const struct columns_spec *spec;
	size_t count;
	size_t width[COLUMNS_MAX]; /* 0: dropped */
	bool fits;                 /* all columns at full width */
};

/* A text for one column, escaped already, and its colour. */
struct columns_cell {
	const char *text;
	enum colour colour;
};

/* Lay the table out for the terminal, once, and print its head. hidden: bits of other columns. */
void columns_begin(struct columns *columns, const struct columns_spec *spec, size_t count,
    unsigned hidden);

/* Print one row, and after it a note, which on a narrow terminal gets a line of its own. */
void columns_row(const struct columns *columns, const struct columns_cell *cells,
    const char *note);

/*
 * Print words, wrapped at the terminal's width. The cursor is at column `at`; further lines begin
 * at column `indent`.
 */
void columns_wrap(const char *text, size_t at, size_t indent);

#endif
