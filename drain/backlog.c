/* Owns the way of the store's list into the schedule. */
#include "drain/backlog.h"

#include <sysexits.h>

#include "base/log.h"

/* store_pending()'s visit. Returns an exit status: other than EX_OK ends the list. */
static int
add(const struct store_waiting *waiting, void *data)
{
	struct backlog *b = data;
	int64_t due = waiting->due == INT64_MAX ? INT64_MAX :
	    schedule_due(waiting->tried, waiting->due, b->clock());

	if (schedule_add(b->schedule, waiting->name, waiting->when, due, waiting->lane) != 0) {
		log_line("out of memory for the list of events");
		return EX_OSERR;
	}
	return b->is_interrupted() ? EX_TEMPFAIL : EX_OK;
}

int
backlog_read(struct backlog *b)
{
	struct store_pending pending = {.now = b->clock(), .visit = add, .data = b};
	struct error error;

	schedule_free(b->schedule);
	if ((b->schedule = schedule_new()) == NULL)
		return EX_OSERR;
	if (store_pending(b->store, &pending, &error) != STORE_OK)
		return error_log(&error);
	b->arriving = pending.arriving;
	b->refused = pending.refused;
	if (pending.stopped != EX_OK)
		return pending.stopped;
	return schedule_sort(b->schedule) == 0 ? EX_OK : EX_OSERR;
}

void
backlog_free(struct backlog *b)
{
	schedule_free(b->schedule);
}
