/*
 * A run of `psapi drain`: every event that is due gets its handler, in order, lane
 * by lane. What is promised: an event leaves new/ only when its handler succeeded
 * or when it is in failed/, durably; whatever is killed, it is handled at least once.
 */
#ifndef PSAPI_DRAIN_H
#define PSAPI_DRAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/config.h"
#include "store/spool/spool.h"

#define DRAIN_JOBS_MAX 256

struct drain_options {
	int jobs;             /* lanes side by side, 1 to DRAIN_JOBS_MAX */
	bool verbose;         /* a line for each handler run */
	char *const *command; /* instead of handlers: NULL-terminated, [0] a path; or NULL */
};

/*
 * Handle what is due until nothing is, or until SIGTERM, SIGINT or SIGHUP: then the
 * running handlers are waited for, and none is started; a second signal ends them
 * like a time-out. clock gives Unix seconds. Returns an exit status: EX_OK also if
 * another drain has the lock; 1 if an event newly failed; EX_CONFIG if events wait
 * for a handler to be mended; another of sysexits(3) if the spool fails (logged).
 */
int drain_run(const struct config *config, struct spool *spool,
    const struct drain_options *options, int64_t (*clock)(void));

#endif
