/* psapi help: the list of all subcommands, the text of one, or of a topic. */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "commands/command.h"
#include "commands/usage.h"

int
help_main(struct command_line *line, int argc, char **argv)
{
	if (argc < 2) {
		usage_print_overview(line->commands);
		return EX_OK;
	}
	const char *name =
	    strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ? "help" : argv[1];
	for (const struct command *c = line->commands; c->name != NULL; c++) {
		if (strcmp(c->name, name) != 0)
			continue;
		usage_print_command(c);
		return EX_OK;
	}
	if (usage_print_topic(name))
		return EX_OK;
	line->command = NULL;
	return command_unknown_topic(line, name);
}
