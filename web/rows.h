/* A page of rows, as JSON or as CSV. */
#ifndef PSAPI_ROWS_H
#define PSAPI_ROWS_H

#include <jansson.h>

#include "store/store.h"
#include "web/context.h"

#define ROWS_CURSOR_SIZE (STORE_CURSOR_SIZE + 1)
/* A CSV file has as many rows at most, and is looked for so long, milliseconds. */
#define ROWS_CSV_MAX 10000
#define ROWS_CSV_BUDGET_MS 3000

struct rows {
	json_t *array;
	long limit;
	int64_t deadline;          /* clock_milliseconds() */
	int64_t reached;           /* nanoseconds: how far it was looked back; 0: not known */
	char next[ROWS_CURSOR_SIZE]; /* where the next page begins; "": there is none */
};

/* Begin: rows for a query as JSON, or for a CSV file. Returns 0, or -1 without memory. */
int rows_begin(struct rows *rows, const struct web_query *query, bool csv);
/* Whether the page is full. */
bool rows_are_full(const struct rows *rows);
bool rows_are_late(const struct rows *rows);

/* Answer with them, and free. {"rows":[...],"next":CURSOR,"reached":TIME} */
void rows_answer_json(struct rows *rows, const struct request *request, struct reply *reply);
/* The headers of a CSV file; name: a literal. Of a part of the rows, they and its name say so. */
#define ROWS_CSV_HEADERS(name)                                                                     \
	{ANSWER_HEADERS ANSWER_NO_STORE "Psapi-Rows: all\r\n"                                          \
	                                "Content-Disposition: attachment; filename=\"" name            \
	                                ".csv\"\r\n",                                                  \
	 ANSWER_HEADERS ANSWER_NO_STORE "Psapi-Rows: part\r\n"                                         \
	                                "Content-Disposition: attachment; filename=\"" name            \
	                                "-part.csv\"\r\n"}
/*
 * The members in columns, a NULL at their end. No cell is a formula (OWASP, CSV injection).
 * headers: ROWS_CSV_HEADERS().
 */
void rows_answer_csv(struct rows *rows, const char *const *columns, const char *const headers[2],
    struct reply *reply);

#endif
