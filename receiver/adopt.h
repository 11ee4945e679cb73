/*
 * Adoption: what was held is judged as of its time of arrival, and what is
 * authentic is accepted exactly as if it had just arrived.
 */
#ifndef PSAPI_ADOPT_H
#define PSAPI_ADOPT_H

#include <stdbool.h>

#include "receiver/receive.h"

struct adoption {
	bool discard; /* asked for: remove what a secret that is in force does not prove */
	int discarded;
	int adopted;  /* accepted, or a duplicate of an event that was; gone from hold/ */
	int unproven; /* no secret in force matches: they stay, the right one may yet come */
	int failed;   /* authentic, but could not be stored, or the file cannot be read: they stay */
};

/*
 * Replay what is in hold/ through receive(), each at its time of arrival. With no
 * secret in force everything stays. outcome->discard is the caller's, the rest is
 * filled in. Needs no lock: a request that two adopt at
 * once is a duplicate for one of them. Returns 0, or -1 with errno if hold/ cannot
 * be read.
 */
int adopt_held(struct receiver *receiver, struct adoption *outcome);

/*
 * The receiver's part: adopt if other secrets are in force than at the last call,
 * and log what became of it. To be called after a request was answered, and at the start. Safe from several
 * threads.
 */
void adopt_once(struct receiver *receiver);

/*
 * The command's part (adopt, drain): the same with a receiver of its own for this
 * one time, and outcome alike. Silent while nothing is held. Returns 0, or -1 with errno; EPERM: root
 * is to run it as the spool's owner.
 */
int adopt_now(const struct config *config, struct spool *spool, struct adoption *outcome);

#endif
