/* psapi list --by-cause: how many events failed for which cause. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/columns.h"
#include "base/log.h"
#include "base/terminal.h"
#include "commands/list.h"
#include "drain/causes.h"

/* store_each()'s visit. */
static int
add_item(const struct store_item *item, void *data)
{
	if (item->invalid == NULL)
		causes_add(data, item);
	return 0;
}

enum { INDENT = 10 }; /* of the lines after the first */

/* What follows the times is wrapped on a narrow terminal. */
static void
print_row(const struct cause *cause)
{
	char first[TERMINAL_TIME_SIZE], last[TERMINAL_TIME_SIZE];
	char rest[TERMINAL_ESCAPED_SIZE(1024)];
	int n = printf("%8zu  %s  %s  ", cause->count, terminal_time(cause->first, first),
	    terminal_time(cause->last, last));

	snprintf(rest, sizeof(rest), "%s  (%s)  %s", terminal_column(cause->handler),
	    cause->others ? "other causes" : terminal_column(cause->reason),
	    command_id(cause->id, cause->name));
	columns_wrap(rest, (size_t)n, INDENT);
	putchar('\n');
}

static void
print_head(void)
{
	int width = 19 + (int)strlen(terminal_offset());

	printf("%s%8s  %-*s  %-*s  %s%s\n", terminal_colour(COLOUR_BOLD), "COUNT", width, "FIRST",
	    width, "LAST", "HANDLER  (REASON)  ONE ID", terminal_colour(COLOUR_NONE));
}

static void
print_cause(const struct cause *cause, bool json)
{
	if (json)
		terminal_print_json(causes_json(cause));
	else
		print_row(cause);
}

int
list_causes(struct command_line *line, const struct store_filter *filter)
{
	struct causes *causes = calloc(1, sizeof(*causes));
	struct error error;

	if (causes == NULL) {
		log_line("out of memory");
		return EX_OSERR;
	}
	int status = command_open(line);
	/* What cannot be read does not keep the others. */
	if (status == EX_OK)
		status = command_status(store_each(line->store, filter, add_item, causes, &error), &error);
	causes_sort(causes);
	if (causes->count > 0 && !line->json)
		print_head();
	for (size_t i = 0; i < causes->count; i++)
		print_cause(&causes->cause[i], line->json);
	free(causes);
	return status;
}
