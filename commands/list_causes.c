/* psapi list --by-cause: how many events failed for which cause. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>

#include "base/datetime.h"
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

static void
print_cause(const struct cause *cause, bool json)
{
	char first[DATETIME_TEXT_SIZE], last[DATETIME_TEXT_SIZE];

	datetime_text(cause->first, first);
	datetime_text(cause->last, last);
	if (json)
		terminal_print_json(causes_json(cause));
	else
		printf("%8zu  %s  %s  %s  (%s)  %s\n", cause->count, first, last,
		    terminal_column(cause->handler),
		    cause->others ? "other causes" : terminal_column(cause->reason),
		    command_id(cause->id, cause->name));
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
		printf("%s%8s  %-20s  %-20s  %s%s\n", terminal_colour(COLOUR_BOLD), "COUNT", "FIRST",
		    "LAST", "HANDLER  (REASON)  ONE ID", terminal_colour(COLOUR_NONE));
	for (size_t i = 0; i < causes->count; i++)
		print_cause(&causes->cause[i], line->json);
	free(causes);
	return status;
}
