/* Owns the form of the help texts. The texts of the subcommands are in table.c. */
#include "commands/usage.h"

#include <stdio.h>
#include <string.h>

enum { LINE = 78 };

void
usage_print_short(const struct command *commands)
{
	size_t column = 0;

	fputs("usage: psapi SUBCOMMAND ..., one of", stderr);
	for (const struct command *c = commands; c->name != NULL; c++) {
		column = column == 0 || column + 1 + strlen(c->name) > LINE ? 0 : column;
		fprintf(stderr, "%s%s", column == 0 ? "\n  " : " ", c->name);
		column += strlen(c->name) + (column == 0 ? 2 : 1);
	}
	fputs("\npsapi help says what they do\n", stderr);
}

void
usage_print_overview(const struct command *commands)
{
	puts("usage: psapi [OPTIONS] SUBCOMMAND ...   manages what psapi-fcgi has received");
	for (const struct command *c = commands; c->name != NULL; c++)
		printf("  %-10s %s\n", c->name, c->summary);
	puts("psapi help SUBCOMMAND explains one; psapi help setup, options, settings the rest");
}

static void
print_setup(void)
{
	puts("An endpoint is set up in the order of the portal's Quick Start:\n"
	     "  access     sign in to the portal\n"
	     "  register   with psapi-fcgi running and its secret file empty, add the\n"
	     "             endpoint: the portal sends a request at once, which is held\n"
	     "  secret     psapi secret add, then psapi adopt\n"
	     "  verify     psapi doctor https://YOUR.HOST/webhooks/psapi\n"
	     "  test       psapi send https://YOUR.HOST/webhooks/psapi, \"Send Example\" in the\n"
	     "             portal, psapi attempts\n"
	     "  go live    systemctl enable --now psapi-drain.path psapi-drain.timer, or\n"
	     "             psapi drain from cron");
}

static void
print_options(void)
{
	puts("All subcommands take these options (exceptions: -f of attempts, --file of send):\n"
	     "  -f, --file FILE      configuration file (default $PSAPI_CONF,\n"
	     "                       " CONFIG_DEFAULT_FILE ")\n"
	     "  -o, --set KEY=VALUE  a setting; overrides the environment and the file\n"
	     "      --spool DIR      the same as -o PSAPI_SPOOL=DIR\n"
	     "      --json           print lists as JSON, one object a line\n"
	     "      --wide           print tables in full, wider than the terminal\n"
	     "      --local-time     print times of this machine's time zone (JSON stays UTC)\n"
	     "  -h, --help           explain the subcommand\n"
	     "\n"
	     "  -V, --version        without a subcommand: print the version\n"
	     "\n"
	     "Exit status: 0, or one of sysexits(3).");
}

static const struct {
	const char *name;
	void (*print)(void);
} topics[] = {{"setup", print_setup}, {"options", print_options}, {"settings", config_usage}};

bool
usage_print_topic(const char *name)
{
	for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
		if (strcmp(topics[i].name, name) != 0)
			continue;
		topics[i].print();
		return true;
	}
	return false;
}

const char *
usage_topic(size_t i)
{
	return i < sizeof(topics) / sizeof(topics[0]) ? topics[i].name : NULL;
}

void
usage_print_command(const struct command *c)
{
	printf("usage: psapi %s%s%s\n\n%c%s.\n%s%s", c->name, *c->synopsis != '\0' ? " " : "",
	    c->synopsis, c->summary[0] - 'a' + 'A',
	    c->summary + 1, *c->details != '\0' ? "\n" : "", c->details);
}
