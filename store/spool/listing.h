/*
 * The events of a spool for people and programs: which there are, in the order in
 * which they arrived, where they stand, which of them are meant. Fit for millions:
 * a listing keeps names and times, and reads one file at a time.
 */
#ifndef PSAPI_LISTING_H
#define PSAPI_LISTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "store/entry.h"
#include "store/spool/spool.h"
#include "store/spool/handler_state.h"

/* Which events are meant. All zero: all. */
struct selection {
	const char *type; /* or the beginning of one, up to a dot; NULL: any */
	const char *npn;  /* NULL: any */
	int64_t since;    /* received at or after, nanoseconds; 0: ever */
};

/* Whether an event is meant. */
bool listing_selection_matches(const struct selection *selection, const struct entry *entry);

enum status { STATUS_NEW, STATUS_WAITING, STATUS_FAILED, STATUS_HANDLED };
/* "new", "waiting", "failed", "handled" */
const char *listing_status_text(enum status status);

/*
 * Where the event of a name stands, and its state, all zero where there is none:
 * in new/ (waiting: it was tried, and its retry is to come), in failed/, or neither.
 */
enum status listing_status_of(struct spool *spool, const char *name, struct handler_state *state);

struct listing;

/* An empty listing, or NULL without memory. */
struct listing *listing_new(void);
void listing_free(struct listing *listing);

/*
 * Add the names of a directory, those alone that the directory `unless` lacks (or the
 * same directory: all). Those that were written more than a second before since
 * (nanoseconds) are left out: listing_selection_matches() has the last word on the others.
 * Returns 0, or -1 with errno.
 */
int listing_add(struct listing *listing, struct spool *spool, enum spool_dir dir,
    enum spool_dir unless, int64_t since);

/* Put it in the order of arrival. */
void listing_sort(struct listing *listing);

size_t listing_size(const struct listing *listing);
/* Name and directory of item i < listing_size(). */
const char *listing_name(const struct listing *listing, size_t i);
enum spool_dir listing_dir(const struct listing *listing, size_t i);

#endif
