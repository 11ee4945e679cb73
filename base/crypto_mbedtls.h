/* For the modules that call mbedTLS: one set of names for its versions 2.28 and 3. */
#ifndef PSAPI_CRYPTO_MBEDTLS_H
#define PSAPI_CRYPTO_MBEDTLS_H

#include <mbedtls/sha256.h>
#include <mbedtls/version.h>

/* In 2.28 the names of functions that return an error end in _ret. */
#if MBEDTLS_VERSION_MAJOR < 3
#define sha256_starts mbedtls_sha256_starts_ret
#define sha256_update mbedtls_sha256_update_ret
#define sha256_finish mbedtls_sha256_finish_ret
#else
#define sha256_starts mbedtls_sha256_starts
#define sha256_update mbedtls_sha256_update
#define sha256_finish mbedtls_sha256_finish
#endif

#endif
