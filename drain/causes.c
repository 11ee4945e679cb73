/* Owns how the reasons of failures are grouped. */
#define _GNU_SOURCE
#include "drain/causes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/datetime.h"
#include "base/text.h"

/* handler_run.c adds it to the reason of each try. */
static const char mark[] = ", try ";

void
causes_text(const char *text, char reason[CAUSES_TEXT_SIZE])
{
	int try, most, length = 0;
	char *last = NULL;

	text_copy(reason, CAUSES_TEXT_SIZE, text, strlen(text));
	for (char *found = reason; (found = strstr(found, mark)) != NULL; found++)
		last = found;
	if (last != NULL && sscanf(last, ", try %9d of at most %9d%n", &try, &most, &length) == 2 &&
	    last[length] == '\0')
		*last = '\0';
}

void
causes_reason(const struct handler_state *state, char reason[CAUSES_TEXT_SIZE])
{
	causes_text(state->reason, reason);
}

/* The group of these, a new one, or the one of the others. */
static struct cause *
group_of(struct causes *causes, const char *handler, const char *reason)
{
	struct cause *cause = causes->cause;

	for (; cause < causes->cause + causes->count; cause++)
		if (cause->others || (strcmp(cause->reason, reason) == 0 &&
		                         strcmp(cause->handler, handler) == 0))
			return cause;
	*cause = (struct cause){.others = causes->count++ == CAUSES_MAX, .first = INT64_MAX};
	if (cause->others)
		return cause;
	text_copy(cause->handler, sizeof(cause->handler), handler, strlen(handler));
	text_copy(cause->reason, sizeof(cause->reason), reason, strlen(reason));
	return cause;
}

static int64_t
time_of(const struct store_item *item)
{
	if (item->state.failed_at != 0)
		return item->state.failed_at;
	return item->state.tried_at != 0 ? item->state.tried_at : item->entry.received / NANOSECONDS;
}

void
causes_add(struct causes *causes, const struct store_item *item)
{
	char reason[CAUSES_TEXT_SIZE];
	int64_t time = time_of(item);
	const char *id = item->entry.id;

	causes_reason(&item->state, reason);
	struct cause *cause = group_of(causes, item->state.handler, reason);
	if (time >= cause->last || cause->count == 0) {
		if (strlen(id) >= sizeof(cause->id))
			id = item->name;
		snprintf(cause->id, sizeof(cause->id), "%s", id);
		snprintf(cause->name, sizeof(cause->name), "%s", item->name);
		cause->last = time;
	}
	cause->first = time < cause->first ? time : cause->first;
	cause->count++;
}

static int
compare(const void *a, const void *b)
{
	const struct cause *x = a, *y = b;

	if (x->others != y->others)
		return x->others ? 1 : -1;
	if (x->count != y->count)
		return x->count > y->count ? -1 : 1;
	int order = strcmp(x->handler, y->handler);
	return order != 0 ? order : strcmp(x->reason, y->reason);
}

void
causes_sort(struct causes *causes)
{
	qsort(causes->cause, causes->count, sizeof(causes->cause[0]), compare);
}

json_t *
causes_json(const struct cause *cause)
{
	char first[DATETIME_TEXT_SIZE], last[DATETIME_TEXT_SIZE];
	json_t *object = json_object();

	datetime_text(cause->first, first);
	datetime_text(cause->last, last);
	json_object_set_new(object, "handler", text_json(cause->handler));
	json_object_set_new(object, "reason", text_json(cause->reason));
	if (cause->others)
		json_object_set_new(object, "others", json_true());
	json_object_set_new(object, "count", json_integer((json_int_t)cause->count));
	json_object_set_new(object, "first", json_string(first));
	json_object_set_new(object, "last", json_string(last));
	json_object_set_new(object, "webhook_id", text_json(cause->id));
	json_object_set_new(object, "file", json_string(cause->name));
	return object;
}
