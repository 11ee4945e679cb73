/* psapi roster: the producers that are active, by what their events say. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "base/terminal.h"
#include "commands/command.h"

enum format { TABLE, CSV, JSON };

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
		terminal_print_json(json_pack("{s:s,s:s,s:s}", "npn", mark->npn, "status", "active",
		    "since", when));
	else if (format == CSV)
		printf("%s,active,%s\n", mark->npn, when);
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

static void
print_roster(struct roster *roster, enum format format)
{
	roster_sort(roster);
	print_head(format);
	for (size_t i = 0; i < roster->count; i++)
		if (roster->marks[i].active)
			print_mark(&roster->marks[i], format);
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
	int status = command_open(line);

	if (status == EX_OK)
		status = add_up(line, at, &roster);
	if (status == EX_OK)
		print_roster(&roster, format);
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
