/*
 * The event: its envelope, the table of known types, and how it is written into
 * a file of the spool together with the evidence that AgentSync signed it.
 */
#ifndef PSAPI_EVENTS_H
#define PSAPI_EVENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>
#include <time.h>

/* Where an authentic event goes. */
enum event_queue {
	QUEUE_NEW,    /* new/: to be handled */
	QUEUE_FAILED, /* failed/: authentic but odd, needs a human */
	QUEUE_NONE    /* events/ alone: the probe of psapi doctor */
};

/* What is known of an event. Texts that are longer are cut. */
struct event {
	enum event_queue queue;
	bool parsed;        /* Jansson understands the body: it is kept as it is, else as base64 */
	const char *odd;    /* why it goes to failed/, a sentence in static memory; else NULL */
	char type[128];     /* "type", "" if there is none */
	char id[128];       /* "id": not the idempotency key, that is webhook-id */
	char timestamp[48]; /* "timestamp": ISO 8601, when the event was generated */
	char npn[24];       /* data.npn, "" if there is none */
	char run_date[16];  /* data.runDate, "" if there is none */
};

/*
 * Seed Jansson's hash tables, from /dev/urandom: by a process that will not be able to
 * open that any more when the first event comes.
 */
void event_seed(void);

/*
 * Read a body. Never fails: what is not JSON, or no event, is QUEUE_FAILED with
 * the reason; an unknown type is normal and QUEUE_NEW.
 */
void event_read(const void *body, size_t length, struct event *event);

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

/* The contents of a spool file as pieces for writev(2). */
struct record {
	struct iovec iov[3];
	int count;
	char *heap[2];   /* owned: a head that is too long for the one below, the body as base64 */
	char head[1024]; /* the evidence line */
};

/*
 * Make the contents of a spool file, version 1: the evidence line, the body byte
 * for byte as it was signed, "\n}\n"; or for a body that is not parsed one line
 * with "event":null and "body_base64". The body is borrowed until record_free();
 * the record must not be copied. Returns 0, or -1 without memory (nothing to free).
 */
int record_make(struct record *record, const struct evidence *evidence, const void *body,
    size_t length, bool parsed);
void record_free(struct record *record);

/* Room for "2025-07-24T22:51:05.391Z" and a NUL. */
#define ISO_TIME_SIZE 25
/* UTC time with milliseconds, RFC 3339. */
void iso_time(struct timespec time, char text[ISO_TIME_SIZE]);

#endif
