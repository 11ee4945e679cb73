/* --type, --npn, --since: the options with which list, retry and replay select events. */
#ifndef PSAPI_SELECT_H
#define PSAPI_SELECT_H

#include "commands/command.h"

enum { OPTION_TYPE = 512, OPTION_NPN, OPTION_SINCE };

#define SELECT_OPTIONS                                                                             \
	{"type", required_argument, NULL, OPTION_TYPE}, {"npn", required_argument, NULL, OPTION_NPN},  \
	{                                                                                              \
		"since", required_argument, NULL, OPTION_SINCE                                             \
	}

/* Take one of these options. Returns EX_OK, or EX_USAGE for any other ('?' was logged). */
int select_option(const struct command_line *line, int option, struct store_filter *filter);

#endif
