/* Hashes and encodings that mbedTLS provides: SHA-256 and base64. */
#ifndef PSAPI_CRYPTO_H
#define PSAPI_CRYPTO_H

#include <stddef.h>

/* SHA-256 as 64 lower-case hex digits and a NUL. Returns 0, or -1 if mbedTLS fails. */
int crypto_sha256_hex(const void *data, size_t length, char hex[65]);

/* Bytes that crypto_base64_encode() needs for length bytes, with its NUL. */
#define CRYPTO_BASE64_SIZE(length) (((length) + 2) / 3 * 4 + 1)
/* Base64 (RFC 4648, section 4) into text, which holds CRYPTO_BASE64_SIZE(length) bytes. */
void crypto_base64_encode(const void *data, size_t length, char *text);
/*
 * Decode base64 text into data (size bytes). Returns the number of bytes, or -1
 * if it is not base64 or does not fit.
 */
long crypto_base64_decode(const char *text, size_t length, void *data, size_t size);

#endif
