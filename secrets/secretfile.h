/*
 * Changing the secret file: `psapi secret`. A line that add writes is preceded by
 * a comment that says when ("# added 2026-01-31T12:00:00Z").
 */
#ifndef PSAPI_SECRETFILE_H
#define PSAPI_SECRETFILE_H

#include <stddef.h>
#include <sys/types.h>
#include <time.h>

#include "base/error.h"
#include "verify.h"

/* Bytes that may be pasted at once: many times a secret. */
#define SECRET_TEXT_MAX 4096

/*
 * A pasted text without the white space (also no-break spaces and byte order marks) and
 * the quotes of any kind around it. *length becomes that of the rest; the result points
 * into text.
 */
const char *secretfile_trim(const char *text, size_t *length);

enum secretfile_result {
	SECRETFILE_DONE,
	SECRETFILE_ALREADY, /* add: it is there; drop: there is no such secret */
	SECRETFILE_REFUSED, /* the text is no secret: with an error */
	SECRETFILE_ERROR    /* the file cannot be read or replaced: with an error */
};

/*
 * Add one secret (as secretfile_trim() left it) to the file at path, which is made if
 * it is missing: then with the group given (or (gid_t)-1) and mode 0640. The file
 * is replaced atomically and durably, keeps owner and group, and has at most mode
 * 0640. fingerprint is that of the secret, if it is one. No error has a secret in it.
 */
enum secretfile_result secretfile_add(const char *path, const char *secret, size_t length,
    time_t now, gid_t group, char fingerprint[FINGERPRINT_SIZE], struct error *error);

/*
 * Drop the secret with this fingerprint, and its comment, in the same way. *left is
 * the number of secrets that remain.
 */
enum secretfile_result secretfile_drop(const char *path, const char *fingerprint, size_t *left,
    struct error *error);

/* One line of the file that is meant to be a secret. */
struct secretfile_entry {
	int line;
	enum secret_kind kind;
	char fingerprint[FINGERPRINT_SIZE]; /* of a SECRET_GOOD one */
	char added[32];                     /* when, as add wrote it; "" if it did not */
};

/*
 * The entries of the file: an array of *count that the caller frees, NULL if there are
 * none. It does not check whether the file can be trusted: secrets_read() does. Returns 0,
 * or -1 with an error.
 */
int secretfile_list(const char *path, struct secretfile_entry **entries, size_t *count,
    struct error *error);

#endif
