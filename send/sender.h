/*
 * Sending deliveries, one or many: rate, parallelism, and retries after the sender's schedule.
 * The caller prints the results.
 */
#ifndef PSAPI_SENDER_H
#define PSAPI_SENDER_H

#include <stdbool.h>
#include <stddef.h>

#include "send/delivery.h"
#include "send/http.h"

struct sender_try;

struct sender_options {
	const char *url;
	enum delivery_kind kind;
	const struct keyring *keyring; /* NULL if the kind needs none */
	const char *id;                /* of every delivery; NULL: a new one for each */
	const void *body;
	size_t length;
	long count;        /* deliveries */
	double rate;       /* of new ones, a second; 0: as fast as they are answered */
	unsigned parallel; /* in flight at most */
	int retries;       /* after a first try that was not answered 2xx */
	double time_scale; /* of the schedule between them: 0.001 for a demonstration */
	void (*report)(const struct sender_try *try, void *user); /* called for each try */
	void *user;
};

/* One try and its answer. Borrowed during the call. */
struct sender_try {
	long number; /* of the delivery, from 1 */
	int tries;   /* so far, with this one */
	const char *id;
	const struct http_answer *answer;
	bool expected;     /* for its kind */
	bool last;         /* there is no further try */
	long long wait_ms; /* until the next one */
};

/* Milliseconds after which the sender gives up an attempt. */
#define SENDER_LIMIT_MS 5000

struct sender_totals {
	long tries, slow;       /* slow: answered after SENDER_LIMIT_MS */
	long expected, unexpected; /* deliveries, by the answer to their last try */
	long long us_total, us_max;
	double seconds; /* of the whole run */
};

/* Send all deliveries. Returns 0, or -1 without memory. */
int sender_run(
    struct http *http, const struct sender_options *options, struct sender_totals *totals);

#endif
