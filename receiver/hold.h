/*
 * The hold: requests that arrived before there was any secret, kept unverified in
 * hold/ until they can be judged. The portal sends a first request the moment an
 * endpoint is saved, when nobody can know its secret yet.
 */
#ifndef PSAPI_HOLD_H
#define PSAPI_HOLD_H

#include <stdbool.h>
#include <stddef.h>

#include "events.h"
#include "secrets/secrets.h"
#include "store/record.h"
#include "store/spool/spool.h"

/* What may wait in hold/, all processes together: anyone can send it. */
#define HOLD_REQUESTS_MAX 64
#define HOLD_BYTES_MAX (1024 * 1024)

/*
 * Whether requests are held now: the secret file is there, can be trusted and
 * holds nothing, no secret is in force, and nothing was ever accepted (events/ is
 * empty). Looks at the secret file first.
 */
bool hold_applies(struct spool *spool, struct secrets *secrets);

/*
 * Keep one request in hold/, under a name of its own: not the id's, which a forger
 * could occupy. SPOOL_STORED means that it is on the disk; SPOOL_FULL also if no
 * more may wait. Nothing of it is parsed: the body is kept as base64.
 */
enum spool_result hold_keep(struct spool *spool, const struct evidence *evidence,
    const void *body, size_t length);

/*
 * The names in hold/, in the order of arrival, as an array that ends with NULL and
 * is freed with hold_names_free(); entry_read() reads them. Returns their number, or -1 with errno.
 */
int hold_names(struct spool *spool, char ***names);
void hold_names_free(char **names);

/* Remove one; that it is gone already is fine. Returns 0, or -1 with errno. */
int hold_remove(struct spool *spool, const char *name);

#endif
