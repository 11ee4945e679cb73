/*
 * The event: its envelope, the known types and their data, and where it goes. record.h has the
 * form in which it is stored.
 */
#ifndef PSAPI_EVENTS_H
#define PSAPI_EVENTS_H

#include <stdbool.h>
#include <stddef.h>

/*
 * The type of the probes that `psapi doctor` sends: verified and stored like any event, but
 * never queued, for no handler wants them.
 */
#define EVENTS_DOCTOR_TYPE "psapi.doctor"

/*
 * How the ids of deliveries from `psapi send` and `psapi doctor` begin. The sender's are
 * "msg_" and a KSUID, of which none begins with "p".
 */
#define EVENTS_TEST_ID "msg_psapi"

/*
 * The event that the sender sends at least once a day. It is late when it is two hours overdue:
 * 26 hours after the last one.
 */
#define EVENTS_DAILY_TYPE "producersync.updates_available"
#define EVENTS_DAILY_LATE_SECONDS 93600

/* Where an authentic event goes. */
enum event_queue {
	QUEUE_NEW,    /* new/: to be handled */
	QUEUE_FAILED, /* failed/: authentic but invalid: an operator decides */
	QUEUE_NONE    /* events/ alone: the probe of psapi doctor */
};

/* The fields of an event. Longer texts are cut. */
struct event {
	enum event_queue queue;
	bool parsed;         /* Jansson can parse the body: it is stored as it is, else as base64 */
	const char *invalid; /* why it goes to failed/, a sentence in static memory; else NULL */
	char type[128];     /* "type", "" if there is none */
	char id[128];       /* "id": not the idempotency key, that is webhook-id */
	char timestamp[48]; /* "timestamp": ISO 8601, when the event was generated */
	char npn[24];       /* data.npn, "" if there is none */
	char run_date[16];  /* data.runDate, "" if there is none */
};

/*
 * Seed Jansson's hash tables from /dev/urandom. For a process whose sandbox forbids to open
 * that later, when the first event comes.
 */
void events_seed(void);

/* The known types, whose data is checked: number i, from 0; NULL after the last. */
const char *events_known_type(size_t i);

/*
 * Read a body. Never fails: a body that is not JSON, or no event, is QUEUE_FAILED with
 * the reason; an unknown type is normal and QUEUE_NEW.
 */
void events_read(const void *body, size_t length, struct event *event);

#endif
