/*
 * Files in new/ that are no events: left alone, and reported once, which is
 * remembered in state/strays.
 */
#ifndef PSAPI_STRAYS_H
#define PSAPI_STRAYS_H

#include <stdbool.h>

#include "store/spool/spool.h"

struct strays;

/* What was reported in earlier runs. NULL without memory. */
struct strays *strays_open(struct spool *spool);

/*
 * Whether name in new/ is to be reported: it was not, since it was last changed. At
 * most a thousand are remembered, and reported.
 */
bool strays_report(struct strays *strays, const char *name);

/* Remember what was seen since strays_open(), and that alone; free. */
void strays_close(struct strays *strays);

#endif
