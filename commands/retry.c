/* psapi retry: dead letters go back to the queue, as if they had never been tried. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sysexits.h>

#include "commands/command.h"

/* store_each()'s visit. */
static int
collect(const struct store_item *item, void *data)
{
	return command_names_add(data, item->name);
}

/* A dead letter that is still arriving is the next call's. */
static int
retry_all(struct command_line *line)
{
	const struct store_filter filter = {.statuses = 1U << STORE_DEAD};
	struct command_names names = {0};
	struct error error;
	size_t moved = 0;
	/* What cannot be read does not keep the others. */
	int listed = command_status(store_each(line->store, &filter, collect, &names, &error), &error);
	enum store_result result = store_retry(line->store, (const char *const *)names.name,
	    names.count, &moved, &error);

	command_names_free(&names);
	printf("%zu back to new\n", moved);
	int status = result == STORE_INVALID ? EX_OK : command_status(result, &error);
	return status != EX_OK ? status : listed;
}

static int
retry(struct command_line *line, const char *id)
{
	char name[STORE_NAME_SIZE];
	const char *const names[] = {name};
	struct error error;
	size_t moved;

	if (!command_find(line, id, name))
		return EX_NOINPUT;
	return command_status(store_retry(line->store, names, 1, &moved, &error), &error);
}

int
retry_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {{"all", no_argument, NULL, OPTION_OWN}, COMMON_OPTIONS};
	bool all = false;

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		all = true;
	}
	if (all == (optind < argc))
		return command_misused(line, "either IDs or --all", all ? argv[optind] : "retry");
	int status = command_open(line);
	if (status == EX_OK)
		status = command_begin(line);
	if (status != EX_OK)
		return status;
	if (all)
		return retry_all(line);
	for (int i = optind; i < argc; i++) {
		int result = retry(line, argv[i]);
		status = result != EX_OK ? result : status;
	}
	return status;
}
