/*
 * Sending deliveries, one or many: pace, parallelism, and retries as the sender's
 * schedule has them. What is printed about it is the caller's.
 */
#ifndef PSAPI_SENDER_H
#define PSAPI_SENDER_H

#include <stdbool.h>
#include <stddef.h>

#include "send/delivery.h"
#include "send/http.h"

struct sent;

struct sending {
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
	void (*report)(const struct sent *sent, void *user); /* called for each try */
	void *user;
};

/* One try and its answer. Borrowed during the call. */
struct sent {
	long number; /* of the delivery, from 1 */
	int try;     /* from 1 */
	const char *id;
	const struct http_answer *answer;
	bool expected;     /* for its kind */
	bool last;         /* there is no further try */
	long long wait_ms; /* until the next one */
};

/* Milliseconds after which the sender gives an attempt up. */
#define SENDER_LIMIT_MS 5000

struct tally {
	long tries, slow;       /* slow: answered after SENDER_LIMIT_MS */
	long expected, refused; /* deliveries by what their last try was answered */
	long long us_total, us_max;
	double seconds; /* that it all took */
};

/* Send it all. Returns 0, or -1 if it could not go on (no memory). */
int sender_run(struct http *http, const struct sending *sending, struct tally *tally);

#endif
