/*
 * Held requests: those that arrive before the first secret is configured are stored
 * unverified in hold/, and verified later (adopt.h). The portal sends a first request the
 * moment an endpoint is saved, when its secret cannot be known here yet.
 */
#ifndef PSAPI_HOLD_H
#define PSAPI_HOLD_H

#include <stdbool.h>
#include <stddef.h>

#include "events.h"
#include "secrets/secrets.h"
#include "store/record.h"
#include "store/spool/spool.h"

/* The limits of hold/, for all processes together: any client can send such requests. */
#define HOLD_REQUESTS_MAX 64
#define HOLD_BYTES_MAX (1024 * 1024)

/*
 * Whether requests are held now: the secret file is there, can be trusted and holds no
 * secret, none is in force, and no event was ever accepted (events/ is empty). Reads the
 * secret file again if it changed.
 */
bool hold_applies(struct spool *spool, struct secrets *secrets);

/*
 * Store one request in hold/, under a name of its own: not that of the webhook-id, which a
 * forger could occupy. SPOOL_STORED means that it is on the disk; SPOOL_FULL also if a
 * limit above is reached. Nothing of it is parsed: the body is stored as base64.
 */
enum spool_result hold_store(struct spool *spool, const struct evidence *evidence,
    const void *body, size_t length);

/*
 * The names in hold/, in the order of arrival, as an array that ends with NULL and is freed
 * with hold_names_free(); entry_read() reads the files. Returns their number, or -1 with errno.
 */
int hold_names(struct spool *spool, char ***names);
void hold_names_free(char **names);

/* Remove one; that it is gone already is fine. Returns 0, or -1 with errno. */
int hold_remove(struct spool *spool, const char *name);

#endif
