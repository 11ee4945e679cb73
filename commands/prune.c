/*
 * psapi prune: remove old events from events/ that wait neither in new/ nor in failed/. With the
 * file the deduplication record is gone: the same event, sent again, is accepted again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands/command.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/spool/moves.h"
#include "base/terminal.h"
#include "base/datetime.h"

enum { DAY = 86400, LEAST_DAYS = 30, STATE_SECONDS = 3600 };

struct pruning {
	struct command_line *line;
	int64_t before; /* Unix seconds: events that were received by then are removed */
	int64_t now;
	bool dry_run;
	size_t removed, kept;
	int status;
};

static void
print_name(const struct pruning *p, const char *name, int64_t received)
{
	char at[DATETIME_TEXT_SIZE];

	datetime_text(received, at);
	if (p->line->json)
		terminal_print_json(json_pack("{s:s,s:s}", "file", name, "received_at", at));
	else
		printf("%s  %s\n", at, name);
}

static bool
is_waiting(struct spool *spool, const char *name)
{
	return moves_has(spool, SPOOL_NEW, name) || moves_has(spool, SPOOL_FAILED, name);
}

static int
prune_event(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct pruning *p = data;
	struct stat st;

	if (!spool_name_valid(name) ||
	    fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
		return 0;
	/* The file was written when the event was received, and never since. */
	if (st.st_mtime > p->before || is_waiting(spool, name)) {
		p->kept++;
		return 0;
	}
	if (p->dry_run)
		print_name(p, name, st.st_mtime);
	else if (moves_drop(spool, dir, name) != 0)
		p->status = command_failed(p->line, dir, name);
	p->removed++;
	return p->status == EX_OK ? 0 : 1;
}

/*
 * Remove a state whose event is neither in new/ nor in failed/: it is left over from a crash. Not
 * a young one: the receiver writes it just before the event that it explains.
 */
static int
prune_state(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	const struct pruning *p = data;
	struct stat st;

	if (spool_name_valid(name) && !is_waiting(spool, name) &&
	    fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    st.st_mtime < p->now - STATE_SECONDS)
		unlinkat(spool->dir[dir], name, 0);
	return 0;
}

static int
prune(struct pruning *p)
{
	struct spool *spool = &p->line->spool;
	int status = command_open(p->line);

	if (status == EX_OK && !p->dry_run)
		status = command_lock(p->line);
	if (status != EX_OK)
		return status;
	if (spool_each(spool, SPOOL_EVENTS, prune_event, p) < 0) {
		log_line("%s/events: %s", p->line->config.spool, strerror(errno));
		return EX_IOERR;
	}
	if (!p->dry_run && p->status == EX_OK)
		spool_each(spool, SPOOL_STATE, prune_state, p);
	/* Cron mails all output: without a terminal, print only what was asked for. */
	if (p->status == EX_OK && !p->line->json && (p->dry_run || isatty(STDOUT_FILENO)))
		printf("%zu %s, %zu kept\n", p->removed, p->dry_run ? "would be forgotten" : "forgotten",
		    p->kept);
	return p->status;
}

int
prune_main(struct command_line *line, int argc, char **argv)
{
	enum { OPTION_OLDER_THAN = OPTION_OWN, OPTION_DRY_RUN, OPTION_FORCE };
	static const struct option names[] = {
		{"older-than", required_argument, NULL, OPTION_OLDER_THAN},
		{"dry-run", no_argument, NULL, OPTION_DRY_RUN}, {"force", no_argument, NULL, OPTION_FORCE},
		COMMON_OPTIONS};
	struct pruning p = {.line = line, .now = clock_unix()};
	int64_t age = -1;
	bool force = false;

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		p.dry_run |= option == OPTION_DRY_RUN;
		force |= option == OPTION_FORCE;
		if (option == OPTION_OLDER_THAN && !datetime_age_parse(optarg, &age))
			return command_misused(line, "--older-than takes an age like 90d", optarg);
	}
	if (optind < argc)
		return command_misused(line, "prune takes options alone", argv[optind]);
	if (age < 0)
		return command_misused(line, "how old? --older-than 90d", "prune");
	if (age < LEAST_DAYS * DAY && !force && !p.dry_run) {
		log_line("prune: under 30d only with --force: an id pruned is an id forgotten, and what is "
		         "re-sent from the portal, up to 90 days later, would be handled once more");
		return EX_USAGE;
	}
	p.before = p.now - age;
	return prune(&p);
}
