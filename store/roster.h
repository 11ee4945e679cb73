/*
 * The roster: what the events say of each producer, by the time at which they were generated. Of
 * an NPN's activated and deactivated events the latest counts, in whatever order they arrived. Of
 * two of the same time, activated counts: a list of subscriptions that is replaced by one with
 * the same NPN in it ends so.
 *
 * Events that were forgotten (store_forget()) have left one mark for each NPN and time. None of
 * them can be left out: a late event between two of them may make the earlier or the later one
 * count.
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
	int64_t when; /* of the event, nanoseconds since 1970 */
};

struct roster {
	bool every; /* set in an empty one: a mark for each NPN and time; else the last of each NPN */
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

/* An empty roster is all zero, but for every. Frees what is in it. */
void roster_free(struct roster *roster);

/*
 * Add what an event says, or a mark of another roster; both in any order, and as often as you like.
 * *changed, if it is not NULL: it counts. Returns 0, or -1 without memory.
 */
int roster_add(struct roster *roster, const char *npn, int64_t when, bool active, bool *changed);

/* Sort the marks by NPN, as numbers, and by time. Nothing can be added afterwards. */
void roster_sort(struct roster *roster);

/*
 * What was forgotten as a text, the file state/roster of a spool (psapi-spool(5) has it):
 *
 *   roster 1 2026-08-30T04:17:00Z 3
 *   15645555 2025-07-25T15:53:01.579000000Z activated
 *   19855109 2025-07-26T09:00:00.000000000Z deactivated
 *   19855109 2025-07-25T15:53:01.579000000Z activated
 *
 * The first line: format; until when events that are forgotten were received; how many lines
 * follow, in no order. A line: NPN, time of a forgotten event, what that said.
 *
 * Read it, and add the marks that are not later than at (nanoseconds). Returns 1; 0: it is damaged
 * after *good lines; or -1 with errno.
 */
int roster_read(FILE *file, int64_t at, struct roster *roster, size_t *good);

/* Write it, of a roster of every mark. Returns 0, or -1 with errno. */
int roster_write(int fd, const struct roster *roster);

#endif
