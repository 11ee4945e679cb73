/*
 * Owns everything cryptographic: secrets to keys, HMAC-SHA256, the comparison.
 *
 * A key is kept as two SHA-256 states, one after the inner and one after the
 * outer padded key (RFC 2104, section 4: "Implementation Note"): the key schedule is
 * done once, and a keyring that is never changed after it was filled can be used
 * by all threads. mbedtls_md_clone() would not do: it leaves out the HMAC part.
 */
#define _GNU_SOURCE
#include "verify.h"

#include <ctype.h>
#include <string.h>

#include <mbedtls/constant_time.h>
#include <mbedtls/platform_util.h>
#include <mbedtls/sha256.h>

#include "base/crypto.h"
#include "base/crypto_mbedtls.h"
#include "base/securemem.h"

enum { BLOCK = 64, DIGEST = 32 };

struct key {
	mbedtls_sha256_context inner, outer;
	char fingerprint[FINGERPRINT_SIZE];
};

struct keyring {
	size_t count;
	struct key keys[KEYRING_MAX];
};

const char *
verify_secret_kind_text(enum secret_kind kind)
{
	switch (kind) {
	case SECRET_GOOD:
		return "is a signing secret";
	case SECRET_EMPTY:
		return "is empty: paste the endpoint's signing secret (whsec_...) from the portal";
	case SECRET_QUOTED:
		return "is in quotes: write the secret without them";
	case SECRET_SIGNATURE:
		return "begins with \"v1,\", as signatures do: leave that out, a secret begins with whsec_";
	case SECRET_SEVERAL:
		return "has whsec_ more than once: write each secret into a line of its own";
	case SECRET_NAMED:
		return "has text before whsec_, as NAME=whsec_... does: write the secret alone";
	case SECRET_PUBLIC_KEY:
		return "is a public key (whpk_): asymmetric signatures are not in use here, copy the "
		       "endpoint's whsec_ secret";
	case SECRET_PRIVATE_KEY:
		return "is a private key (whsk_): asymmetric signatures are not in use here, copy the "
		       "endpoint's whsec_ secret";
	case SECRET_ENCODED_TWICE:
		return "is encoded twice: decode it once (base64 -d), a secret begins with whsec_";
	case SECRET_NOT_BASE64:
		return "is not base64: copy the whole secret (whsec_...) again, one to a line";
	case SECRET_TOO_SHORT:
		return "is under 24 bytes when decoded: part of it is missing, copy it again";
	case SECRET_TOO_LONG:
		return "is over 75 bytes when decoded: it is no signing secret, or two in one line";
	case SECRET_TOO_MANY:
		return "is one secret too many: drop those that were rotated out";
	case SECRET_NO_MEMORY:
		return "cannot be used: out of memory";
	}
	return "cannot be used";
}

struct keyring *
verify_keyring_new(void)
{
	return securemem_new(sizeof(struct keyring));
}

void
verify_keyring_free(struct keyring *keyring)
{
	securemem_free(keyring, sizeof(*keyring));
}

size_t
verify_keyring_size(const struct keyring *keyring)
{
	return keyring->count;
}

const char *
verify_keyring_fingerprint(const struct keyring *keyring, size_t i)
{
	return keyring->keys[i].fingerprint;
}

/* Start one of the two states: SHA-256 over the key XOR pad, filled up to a block. */
static int
start_padded(mbedtls_sha256_context *state, const unsigned char *key, size_t length,
    unsigned char pad)
{
	unsigned char block[BLOCK];

	for (size_t i = 0; i < BLOCK; i++)
		block[i] = (unsigned char)((i < length ? key[i] : 0) ^ pad);
	mbedtls_sha256_init(state);
	int result = sha256_starts(state, 0);
	if (result == 0)
		result = sha256_update(state, block, BLOCK);
	mbedtls_platform_zeroize(block, sizeof(block));
	return result;
}

