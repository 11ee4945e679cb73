/*
 * Owns the list of events. The store gives pages of what it can sort; of what it cannot (handled
 * events of the spool, a long queue) the attempts log has the order: each event was accepted once,
 * and the store is asked where it is now.
 */
#define _GNU_SOURCE
#include "web/event_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "web/answer.h"
#include "web/deliveries.h"
#include "web/rows.h"
#include "web/walk.h"

struct event_rows {
	struct web *web;
	const struct web_query *query;
	struct rows rows;
	struct store_filter filter;
	struct deliveries_filter log_filter;
	struct web_query log_query;
};

static bool
contains(const char *text, const char *part)
{
	return *part == '\0' || strcasestr(text, part) != NULL;
}

/* store_page()'s visit. */
static void
add_item(const struct store_item *item, void *data)
{
	struct event_rows *list = data;

	if (contains(item->state.reason, list->query->value[QUERY_REASON]))
		json_array_append_new(list->rows.array, store_json_row(item));
}

static bool
is_in_time(const struct event_rows *list, const struct store_item *item)
{
	return list->query->until == 0 || item->entry.received < list->query->until;
}

/* Add the event of this name, if it matches. Returns STORE_FAILED with *error. */
static enum store_result
add_name(struct event_rows *list, const char *name, struct error *error)
{
	struct store_item item;
	enum store_result result = store_get(list->web->store, name, &item, error);

	if (result != STORE_OK)
		return result;
	if (store_filter_matches(&list->filter, &item) && is_in_time(list, &item))
		add_item(&item, list);
	entry_free(&item.entry);
	return STORE_OK;
}

/* ---- in the order of the attempts log ---- */

static bool
add_accepted(const struct attempts_line *line, const char *host, void *data)
{
	char name[STORE_NAME_SIZE];
	struct event_rows *list = data;
	struct error ignored; /* it was forgotten */

	if (!deliveries_filter_matches(&list->log_filter, line))
		return true;
	json_t *row = deliveries_row(line, host);
	const char *id = json_string_value(json_object_get(row, "webhook_id"));
	if (id != NULL && store_name(id, strlen(id), name) == 0)
		add_name(list, name, &ignored);
	json_decref(row);
	return !rows_are_full(&list->rows);
}

static enum store_result
list_by_log(struct event_rows *list, const char *cursor, struct error *error)
{
	struct log_walk walk = {.since = list->query->since, .until = list->query->until,
	    .deadline = list->rows.deadline, .visit = add_accepted, .data = list};

	memset(&list->log_query, 0, sizeof(list->log_query));
	strcpy(list->log_query.value[QUERY_OUTCOME], "accepted");
	strcpy(list->log_query.value[QUERY_TYPE], list->query->value[QUERY_TYPE]);
	strcpy(list->log_query.value[QUERY_NPN], list->query->value[QUERY_NPN]);
	deliveries_filter_make(&list->log_filter, &list->log_query);
	if (strlen(cursor) >= sizeof(walk.cursor))
		return STORE_ABSENT;
	strcpy(walk.cursor, cursor);
	enum store_result result = walk_newest(list->web, &walk, error);
	list->rows.reached = walk.reached;
	if (walk.cursor[0] != '\0')
		snprintf(list->rows.next, sizeof(list->rows.next), "l%s", walk.cursor);
	return result;
}

/* ---- in the order of the store ---- */

static enum store_result
list_by_store(struct event_rows *list, const char *cursor, struct error *error)
{
	struct store_page page = {.filter = list->filter, .until = list->query->until,
	    .visit = add_item, .data = list};
	enum store_result result;

	if (strlen(cursor) >= sizeof(page.cursor))
		return STORE_ABSENT;
	strcpy(page.cursor, cursor);
	do {
		page.limit = list->rows.limit - (long)json_array_size(list->rows.array);
		result = store_page(list->web->store, &page, error);
	} while (result == STORE_OK && page.cursor[0] != '\0' && !rows_are_full(&list->rows) &&
	    !rows_are_late(&list->rows));
	list->rows.reached = page.reached;
	if (result == STORE_OK && page.cursor[0] != '\0')
		snprintf(list->rows.next, sizeof(list->rows.next), "s%s", page.cursor);
	return result;
}

