/*
 * Unrecognised files: files in new/ that are no events. They are left alone and reported once;
 * state/unrecognised remembers which were.
 */
#ifndef PSAPI_UNRECOGNISED_H
#define PSAPI_UNRECOGNISED_H

#include <stdbool.h>

#include "store/spool/spool.h"

struct unrecognised;

/* Read which files were reported in earlier runs. NULL without memory. */
struct unrecognised *unrecognised_open(struct spool *spool);

/*
 * Whether name in new/ is to be reported: it was not reported since its last change. At most a
 * thousand files are remembered and reported.
 */
bool unrecognised_report(struct unrecognised *u, const char *name);

/* Remember what was seen since unrecognised_open(), and that alone; free. */
void unrecognised_close(struct unrecognised *u);

#endif
