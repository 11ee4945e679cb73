/* psapi list: events as a table, or one JSON object a line. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sysexits.h>

#include "commands/command.h"
#include "commands/select.h"
#include "base/terminal.h"
#include "base/datetime.h"

static void
print_head(void)
{
	printf("%s%-24s  %-7s  %-32s  %-10s  %-24s  %s%s\n", terminal_colour(COLOUR_BOLD), "RECEIVED",
	    "STATUS", "TYPE", "NPN", "EVENT TIME", "ID", terminal_colour(COLOUR_NONE));
}

static void
print_row(const struct store_item *row)
{
	static const enum colour colours[] = {COLOUR_NONE, COLOUR_WARN, COLOUR_BAD, COLOUR_DIM};
	static bool begun;
	const struct event *event = &row->entry.event;
	char due[DATETIME_TEXT_SIZE];

	if (!begun)
		print_head();
	begun = true;
	printf("%-24s  %s%-7s%s  %-32s  %-10s  %-24s  %s", terminal_column(row->entry.received_at),
	    terminal_colour(colours[row->status]), store_status_text(row->status),
	    terminal_colour(COLOUR_NONE), terminal_column(event->type), terminal_column(event->npn),
	    terminal_column(event->timestamp), command_id(row->entry.id, row->name));
	if (row->status == STORE_WAITING && row->state.due_at != 0) {
		datetime_text(row->state.due_at, due);
		printf("  due %s", due);
	}
	if (*row->state.reason != '\0')
		printf("  (%s)", terminal_column(row->state.reason));
	putchar('\n');
}

/* store_each()'s visit. */
static int
print_item(const struct store_item *item, void *data)
{
	const struct command_line *line = data;

	/* drain and verify name the files that are no events. */
	if (item->invalid != NULL)
		return 0;
	if (line->json)
		terminal_print_json(store_json_row(item));
	else
		print_row(item);
	return 0;
}

int
list_main(struct command_line *line, int argc, char **argv)
{
	enum { OPTION_NEW = OPTION_OWN, OPTION_WAITING, OPTION_FAILED, OPTION_ALL };
	enum { NEW = 1U << STORE_NEW, WAITING = 1U << STORE_WAITING, FAILED = 1U << STORE_DEAD,
		ALL = NEW | WAITING | FAILED | 1U << STORE_HANDLED };
	static const struct option names[] = {{"new", no_argument, NULL, OPTION_NEW},
		{"waiting", no_argument, NULL, OPTION_WAITING},
		{"failed", no_argument, NULL, OPTION_FAILED}, {"all", no_argument, NULL, OPTION_ALL},
		SELECT_OPTIONS, COMMON_OPTIONS};
	static const unsigned meant[] = {NEW | WAITING, WAITING, FAILED, ALL};
	struct store_filter filter = {0};
	struct error error;

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;) {
		if (option >= OPTION_NEW && option <= OPTION_ALL) {
			if (filter.statuses != 0)
				return command_misused(line, "only one of --new, --waiting, --failed, --all",
				    argv[optind - 1]);
			filter.statuses = meant[option - OPTION_NEW];
		} else if (select_option(line, option, &filter) != EX_OK) {
			return EX_USAGE;
		}
	}
	if (optind < argc)
		return command_misused(line, "list takes options alone; show takes an ID", argv[optind]);
	if (filter.statuses == 0)
		filter.statuses = NEW | WAITING | FAILED;
	int status = command_open(line);
	if (status != EX_OK)
		return status;
	return command_status(store_each(line->store, &filter, print_item, line, &error), &error);
}
