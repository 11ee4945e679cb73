/* psapi done: remove events from new/ or failed/ by hand. They stay in events/. */
#define _GNU_SOURCE
#include <sysexits.h>

#include "commands/command.h"

static int
finish(struct command_line *line, const char *id)
{
	char name[STORE_NAME_SIZE];
	struct error error;

	if (!command_find(line, id, name))
		return EX_NOINPUT;
	return command_status(store_finish(line->store, name, &error), &error);
}

int
done_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {COMMON_OPTIONS};

	if (command_option(line, argc, argv, "", names) != -1)
		return EX_USAGE;
	if (optind == argc)
		return command_misused(line, "which event? psapi list shows ids", NULL);
	int status = command_open(line);
	if (status == EX_OK)
		status = command_begin(line);
	for (int i = optind, begun = status; i < argc && begun == EX_OK; i++) {
		int result = finish(line, argv[i]);
		status = result != EX_OK ? result : status;
	}
	return status;
}
