/*
 * The secret file: who may own it, what a line may be, when it is read again.
 * Keeps the last good keyring while the file is unusable.
 */
#ifndef PSAPI_SECRETS_H
#define PSAPI_SECRETS_H

#include <stdbool.h>
#include <stddef.h>

#include "verify.h"

struct secrets;

/* Watch the file at path (kept by the caller). NULL without memory. Nothing is read yet. */
struct secrets *secrets_open(const char *path);
/* Wipe and free. No keyring may be borrowed any more. */
void secrets_close(struct secrets *secrets);

/*
 * Borrow the keyring in force, after reading the file again if it changed since
 * the last call (one stat(2)). NULL: there has been no usable secret yet. What is
 * wrong with a file is logged once for each change. Safe from several threads.
 */
const struct keyring *secrets_borrow(struct secrets *secrets);
/* Give back what secrets_borrow() returned. */
void secrets_return(struct secrets *secrets, const struct keyring *keyring);

/*
 * Whether the file, when it was last looked at, was there, could be trusted and
 * held nothing that is meant to be a secret, and no secret was ever in force here:
 * the first one is still to come. secrets_borrow() looks.
 */
bool secrets_awaited(struct secrets *secrets);

/* How often a keyring was put in force: another number means other secrets. 0: none yet. */
unsigned long secrets_generation(struct secrets *secrets);

/*
 * Read the file at path once. Returns a keyring of at least one key that the
 * caller frees; or NULL with one line in why (size bytes) that says what is wrong
 * and how to mend it. Refused: no regular file, mode not 0640 or stricter, owner
 * neither root nor the running user, no usable line. A line that cannot be a
 * secret is logged and skipped, for a slip in one must not shut out the others.
 */
struct keyring *secrets_read(const char *path, char *why, size_t size);

#endif
