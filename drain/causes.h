/*
 * Events that failed, or wait for a retry, in groups: those with the same handler and the same
 * reason have one cause. The memory is bounded: when there are CAUSES_MAX groups, the events of
 * any further one count together.
 */
#ifndef PSAPI_CAUSES_H
#define PSAPI_CAUSES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/store.h"

enum { CAUSES_MAX = 500, CAUSES_TEXT_SIZE = 256 };

struct cause {
	char handler[CAUSES_TEXT_SIZE]; /* "" if none ran */
	char reason[CAUSES_TEXT_SIZE];  /* causes_reason() */
	bool others;                    /* of further groups: handler and reason are "" */
	size_t count;
	int64_t first, last;            /* when they failed, Unix seconds */
	char name[STORE_NAME_SIZE];     /* of the last one; a webhook-id that is too long */
	char id[CAUSES_TEXT_SIZE];      /* is its name as well */
};

struct causes {
	struct cause cause[CAUSES_MAX + 1];
	size_t count;
};

/* A reason without ", try 3 of at most 10" at its end. */
void causes_text(const char *text, char reason[CAUSES_TEXT_SIZE]);

/* The reason of a state without that: the same at each try. */
void causes_reason(const struct handler_state *state, char reason[CAUSES_TEXT_SIZE]);

/* Add an event. No causes are all zero. */
void causes_add(struct causes *causes, const struct store_item *item);

/* The most frequent first; the others last. */
void causes_sort(struct causes *causes);

/* A row of `psapi list --by-cause --json`, which the caller frees. */
json_t *causes_json(const struct cause *cause);

#endif
