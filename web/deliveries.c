/* Owns the list of deliveries and its filter. */
#define _GNU_SOURCE
#include "web/deliveries.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "base/json_line.h"
#include "base/log.h"
#include "web/answer.h"
#include "web/rows.h"
#include "web/walk.h"

/* ---- the filter ---- */

/* In the log, the first 256 bytes of a text are kept, escaped: see receiver/attempts.c. */
enum { TEXT_KEPT = 256 };

void
deliveries_filter_make(struct deliveries_filter *filter, const struct web_query *query)
{
	const char *id = query->value[QUERY_ID];
	size_t length = strlen(id);
	struct json_line line;

	filter->query = query;
	json_line_begin(&line, filter->id, sizeof(filter->id));
	if (*id == '\0')
		return;
	json_line_add_string(&line, id, length < TEXT_KEPT ? length : TEXT_KEPT);
	/* Without its quotes, as a line's members are. */
	memmove(filter->id, filter->id + 1, line.length - 1);
	filter->id[line.length - 2] = '\0';
}

static bool
is_or_any(const struct attempts_line *line, enum attempts_member member, const char *value)
{
	return *value == '\0' || attempts_reader_is(line, member, value);
}

static bool
is_type(const struct attempts_line *line, const char *prefix)
{
	const char *type = line->member[ATTEMPTS_TYPE].text;
	size_t n = strlen(prefix), length = line->member[ATTEMPTS_TYPE].length;

	return n == 0 || (type != NULL && length >= n && memcmp(type, prefix, n) == 0 &&
	                     (length == n || type[n] == '.'));
}

bool
deliveries_filter_matches(const struct deliveries_filter *filter, const struct attempts_line *line)
{
	const struct web_query *q = filter->query;

	return is_or_any(line, ATTEMPTS_OUTCOME, q->value[QUERY_OUTCOME]) &&
	    is_type(line, q->value[QUERY_TYPE]) &&
	    is_or_any(line, ATTEMPTS_NPN, q->value[QUERY_NPN]) &&
	    is_or_any(line, ATTEMPTS_WEBHOOK_ID, filter->id) &&
	    is_or_any(line, ATTEMPTS_REASON, q->value[QUERY_REASON]);
}

json_t *
deliveries_row(const struct attempts_line *line, const char *host)
{
	json_t *row = json_loadb(line->text, line->length, 0, NULL);

	if (row != NULL && host != NULL)
		json_object_set_new(row, "host", json_string(host));
	return row;
}

/* ---- the list ---- */

struct delivery_rows {
	struct rows rows;
	struct deliveries_filter filter;
};

static bool
add_line(const struct attempts_line *line, const char *host, void *data)
{
	struct delivery_rows *list = data;

	if (deliveries_filter_matches(&list->filter, line)) {
		json_t *row = deliveries_row(line, host);
		if (row != NULL)
			json_array_append_new(list->rows.array, row);
	}
	return !rows_are_full(&list->rows);
}

/* Fill in the rows. Returns whether there is something to answer with; else it is answered. */
static bool
fill(struct web *web, struct delivery_rows *list, const struct web_query *query, bool csv,
    struct reply *reply)
{
	struct log_walk walk = {.since = query->since, .until = query->until, .visit = add_line,
	    .data = list};
	enum store_result result = STORE_ABSENT;
	struct error error;

	if (rows_begin(&list->rows, query, csv) != 0) {
		answer_error(reply, 503, "out of memory");
		return false;
	}
	deliveries_filter_make(&list->filter, query);
	walk.deadline = list->rows.deadline;
	if (strlen(query->value[QUERY_AFTER]) < sizeof(walk.cursor)) {
		strcpy(walk.cursor, query->value[QUERY_AFTER]);
		result = walk_newest(web, &walk, &error);
	}
	if (result == STORE_OK) {
		list->rows.reached = walk.reached;
		snprintf(list->rows.next, sizeof(list->rows.next), "%s", walk.cursor);
		return true;
	}
	json_decref(list->rows.array);
	if (result == STORE_FAILED)
		error_log(&error);
	answer_error(reply, result == STORE_FAILED ? 503 : 410,
	    result == STORE_FAILED ? error.text : "this page of the log is gone: begin at the newest");
	return false;
}

void
deliveries_answer(struct web *web, const struct request *request, const struct web_query *query,
    struct reply *reply)
{
	struct delivery_rows list;

	if (fill(web, &list, query, false, reply))
		rows_answer_json(&list.rows, request, reply);
}

void
deliveries_answer_csv(struct web *web, const struct request *request, const struct web_query *query,
    struct reply *reply)
{
	static const char *const columns[] = {"at", "outcome", "status", "reason", "type", "npn",
	    "webhook_id", "event_id", "remote_addr", "bytes", "skew_s", "key", "ms", "host", NULL};
	static const char *const headers[] = ROWS_CSV_HEADERS("deliveries");
	struct delivery_rows list;

	(void)request;
	if (fill(web, &list, query, true, reply))
		rows_answer_csv(&list.rows, columns, headers, reply);
}

/* ---- of one event ---- */

/* The sender's retries take 28 hours; a clock may be off. */
#define AROUND (30 * 3600 * NANOSECONDS)

struct timeline {
	struct deliveries_filter filter;
	json_t *rows; /* the newest first */
};

static bool
add_to_timeline(const struct attempts_line *line, const char *host, void *data)
{
	struct timeline *t = data;

	if (deliveries_filter_matches(&t->filter, line)) {
		json_t *row = deliveries_row(line, host);
		if (row != NULL)
			json_array_insert_new(t->rows, 0, row);
	}
	return json_array_size(t->rows) < QUERY_LIMIT_MAX;
}

/* Half of the time for what came after it was stored, half for what came before. */
json_t *
deliveries_of(struct web *web, const char *webhook_id, int64_t received, bool *whole)
{
	struct timeline t = {.rows = json_array()};
	const int64_t border = received + NANOSECONDS;
	struct web_query query = {0};
	struct error error;

	snprintf(query.value[QUERY_ID], sizeof(query.value[QUERY_ID]), "%s", webhook_id);
	deliveries_filter_make(&t.filter, &query);
	*whole = true;
	for (int i = 0; i < 2 && t.rows != NULL; i++) {
		struct log_walk walk = {.since = i == 0 ? border : received - AROUND,
		    .until = i == 0 ? received + AROUND : border,
		    .deadline = clock_milliseconds() + CONTEXT_BUDGET_MS / 2,
		    .visit = add_to_timeline, .data = &t};
		if (walk_newest(web, &walk, &error) != STORE_OK || walk.cursor[0] != '\0')
			*whole = false;
	}
	return t.rows;
}
