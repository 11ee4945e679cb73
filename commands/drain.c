/* psapi drain: its command line. The run itself is in drain/drain.c. */
#define _GNU_SOURCE
#include "drain/drain.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands/command.h"
#include "base/clock.h"
#include "base/log.h"

static bool
is_program(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0 && S_ISREG(st.st_mode) && access(path, X_OK) == 0;
}

/* The file that a shell would run for this word. False if there is none. */
static bool
find_program(const char *word, char *path, size_t size)
{
	const char *directory = getenv("PATH");

	if (strchr(word, '/') != NULL) {
		snprintf(path, size, "%s", word);
		return is_program(path);
	}
	if (directory == NULL)
		directory = "/usr/local/bin:/usr/bin:/bin";
	while (*directory != '\0') {
		size_t length = strcspn(directory, ":");
		snprintf(path, size, "%.*s/%s", length > 0 ? (int)length : 1, length > 0 ? directory : ".",
		    word);
		if (is_program(path))
			return true;
		directory += length + (directory[length] == ':' ? 1 : 0);
	}
	return false;
}

static bool
parse_jobs(const char *text, int *jobs)
{
	char *end;
	long number = strtol(text, &end, 10);

	*jobs = (int)number;
	return *end == '\0' && number >= 1 && number <= DRAIN_JOBS_MAX;
}

int
drain_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {{"jobs", required_argument, NULL, 'j'},
	    {"verbose", no_argument, NULL, 'v'}, COMMON_OPTIONS};
	struct drain_options options = {.jobs = 1};
	char path[PATH_MAX];

	for (int option; (option = command_option(line, argc, argv, "+j:v", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		if (option == 'v')
			options.verbose = true;
		if (option == 'j' && !parse_jobs(optarg, &options.jobs))
			return command_misused(line, "-j takes a number from 1 to 256", optarg);
	}
	int status = command_open(line);
	if (status != EX_OK)
		return status;
	if (optind < argc) {
		if (!find_program(argv[optind], path, sizeof(path))) {
			log_line("%s: no such program, or it is not executable", argv[optind]);
			return EX_UNAVAILABLE;
		}
		argv[optind] = path;
		options.command = argv + optind;
	}
	return drain_run(&line->config, line->store, &options, clock_unix);
}
