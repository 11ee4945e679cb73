/*
 * Adoption: held requests (store.h) are verified; the timestamp of each is compared with the time
 * when it arrived. An authentic one is accepted like a new one.
 */
#ifndef PSAPI_ADOPT_H
#define PSAPI_ADOPT_H

#include <stdbool.h>

#include "receiver/receive.h"

struct adoption {
	bool discard; /* the caller's: remove requests that match no secret in force */
	int discarded;
	int adopted;  /* accepted, or duplicates of an accepted event; removed from hold/ */
	int unproven; /* no secret in force matches; they stay, for the right one may still come */
	int failed;   /* authentic but not stored, or the file cannot be read; they stay */
};

/*
 * For the receiver: adopt if other secrets are in force than at the last call, and log the
 * outcome. To be called after a reply was sent, and at the start. Safe from several threads.
 */
void adopt_once(struct receiver *receiver);

/*
 * For commands (adopt, drain): adopt once, with a receiver of its own. outcome->discard is the
 * caller's, the rest is filled in. Logs nothing while no request is held. Returns 0, or -1 with
 * *error.
 */
int adopt_now(const struct config *config, struct store *store, struct adoption *outcome,
    struct error *error);

#endif
