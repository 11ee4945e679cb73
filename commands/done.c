/* psapi done: remove events from new/ or failed/ by hand. They stay in events/. */
#define _GNU_SOURCE
#include <sysexits.h>

#include "commands/command.h"
#include "base/log.h"
#include "store/spool/moves.h"

static int
finish(struct command_line *line, const char *id)
{
	struct spool *spool = &line->spool;
	char name[SPOOL_NAME_SIZE];

	if (!command_find(line, id, name))
		return EX_NOINPUT;
	enum spool_dir from = moves_has(spool, SPOOL_NEW, name) ? SPOOL_NEW : SPOOL_FAILED;
	if (!moves_has(spool, from, name)) {
		log_line("%s: is neither in new/ nor in failed/: it was handled", id);
		return EX_DATAERR;
	}
	/*
	 * Without its name in events/ the event would be accepted as a new one when it is sent again.
	 */
	if (!moves_has(spool, SPOOL_EVENTS, name)) {
		log_line("%s: is still arriving; try again", id);
		return EX_TEMPFAIL;
	}
	return moves_done(spool, name) == 0 ? EX_OK : command_failed(line, from, name);
}

int
done_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {COMMON_OPTIONS};

	if (command_option(line, argc, argv, "", names) != -1)
		return EX_USAGE;
	if (optind == argc)
		return command_misused(line, "which event? psapi list shows ids", "done");
	int status = command_open(line);
	if (status == EX_OK)
		status = command_lock(line);
	if (status == EX_OK)
		status = command_recover(line);
	for (int i = optind, locked = status; i < argc && locked == EX_OK; i++) {
		int result = finish(line, argv[i]);
		status = result != EX_OK ? result : status;
	}
	return status;
}
