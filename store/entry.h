/*
 * A record read back, as strictly as record_make() wrote it: the evidence line, the body
 * as it was signed, what the event says of itself.
 */
#ifndef PSAPI_ENTRY_H
#define PSAPI_ENTRY_H

#include <stddef.h>
#include <stdint.h>

#include "events.h"

struct entry {
	char *id; /* webhook-id; NUL-terminated, and holds none */
	char *timestamp; /* webhook-timestamp */
	char *signature; /* the part of webhook-signature that matched */
	char *received_at;
	int64_t received; /* nanoseconds since 1970 */
	const char *body;
	size_t body_length;
	struct event event; /* what the body says */
	char *text;    /* of the whole record; body points into it, or into decoded */
	size_t size;   /* of it */
	char *decoded;
};

enum entry_result {
	ENTRY_OK,
	ENTRY_ABSENT, /* there is no such file (any more) */
	ENTRY_INVALID, /* no record; *why says what is wrong, static memory */
	ENTRY_ERROR   /* it cannot be read: errno, and *why as a text */
};

/*
 * Parse a record in memory: text of size bytes, with room for a NUL behind them, which
 * malloc(3) made and the entry owns from now on. Returns NULL, and the caller frees the
 * entry; or what is wrong, static memory, and the text is freed.
 */
const char *entry_parse(struct entry *entry, char *text, size_t size);

/*
 * Read and parse an open file, from where it stands to its end. ENTRY_OK: the caller
 * frees the entry. Anything else: there is nothing to free.
 */
enum entry_result entry_read(int fd, struct entry *entry, const char **why);

/*
 * Open a file that may hold a record: name in directory dir, or AT_FDCWD and any path. It does
 * not follow a symbolic link, and does not wait for a FIFO. ENTRY_OK: *fd is the caller's.
 */
enum entry_result entry_open(int dir, const char *name, int *fd, const char **why);

void entry_free(struct entry *entry);

/* Free the record's text, and with it the body. What the event says, and the evidence, stay. */
void entry_drop_text(struct entry *entry);

/* When the event was generated, nanoseconds since 1970; when it was received if it does not say. */
int64_t entry_when(const struct entry *entry);

/*
 * Its lane, the ordering key: events of one lane are handled one after the other. The events
 * of one NPN are a lane; of those without an NPN, the events of one type are. It is a hash:
 * lanes that share a value would only wait for each other.
 */
uint64_t entry_lane(const struct event *event);

#endif
