/*
 * A record, the form in which an event is stored: the event, byte for byte as it was signed, and
 * the evidence that AgentSync signed it. entry.h reads it back.
 */
#ifndef PSAPI_RECORD_H
#define PSAPI_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>
#include <time.h>

/* What proves an event: the signed headers as they came, and when. Borrowed. */
struct evidence {
	const char *id;
	size_t id_length;
	const char *timestamp;
	size_t timestamp_length;
	const char *signature; /* the part of webhook-signature that matched */
	size_t signature_length;
	struct timespec received_at;
};

/* A record as pieces for writev(2). */
struct record {
	struct iovec iov[3];
	int count;
	char *heap[2];   /* owned: an evidence line that is too long for head; the body as base64 */
	char head[1024]; /* the evidence line */
};

/*
 * Make a record, format 1: the evidence line, the body byte for byte as it was signed, "\n}\n";
 * or for a body that is not parsed one line with "event":null and "body_base64". The body is
 * borrowed until record_free(); the record must not be copied. Returns 0, or -1 without memory
 * (nothing to free).
 */
int record_make(struct record *record, const struct evidence *evidence, const void *body,
    size_t length, bool parsed);
void record_free(struct record *record);

#endif
