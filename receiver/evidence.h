/* Whether a stored event is authentic: its signature, computed again from its evidence. */
#ifndef PSAPI_EVIDENCE_H
#define PSAPI_EVIDENCE_H

#include "store/store.h"
#include "verify.h"

/*
 * The fingerprint of the secret that signed the event, or NULL. It is owned by its keyring. The
 * timestamp is not compared with the clock: the receiver did that when the event arrived.
 */
const char *evidence_key(struct keyring *const *rings, int count, const struct entry *entry);

/* The message where evidence_key() returns NULL. */
extern const char evidence_unproven[];

#endif
