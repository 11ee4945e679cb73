/* The help texts: printed from the table of subcommands, for `psapi help` and --help. */
#ifndef PSAPI_USAGE_H
#define PSAPI_USAGE_H

#include "commands/command.h"

/* Print the list of all subcommands, the common options and the settings. */
void usage_print_overview(const struct command *commands);

/* Print what one subcommand does and takes. */
void usage_print_command(const struct command *command);

#endif
