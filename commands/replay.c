/* psapi replay: put handled events back into new/. They stay in events/, so each needs one link. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sysexits.h>

#include "commands/command.h"
#include "commands/requeue.h"
#include "commands/select.h"

/* store_each()'s visit. Probes of doctor are never queued. */
static int
collect(const struct store_item *item, void *data)
{
	if (item->entry.event.queue == QUEUE_NONE)
		return 0;
	return command_names_add(data, item->name);
}

static int
replay(struct command_line *line, const struct command_names *names, size_t *count)
{
	struct error error;
	size_t moved = 0;
	enum store_result result = requeue_names(line->store, store_replay, names, &moved, &error);

	*count += moved;
	return command_status(result, &error);
}

static int
replay_selected(struct command_line *line, const struct store_filter *filter, size_t *count)
{
	struct command_names names = {0};
	struct error error;
	enum store_result result = store_each(line->store, filter, collect, &names, &error);
	/* What cannot be read does not keep the others. */
	int listed = command_status(result, &error), status = replay(line, &names, count);

	command_names_free(&names);
	return status != EX_OK ? status : listed;
}

static int
replay_id(struct command_line *line, const char *id, size_t *count)
{
	char name[STORE_NAME_SIZE], *one[] = {name};
	const struct command_names names = {one, 1};

	if (!command_find(line, id, name))
		return EX_NOINPUT;
	return replay(line, &names, count);
}

int
replay_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {SELECT_OPTIONS, COMMON_OPTIONS};
	struct store_filter filter = {.statuses = 1U << STORE_HANDLED};
	bool selected = false;
	size_t count = 0;

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;) {
		if (select_option(line, option, &filter) != EX_OK)
			return EX_USAGE;
		selected = true;
	}
	if (selected == (optind < argc))
		return command_misused(line, "either IDs, or --type, --npn, --since",
		    selected ? argv[optind] : NULL);
	int status = command_open(line);
	if (status == EX_OK)
		status = command_begin(line);
	if (status != EX_OK)
		return status;
	if (selected)
		status = replay_selected(line, &filter, &count);
	for (int i = optind; i < argc; i++) {
		int result = replay_id(line, argv[i], &count);
		status = result != EX_OK ? result : status;
	}
	printf(line->json ? "{\"count\":%zu}\n" : "%zu back to new\n", count);
	return status;
}
