/*
 * Owns reading a record back. It has two forms (record.h): the evidence line ends with
 * "event": and the body follows, or one line holds the body as base64. A text that is not
 * exactly one of them was not written by a receiver.
 */
#define _GNU_SOURCE
#include "store/entry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/crypto.h"
#include "base/io.h"
#include "base/text.h"
#include "base/datetime.h"

/* PSAPI_MAX_BODY is at most 1 GiB; base64 and the evidence come on top. */
#define FILE_SIZE_MAX (3LL << 29)

static const char head_begin[] = "{\"webhook_id\":";
static const char head_end[] = ",\"event\":\n";
static const char file_end[] = "\n}\n";

/* ---- the file ---- */

static enum entry_result
error(const char **why)
{
	*why = strerror(errno);
	return errno == ENOENT ? ENTRY_ABSENT : ENTRY_ERROR;
}

/* The size of an open file that may hold an event. */
static enum entry_result
measure(int fd, size_t *size, const char **why)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return error(why);
	*why = S_ISREG(st.st_mode) ? "it is larger than any event" : "it is no regular file";
	*size = (size_t)st.st_size;
	return S_ISREG(st.st_mode) && st.st_size <= FILE_SIZE_MAX ? ENTRY_OK : ENTRY_INVALID;
}

enum entry_result
entry_read(int fd, struct entry *entry, const char **why)
{
	size_t size = 0;
	enum entry_result result = measure(fd, &size, why);

	if (result != ENTRY_OK)
		return result;
	char *text = malloc(size + 1);
	ssize_t n = text == NULL ? -1 : io_read_all(fd, text, size);
	if (n != (ssize_t)size) {
		errno = n >= 0 ? EIO : errno; /* it shrank: no file of ours does */
		result = error(why);
		free(text);
		return result;
	}
	errno = 0;
	*why = entry_parse(entry, text, size);
	/* Without memory it is not known what it is: it is never called invalid for that. */
	if (*why != NULL && errno == ENOMEM)
		return error(why);
	return *why == NULL ? ENTRY_OK : ENTRY_INVALID;
}

enum entry_result
entry_open(int dir, const char *name, int *fd, const char **why)
{
	/* O_NONBLOCK: a FIFO must not stop us before it is seen to be one. */
	*fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (*fd >= 0)
		return ENTRY_OK;
	*why = errno == ELOOP ? "it is a symbolic link" : "it is no regular file";
	return errno == ELOOP || errno == ENXIO ? ENTRY_INVALID : error(why);
}

/* ---- its contents ---- */

static bool
take_string(const json_t *object, const char *key, char **text)
{
	const json_t *value = json_object_get(object, key);
	const char *string = json_string_value(value);

	if (string == NULL || strlen(string) != json_string_length(value))
		return false;
	return (*text = strdup(string)) != NULL;
}

/* Base64 as crypto_base64_encode() writes it, and no other spelling. NULL if it is not. */
static char *
decode(const json_t *value, size_t *length)
{
	const char *encoded = json_string_value(value);
	size_t size = json_string_length(value);
	char *data = encoded == NULL ? NULL : malloc(size / 4 * 3 + 1);
	char *again = data == NULL ? NULL : malloc(CRYPTO_BASE64_SIZE(size / 4 * 3));
	long n = again == NULL ? -1 : crypto_base64_decode(encoded, size, data, size / 4 * 3);

	if (n >= 0)
		crypto_base64_encode(data, (size_t)n, again);
	if (n < 0 || strcmp(again, encoded) != 0) {
		free(data);
		data = NULL;
	} else {
		data[n] = '\0';
		*length = (size_t)n;
	}
	free(again);
	return data;
}

/* webhook_id, or for one that is no UTF-8 null and webhook_id_base64. */
static bool
take_id(const json_t *object, struct entry *entry)
{
	size_t length;

	if (take_string(object, "webhook_id", &entry->id))
		return *entry->id != '\0';
	if (!json_is_null(json_object_get(object, "webhook_id")))
		return false;
	entry->id = decode(json_object_get(object, "webhook_id_base64"), &length);
	return entry->id != NULL && length > 0 && strlen(entry->id) == length;
}

/* The evidence, and that there is nothing else beside it and others more keys. */
static bool
take_evidence(const json_t *object, size_t others, struct entry *entry)
{
	if (!take_id(object, entry) ||
	    !take_string(object, "webhook_timestamp", &entry->timestamp) ||
	    !take_string(object, "webhook_signature", &entry->signature) ||
	    !take_string(object, "received_at", &entry->received_at))
		return false;
	if (json_object_get(object, "webhook_id_base64") != NULL)
		others++;
	return json_object_size(object) == 4 + others &&
	    datetime_parse(entry->received_at, &entry->received);
}

static void
free_evidence(struct entry *entry)
{
	free(entry->id);
	free(entry->timestamp);
	free(entry->signature);
	free(entry->received_at);
	entry->id = entry->timestamp = entry->signature = entry->received_at = NULL;
}

