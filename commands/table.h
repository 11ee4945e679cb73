/* The table of subcommands: psapi.c looks them up in it, usage.c prints the help from it. */
#ifndef PSAPI_TABLE_H
#define PSAPI_TABLE_H

#include "commands/command.h"

/* All of them, in the order of the help; the last has no name. */
extern const struct command table_commands[];

#endif
