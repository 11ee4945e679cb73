/*
 * Owns the order of sending: which deliveries are in flight, which wait for a retry, when the
 * next new one may begin.
 *
 * A delivery is one struct pending from its first try to its last, in flight or in the list of
 * waiting ones. One thread. Pauses are of CLOCK_MONOTONIC, signed times of CLOCK_REALTIME.
 */
#define _GNU_SOURCE
#include "send/sender.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

struct pending {
	long number;
	int tries;
	char id[520];
	int64_t due_us; /* of its next try */
	struct delivery delivery;
	struct pending *next; /* of those that wait */
};

struct run {
	struct http *http;
	const struct sender_options *options;
	struct sender_totals *totals;
	int64_t start_us;
	int64_t next_us; /* when the next new one may begin, if there is a rate */
	long begun;
	struct pending *waiting;
};

/* Send the next try of a delivery. Returns 0, or -1 without memory. */
static int
send_try(struct run *r, struct pending *p)
{
	const struct sender_options *s = r->options;

	p->tries++;
	if (delivery_make(&p->delivery, s->kind, s->keyring, p->id, time(NULL), s->body,
	        s->length) != 0)
		return -1;
	struct http_request request = {.url = s->url, .method = "POST",
		.headers = p->delivery.headers, .body = p->delivery.body,
		.length = p->delivery.length, .tag = p};
	return http_start(r->http, &request);
}

static void
discard(struct pending *p)
{
	delivery_free(&p->delivery);
	free(p);
}

static int
begin_delivery(struct run *r)
{
	struct pending *p = calloc(1, sizeof(*p));

	if (p == NULL)
		return -1;
	p->number = ++r->begun;
	if (r->options->id != NULL)
		snprintf(p->id, sizeof(p->id), "%s", r->options->id);
	else
		delivery_new_id(p->id);
	if (send_try(r, p) == 0)
		return 0;
	discard(p);
	return -1;
}

/* The waiting delivery that is due first, unlinked if it is due now; else NULL, and *when. */
static struct pending *
take_due(struct run *r, int64_t now, int64_t *when)
{
	struct pending **first = NULL;

	for (struct pending **link = &r->waiting; *link != NULL; link = &(*link)->next)
		if (first == NULL || (*link)->due_us < (*first)->due_us)
			first = link;
	if (first == NULL)
		return NULL;
	struct pending *p = *first;
	if (p->due_us > now) {
		*when = p->due_us < *when ? p->due_us : *when;
		return NULL;
	}
	*first = p->next;
	return p;
}

/* The rate holds on average; but a delay by a slow answer is not made up for with a burst. */
static void
keep_pace(struct run *r, int64_t now)
{
	if (r->options->rate <= 0)
		return;
	int64_t interval = (int64_t)(1e6 / r->options->rate);
	r->next_us += interval;
	if (r->next_us < now)
		r->next_us = now + interval;
}

/*
 * Start all tries that may start now. Returns 0, or -1; *when: time of the next one, microseconds.
 */
static int
start_due(struct run *r, int64_t *when)
{
	const struct sender_options *s = r->options;

	*when = INT64_MAX;
	while (http_in_flight(r->http) < s->parallel) {
		int64_t now = clock_microseconds();
		struct pending *p = take_due(r, now, when);
		if (p != NULL) {
			if (send_try(r, p) == 0)
				continue;
			discard(p);
			return -1;
		}
		if (r->begun == s->count)
			return 0;
		if (s->rate > 0 && r->next_us > now) {
			*when = r->next_us < *when ? r->next_us : *when;
			return 0;
		}
		if (begin_delivery(r) != 0)
			return -1;
		keep_pace(r, now);
	}
	return 0;
}

static void
count(struct sender_totals *totals, const struct sender_try *try)
{
	totals->tries++;
	totals->us_total += try->answer->us;
	if (try->answer->us > totals->us_max)
		totals->us_max = try->answer->us;
	if (try->answer->us >= SENDER_LIMIT_MS * 1000LL)
		totals->slow++;
	if (try->last && try->expected)
		totals->expected++;
	else if (try->last)
		totals->unexpected++;
}

static void
take_answer(struct run *r, struct http_answer *answer)
{
	const struct sender_options *s = r->options;
	struct pending *p = answer->tag;
	bool failed = answer->status / 100 != 2;
	struct sender_try try = {.number = p->number, .tries = p->tries, .id = p->id,
		.answer = answer, .expected = delivery_expected(s->kind, answer->status),
		.last = !failed || p->tries > s->retries};

	if (!try.last)
		try.wait_ms = delivery_backoff_ms(p->tries, (unsigned)random(), s->time_scale,
		    answer->retry_after);
	count(r->totals, &try);
	s->report(&try, s->user);
	if (try.last) {
		discard(p);
	} else {
		delivery_free(&p->delivery);
		p->due_us = clock_microseconds() + try.wait_ms * 1000;
		p->next = r->waiting;
		r->waiting = p;
	}
	free(answer->body);
}

/* Wait for an answer, or until something is due. */
static void
wait_until(struct run *r, int64_t when)
{
	struct http_answer answer;
	int64_t left = when == INT64_MAX ? 1000000 : when - clock_microseconds();
	int ms = left <= 0 ? 0 : left > 3600000000LL ? 3600000 : (int)(left / 1000) + 1;

	if (http_in_flight(r->http) > 0) {
		if (http_wait(r->http, ms, &answer) == 1)
			take_answer(r, &answer);
		return;
	}
	struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};
	nanosleep(&pause, NULL);
}

int
sender_run(struct http *http, const struct sender_options *options, struct sender_totals *totals)
{
	struct run r = {
	    .http = http, .options = options, .totals = totals, .start_us = clock_microseconds()};
	int64_t when;
	int result;

	memset(totals, 0, sizeof(*totals));
	r.next_us = r.start_us;
	srandom((unsigned)r.start_us);
	while ((result = start_due(&r, &when)) == 0) {
		if (http_in_flight(http) == 0 && r.waiting == NULL && r.begun == options->count)
			break;
		wait_until(&r, when);
	}
	for (struct pending *p = r.waiting, *next; p != NULL; p = next) {
		next = p->next;
		discard(p);
	}
	totals->seconds = (double)(clock_microseconds() - r.start_us) / 1e6;
	return result;
}
