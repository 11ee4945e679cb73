/* psapi recover: what a crash or a power cut left uncommitted is committed. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands/command.h"

int
recover_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {COMMON_OPTIONS};
	struct error error;
	long committed;

	if (command_option(line, argc, argv, "", names) != -1)
		return EX_USAGE;
	if (optind < argc)
		return command_misused(line, "recover takes options alone", argv[optind]);
	int status = command_open(line);
	if (status == EX_OK)
		status = command_status(store_recover(line->store, &committed, &error), &error);
	if (status != EX_OK)
		return status;
	if (line->json)
		printf("{\"committed\":%ld}\n", committed);
	else if (committed > 0 || isatty(STDOUT_FILENO))
		printf("%ld event(s) committed\n", committed);
	return EX_OK;
}
