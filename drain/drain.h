/*
 * A run of `psapi drain`: the handler of every event that is due, strictly in order within a
 * lane. The promise: an event leaves new/ only after its handler succeeded or after it is
 * durably in failed/. So it is handled at least once, whichever process is killed.
 */
#ifndef PSAPI_DRAIN_H
#define PSAPI_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "store/store.h"

#define DRAIN_JOBS_MAX 256
#define DRAIN_BATCH_MAX 10000 /* as PSAPI_BATCH */

struct drain_options {
	int jobs;             /* lanes that are handled at the same time, 1 to DRAIN_JOBS_MAX */
	bool verbose;         /* a line for each handler run */
	size_t batch;         /* how many events the command takes at once; 0: one by one */
	char *const *command; /* for all events: NULL-terminated, [0] a path; NULL: handlers */
};

/*
 * Handle events until none is due, or until SIGTERM, SIGINT or SIGHUP: then drain waits for the
 * running handlers and starts no other; a second signal ends them like a time-out. clock gives
 * Unix seconds. Returns an exit status: EX_OK, also if another drain has the lock; EX_CONFIG if
 * events wait for a handler to be fixed; 1 if nothing else is wrong than that an event newly
 * failed; another of sysexits(3) if the store fails (logged).
 */
int drain_run(const struct config *config, struct store *store,
    const struct drain_options *options, int64_t (*clock)(void));

#endif
