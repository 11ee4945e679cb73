/*
 * Files in new/ that are not events: they are left alone and reported once, which is remembered
 * in state/unrecognised.
 */
#ifndef PSAPI_UNRECOGNISED_H
#define PSAPI_UNRECOGNISED_H

#include <stdbool.h>

#include "store/spool/spool.h"

struct unrecognised;

/* Read the reports of earlier drains. NULL without memory. */
struct unrecognised *unrecognised_open(struct spool *spool);

/*
 * Whether the file name in new/ is to be reported: it was not reported since it was last changed.
 * At most a thousand files are remembered, and reported.
 */
bool unrecognised_report(struct unrecognised *files, const char *name);

/* Remember the files that were seen since unrecognised_open(), and no others; free. */
void unrecognised_close(struct unrecognised *files);

#endif
