/*
 * Standard Webhooks 1.0.0: signing secrets, the signature and the tolerance of
 * the timestamp. The clock is a parameter. The only user of mbedTLS, so hashing
 * and base64 for the rest of the program are here, too.
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
/* First 8 hex digits of SHA-256 of the key, and a NUL: names a key without giving it away. */
#define FINGERPRINT_SIZE 9

/* What a text that should be a secret looks like instead. */
enum secret_look {
	SECRET_GOOD,
	SECRET_EMPTY,
	SECRET_QUOTED,
	SECRET_SIGNATURE,  /* v1,… pasted along */
	SECRET_PUBLIC_KEY, /* whpk_: asymmetric */
	SECRET_PRIVATE_KEY, /* whsk_: asymmetric */
	SECRET_NOT_BASE64,
	SECRET_TOO_SHORT,
	SECRET_TOO_LONG,
	SECRET_TOO_MANY, /* the keyring is full */
	SECRET_NO_MEMORY
};

/* What is wrong with the secret and the remedy, one sentence without the secret itself. */
const char *secret_look_text(enum secret_look look);

/* The decoded keys, each with its HMAC key schedule done. Immutable once filled. */
struct keyring;

/* A new, empty keyring, or NULL without memory. The caller frees it. */
struct keyring *keyring_new(void);
/* Wipe and free; NULL is fine. */
void keyring_free(struct keyring *keyring);
size_t keyring_size(const struct keyring *keyring);
/* The fingerprint of key i < keyring_size(). Owned by the keyring. */
const char *keyring_fingerprint(const struct keyring *keyring, size_t i);

/*
 * Add one secret: base64 with or without "whsec_" and padding, white space
 * around it allowed. Anything but SECRET_GOOD leaves the keyring as it was.
 */
enum secret_look keyring_add(struct keyring *keyring, const char *secret, size_t length);

/* What is signed: id "." timestamp "." body, the headers' own text. Borrowed. */
struct message {
	const char *id;
	size_t id_length;
	const char *timestamp;
	size_t timestamp_length;
	const void *body;
	size_t body_length;
};

/*
 * The signature of a message with key i < keyring_size(), as "v1,BASE64" and a
 * NUL. Returns 0, or -1 if mbedTLS fails.
 */
int keyring_sign(const struct keyring *keyring, size_t i, const struct message *message,
    char signature[SIGNATURE_SIZE + 1]);

/*
 * Read webhook-timestamp, [1-9][0-9]{0,11} Unix seconds and nothing else: what
 * the reference libraries make of "+1", "01" or "1.0" differs, and the MAC is
 * over the text. Returns false if malformed.
 */
bool timestamp_parse(const char *text, size_t length, int64_t *seconds);

enum verify_result {
	VERIFY_OK,
	VERIFY_MISMATCH, /* in time, but no signature matches */
	VERIFY_STALE,    /* out of tolerance: matched says whether it was authentic */
	VERIFY_FUTURE,
	VERIFY_ERROR /* mbedTLS failed */
};

struct verification {
	bool matched;
	int64_t skew;          /* seconds: our clock minus theirs */
	const char *key;       /* fingerprint of the key that matched; owned by the keyring */
	const char *signature; /* SIGNATURE_SIZE bytes in the header, the part that matched */
};

/*
 * Check the signature list of webhook-signature (space-separated VERSION,BASE64)
 * against every key, then the message's timestamp against now (Unix seconds) and
 * tolerance (seconds, inclusive, either way). Any "v1" part that matches is
 * enough; parts that are anything else are skipped. The comparison takes constant
 * time. VERIFY_ERROR also if the timestamp is one that timestamp_parse() refuses.
 */
enum verify_result verify(const struct keyring *keyring, const struct message *message,
    const char *signatures, size_t signatures_length, int64_t now, int64_t tolerance,
    struct verification *outcome);

/* SHA-256 as 64 lower-case hex digits and a NUL. Returns 0, or -1 if mbedTLS fails. */
int sha256_hex(const void *data, size_t length, char hex[65]);

/* Bytes that base64_encode() needs for length bytes, with its NUL. */
#define BASE64_SIZE(length) (((length) + 2) / 3 * 4 + 1)
/* Base64 (RFC 4648, section 4) into text, which holds BASE64_SIZE(length) bytes. */
void base64_encode(const void *data, size_t length, char *text);
/*
 * Decode base64 text into data (size bytes). Returns the number of bytes, or -1
 * if it is not base64 or does not fit.
 */
long base64_decode(const char *text, size_t length, void *data, size_t size);

#endif
