/* The help texts: printed from the table of subcommands, for `psapi help` and --help. */
#ifndef PSAPI_USAGE_H
#define PSAPI_USAGE_H

#include "commands/command.h"

/* On standard error, for a command line without a subcommand: their names. */
void usage_print_short(const struct command *commands);

/* Print the list of all subcommands: it fits a screen. */
void usage_print_overview(const struct command *commands);

/* Print a topic that is no subcommand: settings, options, setup. False: there is no such topic. */
bool usage_print_topic(const char *name);

/* The names of the topics, one by one; NULL after the last. */
const char *usage_topic(size_t i);

/* Print what one subcommand does and takes. */
void usage_print_command(const struct command *command);

#endif
