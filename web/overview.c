/* Owns what the overview says: what waits, what came, the disk. */
#define _GNU_SOURCE
#include "web/overview.h"

#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "base/text.h"
#include "drain/causes.h"
#include "metrics/health.h"
#include "web/answer.h"
#include "web/history.h"
#include "web/tally.h"

static json_t *
time_or_none(int64_t seconds)
{
	char text[DATETIME_TEXT_SIZE];

	if (seconds == 0)
		return NULL;
	datetime_text(seconds, text);
	return json_string(text);
}

/* The disk of the spool, where held requests and the attempts log are, whatever the store is. */
static json_t *
disk_json(const struct config *config)
{
	struct statvfs fs;

	if (statvfs(config->spool, &fs) != 0)
		return NULL;
	long long block = (long long)fs.f_frsize, free = block * (long long)fs.f_bavail;
	return json_pack("{s:I,s:I,s:I}", "free", (json_int_t)free, "total",
	    (json_int_t)(block * (long long)fs.f_blocks), "min_free", (json_int_t)config->min_free);
}

/* The date of the last daily event: only the event itself says it. */
static void
set_run_date(struct web *web, json_t *history)
{
	json_t *daily = json_object_get(history, "last_daily");
	const char *id = json_string_value(json_object_get(daily, "webhook_id"));
	char name[STORE_NAME_SIZE];
	struct store_item item;
	struct error ignored; /* the event was forgotten */

	if (id == NULL || store_name(id, strlen(id), name) != 0 ||
	    store_get(web->store, name, &item, &ignored) != STORE_OK)
		return;
	/* Not into the row, which the history keeps. */
	json_object_set_new(history, "run_date", text_json(item.entry.event.run_date));
	entry_free(&item.entry);
}

/* ---- failures by cause ---- */

enum { CAUSES_SHOWN = 20, FAILURES_MAX = 2000 };

struct grouping {
	struct causes causes;
	int count;
};

/* store_page()'s visit. */
static void
add_failure(const struct store_item *item, void *data)
{
	struct grouping *grouping = data;

	causes_add(&grouping->causes, item);
	grouping->count++;
}

static void
set_rows(json_t *object, struct causes *causes)
{
	json_t *rows = json_array();

	causes_sort(causes);
	for (size_t i = 0; i < causes->count && i < CAUSES_SHOWN; i++)
		json_array_append_new(rows, causes_json(&causes->cause[i]));
	json_object_set_new(object, "causes", rows);
}

/*
 * The causes of failures, as `psapi list --failed --by-cause --json` has them: of the newest
 * "causes_of" where that is not all; "causes_too_many" where their order is not known.
 */
static void
set_causes(struct web *web, json_t *object)
{
	struct grouping *grouping = calloc(1, sizeof(*grouping));
	struct store_page page = {.filter.statuses = 1U << STORE_DEAD, .limit = FAILURES_MAX,
	    .deadline = clock_milliseconds() + CONTEXT_BUDGET_MS / 2, .visit = add_failure,
	    .data = grouping};
	struct error ignored; /* the count of failures has said it */

	if (grouping == NULL)
		return;
	enum store_result result = store_page(web->store, &page, &ignored);
	set_rows(object, &grouping->causes);
	if (result == STORE_INVALID)
		json_object_set_new(object, "causes_too_many", json_true());
	else if (result == STORE_OK && page.cursor[0] != '\0')
		json_object_set_new(object, "causes_of", json_integer(grouping->count));
	free(grouping);
}

json_t *
overview_verdict(struct web *web)
{
	struct health *health = malloc(sizeof(*health));
	json_t *object = NULL;

	if (health != NULL && health_read(web->store, health))
		object = health_json(health);
	free(health);
	return object;
}

void
overview_answer(struct web *web, const struct request *request, struct reply *reply)
{
	int64_t now = clock_unix();
	struct store_tally tally;
	struct error error;

	if (tally_lately(web->tally, now, &tally, &error) != STORE_OK) {
		error_log(&error);
		answer_error(reply, 503, error.text);
		return;
	}
	history_count(web->history, now, CONTEXT_BUDGET_MS / 4);
	json_t *history = history_json(web->history, now);
	set_run_date(web, history);
	json_t *object = json_pack("{s:i,s:i,s:i,s:o*,s:o*,s:o*,s:[],s:o}", "waiting",
	    (int)tally.waiting, "failed", (int)tally.failed, "held", (int)tally.held, "oldest",
	    time_or_none(tally.oldest), "disk", disk_json(web->config), "verdict",
	    overview_verdict(web), "causes", "history", history);
	if (tally.failed > 0)
		set_causes(web, object);
	if (tally.more_waiting)
		json_object_set_new(object, "waiting_at_least", json_true());
	if (tally.more_failed)
		json_object_set_new(object, "failed_at_least", json_true());
	answer_json(reply, request, object);
}