static enum store_result
list_events(struct event_rows *list, struct error *error)
{
	const char *cursor = list->query->value[QUERY_AFTER], *id = list->query->value[QUERY_ID];
	char name[STORE_NAME_SIZE];

	if (*id != '\0') {
		enum store_result found = store_lookup(list->web->store, id, name, error);
		if (found == STORE_OK)
			found = add_name(list, name, error);
		return found == STORE_FAILED ? STORE_FAILED : STORE_OK;
	}
	if (*cursor == 'l')
		return list_by_log(list, cursor + 1, error);
	if (*cursor != '\0' && *cursor != 's')
		return STORE_ABSENT;
	enum store_result result = list_by_store(list, cursor + (*cursor == 's'), error);
	if (result == STORE_INVALID)
		result = *cursor == '\0' && !store_is_shared(list->web->store) ?
		    list_by_log(list, "", error) : STORE_ABSENT;
	return result;
}

/* ---- answers ---- */

/* "new,waiting": bits of enum store_status. False if there is another word. */
static bool
read_statuses(const char *text, unsigned *statuses)
{
	for (*statuses = 0; *text != '\0';) {
		size_t length = strcspn(text, ",");
		bool known = false;
		for (int i = STORE_NEW; i <= STORE_HANDLED; i++) {
			const char *word = store_status_text((enum store_status)i);
			if (strlen(word) != length || memcmp(word, text, length) != 0)
				continue;
			*statuses |= 1U << i;
			known = true;
		}
		if (!known)
			return false;
		text += length + (text[length] == ',');
	}
	return true;
}

static const char *
given(const struct web_query *query, enum query_key key)
{
	return query->value[key][0] != '\0' ? query->value[key] : NULL;
}

/* Fill in the rows. Returns whether there is something to answer with; else it is answered. */
static bool
fill(struct event_rows *list, const struct web_query *query, bool csv, struct reply *reply)
{
	struct error error = {0};

	list->query = query;
	list->filter = (struct store_filter){.type = given(query, QUERY_TYPE),
	    .npn = given(query, QUERY_NPN), .since = query->since};
	if (!read_statuses(query->value[QUERY_STATUS], &list->filter.statuses)) {
		answer_error(reply, 400, "status takes new, waiting, failed, handled, with commas");
		return false;
	}
	if (rows_begin(&list->rows, query, csv) != 0) {
		answer_error(reply, 503, "out of memory");
		return false;
	}
	enum store_result result = list_events(list, &error);
	if (result == STORE_OK)
		return true;
	json_decref(list->rows.array);
	if (result == STORE_FAILED)
		error_log(&error);
	answer_error(reply, result == STORE_FAILED ? 503 : 410,
	    result == STORE_FAILED ? error.text : "this page of the list is gone: begin at the newest");
	return false;
}

void
event_list_answer(struct web *web, const struct request *request, const struct web_query *query,
    struct reply *reply)
{
	struct event_rows list = {.web = web};

	if (fill(&list, query, false, reply))
		rows_answer_json(&list.rows, request, reply);
}

void
event_list_answer_csv(struct web *web, const struct request *request, const struct web_query *query,
    struct reply *reply)
{
	static const char *const columns[] = {"received_at", "status", "type", "npn", "timestamp",
	    "webhook_id", "event_id", "tries", "due_at", "failed_at", "reason", NULL};
	static const char *const headers[] = ROWS_CSV_HEADERS("events");
	struct event_rows list = {.web = web};

	(void)request;
	if (fill(&list, query, true, reply))
		rows_answer_csv(&list.rows, columns, headers, reply);
}
