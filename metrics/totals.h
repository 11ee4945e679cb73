/*
 * What has happened since the first count: totals of the attempts log, which is rotated. They are
 * a note of the store, with the place in the log up to which they count.
 */
#ifndef PSAPI_TOTALS_H
#define PSAPI_TOTALS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "receiver/attempts_reader.h"
#include "store/store.h"

#define TOTALS_PAIRS_MAX 64
#define TOTALS_TYPES_MAX 8 /* the known types, and one for all others */
#define TOTALS_SKEWS 5     /* so three wrong ones decide: a day may have one event alone */
#define TOTALS_BUCKETS 12

/* Their upper bounds, microseconds. */
extern const int64_t totals_bounds[TOTALS_BUCKETS];

struct totals {
	struct attempts_place place;
	int64_t newest; /* nanoseconds: the latest time that a line had */
	struct totals_pair {
		char outcome[16], reason[32]; /* of [a-z_] alone; reason "": none */
		int64_t count;
		int64_t refused; /* of these: with an id, and not one of our own test deliveries */
	} pairs[TOTALS_PAIRS_MAX];
	int count;          /* of pairs */
	int64_t suppressed; /* attempts that the log left out */
	/* Nanoseconds: the sender's last one of each type; 0: none. */
	int64_t accepted[TOTALS_TYPES_MAX];
	int64_t answers[TOTALS_BUCKETS + 1]; /* per bucket, the last one: longer than all bounds */
	int64_t us;                          /* sum of the answers' durations */
	int64_t skews[TOTALS_SKEWS]; /* seconds, of the sender's latest deliveries, the latest last */
	int skew_count;
};

/* The name of a type by its number in accepted[]: a known one, "other", or NULL behind that. */
const char *totals_type(size_t number);

/*
 * Read the totals, count what the attempts log has more, and note them again, all under the lock
 * of notes: with two at once each line counts once. Where they cannot be noted (a reader without
 * write permission), the next call counts these lines again. Returns 0, or -1 with *error: then
 * nothing was counted.
 */
int totals_update(const struct config *config, struct store *store, struct totals *totals,
    struct error *error);

/* Read the totals as they were counted last. All zero where they never were. */
void totals_read(struct store *store, struct totals *totals);

/* When the sender's last event of a known type was accepted, nanoseconds; 0: never. */
int64_t totals_accepted(const struct totals *totals, const char *type);

/* The median of the skews. False if there is none. */
bool totals_skew(const struct totals *totals, int64_t *seconds);

#endif
