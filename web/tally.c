/*
 * Owns what is known of the backlog, and when it is counted anew. A whole count is not made anew
 * for twenty times as long as it took: it takes a small part of a processor.
 */
#define _GNU_SOURCE
#include "web/tally.h"

#include <stdlib.h>

#include "base/clock.h"

enum {
	SHORT_MS = CONTEXT_BUDGET_MS / 4, /* a count within a request */
	SMALL = 10000,                /* so many are counted whole within a request */
	REST = 20,                    /* times its duration */
	KEPT_MS = 60 * 1000,          /* so much later, "at least so many" says more */
	COUNTS_KEPT_MS = 5 * 60 * 1000 /* likewise: metrics are asked for once a minute */
};

struct tally {
	struct web *web;
	pthread_mutex_t lock; /* of all below */
	struct store_tally tally;
	struct store_counts counts;
	int64_t fresh_until; /* clock_milliseconds(): the tally is not counted anew before */
	int64_t counted_at;  /* the same: when counts was; 0: never */
	unsigned long actions; /* so many were there: a count that one interrupts is not kept */
	bool wanted, counting;
};

struct tally *
tally_open(struct web *web)
{
	struct tally *t = calloc(1, sizeof(*t));

	if (t == NULL)
		return NULL;
	t->web = web;
	pthread_mutex_init(&t->lock, NULL);
	return t;
}

void
tally_close(struct tally *t)
{
	if (t == NULL)
		return;
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static bool
is_whole(const struct store_tally *tally)
{
	return !tally->more_waiting && !tally->more_failed &&
	    (tally->waiting == 0 || tally->oldest != 0);
}

enum store_result
tally_lately(struct tally *t, int64_t now, struct store_tally *tally, struct error *error)
{
	int64_t begun = clock_milliseconds();

	pthread_mutex_lock(&t->lock);
	bool fresh = begun < t->fresh_until;
	unsigned long actions = t->actions;
	*tally = t->tally;
	pthread_mutex_unlock(&t->lock);
	if (fresh)
		return STORE_OK;
	enum store_result result = store_tally(t->web->store, now, SHORT_MS, tally, error);
	int64_t ended = clock_milliseconds();
	if (result != STORE_OK)
		return result;
	pthread_mutex_lock(&t->lock);
	if (is_whole(tally) && actions == t->actions) {
		t->tally = *tally;
		t->fresh_until = ended + (ended - begun) * REST;
	} else if (!is_whole(tally)) {
		t->wanted = true;
		if (t->counted_at != 0 && ended - t->fresh_until < KEPT_MS)
			*tally = t->tally;
	}
	pthread_mutex_unlock(&t->lock);
	return STORE_OK;
}

enum store_result
tally_counts(struct tally *t, int64_t now, struct store_counts *counts, struct error *error)
{
	struct store_tally tally;
	enum store_result result = tally_lately(t, now, &tally, error);

	if (result != STORE_OK)
		return result;
	if (t->web->alone || (is_whole(&tally) && tally.waiting + tally.failed <= SMALL))
		return store_count(t->web->store, now, counts, error);
	pthread_mutex_lock(&t->lock);
	t->wanted = true;
	*counts = t->counts;
	bool known = t->counted_at != 0 && clock_milliseconds() < t->fresh_until + COUNTS_KEPT_MS;
	pthread_mutex_unlock(&t->lock);
	return known ? STORE_OK : STORE_ABSENT;
}

/* Under the lock. */
static void
set_counts(struct tally *t, const struct store_counts *counts, int64_t took_ms)
{
	t->counts = *counts;
	t->tally = (struct store_tally){.waiting = counts->waiting, .failed = counts->failed,
	    .held = counts->held, .oldest = counts->oldest_waiting};
	t->counted_at = clock_milliseconds();
	t->fresh_until = t->counted_at + took_ms * REST;
}

void
tally_forget(struct tally *t)
{
	pthread_mutex_lock(&t->lock);
	int64_t old = clock_milliseconds() - KEPT_MS;
	t->fresh_until = t->fresh_until < old ? t->fresh_until : old;
	t->actions++;
	pthread_mutex_unlock(&t->lock);
}

void
tally_after(struct tally *t, int64_t now)
{
	int64_t begun = clock_milliseconds();
	struct store_counts counts;
	struct error ignored; /* a request says what is wrong */

	pthread_mutex_lock(&t->lock);
	unsigned long actions = t->actions;
	bool go = t->wanted && !t->counting && begun >= t->fresh_until;
	if (go) {
		t->wanted = false;
		t->counting = true;
	}
	pthread_mutex_unlock(&t->lock);
	if (!go)
		return;
	enum store_result result = store_count(t->web->store, now, &counts, &ignored);
	int64_t took_ms = clock_milliseconds() - begun;
	pthread_mutex_lock(&t->lock);
	t->counting = false;
	if (actions != t->actions)
		t->wanted = true;
	else if (result == STORE_OK)
		set_counts(t, &counts, took_ms);
	pthread_mutex_unlock(&t->lock);
}
