/* Owns the form of the help texts. The texts of the subcommands are in table.c. */
#include "commands/usage.h"

#include <stdio.h>

void
usage_print_overview(const struct command *commands)
{
	puts("usage: psapi [-f FILE] [-o KEY=VALUE]... [--spool DIR] SUBCOMMAND ...\n"
	     "\n"
	     "Handles the events that psapi-fcgi has received, and manages its spool.\n");
	for (const struct command *c = commands; c->name != NULL; c++)
		printf("  %-10s %s\n", c->name, c->summary);
	puts(
	    "\n"
	    "An endpoint is set up in the order of the portal's Quick Start:\n"
	    "  access     sign in to the portal\n"
	    "  register   with psapi-fcgi running and its secret file empty, add the endpoint: the\n"
	    "             portal sends a request at once, which is held\n"
	    "  secret     psapi secret add, then psapi adopt\n"
	    "  verify     psapi doctor https://YOUR.HOST/webhooks/psapi\n"
	    "  test       psapi send https://YOUR.HOST/webhooks/psapi, \"Send Example\" in the\n"
	    "             portal, psapi attempts\n"
	    "  go live    psapi drain from cron\n"
	    "\n"
	    "All subcommands take these options (exceptions: -f of attempts, --file of send):\n"
	    "  -f, --file FILE      configuration file (default $PSAPI_CONF, " CONFIG_DEFAULT_FILE ")\n"
	    "  -o, --set KEY=VALUE  a setting; overrides the environment and the file\n"
	    "      --spool DIR      the same as -o PSAPI_SPOOL=DIR\n"
	    "      --json           print lists as JSON, one object a line\n"
	    "  -h, --help           explain the subcommand\n"
	    "\n"
	    "  -V, --version        without a subcommand: print the version\n"
	    "\n"
	    "Exit status: 0, or one of sysexits(3). Settings:");
	config_usage();
}

void
usage_print_command(const struct command *c)
{
	printf("usage: psapi %s %s\n\n%c%s.\n%s%s", c->name, c->synopsis, c->summary[0] - 'a' + 'A',
	    c->summary + 1, *c->details != '\0' ? "\n" : "", c->details);
}
