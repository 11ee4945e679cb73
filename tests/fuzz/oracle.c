/* Owns the second opinion: OpenSSL, and the plainest string handling. */
#define _GNU_SOURCE
#include "oracle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/hmac.h>

void
must(bool holds, const char *text, const char *file, int line)
{
	if (holds)
		return;
	fprintf(stderr, "%s:%d: broken: %s\n", file, line, text);
	abort();
}

char *
field(const uint8_t **data, size_t *size, size_t *length)
{
	const uint8_t *end = *size > 0 ? memchr(*data, '\n', *size) : NULL;
	size_t n = end != NULL ? (size_t)(end - *data) : *size;
	char *copy = malloc(n + 1);

	if (n > 0)
		memcpy(copy, *data, n);
	copy[n] = '\0';
	*data += end != NULL ? n + 1 : n;
	*size -= end != NULL ? n + 1 : n;
	*length = n;
	return copy;
}

const unsigned char *
reference_key(void)
{
	static unsigned char key[32];

	EVP_DecodeBlock(key, (const unsigned char *)SECRET + 6, 32);
	return key;
}

void
reference_sign(const void *key, size_t key_length, const char *id, size_t id_length,
    const char *timestamp, size_t timestamp_length, const void *body, size_t body_length,
    char text[SIGNED_SIZE])
{
	size_t length = id_length + timestamp_length + body_length + 2;
	unsigned char *content = malloc(length), mac[32];
	unsigned n = 0;

	memcpy(content, id, id_length);
	content[id_length] = '.';
	memcpy(content + id_length + 1, timestamp, timestamp_length);
	content[id_length + 1 + timestamp_length] = '.';
	if (body_length > 0)
		memcpy(content + id_length + timestamp_length + 2, body, body_length);
	HMAC(EVP_sha256(), key, (int)key_length, content, length, mac, &n);
	memcpy(text, "v1,", 3);
	EVP_EncodeBlock((unsigned char *)text + 3, mac, 32);
	free(content);
}

bool
reference_lists(const char *list, const char *text)
{
	char *copy = strdup(list);
	bool found = false;

	for (char *rest = copy, *part; (part = strsep(&rest, " ")) != NULL;)
		found = found || strcmp(part, text) == 0;
	free(copy);
	return found;
}
