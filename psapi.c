/*
 * psapi: the operator's command. Owns main(): the options before the subcommand, and
 * dispatch over the table in commands/table.c; each subcommand is a file beside it.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands/table.h"
#include "commands/usage.h"
#include "base/io.h"
#include "base/log.h"

static int
dispatch(struct command_line *line, int argc, char **argv)
{
	if (argc < 1) {
		usage_print_short(line->commands);
		return EX_USAGE;
	}
	for (const struct command *c = line->commands; c->name != NULL; c++) {
		if (strcmp(c->name, argv[0]) != 0)
			continue;
		line->command = c;
		optind = 0; /* getopt(3): begin anew */
		int status = c->run(line, argc, argv);
		command_close(line);
		return status;
	}
	return command_unknown(line, argv[0]);
}

int
main(int argc, char **argv)
{
	static const struct option names[] = {{"version", no_argument, NULL, 'V'}, COMMON_OPTIONS};
	struct command_line line = {.commands = table_commands};

	if (!io_open_standard())
		return EX_OSERR;
	log_program("psapi");
	for (int option; (option = command_option(&line, argc, argv, "+V", names)) != -1;) {
		if (option != 'V')
			return EX_USAGE;
		puts("psapi " PSAPI_VERSION);
		return io_finish(EX_OK);
	}
	return io_finish(dispatch(&line, argc - optind, argv + optind));
}
