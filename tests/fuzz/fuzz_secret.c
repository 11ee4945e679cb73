/* The secret file: each line as a secret, and the whole file as it is read. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/mman.h>
#include <unistd.h>

#include "oracle.h"
#include "secrets/secrets.h"

/* A secret that was taken signs as OpenSSL does with the same text decoded. */
static void
check_key(const struct keyring *keyring, const char *text)
{
	unsigned char key[300];
	char padded[256] = "", ours[SIGNATURE_SIZE + 1], theirs[SIGNED_SIZE];
	struct message m = {"id", 2, "1", 1, "body", 4};

	text += strspn(text, " \t\r\n\v\f");
	if (strncmp(text, "whsec_", 6) == 0)
		text += 6;
	size_t n = strcspn(text, "= \t\r\n\v\f");
	MUST(n < sizeof(padded) - 4);
	memcpy(padded, text, n);
	size_t missing = (4 - n % 4) % 4;
	memcpy(padded + n, "===", missing);
	int length = EVP_DecodeBlock(key, (unsigned char *)padded, (int)(n + missing));
	MUST(length > 0);
	length -= (int)missing;
	MUST(length >= KEY_MIN && length <= KEY_MAX);
	reference_sign(key, (size_t)length, "id", 2, "1", 1, "body", 4, theirs);
	MUST(verify_keyring_sign(keyring, 0, &m, ours) == 0 && strcmp(ours, theirs) == 0);
}

static void
check_file(const uint8_t *data, size_t size)
{
	char path[64];
	struct error error;
	int fd = memfd_create("secret", MFD_CLOEXEC);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	MUST(fd >= 0 && fchmod(fd, 0640) == 0 && write(fd, data, size) == (ssize_t)size);
	struct keyring *keyring = secrets_read(path, &error);
	MUST(keyring != NULL ? verify_keyring_size(keyring) > 0 : *error.text != '\0');
	verify_keyring_free(keyring);
	close(fd);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct keyring *keyring = verify_keyring_new();
	char *text = malloc(size + 1);

	if (size > 0)
		memcpy(text, data, size);
	text[size] = '\0';
	bool good = verify_keyring_add(keyring, text, size) == SECRET_GOOD;
	MUST(verify_keyring_size(keyring) == (good ? 1 : 0));
	if (good)
		check_key(keyring, text);
	check_file(data, size);
	verify_keyring_free(keyring);
	free(text);
	return 0;
}
