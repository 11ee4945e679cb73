/*
 * What drains have done: totals of handler results, a note of the store. A drain writes them,
 * metrics and check read them.
 */
#ifndef PSAPI_RUNS_H
#define PSAPI_RUNS_H

#include <stdbool.h>
#include <stdint.h>

#include "store/store.h"

struct runs {
	int64_t done, later, failed; /* events, by the result of their handler */
	int64_t ended;               /* when a drain last ended, Unix seconds; 0: never */
	int status;                  /* its exit status */
	int64_t chosen; /* when one last ended that took the handlers of the directories */
};

#define RUNS_GO_ON -1
/*
 * Add what a drain has done since it last called this. status: its exit status, at its end; before
 * that RUNS_GO_ON. more->chosen: the time now, or 0 if a command takes all events. It is not
 * synced: a power cut loses the last counts. Returns 0, or -1: the caller adds them to the next
 * ones.
 */
int runs_add(struct store *store, const struct runs *more, int status, int64_t now);

/*
 * Whether the last run was all right: exit status 0, or 1, which only tells that an event newly
 * failed. After any other one events wait. False as well if none has ended.
 */
bool runs_are_good(const struct runs *runs);

/* False: there is no note, or none that can be read; all zero. */
bool runs_read(struct store *store, struct runs *runs);

#endif
