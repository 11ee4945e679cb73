/*
 * Adoption: held requests (hold.h) are verified as of their time of arrival. An authentic
 * one is accepted exactly as if it had just arrived.
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
 * Pass the requests in hold/ to receive(), each at its time of arrival. Without a secret in
 * force all stay. outcome->discard is the caller's, the rest is filled in. Needs no lock: a
 * request that two processes adopt at once is a duplicate for one of them. Returns 0, or -1
 * with *error if they cannot be listed.
 */
int adopt_held(struct receiver *receiver, struct adoption *outcome, struct error *error);

/*
 * For the receiver: adopt if other secrets are in force than at the last call, and log the
 * outcome. To be called after a reply was sent, and at the start. Safe from several threads.
 */
void adopt_once(struct receiver *receiver);

/*
 * For commands (adopt, drain): adopt once, with a receiver of its own. Logs nothing while
 * no request is held. Returns 0, or -1 with *error.
 */
int adopt_now(const struct config *config, struct store *store, struct adoption *outcome,
    struct error *error);

#endif
