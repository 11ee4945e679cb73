/*
 * The state of an event that was tried, waits for its retry, or failed. The store keeps it beside
 * the event.
 */
#ifndef PSAPI_HANDLER_STATE_H
#define PSAPI_HANDLER_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes at the end of a handler's standard error that are kept. */
#define HANDLER_STATE_STDERR_MAX 4096

struct handler_state {
	int tries;         /* handler runs so far */
	int64_t tried_at;  /* the last one, Unix seconds; 0: never */
	int64_t due_at;    /* the next one, Unix seconds; 0: at once */
	int64_t failed_at; /* when it became a dead letter; 0: it did not */
	bool alone;        /* the next run is for it alone, in a batch of one */
	char handler[256]; /* which one ran; "" if none did */
	char reason[256];  /* why the last run was no success, or why it failed */
	char stderr_end[HANDLER_STATE_STDERR_MAX + 1]; /* the end of standard error; text, made UTF-8 */
};

/* Read the JSON of a state. False if it is not readable: then all is zero. */
bool handler_state_parse(const char *text, size_t length, struct handler_state *state);

/* The JSON of a state, one line, which the caller frees; NULL without memory. */
char *handler_state_format(const struct handler_state *state);

#endif