static int
key_set(struct key *key, const unsigned char *bytes, size_t length)
{
	unsigned char hashed[DIGEST];
	char hex[65];
	int result = 0;

	if (crypto_sha256_hex(bytes, length, hex) != 0)
		return -1;
	memcpy(key->fingerprint, hex, FINGERPRINT_SIZE - 1);
	mbedtls_platform_zeroize(hex, sizeof(hex)); /* of a long key, this is the key */
	key->fingerprint[FINGERPRINT_SIZE - 1] = '\0';
	if (length > BLOCK) {
		/* RFC 2104: a key longer than a block is hashed first. */
		mbedtls_sha256_context state;
		mbedtls_sha256_init(&state);
		result = sha256_starts(&state, 0);
		if (result == 0)
			result = sha256_update(&state, bytes, length);
		if (result == 0)
			result = sha256_finish(&state, hashed);
		mbedtls_sha256_free(&state);
		bytes = hashed;
		length = DIGEST;
	}
	if (result == 0)
		result = start_padded(&key->inner, bytes, length, 0x36);
	if (result == 0)
		result = start_padded(&key->outer, bytes, length, 0x5c);
	mbedtls_platform_zeroize(hashed, sizeof(hashed));
	return result == 0 ? 0 : -1;
}

/* U+2018 to U+201F, the quotes that word processors make. */
static bool
is_curly(const char *at)
{
	return memcmp(at, "\xe2\x80", 2) == 0 && (at[2] & 0xf8) == 0x98;
}

static bool
is_quoted(const char *secret, size_t length)
{
	if (length >= 3 && (is_curly(secret) || is_curly(secret + length - 3)))
		return true;
	return memchr("\"'`", secret[0], 3) != NULL || memchr("\"'`", secret[length - 1], 3) != NULL;
}

/* Reasons that show without decoding: what people paste instead of a secret. */
static enum secret_kind
kind_of(const char *secret, size_t length)
{
	const char *begin = memmem(secret, length, "whsec_", 6);

	if (length == 0)
		return SECRET_EMPTY;
	if (begin != NULL && memmem(begin + 6, length - (size_t)(begin + 6 - secret), "whsec_", 6))
		return SECRET_SEVERAL;
	if (begin != NULL && memchr(secret, '=', (size_t)(begin - secret)) != NULL)
		return SECRET_NAMED;
	if (is_quoted(secret, length))
		return SECRET_QUOTED;
	if (length >= 2 && secret[0] == 'v' && memchr(secret, ',', length < 5 ? length : 5) != NULL)
		return SECRET_SIGNATURE;
	if (begin != NULL && begin > secret)
		return SECRET_NAMED;
	if (length >= 5 && memcmp(secret, "whpk_", 5) == 0)
		return SECRET_PUBLIC_KEY;
	if (length >= 5 && memcmp(secret, "whsk_", 5) == 0)
		return SECRET_PRIVATE_KEY;
	return SECRET_GOOD;
}

static enum secret_kind
decode(const char *secret, size_t length, unsigned char *bytes, size_t size, size_t *decoded)
{
	char padded[2 * KEY_MAX + 8];

	while (length > 0 && isspace((unsigned char)*secret)) {
		secret++;
		length--;
	}
	while (length > 0 && isspace((unsigned char)secret[length - 1]))
		length--;
	enum secret_kind kind = kind_of(secret, length);
	if (kind != SECRET_GOOD)
		return kind;
	if (length >= 6 && memcmp(secret, "whsec_", 6) == 0) {
		secret += 6;
		length -= 6;
	}
	while (length > 0 && secret[length - 1] == '=')
		length--;
	if (length == 0)
		return SECRET_EMPTY;
	for (size_t i = 0; i < length; i++)
		if (!isalnum((unsigned char)secret[i]) && secret[i] != '+' && secret[i] != '/')
			return SECRET_NOT_BASE64;
	if (length > sizeof(padded) - 4)
		return SECRET_TOO_LONG;
	memcpy(padded, secret, length);
	while (length % 4 != 0)
		padded[length++] = '=';
	long n = crypto_base64_decode(padded, length, bytes, size);
	mbedtls_platform_zeroize(padded, sizeof(padded));
	*decoded = n < 0 ? 0 : (size_t)n;
	return n < 0 ? SECRET_NOT_BASE64 :
	    n >= 6 && memcmp(bytes, "whsec_", 6) == 0 ? SECRET_ENCODED_TWICE :
	    n < KEY_MIN ? SECRET_TOO_SHORT :
	    n > KEY_MAX ? SECRET_TOO_LONG :
	                  SECRET_GOOD;
}

