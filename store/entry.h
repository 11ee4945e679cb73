/*
 * A file of the spool read back, as strictly as record_make() (events.h) wrote it:
 * the evidence line, the body as it was signed, what the event says of itself.
 */
#ifndef PSAPI_ENTRY_H
#define PSAPI_ENTRY_H

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

#include "events.h"
#include "store/spool/spool.h"

struct entry {
	char *id; /* webhook-id; NUL-terminated, and holds none */
	char *timestamp; /* webhook-timestamp */
	char *signature; /* the part of webhook-signature that matched */
	char *received_at;
	int64_t received; /* nanoseconds since 1970 */
	const char *body;
	size_t body_length;
	struct event event; /* what the body says */
	struct stat st;
	char *text;    /* of the whole file; body points into it, or into decoded */
	char *decoded;
};

enum entry_result {
	ENTRY_OK,
	ENTRY_ABSENT, /* there is no such file (any more) */
	ENTRY_ODD,    /* no file of a spool; *why says what is wrong, static memory */
	ENTRY_ERROR   /* it cannot be read: errno, and *why as a text */
};

/*
 * Read file name in directory dir (a descriptor, or AT_FDCWD for any path).
 * ENTRY_OK: the caller frees the entry. Anything else: nothing to free.
 */
enum entry_result entry_read(int dir, const char *name, struct entry *entry, const char **why);

/*
 * The same for a name of the spool, which must also be the name of the webhook-id
 * that the file holds.
 */
enum entry_result entry_read_named(struct spool *spool, enum spool_dir dir, const char *name,
    struct entry *entry, const char **why);

void entry_free(struct entry *entry);

/* When the event was generated, nanoseconds since 1970; when it was received if it does not say. */
int64_t entry_when(const struct entry *entry);

/*
 * Its lane: within one, events are handled one after the other. Events of one NPN
 * are one, events without an NPN one per type. A hash: lanes that share a value
 * would only wait for each other.
 */
uint64_t entry_lane(const struct event *event);

#endif
