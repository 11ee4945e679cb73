/*
 * psapi retry: dead letters, and events that wait for their next try, go back to the queue, as if
 * they had never been tried.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sysexits.h>

#include <string.h>

#include "base/log.h"
#include "base/terminal.h"
#include "commands/command.h"
#include "commands/requeue.h"
#include "commands/select.h"
#include "drain/causes.h"

/* Which of the dead letters; or of those that wait for their next try. */
struct selection {
	struct store_filter filter;
	const char *reason; /* as list --by-cause shows it, or list; NULL: any */
	bool all, waiting, dry_run;
	struct command_names names; /* those that match, or would go back */
	size_t untried; /* those beside them that wait for their first try */
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
	if (item->status == STORE_NEW) {
		selection->untried++;
		return 0;
	}
	return command_names_add(&selection->names, item->name);
}

static void
print_count(const struct command_line *line, const struct selection *selection, size_t count)
{
	if (line->json) {
		printf("{\"count\":%zu}\n", count);
		return;
	}
	printf("%zu %s", count, selection->dry_run ? "would go back to new" : "back to new");
	if (selection->untried > 0)
		printf("; %zu wait already", selection->untried);
	printf("%s\n", selection->dry_run ? "; nothing is moved" : "");
}

/* One that is left out is no error: it was handled meanwhile, or is the next call's. */
static int
left_out(const struct selection *selection, const struct error *error)
{
	if (selection->waiting && error->status == EX_TEMPFAIL)
		error_log(error);
	return EX_OK;
}

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
		moved = selection->names.count;
	else
		result = requeue_names(line->store, store_retry, &selection->names, &moved, &error);
	command_names_free(&selection->names);
	print_count(line, selection, moved);
	int status = result == STORE_INVALID ? left_out(selection, &error) :
	                                       command_status(result, &error);
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

static bool
is_counted(const struct selection *selection, const char *name)
{
	size_t i = 0;

	while (i < selection->names.count && strcmp(selection->names.name[i], name) != 0)
		i++;
	return i < selection->names.count;
}

/* Count it if it would go back; if not, say and return what retry() would. */
static int
preview(struct command_line *line, const char *id, struct selection *selection)
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
	entry_free(&item.entry);
	bool waits = item.status == STORE_NEW || is_counted(selection, name);
	if (waits || item.status == STORE_HANDLED) {
		error_set(&error, EX_DATAERR, NULL, "%.*s: has not failed: %s", (int)strlen(name) - 5, name,
		    waits ? "it waits in new/ already" : "it was handled; psapi replay handles it again");
		return error_log(&error);
	}
	if (command_names_add(&selection->names, name) == 0)
		return EX_OK;
	log_line("out of memory");
	return EX_OSERR;
}

static int
retry_each(struct command_line *line, struct selection *selection, char *const *ids)
{
	int status = EX_OK;

	for (; *ids != NULL; ids++) {
		int result = selection->dry_run ? preview(line, *ids, selection) : retry(line, *ids);
		status = result != EX_OK ? result : status;
	}
	if (selection->dry_run)
		print_count(line, selection, selection->names.count);
	command_names_free(&selection->names);
	return status;
}

enum { OPTION_ALL = OPTION_OWN, OPTION_WAITING, OPTION_REASON, OPTION_DRY_RUN };

/* Returns EX_OK, or EX_USAGE (logged). */
static int
take_option(const struct command_line *line, int option, struct selection *selection)
{
	selection->all |= option == OPTION_ALL;
	selection->waiting |= option == OPTION_WAITING;
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
		{"waiting", no_argument, NULL, OPTION_WAITING},
		{"reason", required_argument, NULL, OPTION_REASON},
		{"dry-run", no_argument, NULL, OPTION_DRY_RUN}, SELECT_OPTIONS, COMMON_OPTIONS};
	struct selection selection = {0};

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;)
		if (take_option(line, option, &selection) != EX_OK)
			return EX_USAGE;
	const struct store_filter *f = &selection.filter;
	bool selects = f->type != NULL || f->npn != NULL || f->since != 0 || selection.reason != NULL ||
	    selection.waiting;
	if (selection.all == (optind < argc))
		return command_misused(line, "either IDs or --all", selection.all ? argv[optind] : NULL);
	if (selects && !selection.all)
		return command_misused(line, "what selects goes with --all", argv[optind]);
	selection.filter.statuses =
	    selection.waiting ? 1U << STORE_WAITING | 1U << STORE_NEW : 1U << STORE_DEAD;
	int status = command_open(line);
	if (status == EX_OK && !selection.dry_run)
		status = command_begin(line);
	if (status != EX_OK)
		return status;
	if (selection.all)
		return retry_all(line, &selection);
	return retry_each(line, &selection, argv + optind);
}