enum secret_kind
verify_keyring_add(struct keyring *keyring, const char *secret, size_t length)
{
	unsigned char bytes[2 * KEY_MAX];
	size_t decoded = 0;
	enum secret_kind kind = decode(secret, length, bytes, sizeof(bytes), &decoded);

	if (kind == SECRET_GOOD && keyring->count == KEYRING_MAX)
		kind = SECRET_TOO_MANY;
	if (kind == SECRET_GOOD && key_set(&keyring->keys[keyring->count], bytes, decoded) != 0)
		kind = SECRET_NO_MEMORY;
	if (kind == SECRET_GOOD)
		keyring->count++;
	mbedtls_platform_zeroize(bytes, sizeof(bytes));
	return kind;
}

/* RFC 2104: H(outer, H(inner, content)). */
static int
mac(const struct key *key, const struct message *m, unsigned char digest[DIGEST])
{
	static const unsigned char dot[] = ".";
	mbedtls_sha256_context state;
	int result = 0;

	mbedtls_sha256_init(&state);
	mbedtls_sha256_clone(&state, &key->inner);
	result |= sha256_update(&state, (const unsigned char *)m->id, m->id_length);
	result |= sha256_update(&state, dot, 1);
	result |= sha256_update(&state, (const unsigned char *)m->timestamp, m->timestamp_length);
	result |= sha256_update(&state, dot, 1);
	result |= sha256_update(&state, m->body, m->body_length);
	result |= sha256_finish(&state, digest);
	mbedtls_sha256_clone(&state, &key->outer);
	result |= sha256_update(&state, digest, DIGEST);
	result |= sha256_finish(&state, digest);
	mbedtls_sha256_free(&state);
	return result == 0 ? 0 : -1;
}

int
verify_keyring_sign(const struct keyring *keyring, size_t i, const struct message *message,
    char signature[SIGNATURE_SIZE + 1])
{
	unsigned char digest[DIGEST];
	int result = mac(&keyring->keys[i], message, digest);

	memcpy(signature, "v1,", 3);
	crypto_base64_encode(digest, DIGEST, signature + 3);
	mbedtls_platform_zeroize(digest, sizeof(digest));
	return result;
}

/*
 * The part of the list that is the expected signature, or NULL. The texts are compared, so
 * that no base64 must be decoded: another spelling of the same bytes does not match.
 */
static const char *
find_signature(const char *list, size_t length, const char *expected)
{
	const char *end = list + length, *found = NULL;

	for (const char *part = list; part < end;) {
		const char *space = memchr(part, ' ', (size_t)(end - part));
		size_t n = (size_t)((space != NULL ? space : end) - part);
		if (n == SIGNATURE_SIZE && mbedtls_ct_memcmp(part, expected, SIGNATURE_SIZE) == 0)
			found = part;
		part += n + 1;
	}
	return found;
}

bool
verify_timestamp_parse(const char *text, size_t length, int64_t *seconds)
{
	int64_t value = 0;

	if (length < 1 || length > 12 || text[0] == '0')
		return false;
	for (size_t i = 0; i < length; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		value = value * 10 + (text[i] - '0');
	}
	*seconds = value;
	return true;
}

enum verify_result
verify_timestamp_in_tolerance(int64_t skew, int64_t tolerance)
{
	if (skew > tolerance)
		return VERIFY_STALE;
	return skew < -tolerance ? VERIFY_FUTURE : VERIFY_OK;
}

enum verify_result
verify(const struct keyring *keyring, const struct message *message, const char *signatures,
    size_t signatures_length, int64_t now, int64_t tolerance, struct verification *outcome)
{
	char expected[SIGNATURE_SIZE + 1];
	int64_t seconds;

	memset(outcome, 0, sizeof(*outcome));
	if (!verify_timestamp_parse(message->timestamp, message->timestamp_length, &seconds))
		return VERIFY_ERROR;
	outcome->skew = now - seconds;
	for (size_t i = 0; i < keyring->count && !outcome->matched; i++) {
		if (verify_keyring_sign(keyring, i, message, expected) != 0)
			return VERIFY_ERROR;
		outcome->signature = find_signature(signatures, signatures_length, expected);
		outcome->matched = outcome->signature != NULL;
		outcome->key = outcome->matched ? keyring->keys[i].fingerprint : NULL;
	}
	mbedtls_platform_zeroize(expected, sizeof(expected));
	enum verify_result timely = verify_timestamp_in_tolerance(outcome->skew, tolerance);
	if (timely != VERIFY_OK)
		return timely;
	return outcome->matched ? VERIFY_OK : VERIFY_MISMATCH;
}
