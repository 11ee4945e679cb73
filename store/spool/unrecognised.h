/*
 * Files in new/ that are no events: left alone, and reported once, which is
 * remembered in state/unrecognised.
 */
#ifndef PSAPI_UNRECOGNISED_H
#define PSAPI_UNRECOGNISED_H

#include <stdbool.h>

#include "store/spool/spool.h"

struct unrecognised;

/* What was reported in earlier runs. NULL without memory. */
struct unrecognised *unrecognised_open(struct spool *spool);

/*
 * Whether name in new/ is to be reported: it was not, since it was last changed. At
 * most a thousand are remembered, and reported.
 */
bool unrecognised_report(struct unrecognised *u, const char *name);

/* Remember what was seen since unrecognised_open(), and that alone; free. */
void unrecognised_close(struct unrecognised *u);

#endif
