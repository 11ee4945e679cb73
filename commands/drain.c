/* psapi drain: its command line. The run itself is in drain/drain.c. */
#define _GNU_SOURCE
#include "drain/drain.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "commands/command.h"
#include "base/clock.h"
#include "base/log.h"
#include "drain/program.h"

/* A number from 1 to most. */
static bool
parse_number(const char *text, long most, long *number)
{
	char *end;

	*number = strtol(text, &end, 10);
	return *end == '\0' && *number >= 1 && *number <= most;
}

int
drain_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {{"jobs", required_argument, NULL, 'j'},
	    {"batch", required_argument, NULL, 'b'},
	    {"verbose", no_argument, NULL, 'v'}, COMMON_OPTIONS};
	struct drain_options options = {.jobs = 1};
	char path[PATH_MAX];

	for (int option; (option = command_option(line, argc, argv, "+j:v", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		if (option == 'v')
			options.verbose = true;
		long number = 0;
		if (option == 'j' && !parse_number(optarg, DRAIN_JOBS_MAX, &number))
			return command_misused(line, "-j takes a number from 1 to 256", optarg);
		if (option == 'j')
			options.jobs = (int)number;
		if (option == 'b' && !parse_number(optarg, DRAIN_BATCH_MAX, &number))
			return command_misused(line, "--batch takes a number from 1 to 10000", optarg);
		if (option == 'b')
			options.batch = (size_t)number;
	}
	if (options.batch > 0 && optind >= argc)
		return command_misused(line, "--batch needs a command: psapi drain --batch N -- CMD", NULL);
	/* A word that slipped in would run for every event, and mark it handled. */
	if (optind < argc && strcmp(argv[optind - 1], "--") != 0)
		return command_misused(line, "a command goes after --: psapi drain -- CMD", argv[optind]);
	int status = command_open(line);
	if (status != EX_OK)
		return status;
	if (optind < argc) {
		const char *search = getenv("PATH");
		if (search == NULL)
			search = "/usr/local/bin:/usr/bin:/bin";
		if (program_find(argv[optind], search, path, sizeof(path)) != 0) {
			log_line("%s: no such program, or it is not executable", argv[optind]);
			return EX_UNAVAILABLE;
		}
		argv[optind] = path;
		options.command = argv + optind;
	}
	return drain_run(&line->config, line->store, &options, clock_unix);
}
