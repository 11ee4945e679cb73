/*
 * What null.c and store.c share: an event is put into the store with all the calls that the
 * receiver makes, and no others.
 */
#ifndef PSAPI_BENCH_PUT_H
#define PSAPI_BENCH_PUT_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/config.h"
#include "events.h"
#include "store/store.h"

/* The store of this directory, with the default settings. Ends the process if there is none. */
static struct store *
put_open(const char *directory)
{
	char setting[512];
	const char *settings[] = {setting};
	static struct config config; /* the store borrows its strings */
	struct store *store = NULL;
	struct error error;

	snprintf(setting, sizeof(setting), "PSAPI_SPOOL=%s", directory);
	if (config_load(&config, "/dev/null", settings, 1, &error) == 0)
		store = store_open(&config, true, &error);
	if (store == NULL) {
		fprintf(stderr, "%s: %s\n", error.text, error.remedy);
		exit(1);
	}
	return store;
}

/* Put an event of this webhook-id, which must be new. Ends the process if that fails. */
static void
put_event(struct store *store, const char *id, const void *body, size_t length,
    const struct event *event)
{
	static const char signature[] = "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
	struct evidence evidence = {.id = id, .id_length = strlen(id), .timestamp = "1753397465",
		.timestamp_length = 10, .signature = signature, .signature_length = sizeof(signature) - 1};
	char name[STORE_NAME_SIZE];
	struct record record;
	struct error error = {.text = "not put"};
	struct store_intake intake = {.name = name, .destination = STORE_QUEUE, .event = event,
		.record = &record};

	clock_gettime(CLOCK_REALTIME, &intake.now);
	evidence.received_at = intake.now;
	if (store_name(id, strlen(id), name) == 0 && store_find(store, name, &error) == STORE_ABSENT &&
	    !store_is_full(store, 1) && record_make(&record, &evidence, body, length, true) == 0 &&
	    store_put(store, &intake, &error) == STORE_OK) {
		record_free(&record);
		return;
	}
	fprintf(stderr, "%s: %s\n", id, error.text);
	exit(1);
}

#endif
