/* psapi replay: put handled events back into new/. They stay in events/, so each needs one link. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "commands/command.h"
#include "commands/select.h"
#include "store/spool/listing.h"
#include "base/log.h"
#include "store/spool/moves.h"
#include "store/spool/handler_state.h"

/* The state of earlier runs is removed first: the event is handled as if for the first time. */
static int
link_again(struct command_line *line, const char *name)
{
	if (handler_state_remove(&line->spool, name) != 0)
		return command_failed(line, SPOOL_STATE, name);
	if (moves_link(&line->spool, SPOOL_EVENTS, SPOOL_NEW, name) != 0)
		return command_failed(line, SPOOL_EVENTS, name);
	return EX_OK;
}

static bool
is_waiting(struct command_line *line, const char *name)
{
	return moves_has(&line->spool, SPOOL_NEW, name) || moves_has(&line->spool, SPOOL_FAILED, name);
}

static int
replay_id(struct command_line *line, const char *id, size_t *count)
{
	char name[SPOOL_NAME_SIZE];
	struct entry entry;
	const char *why;

	if (!command_find(line, id, name))
		return EX_NOINPUT;
	if (is_waiting(line, name)) {
		log_line("%s: was not handled yet: it waits in %s", id,
		    moves_has(&line->spool, SPOOL_NEW, name) ? "new/" : "failed/; psapi retry takes it");
		return EX_DATAERR;
	}
	if (entry_read_named(&line->spool, SPOOL_EVENTS, name, &entry, &why) != ENTRY_OK) {
		log_line("%s: %s", id, why);
		return EX_DATAERR;
	}
	bool probe = entry.event.queue == QUEUE_NONE;
	entry_free(&entry);
	if (probe) {
		log_line("%s: is a probe of psapi doctor, for which there is no handler", id);
		return EX_DATAERR;
	}
	int status = link_again(line, name);
	*count += status == EX_OK ? 1 : 0;
	return status;
}

/* Link one of the listed events, if it is selected. */
static int
replay_listed(struct command_line *line, const char *name, const struct selection *selection,
    size_t *count)
{
	struct entry entry;
	const char *why;
	int status = EX_OK;

	if (entry_read_named(&line->spool, SPOOL_EVENTS, name, &entry, &why) != ENTRY_OK)
		return EX_OK;
	if (entry.event.queue != QUEUE_NONE && listing_selection_matches(selection, &entry) &&
	    !is_waiting(line, name)) {
		status = link_again(line, name);
		*count += status == EX_OK ? 1 : 0;
	}
	entry_free(&entry);
	return status;
}

static int
replay_selected(struct command_line *line, const struct selection *selection, size_t *count)
{
	struct listing *handled = listing_new();
	int status = EX_OK;

	if (handled == NULL || listing_add(handled, &line->spool, SPOOL_EVENTS, SPOOL_EVENTS,
	        selection->since) != 0) {
		log_line("%s/events: %s", line->config.spool, strerror(errno));
		status = EX_IOERR;
	}
	for (size_t i = 0; status == EX_OK && i < listing_size(handled); i++)
		status = replay_listed(line, listing_name(handled, i), selection, count);
	listing_free(handled);
	return status;
}

int
replay_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {SELECT_OPTIONS, COMMON_OPTIONS};
	struct selection selection = {0};
	bool selected = false;
	size_t count = 0;

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;) {
		if (select_option(line, option, &selection) != EX_OK)
			return EX_USAGE;
		selected = true;
	}
	if (selected == (optind < argc))
		return command_misused(line, "either IDs, or --type, --npn, --since",
		    selected ? argv[optind] : "replay");
	int status = command_open(line);
	if (status == EX_OK)
		status = command_lock(line);
	if (status != EX_OK)
		return status;
	if (selected)
		status = replay_selected(line, &selection, &count);
	for (int i = optind; i < argc; i++) {
		int result = replay_id(line, argv[i], &count);
		status = result != EX_OK ? result : status;
	}
	if (count > 0 && spool_sync(&line->spool, SPOOL_NEW) != 0)
		return EX_IOERR;
	printf("%zu back to new\n", count);
	return status;
}
