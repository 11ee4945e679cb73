/* Owns how rows are sent. */
#define _GNU_SOURCE
#include "web/rows.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "web/answer.h"

int
rows_begin(struct rows *rows, const struct web_query *query, bool csv)
{
	*rows = (struct rows){.array = json_array(), .limit = csv ? ROWS_CSV_MAX : query->limit};
	rows->deadline = clock_milliseconds() + (csv ? ROWS_CSV_BUDGET_MS : CONTEXT_BUDGET_MS);
	return rows->array != NULL ? 0 : -1;
}

bool
rows_are_full(const struct rows *rows)
{
	return (long)json_array_size(rows->array) >= rows->limit;
}

bool
rows_are_late(const struct rows *rows)
{
	return clock_milliseconds() >= rows->deadline;
}

void
rows_answer_json(struct rows *rows, const struct request *request, struct reply *reply)
{
	char reached[DATETIME_TEXT_SIZE];

	datetime_text(rows->reached / NANOSECONDS, reached);
	answer_json(reply, request,
	    json_pack("{s:o,s:s*,s:s*}", "rows", rows->array, "next",
	        rows->next[0] != '\0' ? rows->next : NULL, "reached",
	        rows->reached != 0 ? reached : NULL));
}

/* ---- CSV, RFC 4180 ---- */

/* A spreadsheet takes a cell that begins like this for a formula. */
static bool
is_formula(const char *text)
{
	return *text != '\0' && strchr("=+-@\t\r", *text) != NULL;
}

static void
write_text(FILE *to, const char *text)
{
	putc('"', to);
	if (is_formula(text))
		putc('\'', to);
	for (; *text != '\0'; text++) {
		if (*text == '"')
			putc('"', to);
		putc(*text, to);
	}
	putc('"', to);
}

static void
write_cell(FILE *to, const json_t *value)
{
	if (json_is_string(value))
		write_text(to, json_string_value(value));
	else if (json_is_integer(value))
		fprintf(to, "%lld", (long long)json_integer_value(value));
	else if (json_is_real(value))
		fprintf(to, "%.3f", json_real_value(value));
}

static void
write_rows(FILE *to, const struct rows *rows, const char *const *columns)
{
	for (int i = 0; columns[i] != NULL; i++)
		fprintf(to, "%s%s", i > 0 ? "," : "", columns[i]);
	fputs("\r\n", to);
	for (size_t n = 0; n < json_array_size(rows->array); n++) {
		for (int i = 0; columns[i] != NULL; i++) {
			if (i > 0)
				putc(',', to);
			write_cell(to, json_object_get(json_array_get(rows->array, n), columns[i]));
		}
		fputs("\r\n", to);
	}
}

void
rows_answer_csv(struct rows *rows, const char *const *columns, const char *const headers[2],
    struct reply *reply)
{
	char *text = NULL;
	size_t length = 0;
	FILE *to = open_memstream(&text, &length);

	if (to != NULL) {
		write_rows(to, rows, columns);
		if (fclose(to) != 0) {
			free(text);
			text = NULL;
		}
	}
	json_decref(rows->array);
	answer_text(reply, "text/csv; charset=utf-8", headers[rows->next[0] != '\0'], text, length);
}
