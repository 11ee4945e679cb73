/*
 * A walk through the deliveries, the newest first: the local attempts log, or what all hosts
 * logged in a shared store. It is bounded in time, and can go on where an earlier one ended.
 */
#ifndef PSAPI_WALK_H
#define PSAPI_WALK_H

#include <stdbool.h>
#include <stdint.h>

#include "receiver/attempts_reader.h"
#include "web/context.h"

#define WALK_CURSOR_SIZE 64

struct log_walk {
	int64_t since, until;      /* nanoseconds; 0: not given */
	int64_t deadline;          /* clock_milliseconds() at which it ends */
	/* In: "" or where to go on; out: where it ended, "" at the end. */
	char cursor[WALK_CURSOR_SIZE];
	int64_t reached;           /* out: time of the last line; 0: there was none */
	/* Called for each whole line. host: NULL for the local log. False ends the walk behind it. */
	bool (*visit)(const struct attempts_line *line, const char *host, void *data);
	void *data;
};

/* STORE_OK; STORE_ABSENT: the cursor's place is gone; or STORE_FAILED with *error. */
enum store_result walk_newest(struct web *web, struct log_walk *walk, struct error *error);

#endif
