/* psapi help: what the table of subcommands says. */
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "commands/command.h"

static void
print_overview(void)
{
	puts("usage: psapi [-f FILE] [-o KEY=VALUE]... [--spool DIR] SUBCOMMAND ...\n"
	     "\n"
	     "Handles the events that psapi-fcgi has received, and looks after its spool.\n");
	for (const struct command *c = commands; c->name != NULL; c++)
		printf("  %-10s %s\n", c->name, c->summary);
	puts("\n"
	     "An endpoint is set up in the order of the portal's Quick Start:\n"
	     "  access     sign in to the portal\n"
	     "  register   with psapi-fcgi running and its secret file empty, add the endpoint: the\n"
	     "             portal sends a request at once, which is held\n"
	     "  secret     psapi secret add, then psapi adopt\n"
	     "  verify     psapi doctor https://YOUR.HOST/webhooks/psapi\n"
	     "  test       psapi send https://YOUR.HOST/webhooks/psapi, \"Send Example\" in the portal,\n"
	     "             psapi attempts\n"
	     "  go live    psapi drain from cron\n"
	     "\n"
	     "All take these options as well (attempts has -f for itself: --file there):\n"
	     "  -f, --file FILE      configuration file (default $PSAPI_CONF, " CONFIG_DEFAULT_FILE ")\n"
	     "  -o, --set KEY=VALUE  a setting, over environment and file\n"
	     "      --spool DIR      the same as -o PSAPI_SPOOL=DIR\n"
	     "      --json           where something is listed: one object a line\n"
	     "  -h, --help           explain the subcommand\n"
	     "\n"
	     "  -V, --version        without a subcommand: print the version\n"
	     "\n"
	     "Exit status: 0, or one of sysexits(3). Settings:");
	config_usage();
}

int
help_main(struct command_line *line, int argc, char **argv)
{
	if (argc < 2) {
		print_overview();
		return EX_OK;
	}
	const char *name = strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 ? "help" : argv[1];
	for (const struct command *c = commands; c->name != NULL; c++) {
		if (strcmp(c->name, name) != 0)
			continue;
		printf("usage: psapi %s %s\n\n%c%s.\n%s%s", c->name, c->synopsis, c->summary[0] - 'a' + 'A',
		    c->summary + 1, *c->details != '\0' ? "\n" : "", c->details);
		return EX_OK;
	}
	line->command = NULL;
	return command_misused(line, "no such subcommand", argv[1]);
}
