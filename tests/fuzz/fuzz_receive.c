/*
 * The whole decision, with OpenSSL as the judge: a 200 only for what is authentic, and
 * nothing authentic and well-formed is refused. Input: fields, one a line: method,
 * encoding, content-length, id, timestamp, signature; then the body. In the signature
 * GOOD stands for the right one; a content-length "=" for the right one.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "oracle.h"
#include "receiver/receive.h"

enum { NOW = 1753397465, TOLERANCE = 300, MAX_BODY = 4096 };
enum { METHOD, ENCODING, LENGTH, ID, TIMESTAMP, SIGNATURE, FIELDS };

struct body {
	const uint8_t *data;
	size_t left;
};

static char directory[] = "/dev/shm/psapi-fuzz-XXXXXX", sync_auto[] = "auto";
static struct config config = {.spool = directory, .sync = sync_auto, .tolerance = TOLERANCE,
	.max_body = MAX_BODY, .read_timeout = 10};
static struct receiver receiver = {.config = &config};

static int
remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void
clean_up(void)
{
	nftw(directory, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static void
start(void)
{
	static char secret[64];
	struct error error;
	int fd = memfd_create("secret", 0);

	snprintf(secret, sizeof(secret), "/proc/self/fd/%d", fd);
	MUST(fd >= 0 && fchmod(fd, 0640) == 0 && dprintf(fd, "%s\n", SECRET) > 0);
	MUST(mkdtemp(directory) != NULL);
	MUST((receiver.store = store_open(&config, true, &error)) != NULL);
	receiver.secrets = secrets_open(secret);
	receiver.attempts = attempts_open(directory);
	atexit(clean_up);
}

static ssize_t
read_body(void *stream, void *buffer, size_t size)
{
	struct body *body = stream;
	size_t n = size < body->left ? size : body->left;

	memcpy(buffer, body->data, n);
	body->data += n;
	body->left -= n;
	return (ssize_t)n;
}

/* Take away what was stored, so that each input meets an empty spool. Returns how much it was. */
static int
emptied(const char *id)
{
	static const char *const dirs[] = {"new", "failed", "state", "events"};
	char name[STORE_NAME_SIZE], path[PATH_MAX];
	int removed = -1;

	MUST(store_name(id, strlen(id), name) == 0);
	for (int i = 0; i < 4; i++) {
		snprintf(path, sizeof(path), "%s/%s/%s", directory, dirs[i], name);
		removed = unlink(path);
	}
	return removed == 0 ? 1 : 0;
}

/* Replace GOOD by the signature. A new string. */
static char *
with_good(const char *text, const char *signature)
{
	char *out = NULL;
	const char *good = strstr(text, "GOOD");

	if (good == NULL)
		return strdup(text);
	MUST(asprintf(&out, "%.*s%s%s", (int)(good - text), text, signature, good + 4) > 0);
	return out;
}

/* As the specification has it, and within the tolerance. */
static bool
is_timely(const char *text)
{
	size_t digits = strspn(text, "0123456789");

	return digits == strlen(text) && digits >= 1 && digits <= 12 && text[0] != '0' &&
	    llabs(NOW - atoll(text)) <= TOLERANCE;
}

static bool
is_well_formed(char *const f[FIELDS], size_t body_length)
{
	if (strcmp(f[METHOD], "POST") != 0 ||
	    (*f[ENCODING] != '\0' && strcasecmp(f[ENCODING], "identity") != 0))
		return false;
	if (*f[ID] == '\0' || !is_timely(f[TIMESTAMP]))
		return false;
	/* ", " is how a server joins a header that came twice. */
	if (strstr(f[ID], ", ") != NULL || strstr(f[SIGNATURE], ", ") != NULL)
		return false;
	return *f[LENGTH] == '\0' ||
	    (strspn(f[LENGTH], "0123456789") == strlen(f[LENGTH]) && strlen(f[LENGTH]) < 10 &&
	        (size_t)atol(f[LENGTH]) <= body_length);
}

static void
judge(char *const f[FIELDS], size_t size, const struct reply *reply, const char *right)
{
	bool authentic = reference_lists(f[SIGNATURE], right);
	bool joined = strstr(f[ID], ", ") != NULL || strstr(f[SIGNATURE], ", ") != NULL ||
	    strstr(f[TIMESTAMP], ", ") != NULL;

	if (reply->status == 200 && !joined)
		MUST(authentic && is_timely(f[TIMESTAMP]) && strcmp(f[METHOD], "POST") == 0);
	if (authentic && size <= MAX_BODY && is_well_formed(f, size))
		MUST(reply->status == 200);
	MUST(reply->body[strlen(reply->body) - 1] == '\n');
	for (const char *c = reply->body; c[1] != '\0'; c++)
		MUST(*c >= 0x20 && *c < 0x7f);
	if (!authentic)
		MUST(strstr(reply->body, right + 3) == NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = {"REQUEST_METHOD", "HTTP_CONTENT_ENCODING", "CONTENT_LENGTH",
		"HTTP_WEBHOOK_ID", "HTTP_WEBHOOK_TIMESTAMP", "HTTP_WEBHOOK_SIGNATURE"};
	char *f[FIELDS], *variables[FIELDS + 1] = {NULL}, right[SIGNED_SIZE], number[24];
	struct request request = {.variables = variables, .read = read_body};
	struct timespec now = {NOW, 0};
	struct reply reply;
	size_t length;

	if (receiver.secrets == NULL)
		start();
	for (int i = 0; i < FIELDS; i++)
		f[i] = field(&data, &size, &length);
	if (strcmp(f[LENGTH], "=") == 0) {
		snprintf(number, sizeof(number), "%zu", size);
		free(f[LENGTH]);
		f[LENGTH] = strdup(number);
	}
	reference_sign(reference_key(), 24, f[ID], strlen(f[ID]), f[TIMESTAMP],
	    strlen(f[TIMESTAMP]), data, size, right);
	char *signature = with_good(f[SIGNATURE], right);
	free(f[SIGNATURE]);
	f[SIGNATURE] = signature;
	for (int i = 0; i < FIELDS; i++)
		MUST(asprintf(&variables[i], "%s=%s", names[i], f[i]) > 0);
	struct body body = {data, size};
	request.stream = &body;
	receive(&receiver, &request, now, &reply);
	judge(f, size, &reply, right);
	if (strstr(f[ID], ", ") == NULL && *f[ID] != '\0')
		MUST(emptied(f[ID]) == (reply.status == 200 ? 1 : 0));
	for (int i = 0; i < FIELDS; i++) {
		free(variables[i]);
		free(f[i]);
	}
	return 0;
}
