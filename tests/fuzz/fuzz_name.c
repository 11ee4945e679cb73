/* Names of events: any id has one that is valid, safe, and its own; nothing else is valid. */
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "store/store.h"

/* Undo the encoding. Returns the number of bytes. */
static size_t
decoded(const char *name, unsigned char *id)
{
	size_t n = 0, length = strlen(name) - 5;

	for (size_t i = 0; i < length; i++) {
		char hex[3] = {name[i + 1], name[i] == '%' ? name[i + 2] : '\0', '\0'};
		id[n++] = name[i] == '%' ? (unsigned char)strtoul(hex, NULL, 16) : (unsigned char)name[i];
		i += name[i] == '%' ? 2 : 0;
	}
	return n;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char name[STORE_NAME_SIZE], again[STORE_NAME_SIZE];
	unsigned char id[STORE_NAME_SIZE];
	char *text = malloc(size + 1);

	if (size > 0) /* a request without an id gets no name */ {
		MUST(store_name(data, size, name) == 0 && store_name_valid(name));
		MUST(strchr(name, '/') == NULL && name[0] != '.' && strlen(name) < STORE_NAME_SIZE);
		if (strncmp(name, "%sha256-", 8) != 0)
			MUST(decoded(name, id) == size && memcmp(id, data, size) == 0);
		memcpy(text, data, size);
	}
	/* And back: what is read from a directory is valid only if it can be written. */
	text[size] = '\0';
	if (store_name_valid(text) && strncmp(text, "%sha256-", 8) != 0) {
		size_t n = decoded(text, id);
		MUST(store_name(id, n, again) == 0);
		MUST(strcmp(again, text) == 0);
	}
	free(text);
	return 0;
}
