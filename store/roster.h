/*
 * The roster: what the events say of each producer, by the time at which they were generated. Of
 * an NPN's activated and deactivated events the latest counts, in whatever order they arrived. Of
 * two of the same time, activated counts: a list of subscriptions that is replaced by one with
 * the same NPN in it ends so.
 *
 * Events that were forgotten (store_forget()) have left one mark for each NPN: the last of them.
 */
#ifndef PSAPI_ROSTER_H
#define PSAPI_ROSTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "events.h"

#define ROSTER_ACTIVATED "producersync.npn.activated"
#define ROSTER_DEACTIVATED "producersync.npn.deactivated"

enum { ROSTER_NPN_MAX = 20 }; /* digits, events.c */

/* What is known of one producer. */
struct roster_mark {
	char npn[ROSTER_NPN_MAX + 1];
	bool active;
	bool unknown; /* forgotten events, of which the last is at "when", have said it */
	int64_t when; /* of the event, nanoseconds since 1970 */
};

struct roster {
	struct roster_mark *marks;
	size_t count;
	size_t room;      /* of marks */
	uint32_t *slots;  /* hash table: index in marks, and 1 */
	size_t slot_count; /* a power of 2 */
	int64_t forgotten; /* events received until then, Unix seconds, are forgotten; 0: none are */
};

/*
 * Whether an event counts, and what it says: it is of one of the two types, and its NPN is one.
 * Whether it was handled, or failed, does not matter.
 */
bool roster_counts(const struct event *event, bool *active);

/* An empty roster is all zero. Frees what is in it. */
void roster_free(struct roster *roster);

/*
 * Add what an event says. *changed, if it is not NULL: it counts. Returns 0, or -1 without memory.
 */
int roster_add(struct roster *roster, const char *npn, int64_t when, bool active, bool *changed);

/*
 * Add the mark of forgotten events to a roster that shows the time at (nanoseconds). Before the
 * last of them it is not known what they said. Returns 0, or -1 without memory.
 */
int roster_add_forgotten(struct roster *roster, const char *npn, int64_t when, bool active,
    int64_t at);

/* Sort the marks by NPN, as numbers. Nothing can be added afterwards. */
void roster_sort(struct roster *roster);

/*
 * What was forgotten as a text, the file state/roster of a spool (psapi-spool(5) has it):
 *
 *   roster 1 2026-08-30T04:17:00Z 2
 *   15645555 2025-07-25T15:53:01.579000000Z activated
 *   19855109 2025-07-26T09:00:00.000000000Z deactivated
 *
 * The first line: format; until when events that are forgotten were received; how many lines
 * follow. A line: NPN, time of its last forgotten event, what that said.
 *
 * Read it, see roster_add_forgotten(). Returns 1; 0: it is damaged after *good lines; or -1 with
 * errno.
 */
int roster_read(FILE *file, int64_t at, struct roster *roster, size_t *good);

/* Write it. Returns 0, or -1 with errno. */
int roster_write(int fd, const struct roster *roster);

#endif
