/*
 * The attempts log, attempts.jsonl in the spool: one JSON object a line for each
 * request, what `psapi attempts` shows.
 */
#ifndef PSAPI_ATTEMPTS_H
#define PSAPI_ATTEMPTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/error.h"

#define ATTEMPTS_FILE "attempts.jsonl"

struct attempts;

/* One request. Texts are borrowed; NULL where not known. */
struct attempt {
	struct timespec at;
	const char *outcome; /* accepted, duplicate, held, ignored, rejected, error */
	int status;          /* of HTTP */
	const char *reason;  /* of a refusal */
	const char *webhook_id;
	size_t webhook_id_length;
	const char *type;     /* the event's */
	const char *npn;      /* the event's */
	const char *event_id; /* the event's "id" */
	const char *remote_addr;
	size_t bytes; /* of the body that were read */
	bool skew_known;
	int64_t skew; /* seconds: our clock minus webhook-timestamp */
	const char *key; /* fingerprint of the secret that matched */
	long long us;    /* microseconds from the headers to the answer; logged as "ms" */
};

/* Log to ATTEMPTS_FILE in a directory, which is opened. Returns NULL with errno if it cannot be. */
struct attempts *attempts_open(const char *directory);
void attempts_close(struct attempts *attempts);

/*
 * Whether the receiver, which runs as the owner of that directory, can write the log there, or make
 * it. Returns 0, or -1 with the error (EX_NOPERM).
 */
int attempts_check(const char *directory, struct error *error);

/* Whether the directory's path names another one now, or none: it was moved, or mounted over. */
bool attempts_is_replaced(const struct attempts *attempts);

struct store;

/* From now on each line that is written is also given to store_attempt(). The store is borrowed. */
void attempts_copy_to(struct attempts *attempts, struct store *store);

/*
 * Append one line with a single write(2). The file is opened again when it was renamed or
 * removed, so rotation needs no signal. Any client can cause the outcomes "rejected" and
 * "ignored", and "error" before a secret has matched: of such lines ten may come at once, and
 * then ten a second. Others are left out, and the next line counts them ("suppressed"). If
 * the log cannot be written, the replies stay the same: that is logged once, and the line is
 * lost. Safe from several threads and processes.
 */
void attempts_write(struct attempts *attempts, const struct attempt *attempt);

#endif
