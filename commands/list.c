/* psapi list: events as a table, or one JSON object a line. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "commands/command.h"
#include "commands/list.h"
#include "commands/select.h"
#include "base/columns.h"
#include "base/terminal.h"
#include "base/datetime.h"

static const struct columns_spec columns_of_list[] = {
	{"RECEIVED", COLUMNS_TIME, 24, 19, 4}, {"STATUS", COLUMNS_TEXT, 7, 0, 0},
	{"TYPE", COLUMNS_TYPE, 32, 17, 3}, {"NPN", COLUMNS_TEXT, 10, 0, 2},
	{"EVENT TIME", COLUMNS_TIME, 24, 0, 1}, {"ID", COLUMNS_TEXT, 31, 0, 0}};

static void
print_row(const struct store_item *row)
{
	static const enum colour colours[] = {COLOUR_NONE, COLOUR_WARN, COLOUR_BAD, COLOUR_DIM};
	static struct columns columns;
	const struct event *event = &row->entry.event;
	char received[TERMINAL_TIME_SIZE], at[TERMINAL_TIME_SIZE], due[TERMINAL_TIME_SIZE];
	char note[TERMINAL_ESCAPED_SIZE(sizeof(row->state.reason)) + 64] = "";
	size_t n = 0;

	if (columns.count == 0)
		columns_begin(&columns, columns_of_list,
		    sizeof(columns_of_list) / sizeof(columns_of_list[0]), 0);
	if (row->status == STORE_WAITING && row->state.due_at != 0)
		n = (size_t)snprintf(note, sizeof(note), "due %s", terminal_time(row->state.due_at, due));
	if (*row->state.reason != '\0')
		snprintf(note + n, sizeof(note) - n, "%s(%s)", n > 0 ? "  " : "",
		    terminal_column(row->state.reason));
	columns_row(&columns, (const struct columns_cell[]){
	    {terminal_time_text(row->entry.received_at, received), COLOUR_NONE},
	    {store_status_text(row->status), colours[row->status]},
	    {terminal_column(event->type), COLOUR_NONE}, {terminal_column(event->npn), COLOUR_NONE},
	    {terminal_time_text(event->timestamp, at), COLOUR_NONE},
	    {command_id(row->entry.id, row->name), COLOUR_NONE}}, note);
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

enum { OPTION_NEW = OPTION_OWN, OPTION_WAITING, OPTION_FAILED, OPTION_ALL, OPTION_CAUSE,
	OPTION_GAPS, OPTION_DAYS };
enum { NEW = 1U << STORE_NEW, WAITING = 1U << STORE_WAITING, FAILED = 1U << STORE_DEAD,
	ALL = NEW | WAITING | FAILED | 1U << STORE_HANDLED };
enum { DAYS_MAX = 3660 };

/* What the options say. */
struct wish {
	struct store_filter filter;
	bool by_cause, gaps;
	int64_t days; /* 0: not given */
};

/* Returns EX_OK, or EX_USAGE (logged). */
static int
take_option(const struct command_line *line, int option, const char *word, struct wish *wish)
{
	static const unsigned meant[] = {NEW | WAITING, WAITING, FAILED, ALL};

	if (option >= OPTION_NEW && option <= OPTION_ALL) {
		if (wish->filter.statuses != 0)
			return command_misused(line, "only one of --new, --waiting, --failed, --all", word);
		wish->filter.statuses = meant[option - OPTION_NEW];
	} else if (option == OPTION_DAYS) {
		wish->days = strspn(optarg, "0123456789") == strlen(optarg) ? atoll(optarg) : 0;
		if (wish->days < 1 || wish->days > DAYS_MAX)
			return command_misused(line, "--days takes a number from 1 to 3660", optarg);
	} else if (option != OPTION_CAUSE && option != OPTION_GAPS) {
		return select_option(line, option, &wish->filter);
	}
	wish->by_cause |= option == OPTION_CAUSE;
	wish->gaps |= option == OPTION_GAPS;
	return EX_OK;
}

/* Options that do not go together. Returns EX_OK, or EX_USAGE (logged). */
static int
check_wish(const struct command_line *line, const struct wish *wish)
{
	const struct store_filter *f = &wish->filter;

	if (wish->gaps &&
	    (wish->by_cause || f->statuses != 0 || f->type != NULL || f->npn != NULL || f->since != 0))
		return command_misused(line, "takes --days alone", "--gaps");
	if (wish->days != 0 && !wish->gaps)
		return command_misused(line, "only with --gaps", "--days");
	if (wish->by_cause && f->statuses != 0 && f->statuses != FAILED && f->statuses != WAITING)
		return command_misused(line, "with --failed or --waiting", "--by-cause");
	return EX_OK;
}

int
list_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {{"new", no_argument, NULL, OPTION_NEW},
		{"waiting", no_argument, NULL, OPTION_WAITING},
		{"failed", no_argument, NULL, OPTION_FAILED}, {"all", no_argument, NULL, OPTION_ALL},
		{"by-cause", no_argument, NULL, OPTION_CAUSE}, {"gaps", no_argument, NULL, OPTION_GAPS},
		{"days", required_argument, NULL, OPTION_DAYS}, SELECT_OPTIONS, COMMON_OPTIONS};
	struct wish wish = {0};
	struct error error;

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;)
		if (take_option(line, option, argv[optind - 1], &wish) != EX_OK)
			return EX_USAGE;
	if (optind < argc)
		return command_misused(line, "list takes options alone; show takes an ID", argv[optind]);
	if (check_wish(line, &wish) != EX_OK)
		return EX_USAGE;
	if (wish.gaps)
		return list_gaps(line, wish.days != 0 ? wish.days : 90);
	if (wish.filter.statuses == 0)
		wish.filter.statuses = wish.by_cause ? FAILED : NEW | WAITING | FAILED;
	if (wish.by_cause)
		return list_causes(line, &wish.filter);
	int status = command_open(line);
	if (status != EX_OK)
		return status;
	return command_status(store_each(line->store, &wish.filter, print_item, line, &error), &error);
}
