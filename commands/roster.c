/* psapi roster: the producers that are active, by what their events say. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "base/log.h"
#include "base/terminal.h"
#include "commands/command.h"

enum format { TABLE, CSV, JSON };

static void
print_json(const struct roster_mark *mark, const char *when)
{
	terminal_print_json(json_pack("{s:s,s:s,s:s}", "npn", mark->npn, "status",
	    mark->unknown ? "unknown" : "active", mark->unknown ? "known_from" : "since", when));
}

/* An NPN is digits: there is nothing to escape. */
static void
print_mark(const struct roster_mark *mark, enum format format)
{
	struct timespec time = {.tv_sec = mark->when / NANOSECONDS};
	char when[DATETIME_ISO_SIZE], shown[TERMINAL_TIME_SIZE];

	if (mark->when % NANOSECONDS < 0)
		time.tv_sec--;
	time.tv_nsec = mark->when - time.tv_sec * NANOSECONDS;
	datetime_iso(time, when);
	if (format == JSON)
		print_json(mark, when);
	else if (format == CSV)
		printf("%s,%s,%s\n", mark->npn, mark->unknown ? "unknown" : "active",
		    mark->unknown ? "" : when);
	else if (mark->unknown)
		printf("%-20s  %sunknown%s  before %s\n", mark->npn, terminal_colour(COLOUR_WARN),
		    terminal_colour(COLOUR_NONE), terminal_time_text(when, shown));
	else
		printf("%-20s  active   %s\n", mark->npn, terminal_time_text(when, shown));
}

static void
print_head(enum format format)
{
	if (format == CSV)
		puts("npn,status,since");
	else if (format == TABLE)
		printf("%s%-20s  %-7s  %s%s\n", terminal_colour(COLOUR_BOLD), "NPN", "STATUS", "SINCE",
		    terminal_colour(COLOUR_NONE));
}

/* Returns how many are not known; *from: the nanosecond from which on all are. */
static size_t
print_roster(struct roster *roster, enum format format, int64_t *from)
{
	size_t unknown = 0;

	*from = 0;
	roster_sort(roster);
	print_head(format);
	for (size_t i = 0; i < roster->count; i++) {
		const struct roster_mark *mark = &roster->marks[i];
		if (mark->active || mark->unknown)
			print_mark(mark, format);
		if (!mark->unknown)
			continue;
		unknown++;
		*from = mark->when > *from ? mark->when : *from;
	}
	return unknown;
}

/* Many events take seconds: on a terminal it says what it does meanwhile. */
static int
add_up(struct command_line *line, int64_t at, struct roster *roster)
{
	bool terminal = isatty(STDERR_FILENO);
	struct error error;

	if (terminal)
		fputs("adding up the events ...", stderr);
	enum store_result result = store_roster(line->store, at, roster, &error);
	if (terminal)
		fputs("\r\033[K", stderr);
	return command_status(result, &error);
}

static int
show(struct command_line *line, int64_t at, enum format format)
{
	struct roster roster = {0};
	char text[DATETIME_EXACT_SIZE];
	int64_t from;
	int status = command_open(line);

	if (status == EX_OK)
		status = add_up(line, at, &roster);
	if (status == EX_OK && print_roster(&roster, format, &from) > 0) {
		datetime_exact(from, text);
		log_line("roster: some producers are not known at that time, for psapi prune has removed "
		         "events of theirs: all are known from %s on", text);
		status = 1;
	}
	roster_free(&roster);
	return status;
}

int
roster_main(struct command_line *line, int argc, char **argv)
{
	enum { OPTION_AT = OPTION_OWN, OPTION_CSV };
	static const struct option names[] = {{"at", required_argument, NULL, OPTION_AT},
		{"csv", no_argument, NULL, OPTION_CSV}, COMMON_OPTIONS};
	int64_t at = INT64_MAX;
	bool csv = false;

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		csv |= option == OPTION_CSV;
		if (option == OPTION_AT && !datetime_argument(optarg, clock_unix(), &at))
			return command_misused(line,
			    "--at takes 2025-07-24, 2025-07-24T22:51 or an age like 12h", optarg);
	}
	if (optind < argc)
		return command_misused(line, "roster takes options alone", argv[optind]);
	if (csv && line->json)
		return command_misused(line, "either --csv or --json", "--csv");
	return show(line, at, csv ? CSV : line->json ? JSON : TABLE);
}
