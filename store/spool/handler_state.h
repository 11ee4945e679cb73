/*
 * state/NAME: what is known of an event that was tried, waits for its retry, or
 * failed. A file is written before what depends on it, but not synced: what it
 * says can be found out again, and what is unreadable counts as absent.
 */
#ifndef PSAPI_HANDLER_STATE_H
#define PSAPI_HANDLER_STATE_H

#include <stddef.h>
#include <stdint.h>

#include "store/spool/spool.h"

/* Of what a handler wrote to standard error, the end is kept: bytes. */
#define HANDLER_STATE_STDERR_MAX 4096

struct handler_state {
	int tries;         /* handler runs so far */
	int64_t tried_at;  /* the last one, Unix seconds; 0: never */
	int64_t due_at;    /* the next one, Unix seconds; 0: at once */
	int64_t failed_at; /* when it went to failed/; 0: it did not */
	char handler[256]; /* which one ran; "" if none did */
	char reason[256];  /* why the last run was no success, or why it failed */
	char said[HANDLER_STATE_STDERR_MAX + 1]; /* the end of standard error; text, made UTF-8 */
};

/*
 * Read state/NAME. All zero if there is none, or none that is readable: then
 * false.
 */
bool handler_state_read(struct spool *spool, const char *name, struct handler_state *state);

/* Write state/NAME, atomically. Returns 0, or -1 with errno. */
int handler_state_write(struct spool *spool, const char *name, const struct handler_state *state);

/* Remove state/NAME; that there is none, or a directory, is fine. Returns 0, or -1 with errno. */
int handler_state_remove(struct spool *spool, const char *name);

#endif
