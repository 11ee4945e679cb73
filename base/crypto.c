/* Owns SHA-256 of whole texts and base64, both by mbedTLS. */
#include "base/crypto.h"

#include <mbedtls/base64.h>
#include <mbedtls/platform_util.h>

#include "base/crypto_mbedtls.h"

enum { DIGEST = 32 };

int
crypto_sha256_hex(const void *data, size_t length, char hex[65])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char digest[DIGEST];
	mbedtls_sha256_context state;
	int result;

	mbedtls_sha256_init(&state);
	result = sha256_starts(&state, 0);
	if (result == 0)
		result = sha256_update(&state, data, length);
	if (result == 0)
		result = sha256_finish(&state, digest);
	mbedtls_sha256_free(&state);
	if (result != 0)
		return -1;
	for (size_t i = 0; i < DIGEST; i++) {
		hex[2 * i] = digits[digest[i] >> 4];
		hex[2 * i + 1] = digits[digest[i] & 15];
	}
	mbedtls_platform_zeroize(digest, sizeof(digest)); /* it may be of a key */
	hex[64] = '\0';
	return 0;
}

void
crypto_base64_encode(const void *data, size_t length, char *text)
{
	size_t written = 0;

	/* Fails only for a buffer that is too small, which the contract rules out. */
	(void)mbedtls_base64_encode((unsigned char *)text, CRYPTO_BASE64_SIZE(length), &written, data,
	    length);
	text[written] = '\0';
}

long
crypto_base64_decode(const char *text, size_t length, void *data, size_t size)
{
	size_t written = 0;

	/* mbedTLS leaves out an incomplete group at the end. */
	if (length % 4 != 0 ||
	    mbedtls_base64_decode(data, size, &written, (const unsigned char *)text, length) != 0)
		return -1;
	return (long)written;
}
