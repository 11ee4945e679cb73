/* Whether the files in the spool are ones that its owner can use. */
#ifndef PSAPI_OWNERS_H
#define PSAPI_OWNERS_H

#include "store/spool/spool.h"

/*
 * Calls warn, as store_warnings() says, for each directory with files that the spool's owner
 * cannot read, or not give a second name; and for the lock. Of events/ it takes a sample.
 */
void owners_check_files(struct spool *spool, void (*warn)(const struct error *, void *),
    void *data);

#endif
