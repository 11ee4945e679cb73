/* From the attempts log: when each secret last proved a request of the sender's. */
#ifndef PSAPI_LAST_MATCH_H
#define PSAPI_LAST_MATCH_H

#include <jansson.h>

#include "base/datetime.h"
#include "secrets/secretfile.h"
#include "verify.h"

struct last_match {
	char fingerprint[FINGERPRINT_SIZE];
	char at[DATETIME_ISO_SIZE]; /* "" if it never did, as far as the log goes back */
};

/*
 * Fill in at for each of count fingerprints, from the attempts log of the spool at path and
 * the ones that were rotated. Deliveries of psapi send and doctor do
 * not count: they are signed with every secret of the file. Returns 0, or -1 with errno if
 * the log cannot be read; then every at is "".
 */
int last_match_find(const char *path, struct last_match *matches, int count);
/* The same, with a look at no more lines than this. */
int last_match_find_within(const char *path, struct last_match *matches, int count, long lines);

/* A row of `psapi secret list --json`, which the caller frees. It has no secret. */
json_t *last_match_json(const struct secretfile_entry *entry, const char *matched);

#endif
