/*
 * How much waits, has failed and is held. A request takes what was counted lately, or counts for a
 * short time; the whole count of a large spool is made after an answer.
 */
#ifndef PSAPI_TALLY_H
#define PSAPI_TALLY_H

#include "web/context.h"

/* NULL without memory. The store of web is borrowed. */
struct tally *tally_open(struct web *web);
void tally_close(struct tally *tally);

/* How much there is, as far as it is known: store_tally() says what a partial one is. */
enum store_result tally_lately(struct tally *t, int64_t now, struct store_tally *tally,
    struct error *error);

/* All counts. STORE_ABSENT: the store answers, and they are not known yet. */
enum store_result tally_counts(struct tally *tally, int64_t now,
    struct store_counts *counts, struct error *error);

/* After an action: what was counted before it, or is being counted, is old. */
void tally_forget(struct tally *tally);

/* After an answer: count the whole, if a request has missed it. */
void tally_after(struct tally *tally, int64_t now);

#endif
