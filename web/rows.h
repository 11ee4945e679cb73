/* A page of rows, as JSON or as CSV. */
#ifndef PSAPI_ROWS_H
#define PSAPI_ROWS_H

#include <jansson.h>

#include "store/store.h"
#include "web/context.h"

#define ROWS_MARK_SIZE (STORE_MARK_SIZE + 1)
/* A CSV file has as many rows at most, and is looked for so long, milliseconds. */
#define ROWS_CSV_MAX 10000
#define ROWS_CSV_BUDGET_MS 3000

struct rows {
	json_t *array;
	long limit;
	int64_t deadline;          /* clock_milliseconds() */
	int64_t reached;           /* nanoseconds: how far it was looked back; 0: not known */
	char next[ROWS_MARK_SIZE]; /* where the next page begins; "": there is none */
};

/* Begin: rows for a query as JSON, or for a CSV file. Returns 0, or -1 without memory. */
int rows_begin(struct rows *rows, const struct web_query *query, bool csv);
/* Whether the page is full. */
bool rows_are_full(const struct rows *rows);
bool rows_are_late(const struct rows *rows);

/* Answer with them, and free. {"rows":[...],"next":MARK,"reached":TIME} */
void rows_answer_json(struct rows *rows, const struct request *request, struct reply *reply);
/* The members in columns, a NULL at their end. No cell is a formula (OWASP, CSV injection). */
void rows_answer_csv(struct rows *rows, const char *const *columns, const char *headers,
    struct reply *reply);

#endif
