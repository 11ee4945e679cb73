/* psapi retry: dead letters go back to the queue, as if they had never been tried. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sysexits.h>

#include <string.h>

#include "base/terminal.h"
#include "commands/command.h"
#include "commands/requeue.h"
#include "commands/select.h"
#include "drain/causes.h"

/* Which of the dead letters. */
struct selection {
	struct store_filter filter;
	const char *reason; /* as list --by-cause shows it, or list; NULL: any */
	bool all, dry_run;
	struct command_names names; /* those that match */
};

static bool
has_reason(const struct store_item *item, const char *given)
{
	char own[CAUSES_TEXT_SIZE], reason[CAUSES_TEXT_SIZE];

	causes_reason(&item->state, own);
	causes_text(given, reason);
	return strcmp(own, reason) == 0 || strcmp(terminal_column(own), reason) == 0;
}

/* store_each()'s visit. */
static int
collect(const struct store_item *item, void *data)
{
	struct selection *selection = data;

	if (selection->reason != NULL && !has_reason(item, selection->reason))
		return 0;
	return command_names_add(&selection->names, item->name);
}

static void
print_preview(const struct command_line *line, size_t count)
{
	printf(line->json ? "{\"count\":%zu}\n" :
	    "%zu would go back to new; nothing is moved\n", count);
}

/* A dead letter that is still arriving is the next call's. */
static int
retry_all(struct command_line *line, struct selection *selection)
{
	enum store_result result = STORE_OK;
	struct error error;
	size_t moved = 0;
	/* What cannot be read does not keep the others. */
	int listed = command_status(
	    store_each(line->store, &selection->filter, collect, selection, &error), &error);

	if (selection->dry_run)
		print_preview(line, selection->names.count);
	else
		result = requeue_names(line->store, store_retry, &selection->names, &moved, &error);
	command_names_free(&selection->names);
	if (!selection->dry_run)
		printf(line->json ? "{\"count\":%zu}\n" : "%zu back to new\n", moved);
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

/* Count it if it would go back. */
static int
preview(struct command_line *line, const char *id, size_t *count)
{
	char name[STORE_NAME_SIZE];
	struct store_item item;
	struct error error;

	if (!command_find(line, id, name))
		return EX_NOINPUT;
	enum store_result result = store_get(line->store, name, &item, &error);
	if (result == STORE_ABSENT) /* handled and forgotten at this moment */
		return EX_OK;
	if (result != STORE_OK)
		return error_log(&error);
	*count += item.status == STORE_DEAD;
	entry_free(&item.entry);
	return EX_OK;
}

static int
retry_each(struct command_line *line, char *const *ids, bool dry_run)
{
	int status = EX_OK;
	size_t count = 0;

	for (; *ids != NULL; ids++) {
		int result = dry_run ? preview(line, *ids, &count) : retry(line, *ids);
		status = result != EX_OK ? result : status;
	}
	if (dry_run)
		print_preview(line, count);
	return status;
}

enum { OPTION_ALL = OPTION_OWN, OPTION_REASON, OPTION_DRY_RUN };

/* Returns EX_OK, or EX_USAGE (logged). */
static int
take_option(const struct command_line *line, int option, struct selection *selection)
{
	selection->all |= option == OPTION_ALL;
	selection->dry_run |= option == OPTION_DRY_RUN;
	if (option == OPTION_REASON)
		selection->reason = optarg;
	if (option >= OPTION_ALL && option <= OPTION_DRY_RUN)
		return EX_OK;
	return select_option(line, option, &selection->filter);
}

int
retry_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {{"all", no_argument, NULL, OPTION_ALL},
		{"reason", required_argument, NULL, OPTION_REASON},
		{"dry-run", no_argument, NULL, OPTION_DRY_RUN}, SELECT_OPTIONS, COMMON_OPTIONS};
	struct selection selection = {0};

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;)
		if (take_option(line, option, &selection) != EX_OK)
			return EX_USAGE;
	const struct store_filter *f = &selection.filter;
	bool selects = f->type != NULL || f->npn != NULL || f->since != 0 || selection.reason != NULL;
	if (selection.all == (optind < argc))
		return command_misused(line, "either IDs or --all", selection.all ? argv[optind] : NULL);
	if (selects && !selection.all)
		return command_misused(line, "what selects goes with --all", argv[optind]);
	selection.filter.statuses = 1U << STORE_DEAD;
	int status = command_open(line);
	if (status == EX_OK && !selection.dry_run)
		status = command_begin(line);
	if (status != EX_OK)
		return status;
	if (selection.all)
		return retry_all(line, &selection);
	return retry_each(line, argv + optind, selection.dry_run);
}
