/*
 * Owns the moves of many events back to the queue. Each portion is durable before the next one
 * begins.
 */
#define _GNU_SOURCE
#include "commands/requeue.h"

#include <sysexits.h>

#include "commands/progress.h"

enum { PORTION = 1000 };

enum store_result
requeue_names(struct store *store, requeue_verb *verb, const struct command_names *names,
    size_t *moved, struct error *error)
{
	enum store_result result = STORE_OK;
	struct progress progress;

	*moved = 0;
	progress_begin(&progress);
	for (size_t i = 0; i < names->count; i += PORTION) {
		size_t rest = names->count - i, some = 0;
		struct error own;
		enum store_result one = verb(store, (const char *const *)names->name + i,
		    rest < PORTION ? rest : PORTION, &some, &own);
		*moved += some;
		progress_show(&progress, *moved, names->count, "moved");
		if (one == STORE_OK)
			continue;
		store_add_result(&result, error, one, &own);
		if (one == STORE_FULL || (one == STORE_FAILED && own.status != EX_NOPERM))
			break; /* it would fail for all */
	}
	progress_end(&progress);
	return result;
}
