/* Owns the names of events: how a webhook-id becomes a file name, and which names are such. */
#include <stdio.h>
#include <string.h>

#include "base/crypto.h"
#include "store/store.h"

enum { NAME_ENCODED_MAX = 200 };

static bool
is_plain(unsigned char c)
{
	return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
	    c == '_' || c == '-';
}

int
store_name(const void *id, size_t length, char name[STORE_NAME_SIZE])
{
	static const char hex[] = "0123456789ABCDEF";
	const unsigned char *byte = id;
	size_t n = 0;

	for (size_t i = 0; i < length; i++) {
		size_t more = is_plain(byte[i]) ? 1 : 3;
		if (n + more > NAME_ENCODED_MAX) {
			char digest[65];
			if (crypto_sha256_hex(id, length, digest) != 0)
				return -1;
			/* '%' and no hex digit: no encoded id begins like that. */
			snprintf(name, STORE_NAME_SIZE, "%%sha256-%s.json", digest);
			return 0;
		}
		if (more == 1) {
			name[n++] = (char)byte[i];
			continue;
		}
		name[n++] = '%';
		name[n++] = hex[byte[i] >> 4];
		name[n++] = hex[byte[i] & 15];
	}
	memcpy(name + n, ".json", sizeof(".json"));
	return 0;
}

/* The value of an upper-case hex digit, or -1. */
static int
hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

bool
store_name_valid(const char *name)
{
	size_t length = strlen(name);

	if (length < 6 || strcmp(name + length - 5, ".json") != 0)
		return false;
	length -= 5;
	if (strncmp(name, "%sha256-", 8) == 0)
		return length == 8 + 64 && strspn(name + 8, "0123456789abcdef") == 64;
	if (length > NAME_ENCODED_MAX)
		return false;
	for (size_t i = 0; i < length; i++) {
		if (is_plain((unsigned char)name[i]))
			continue;
		if (name[i] != '%' || i + 2 >= length)
			return false;
		int high = hex_value(name[i + 1]), low = hex_value(name[i + 2]);
		/* A byte that needs no encoding has one name alone: itself. */
		if (high < 0 || low < 0 || is_plain((unsigned char)(high * 16 + low)))
			return false;
		i += 2;
	}
	return true;
}
