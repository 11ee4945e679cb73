/*
 * psapi retry: move failed events back to new/. The order is link, remove the state, sync, unlink,
 * with one sync for all. The state is not removed first: if the kernel refuses the link, the
 * reason of the failure must still be there. (In new/, a state that says "failed" counts as none.)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "commands/command.h"
#include "store/spool/listing.h"
#include "base/log.h"
#include "store/spool/moves.h"
#include "store/spool/handler_state.h"

/* The first half of a move: the event is in new/ as well, and its state is removed. */
static int
link_back(struct command_line *line, const char *name)
{
	if (moves_link(&line->spool, SPOOL_FAILED, SPOOL_NEW, name) != 0)
		return command_failed(line, SPOOL_FAILED, name);
	if (handler_state_remove(&line->spool, name) != 0)
		return command_failed(line, SPOOL_STATE, name);
	return EX_OK;
}

static int
retry_listed(struct command_line *line, const struct listing *failed)
{
	int status = EX_OK;
	size_t linked = 0, moved = 0;

	for (; linked < listing_size(failed); linked++) {
		const char *name = listing_name(failed, linked);
		/* An event that is still being accepted is left to the next retry. */
		if (moves_has(&line->spool, SPOOL_EVENTS, name) &&
		    (status = link_back(line, name)) != EX_OK)
			break;
	}
	if (linked > 0 && spool_sync(&line->spool, SPOOL_NEW) != 0)
		return EX_IOERR;
	for (size_t i = 0; i < linked; i++) {
		const char *name = listing_name(failed, i);
		if (!moves_has(&line->spool, SPOOL_NEW, name))
			continue;
		if (moves_drop(&line->spool, SPOOL_FAILED, name) != 0)
			return command_failed(line, SPOOL_FAILED, name);
		moved++;
	}
	printf("%zu back to new\n", moved);
	return status;
}

static int
retry_all(struct command_line *line)
{
	struct listing *failed = listing_new();
	int status;

	if (failed == NULL || listing_add(failed, &line->spool, SPOOL_FAILED, SPOOL_FAILED, 0) != 0) {
		log_line("%s/failed: %s", line->config.spool, strerror(errno));
		status = EX_IOERR;
	} else {
		status = retry_listed(line, failed);
	}
	listing_free(failed);
	return status;
}

static int
retry(struct command_line *line, const char *id)
{
	char name[SPOOL_NAME_SIZE];

	if (!command_find(line, id, name))
		return EX_NOINPUT;
	if (!moves_has(&line->spool, SPOOL_FAILED, name)) {
		log_line("%s: has not failed: %s", id, moves_has(&line->spool, SPOOL_NEW, name) ?
		        "it waits in new/ already" :
		        "it was handled; psapi replay handles it again");
		return EX_DATAERR;
	}
	if (!moves_has(&line->spool, SPOOL_EVENTS, name)) {
		log_line("%s: is still arriving; try again", id);
		return EX_TEMPFAIL;
	}
	int status = link_back(line, name);
	if (status == EX_OK && moves_whole(&line->spool, SPOOL_FAILED, SPOOL_NEW, name) != 0)
		status = command_failed(line, SPOOL_FAILED, name);
	return status;
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
		status = command_lock(line);
	if (status == EX_OK)
		status = command_recover(line);
	if (status == EX_OK && all)
		return retry_all(line);
	for (int i = optind, locked = status; i < argc && locked == EX_OK; i++) {
		int result = retry(line, argv[i]);
		status = result != EX_OK ? result : status;
	}
	return status;
}
