/*
 * Standard Webhooks 1.0.0: signing secrets, the signature and the tolerance of
 * the timestamp. The clock is a parameter.
 */
#ifndef PSAPI_VERIFY_H
#define PSAPI_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of a key, decoded: the specification says 24 to 64, Svix makes up to 75. */
#define KEY_MIN 24
#define KEY_MAX 75
/* Keys of one keyring. A sender signs with at most 11 at a time while rotating. */
#define KEYRING_MAX 32
/* "v1," and the base64 of 32 bytes. */
#define SIGNATURE_SIZE (3 + 44)
/* First 8 hex digits of SHA-256 of the key, and a NUL: names a key without disclosing it. */
#define FINGERPRINT_SIZE 9

/* Whether a text can be a secret; else, what it seems to be. */
enum secret_kind {
	SECRET_GOOD,
	SECRET_EMPTY,
	SECRET_QUOTED,
	SECRET_SIGNATURE,  /* begins with "v1," */
	SECRET_SEVERAL,    /* in one line */
	SECRET_NAMED,      /* NAME=whsec_..., as in a file of variables */
	SECRET_PUBLIC_KEY, /* whpk_: asymmetric */
	SECRET_PRIVATE_KEY, /* whsk_: asymmetric */
	SECRET_ENCODED_TWICE, /* base64 of the portal's text, as in a Secret of Kubernetes */
	SECRET_NOT_BASE64,
	SECRET_TOO_SHORT,
	SECRET_TOO_LONG,
	SECRET_TOO_MANY, /* the keyring is full */
	SECRET_NO_MEMORY
};

/* The fault of the secret and the remedy, one sentence without the secret itself. */
const char *verify_secret_kind_text(enum secret_kind kind);

/* The decoded keys, each with its HMAC key schedule done. Immutable once filled. */
struct keyring;

/* A new, empty keyring, or NULL without memory. The caller frees it. */
struct keyring *verify_keyring_new(void);
/* Wipe and free; NULL is fine. */
void verify_keyring_free(struct keyring *keyring);
size_t verify_keyring_size(const struct keyring *keyring);
/* The fingerprint of key i < verify_keyring_size(). Owned by the keyring. */
const char *verify_keyring_fingerprint(const struct keyring *keyring, size_t i);

/*
 * Add one secret: base64 with or without "whsec_" and padding, white space
 * around it allowed. Anything but SECRET_GOOD leaves the keyring as it was.
 */
enum secret_kind verify_keyring_add(struct keyring *keyring, const char *secret, size_t length);

/* The signed text is id "." timestamp "." body, with the headers' own text. Borrowed. */
struct message {
	const char *id;
	size_t id_length;
	const char *timestamp;
	size_t timestamp_length;
	const void *body;
	size_t body_length;
};

/*
 * The signature of a message with key i < verify_keyring_size(), as "v1,BASE64" and a
 * NUL. Returns 0, or -1 if mbedTLS fails.
 */
int verify_keyring_sign(const struct keyring *keyring, size_t i, const struct message *message,
    char signature[SIGNATURE_SIZE + 1]);

/*
 * Read webhook-timestamp: Unix seconds, [1-9][0-9]{0,11} and nothing else. The reference
 * libraries do not agree about "+1", "01" or "1.0", and the MAC is over the text. Returns
 * false if it is malformed.
 */
bool verify_timestamp_parse(const char *text, size_t length, int64_t *seconds);

enum verify_result {
	VERIFY_OK,
	VERIFY_MISMATCH, /* in time, but no signature matches */
	VERIFY_STALE,    /* out of tolerance: matched says whether it was authentic */
	VERIFY_FUTURE,
	VERIFY_ERROR /* mbedTLS failed */
};

/*
 * Check the skew of a message, seconds (our clock minus its timestamp), against the tolerance,
 * seconds, inclusive, either way. Returns VERIFY_OK, VERIFY_STALE or VERIFY_FUTURE.
 */
enum verify_result verify_timestamp_in_tolerance(int64_t skew, int64_t tolerance);

struct verification {
	bool matched;
	int64_t skew;          /* seconds: our clock minus the message's timestamp */
	const char *key;       /* fingerprint of the key that matched; owned by the keyring */
	const char *signature; /* SIGNATURE_SIZE bytes in the header, the part that matched */
};

/*
 * Check the signature list of webhook-signature (space-separated VERSION,BASE64)
 * against every key, then the message's timestamp against now (Unix seconds) and
 * tolerance (seconds, inclusive, either way). Any "v1" part that matches is
 * enough; parts that are anything else are skipped. The comparison takes constant
 * time. VERIFY_ERROR also if the timestamp is one that verify_timestamp_parse() refuses.
 */
enum verify_result verify(const struct keyring *keyring, const struct message *message,
    const char *signatures, size_t signatures_length, int64_t now, int64_t tolerance,
    struct verification *outcome);

#endif
