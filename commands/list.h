/* The other forms of psapi list. */
#ifndef PSAPI_LIST_H
#define PSAPI_LIST_H

#include "commands/command.h"

/* --by-cause: the events that the filter selects, in groups. Returns an exit status (logged). */
int list_causes(struct command_line *line, const struct store_filter *filter);

/*
 * --gaps: of so many past days those that no daily event names. Returns 1 if there are any, or
 * another exit status (logged).
 */
int list_gaps(struct command_line *line, int64_t days);

#endif
