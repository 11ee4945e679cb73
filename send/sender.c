/*
 * Owns the order of things while sending: who is in flight, who waits for a retry,
 * when the next new one may go.
 *
 * A delivery is one struct handler_run from its first try to its last, in flight or in the
 * list of those that wait. One thread; the time is CLOCK_MONOTONIC, but what is
 * signed is CLOCK_REALTIME.
 */
#define _GNU_SOURCE
#include "send/sender.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

struct handler_run {
	long number;
	int try;
	char id[520];
	int64_t due_us; /* of its next try */
	struct delivery delivery;
	struct handler_run *next; /* of those that wait */
};

struct run {
	struct http *http;
	const struct sending *sending;
	struct tally *tally;
	int64_t start_us;
	int64_t next_us; /* when the next new one may begin, if there is a rate */
	long begun;
	struct handler_run *waiting;
};

/* Put one try on its way. Returns 0, or -1 without memory. */
static int
launch(struct run *r, struct handler_run *job)
{
	const struct sending *s = r->sending;

	job->try++;
	if (delivery_make(&job->delivery, s->kind, s->keyring, job->id, time(NULL), s->body,
	        s->length) != 0)
		return -1;
	struct http_request request = {.url = s->url, .method = "POST",
		.headers = job->delivery.headers, .body = job->delivery.body,
		.length = job->delivery.length, .tag = job};
	return http_start(r->http, &request);
}

static void
discard(struct handler_run *job)
{
	delivery_free(&job->delivery);
	free(job);
}

static int
begin(struct run *r)
{
	struct handler_run *job = calloc(1, sizeof(*job));

	if (job == NULL)
		return -1;
	job->number = ++r->begun;
	if (r->sending->id != NULL)
		snprintf(job->id, sizeof(job->id), "%s", r->sending->id);
	else
		delivery_new_id(job->id);
	if (launch(r, job) == 0)
		return 0;
	discard(job);
	return -1;
}

/* The one that waits and is due first, unlinked if it is due now; else NULL and when. */
static struct handler_run *
take_due(struct run *r, int64_t now, int64_t *when)
{
	struct handler_run **first = NULL;

	for (struct handler_run **link = &r->waiting; *link != NULL; link = &(*link)->next)
		if (first == NULL || (*link)->due_us < (*first)->due_us)
			first = link;
	if (first == NULL)
		return NULL;
	struct handler_run *job = *first;
	if (job->due_us > now) {
		*when = job->due_us < *when ? job->due_us : *when;
		return NULL;
	}
	*first = job->next;
	return job;
}

/* On time in the mean; but what a slow answer held up is not made up for in a burst. */
static void
keep_pace(struct run *r, int64_t now)
{
	if (r->sending->rate <= 0)
		return;
	int64_t interval = (int64_t)(1e6 / r->sending->rate);
	r->next_us += interval;
	if (r->next_us < now)
		r->next_us = now + interval;
}

/*
 * Start what may start now. Returns 0, or -1; *when is when the next may, in
 * microseconds.
 */
static int
start_due(struct run *r, int64_t *when)
{
	const struct sending *s = r->sending;

	*when = INT64_MAX;
	while (http_in_flight(r->http) < s->parallel) {
		int64_t now = clock_microseconds();
		struct handler_run *job = take_due(r, now, when);
		if (job != NULL) {
			if (launch(r, job) == 0)
				continue;
			discard(job);
			return -1;
		}
		if (r->begun == s->count)
			return 0;
		if (s->rate > 0 && r->next_us > now) {
			*when = r->next_us < *when ? r->next_us : *when;
			return 0;
		}
		if (begin(r) != 0)
			return -1;
		keep_pace(r, now);
	}
	return 0;
}

static void
count(struct tally *tally, const struct sent *sent)
{
	tally->tries++;
	tally->us_total += sent->answer->us;
	if (sent->answer->us > tally->us_max)
		tally->us_max = sent->answer->us;
	if (sent->answer->us >= SENDER_LIMIT_MS * 1000LL)
		tally->slow++;
	if (sent->last && sent->expected)
		tally->expected++;
	else if (sent->last)
		tally->refused++;
}

static void
take_answer(struct run *r, struct http_answer *answer)
{
	const struct sending *s = r->sending;
	struct handler_run *job = answer->tag;
	bool failed = answer->status / 100 != 2;
	struct sent sent = {.number = job->number, .try = job->try, .id = job->id,
		.answer = answer, .expected = delivery_expected(s->kind, answer->status),
		.last = !failed || job->try > s->retries};

	if (!sent.last)
		sent.wait_ms = delivery_backoff_ms(job->try, (unsigned)random(), s->time_scale,
		    answer->retry_after);
	count(r->tally, &sent);
	s->report(&sent, s->user);
	if (sent.last) {
		discard(job);
	} else {
		delivery_free(&job->delivery);
		job->due_us = clock_microseconds() + sent.wait_ms * 1000;
		job->next = r->waiting;
		r->waiting = job;
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
sender_run(struct http *http, const struct sending *sending, struct tally *tally)
{
	struct run r = {.http = http, .sending = sending, .tally = tally, .start_us = clock_microseconds()};
	int64_t when;
	int result;

	memset(tally, 0, sizeof(*tally));
	r.next_us = r.start_us;
	srandom((unsigned)r.start_us);
	while ((result = start_due(&r, &when)) == 0) {
		if (http_in_flight(http) == 0 && r.waiting == NULL && r.begun == sending->count)
			break;
		wait_until(&r, when);
	}
	for (struct handler_run *job = r.waiting, *next; job != NULL; job = next) {
		next = job->next;
		discard(job);
	}
	tally->seconds = (double)(clock_microseconds() - r.start_us) / 1e6;
	return result;
}
