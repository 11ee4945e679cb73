/*
 * A delivery as the sender makes it, or a wrong one on purpose: the documented example events,
 * ids, signatures. Knows no network.
 */
#ifndef PSAPI_DELIVERY_H
#define PSAPI_DELIVERY_H

#include <stdbool.h>
#include <stddef.h>
#include <time.h>

#include "base/error.h"
#include "verify.h"

/* ---- events ---- */

/* The types whose examples are documented, NULL at the end. */
extern const char *const delivery_example_types[];

/* The body of the documented example of a type, as the portal's "Send Example"; or NULL. */
const char *delivery_example_body(const char *type);

/*
 * Make an event's body: the envelope around data (JSON), or if data is NULL the example.
 * Returns a text that the caller frees; or NULL with error filled in (EX_DATAERR) if data is not
 * JSON, or there is no example of the type.
 */
char *delivery_event_body(const char *type, const char *data, time_t now, struct error *error);

/* Room for an id of ours and a NUL. */
#define DELIVERY_ID_SIZE 40
/*
 * A new webhook-id in the sender's form, "msg_" and 27 letters and digits; it begins with
 * EVENTS_TEST_ID.
 */
void delivery_new_id(char id[DELIVERY_ID_SIZE]);

/* ---- a request ---- */

enum delivery_kind {
	DELIVERY_SIGNED,
	DELIVERY_UNSIGNED,     /* without the signature's header */
	DELIVERY_TAMPERED,     /* the body is not the one that was signed */
	DELIVERY_STALE,        /* signed, but a day ago */
	DELIVERY_WRONG_SECRET, /* signed with a random secret */
	DELIVERY_KINDS
};

/* The option and the word for each kind: "signed", "unsigned", "wrong-secret". */
extern const char *const delivery_kind_names[DELIVERY_KINDS];

/* Signatures that the sender gives at most: one for each key that is valid. */
#define DELIVERY_SIGNATURES_MAX 11

struct delivery {
	const char *headers[6]; /* "name: value", NULL at the end; point into the fields below */
	char id[600], timestamp[48];
	char signature[32 + DELIVERY_SIGNATURES_MAX * (SIGNATURE_SIZE + 1)];
	const void *body; /* as it is to be sent: the caller's, or altered */
	size_t length;
	char *altered; /* owned */
};

/*
 * Make a delivery of body with id (at most 512 bytes, no control bytes) at the time now, signed
 * with every key of keyring (unsigned and wrong-secret do not use it). body is borrowed. Returns
 * 0, or -1 without memory.
 */
int delivery_make(struct delivery *delivery, enum delivery_kind kind,
    const struct keyring *keyring, const char *id, time_t now, const void *body, size_t length);
void delivery_free(struct delivery *delivery);

/*
 * Whether an HTTP status (0: none) is the right answer to the kind: 2xx if it is signed, else 4xx;
 * but not 404 or 405, which a web server gives where no receiver is.
 */
bool delivery_expected(enum delivery_kind kind, int status);

/*
 * Milliseconds from the end of try number tries (from 1) to the next, as the
 * sender's schedule has it (5 s, 5 min, 30 min, 2 h, 5 h, then 10 h), with a jitter
 * of 20 % either way taken from random, times scale. retry_after: seconds that the
 * receiver asked for, honoured up to 10 h.
 */
long long delivery_backoff_ms(int tries, unsigned random, double scale, long retry_after);

#endif
