/*
 * The secret file: which owners and modes are accepted, the form of a line, when it is
 * read again. Keeps the last good keyring while the file is unusable.
 */
#ifndef PSAPI_SECRETS_H
#define PSAPI_SECRETS_H

#include <stdbool.h>

#include "base/error.h"
#include "verify.h"

struct secrets;

/* Watch the file at path (kept by the caller). NULL without memory. Nothing is read yet. */
struct secrets *secrets_open(const char *path);
/* Wipe and free. No keyring may be borrowed any more. */
void secrets_close(struct secrets *secrets);

/*
 * Borrow the keyring in force, after reading the file again if it changed since
 * the last call (one stat(2)). NULL: there has been no usable secret yet. An error of
 * the file is logged once for each change. Safe from several threads.
 */
const struct keyring *secrets_borrow(struct secrets *secrets);
/* Give back what secrets_borrow() returned. */
void secrets_return(struct secrets *secrets, const struct keyring *keyring);

/*
 * Whether this process waits for the first secret: secrets_borrow() last found the file
 * there, trustworthy and without a line that is meant to be a secret, and no secret was
 * ever in force in this process.
 */
bool secrets_awaited(struct secrets *secrets);

/* How often other secrets came into force in this process. 0: none yet. */
unsigned long secrets_generation(struct secrets *secrets);

/*
 * Read the file at path once. Returns a keyring of at least one key that the caller frees, with a
 * reservation in *error (text "": none): a line that cannot be a secret is skipped, for a mistake
 * in one must not exclude the others (status EX_DATAERR); or what was cleaned from the text
 * (status 0). Or NULL with an error. Refused: no regular file, mode not 0640 or stricter, owner
 * neither root nor the running user, no usable line. Nothing is logged.
 */
struct keyring *secrets_read(const char *path, struct error *error);

/* Set the error for a path that leads to no regular file; or, if number is ELOOP, in a circle. */
void secrets_refuse_path(const char *path, int number, struct error *error);

/* Whether that file is there, can be trusted, and has no line that is meant to be a secret. */
bool secrets_is_empty(const char *path);

#endif
