/*
 * The last verdict of `psapi check`, a note of the store: what it has found, and when. The check
 * writes it, the page shows it.
 */
#ifndef PSAPI_HEALTH_H
#define PSAPI_HEALTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "store/store.h"

/* As Nagios counts. */
enum health_status { HEALTH_OK, HEALTH_WARNING, HEALTH_CRITICAL, HEALTH_UNKNOWN };

#define HEALTH_FINDINGS_MAX 40

struct health_finding {
	char name[24];
	enum health_status status;
	char text[512];
	char remedy[1024]; /* lines; "" where all is well */
	int64_t since;     /* of one that is not OK: Unix seconds */
};

struct health {
	int64_t at; /* Unix seconds */
	enum health_status status; /* the worst */
	struct health_finding finding[HEALTH_FINDINGS_MAX];
	int count;
	bool mails;   /* of a check --mail, the one that runs by itself */
	bool partial; /* a fault has kept others from being judged: what is absent may still be bad */
};

/* "OK", "WARNING", "CRITICAL", "UNKNOWN" */
const char *health_text(enum health_status status);

/*
 * Read the last one. Texts are as they were found: escape them where they are shown. False: there
 * was none yet, or it cannot be read.
 */
bool health_read(struct store *store, struct health *health);

/* Note it. That it cannot be noted is fine: a check by a user who may only read. */
void health_write(struct store *store, const struct health *health);

/* The one of that name; NULL if there is none. */
const struct health_finding *health_find(const struct health *health, const char *name);

/* What `psapi check --json` prints, which the caller frees. */
json_t *health_json(const struct health *health);

#endif
