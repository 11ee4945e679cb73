/*
 * psapi doctor: the options, the change to the spool's owner, the printing of results. doctor/ has
 * the checks.
 */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands/command.h"
#include "base/clock.h"
#include "base/columns.h"
#include "base/user.h"
#include "base/terminal.h"

enum { OPTION_SOCKET = OPTION_OWN, OPTION_CACERT };

/* Whether the locale has UTF-8. */
static bool
is_utf8(void)
{
	static const char *const names[] = {"LC_ALL", "LC_CTYPE", "LANG"};

	for (int i = 0; i < 3; i++) {
		const char *value = getenv(names[i]);
		if (value != NULL && *value != '\0')
			return strcasestr(value, "UTF-8") != NULL || strcasestr(value, "UTF8") != NULL;
	}
	return false;
}

enum { TEXT_AT = 20, REMEDY_AT = 5 }; /* columns; TEXT_AT after the mark */

/* In lines. Names of files may be in it. */
static void
print_remedy(const char *remedy)
{
	char text[TERMINAL_ESCAPED_SIZE(256)];

	while (*remedy != '\0') {
		size_t n = strcspn(remedy, "\n");
		/* Our own words have back slashes: only what could steer a terminal is escaped. */
		bool harmless = true;
		for (size_t i = 0; i < n; i++)
			harmless = harmless && remedy[i] >= 0x20 && remedy[i] < 0x7f;
		snprintf(text, sizeof(text), "%.*s", (int)n, remedy);
		if (!harmless)
			terminal_escape(text, sizeof(text), remedy, n, false);
		printf("%*s", REMEDY_AT, "");
		columns_wrap(text, REMEDY_AT, REMEDY_AT);
		putchar('\n');
		remedy += n + (remedy[n] == '\n');
	}
}

static void
print_row(const struct finding *f)
{
	static const enum colour colours[] = {
		[DOCTOR_OK] = COLOUR_GOOD, [DOCTOR_FAILED] = COLOUR_BAD, [DOCTOR_SKIPPED] = COLOUR_DIM,
		[DOCTOR_REMARK] = COLOUR_WARN};
	static const char *const ticks[] = {
		[DOCTOR_OK] = "\xe2\x9c\x93", [DOCTOR_FAILED] = "\xe2\x9c\x97", [DOCTOR_SKIPPED] = "-",
		[DOCTOR_REMARK] = "!"};
	static const char *const letters[] = {
		[DOCTOR_OK] = "ok ", [DOCTOR_FAILED] = "BAD", [DOCTOR_SKIPPED] = "-  ",
		[DOCTOR_REMARK] = "!  "};
	char text[TERMINAL_ESCAPED_SIZE(sizeof(f->text))];

	terminal_escape(text, sizeof(text), f->text, strlen(f->text), false);
	printf("%s%s%s  %-16s  ", terminal_colour(colours[f->result]),
	    is_utf8() ? ticks[f->result] : letters[f->result], terminal_colour(COLOUR_NONE), f->name);
	size_t at = TEXT_AT + (is_utf8() ? 1 : strlen(letters[f->result]));
	columns_wrap(text, at, at);
	putchar('\n');
	print_remedy(f->remedy);
	fflush(stdout);
}

/* How doctor's results are printed, and what they add up to. */
struct report {
	const struct command_line *line;
	bool quiet; /* only what is wrong, and the sum */
	int problems, remarks;
	json_t *rows; /* all of them, for the page */
};

static void
report(const struct finding *finding, void *user)
{
	struct report *r = user;

	r->problems += finding->result == DOCTOR_FAILED;
	r->remarks += finding->result == DOCTOR_REMARK;
	json_array_append_new(r->rows, doctor_finding_json(finding));
	if (r->quiet && finding->result != DOCTOR_FAILED && finding->result != DOCTOR_REMARK)
		return;
	if (r->line->json)
		terminal_print_json(doctor_finding_json(finding));
	else
		print_row(finding);
}

/* The last line: "2 problems, 1 remark". Under --quiet nothing, if nothing is wrong. */
static void
print_sum(const struct report *r)
{
	if (r->line->json || (r->quiet && r->problems + r->remarks == 0))
		return;
	enum colour colour = r->problems > 0 ? COLOUR_BAD : r->remarks > 0 ? COLOUR_WARN : COLOUR_GOOD;
	printf("%s%d problem%s, %d remark%s%s\n", terminal_colour(colour), r->problems,
	    r->problems == 1 ? "" : "s", r->remarks, r->remarks == 1 ? "" : "s",
	    terminal_colour(COLOUR_NONE));
}

/*
 * Root can read everything, the receiver cannot. So root becomes the spool's owner, the receiver's
 * user.
 */
static int
become_owner(struct command_line *line, bool quiet)
{
	char name[USER_NAME_SIZE];
	uid_t before = geteuid();
	int status = command_become_owner(line);

	if (status == EX_OK && geteuid() != before && !line->json && !quiet)
		printf("Checking as %s, the owner of %s.\n", user_name(geteuid(), name),
		    line->config.spool);
	return status;
}

/* config_check_environment()'s warn: the first one is the remark. */
static void
remark_setting(const struct error *warning, void *data)
{
	struct finding *f = data;

	if (*f->remedy == '\0')
		doctor_remark(f, warning->remedy, "%s", warning->text);
}

/* Read the settings, which is the first check. Without them there are no other checks. */
static int
configure(struct command_line *line, struct report *r)
{
	struct finding f = {.name = "configuration"};
	const struct option_settings *from = &line->settings;
	struct error error;

	if (config_load(&line->config, from->file, from->overrides, from->count, &error) != 0) {
		doctor_failed(&f, *error.remedy != '\0' ? error.remedy :
		    "correct that setting; psapi-fcgi -h lists all", "%s", error.text);
		report(&f, r);
		return 1;
	}
	line->configured = true;
	int status = become_owner(line, r->quiet);
	if (config_check_file(&line->config, &error) != 0) {
		doctor_failed_for(&f, &error);
	} else {
		doctor_ok(&f, "all settings are valid");
		config_check_environment(remark_setting, &f);
	}
	report(&f, r);
	return status;
}

int
doctor_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {{"socket", required_argument, NULL, OPTION_SOCKET},
	    {"cacert", required_argument, NULL, OPTION_CACERT}, {"quiet", no_argument, NULL, 'q'},
	    COMMON_OPTIONS};
	struct report sum = {.line = line};
	struct doctor doctor = {.report = report, .user = &sum};
	char listen[256];

	for (int option; (option = command_option(line, argc, argv, "q", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		if (option == 'q')
			sum.quiet = true;
		else if (option == OPTION_CACERT)
			doctor.ca_file = optarg;
		else {
			snprintf(
			    listen, sizeof(listen), "PSAPI_LISTEN=%s%s", *optarg == '/' ? "unix:" : "", optarg);
			if (!option_override(&line->settings, listen))
				return EX_USAGE;
		}
	}
	if (argc - optind > 1)
		return command_misused(line, "one URL at most", argv[optind + 1]);
	doctor.url = argv[optind];
	sum.rows = json_array();
	int status = configure(line, &sum);
	if (status == EX_OK) {
		doctor.config = &line->config;
		doctor.listen = line->config.listen;
		doctor.now = (time_t)clock_unix();
		doctor.rows = sum.rows;
		if (doctor.url == NULL && *line->config.endpoint_url != '\0')
			doctor.url = line->config.endpoint_url;
		doctor_run(&doctor);
		status = sum.problems == 0 ? EX_OK : 1;
	}
	json_decref(sum.rows);
	print_sum(&sum);
	return status;
}