/*
 * The evidence line as almost all are, with no escape in it, read without Jansson: that is a fifth
 * of what drain takes for an event. False: another spelling, or none at all.
 */
static bool
take_plain_evidence(struct entry *entry, size_t head)
{
	static const char *const before[] = {"{\"webhook_id\":\"", "\",\"webhook_timestamp\":\"",
		"\",\"webhook_signature\":\"", "\",\"received_at\":\""};
	char **const texts[] = {&entry->id, &entry->timestamp, &entry->signature, &entry->received_at};
	const char *at = entry->text, *end = entry->text + head;

	for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++) {
		size_t length = strlen(before[i]);
		if ((size_t)(end - at) < length || memcmp(at, before[i], length) != 0)
			return false;
		at += length;
		const char *quote = memchr(at, '"', (size_t)(end - at));
		if (quote == NULL || !text_is_plain(at, (size_t)(quote - at)) ||
		    (*texts[i] = strndup(at, (size_t)(quote - at))) == NULL)
			return false;
		at = quote;
	}
	size_t mark = strlen(head_end);
	return (size_t)(end - at) == mark + 1 && memcmp(at + 1, head_end, mark) == 0 &&
	    *entry->id != '\0' && datetime_parse(entry->received_at, &entry->received);
}

/* The evidence alone is an object once its comma is a brace. */
static bool
parse_evidence(struct entry *entry, size_t head)
{
	size_t length = head - strlen(head_end);

	free_evidence(entry);
	entry->text[length] = '}';
	json_t *object = json_loadb(entry->text, length + 1, JSON_REJECT_DUPLICATES, NULL);
	entry->text[length] = ',';
	bool good = take_evidence(object, 0, entry);
	json_decref(object);
	return good;
}

/* "{…evidence,"event":" NEWLINE body NEWLINE "}" NEWLINE; head is the length of its first line. */
static bool
parse_plain(struct entry *entry, size_t head)
{
	size_t size = entry->size, tail = strlen(file_end);

	if (size < head + tail || memcmp(entry->text + size - tail, file_end, tail) != 0)
		return false;
	bool good = take_plain_evidence(entry, head) || parse_evidence(entry, head);
	entry->body = entry->text + head;
	entry->body_length = size - head - tail;
	return good;
}

static bool
parse_encoded(struct entry *entry)
{
	json_t *object =
	    json_loadb(entry->text, entry->size, JSON_REJECT_DUPLICATES, NULL);
	const json_t *event = json_object_get(object, "event");

	bool good = event != NULL && json_is_null(event) && take_evidence(object, 2, entry);
	if (good)
		entry->decoded = decode(json_object_get(object, "body_base64"), &entry->body_length);
	entry->body = entry->decoded;
	json_decref(object);
	return good && entry->body != NULL;
}

/* Fill the entry from its text. Returns NULL, or what is wrong. */
static const char *
parse(struct entry *entry)
{
	size_t size = entry->size, mark = strlen(head_end);
	char *newline = memchr(entry->text, '\n', size);

	if (size == 0)
		return "it is empty";
	if (newline == NULL || strncmp(entry->text, head_begin, strlen(head_begin)) != 0)
		return "it does not begin with an evidence line";
	size_t head = (size_t)(newline - entry->text) + 1;
	bool plain = head > mark && memcmp(newline + 1 - mark, head_end, mark) == 0;
	if (!(plain ? parse_plain(entry, head) : parse_encoded(entry)))
		return "it is not laid out as an event: evidence line, event, closing brace";
	events_read(entry->body, entry->body_length, &entry->event);
	if (plain && !entry->event.parsed)
		return "what follows the evidence line is not JSON";
	return NULL;
}

const char *
entry_parse(struct entry *entry, char *text, size_t size)
{
	memset(entry, 0, sizeof(*entry));
	text[size] = '\0';
	entry->text = text;
	entry->size = size;
	const char *invalid = parse(entry);
	if (invalid != NULL)
		entry_free(entry);
	return invalid;
}

void
entry_drop_text(struct entry *entry)
{
	free(entry->text);
	free(entry->decoded);
	entry->text = entry->decoded = NULL;
	entry->body = NULL;
	entry->body_length = entry->size = 0;
}

void
entry_free(struct entry *entry)
{
	free_evidence(entry);
	entry_drop_text(entry);
	memset(entry, 0, sizeof(*entry));
}

int64_t
entry_when(const struct entry *entry)
{
	int64_t when;

	return datetime_parse(entry->event.timestamp, &when) ? when : entry->received;
}

uint64_t
entry_lane(const struct event *event)
{
	const char *kind = *event->npn != '\0' ? "npn " : "type ";
	const char *key = *event->npn != '\0' ? event->npn : event->type;

	return text_hash(text_hash(TEXT_HASH, kind, strlen(kind)), key, strlen(key));
}
