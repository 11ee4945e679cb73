/* Moving many events back to the queue, for retry and replay. */
#ifndef PSAPI_REQUEUE_H
#define PSAPI_REQUEUE_H

#include "commands/command.h"
#include "store/store.h"

/* store_retry() or store_replay(). */
typedef enum store_result requeue_verb(struct store *store, const char *const *names, size_t count,
    size_t *moved, struct error *error);

/*
 * Move them in portions, with progress on a terminal. As the verb: what is left out, or fails by
 * itself, does not stop the others.
 */
enum store_result requeue_names(struct store *store, requeue_verb *verb,
    const struct command_names *names, size_t *moved, struct error *error);

#endif
