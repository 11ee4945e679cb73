/* Owns the layout of tables, and the cutting of texts that are longer than their column. */
#define _GNU_SOURCE
#include "base/columns.h"

#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { GAP = 2, INDENT = 4, TIME_SHORT = 19 /* 2025-07-24T22:51:05 */ };

/* ---- layout ---- */

/* A local time has an offset instead of a Z. */
static size_t
full_width(const struct columns_spec *spec)
{
	return spec->width + (spec->kind == COLUMNS_TIME ? strlen(terminal_offset()) - 1 : 0);
}

/* The columns that the table needs now, each at its full or its least width. */
static size_t
needed(const struct columns *c, bool full)
{
	size_t sum = 0, shown = 0;

	for (size_t i = 0; i < c->count; i++) {
		if (c->width[i] == 0)
			continue;
		sum += full || c->spec[i].least == 0 ? full_width(&c->spec[i]) : c->spec[i].least;
		shown++;
	}
	return sum + GAP * (shown > 0 ? shown - 1 : 0);
}

/* Drop the column that says least. False: each of them must stay. */
static bool
drop_one(struct columns *c)
{
	size_t worst = c->count;

	for (size_t i = 0; i < c->count; i++)
		if (c->width[i] != 0 && c->spec[i].drop != 0 &&
		    (worst == c->count || c->spec[i].drop < c->spec[worst].drop))
			worst = i;
	if (worst == c->count)
		return false;
	c->width[worst] = 0;
	return true;
}

/* From its least width. Returns how much of spare it takes. */
static size_t
widen(struct columns *c, size_t i, size_t spare)
{
	const struct columns_spec *spec = &c->spec[i];
	size_t more = full_width(spec) - spec->least;

	/* a time has two forms, and none between */
	if (more > spare)
		more = spec->kind == COLUMNS_TIME ? 0 : spare;
	c->width[i] = spec->least + more;
	return more;
}

static void
lay_out(struct columns *c, size_t room)
{
	while (needed(c, false) > room && drop_one(c))
		continue;
	size_t need = needed(c, false), spare = room > need ? room - need : 0;
	for (int times = 0; times < 2; times++)
		for (size_t i = 0; i < c->count; i++)
			if (c->width[i] != 0 && c->spec[i].least != 0 &&
			    times == (c->spec[i].kind == COLUMNS_TIME))
				spare -= widen(c, i, spare);
}

/* ---- texts ---- */

/* Put the text into to, at most width bytes of it. */
static void
shorten(const struct columns_spec *spec, const char *text, size_t width, char *to, size_t size)
{
	size_t length = strlen(text);

	if (length > width && spec->kind == COLUMNS_TIME && width <= TIME_SHORT) {
		snprintf(to, size, "%.*s", (int)width, text);
		return;
	}
	for (const char *dot; length > width && spec->kind == COLUMNS_TYPE &&
	     (dot = strchr(text, '.')) != NULL;) {
		text = dot + 1;
		length = strlen(text);
	}
	if (length <= width || width < 4)
		snprintf(to, size, "%s", text);
	else
		snprintf(to, size, "%.*s..", (int)width - 2, text);
}

static void
print_cell(const struct columns *c, size_t i, const char *text, enum colour colour, bool last)
{
	const struct columns_spec *spec = &c->spec[i];
	char cut[TERMINAL_ESCAPED_SIZE(512)];
	int width = last ? 0 : (int)c->width[i];

	if (!c->fits && spec->least != 0) {
		shorten(spec, text, c->width[i], cut, sizeof(cut));
		text = cut;
	}
	int used = (int)strlen(text);
	if (spec->kind == COLUMNS_NUMBER)
		printf("%*s", width > used ? width - used : 0, "");
	printf("%s%s%s", colour != COLOUR_NONE ? terminal_colour(colour) : "", text,
	    colour != COLOUR_NONE ? terminal_colour(COLOUR_NONE) : "");
	if (spec->kind != COLUMNS_NUMBER)
		printf("%*s", width > used ? width - used : 0, "");
	if (!last)
		printf("%*s", GAP, "");
}

/* Where the column begins. */
static size_t
begin_of(const struct columns *c, size_t column)
{
	size_t at = 0;

	for (size_t i = 0; i < column; i++)
		at += c->width[i] != 0 ? c->width[i] + GAP : 0;
	return at;
}

static void
print_cells(const struct columns *c, const struct columns_cell *cells)
{
	size_t last = 0;

	for (size_t i = 0; i < c->count; i++)
		if (c->width[i] != 0)
			last = i;
	bool below = !c->fits && c->spec[last].least == 0 &&
	    begin_of(c, last) + strlen(cells[last].text) > terminal_width();
	for (size_t i = 0; i <= last; i++)
		if (i == last && below) /* a text that is not shortened, like an id */
			printf("\n%*s%s", INDENT, "", cells[i].text);
		else if (c->width[i] != 0)
			print_cell(c, i, cells[i].text, cells[i].colour, i == last);
}

void
columns_begin(struct columns *c, const struct columns_spec *spec, size_t count, unsigned hidden)
{
	struct columns_cell heads[COLUMNS_MAX];
	char zones[COLUMNS_MAX][32];

	*c = (struct columns){.spec = spec, .count = count};
	for (size_t i = 0; i < count; i++)
		c->width[i] = (hidden >> i & 1) != 0 ? 0 : full_width(&spec[i]);
	c->fits = needed(c, true) <= terminal_width();
	if (!c->fits)
		lay_out(c, terminal_width());
	for (size_t i = 0; i < count; i++) {
		heads[i] = (struct columns_cell){spec[i].head, COLOUR_NONE};
		if (spec[i].kind != COLUMNS_TIME || c->fits || c->width[i] > TIME_SHORT)
			continue;
		snprintf(zones[i], sizeof(zones[i]), "%s %s", spec[i].head, terminal_zone());
		heads[i].text = zones[i];
	}
	printf("%s", terminal_colour(COLOUR_BOLD));
	print_cells(c, heads);
	printf("%s\n", terminal_colour(COLOUR_NONE));
}

void
columns_row(const struct columns *c, const struct columns_cell *cells, const char *note)
{
	print_cells(c, cells);
	if (*note != '\0' && c->fits)
		printf("  %s", note);
	putchar('\n');
	if (*note == '\0' || c->fits)
		return;
	printf("    ");
	columns_wrap(note, 4, 4);
	putchar('\n');
}

void
columns_wrap(const char *text, size_t at, size_t indent)
{
	size_t room = terminal_width();

	while (*text != '\0') {
		size_t blanks = strspn(text, " "), word = strcspn(text + blanks, " ");
		if (at > indent && at + blanks + word > room) {
			printf("\n%*s", (int)indent, "");
			at = indent;
			text += blanks;
			continue;
		}
		printf("%.*s", (int)(blanks + word), text);
		at += blanks + word;
		text += blanks + word;
	}
}
