/*
 * Whether the local spool still has events that wait, and that the shared store does not know:
 * nobody handles them.
 */
#ifndef PSAPI_UNIMPORTED_H
#define PSAPI_UNIMPORTED_H

#include "store/backend.h"
#include "store/spool/spool.h"

/*
 * One visit: the check "import" of store_check(). What was in the spool at its last whole import
 * is not asked for: it may have been handled and forgotten since.
 */
void unimported_check(struct spool *local, const struct backend *backend, void *engine,
    void (*visit)(const struct store_check *check, void *data), void *data);

#endif
