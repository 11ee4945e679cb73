/*
 * psapi prune: remove old events from events/ that wait neither in new/ nor in failed/. With the
 * file the deduplication record is gone: the same event, sent again, is accepted again.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands/command.h"
#include "commands/progress.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/terminal.h"
#include "base/datetime.h"

enum { DAY = 86400, LEAST_DAYS = 30 };

struct pruning {
	bool json;
	size_t count;
	struct progress progress;
};

/* store_forget()'s visit. */
static void
count_name(const char *name, int64_t received, void *data)
{
	struct pruning *pruning = data;

	(void)name;
	(void)received;
	progress_show(&pruning->progress, ++pruning->count, 0, "forgotten");
}

/* The same of a dry run. */
static void
print_name(const char *name, int64_t received, void *data)
{
	const struct pruning *pruning = data;
	char at[TERMINAL_TIME_SIZE];

	terminal_time(received, at);
	if (pruning->json)
		terminal_print_json(json_pack("{s:s,s:s}", "file", name, "received_at", at));
	else
		printf("%s  %s\n", at, name);
}

static int
prune(struct command_line *line, struct store_forgetting f)
{
	struct pruning pruning = {.json = line->json};
	struct error error;
	int status = command_open(line);

	if (status == EX_OK && !f.dry_run)
		status = command_begin(line);
	if (status != EX_OK)
		return status;
	f.visit = f.dry_run ? print_name : count_name;
	f.data = &pruning;
	progress_begin(&pruning.progress);
	enum store_result result = store_forget(line->store, &f, &error);
	progress_end(&pruning.progress);
	status = command_status(result, &error);
	/* Cron mails what is printed: without a terminal, only what was asked for. */
	if (status == EX_OK && !line->json && (f.dry_run || isatty(STDOUT_FILENO)))
		printf("%zu %s, %zu kept\n", f.forgotten, f.dry_run ? "would be forgotten" : "forgotten",
		    f.kept);
	return status;
}

int
prune_main(struct command_line *line, int argc, char **argv)
{
	enum { OPTION_OLDER_THAN = OPTION_OWN, OPTION_DRY_RUN, OPTION_FORCE };
	static const struct option names[] = {
		{"older-than", required_argument, NULL, OPTION_OLDER_THAN},
		{"dry-run", no_argument, NULL, OPTION_DRY_RUN}, {"force", no_argument, NULL, OPTION_FORCE},
		COMMON_OPTIONS};
	struct store_forgetting f = {.now = clock_unix()};
	int64_t age = -1;
	bool force = false;

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		f.dry_run |= option == OPTION_DRY_RUN;
		force |= option == OPTION_FORCE;
		if (option == OPTION_OLDER_THAN && !datetime_age_parse(optarg, &age))
			return command_misused(line, "--older-than takes an age like 90d", optarg);
	}
	if (optind < argc)
		return command_misused(line, "prune takes options alone", argv[optind]);
	if (age < 0)
		return command_misused(line, "how old? --older-than 90d", NULL);
	if (age < LEAST_DAYS * DAY && !force && !f.dry_run) {
		log_line("prune: under 30d only with --force: a pruned event is accepted and handled again "
		         "if the portal sends it again, which it can do for 90 days");
		return EX_USAGE;
	}
	f.before = f.now - age;
	return prune(line, f);
}
