/*
 * What the fuzz targets share: fields of an input, and a second opinion on signatures
 * by another library (OpenSSL).
 */
#ifndef ORACLE_H
#define ORACLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A promise that the input broke: its text is in the report. */
#define MUST(condition) must((condition), #condition, __FILE__, __LINE__)
void must(bool holds, const char *text, const char *file, int line);

/*
 * Cut the next field off the input: up to a newline or the end. A copy with a NUL that
 * belongs to the caller; *length without it.
 */
char *field(const uint8_t **data, size_t *size, size_t *length);

/* The key of SECRET, and what is signed with it, as "v1,BASE64" and a NUL. */
#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define SIGNED_SIZE 48
void reference_sign(const void *key, size_t key_length, const char *id, size_t id_length,
    const char *timestamp, size_t timestamp_length, const void *body, size_t body_length,
    char text[SIGNED_SIZE]);
/* The key of SECRET, 24 bytes. */
const unsigned char *reference_key(void);
/* Whether a part of the space-separated list is the text. */
bool reference_lists(const char *list, const char *text);

#endif
