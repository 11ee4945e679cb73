/* psapi list: events as a table, or one JSON object a line. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "commands/command.h"
#include "commands/select.h"
#include "store/spool/listing.h"
#include "base/log.h"
#include "base/terminal.h"
#include "base/text.h"
#include "base/datetime.h"

enum which { OPEN, NEW, WAITING, FAILED, ALL };

/* A line of the list. */
struct row {
	const char *name;
	const struct entry *entry;
	enum status status;
	struct handler_state state;
};

static void
set_text(json_t *object, const char *key, const char *text)
{
	json_object_set_new(object, key, text_json(text));
}

static void
set_time(json_t *object, const char *key, int64_t seconds)
{
	char text[DATETIME_TEXT_SIZE];

	if (seconds == 0)
		return;
	datetime_text(seconds, text);
	set_text(object, key, text);
}

static void
print_row_json(const struct row *row)
{
	const struct event *event = &row->entry->event;
	json_t *object = json_object();

	set_text(object, "webhook_id", row->entry->id);
	set_text(object, "file", row->name);
	set_text(object, "status", listing_status_text(row->status));
	set_text(object, "type", event->type);
	set_text(object, "npn", event->npn);
	set_text(object, "timestamp", event->timestamp);
	set_text(object, "event_id", event->id);
	set_text(object, "received_at", row->entry->received_at);
	json_object_set_new(object, "tries", json_integer(row->state.tries));
	set_time(object, "due_at", row->state.due_at);
	set_time(object, "failed_at", row->state.failed_at);
	if (*row->state.reason != '\0')
		set_text(object, "reason", row->state.reason);
	terminal_print_json(object);
}

static void
print_head(void)
{
	printf("%s%-24s  %-7s  %-32s  %-10s  %-24s  %s%s\n", terminal_colour(COLOUR_BOLD), "RECEIVED",
	    "STATUS", "TYPE", "NPN", "EVENT TIME", "ID", terminal_colour(COLOUR_NONE));
}

static void
print_row(const struct row *row)
{
	static const enum colour colours[] = {COLOUR_NONE, COLOUR_WARN, COLOUR_BAD, COLOUR_DIM};
	static bool begun;
	const struct event *event = &row->entry->event;
	char due[DATETIME_TEXT_SIZE];

	if (!begun)
		print_head();
	begun = true;
	printf("%-24s  %s%-7s%s  %-32s  %-10s  %-24s  %s", terminal_column(row->entry->received_at),
	    terminal_colour(colours[row->status]), listing_status_text(row->status),
	    terminal_colour(COLOUR_NONE), terminal_column(event->type), terminal_column(event->npn),
	    terminal_column(event->timestamp), command_id(row->entry->id, row->name));
	if (row->status == STATUS_WAITING && row->state.due_at != 0) {
		datetime_text(row->state.due_at, due);
		printf("  due %s", due);
	}
	if (*row->state.reason != '\0')
		printf("  (%s)", terminal_column(row->state.reason));
	putchar('\n');
}

static int
collect(struct command_line *line, enum which which, const struct selection *selection,
    struct listing *listing)
{
	struct spool *spool = &line->spool;
	int64_t since = selection->since;
	int result = 0;

	if (which == ALL)
		result = listing_add(listing, spool, SPOOL_EVENTS, SPOOL_EVENTS, since);
	/* An event that is not in events/ is still being accepted, or was put there by hand. */
	enum spool_dir unless = which == ALL ? SPOOL_EVENTS : SPOOL_NEW;
	if (result == 0 && which != FAILED)
		result = listing_add(listing, spool, SPOOL_NEW, unless, since);
	if (result == 0 && (which == OPEN || which == FAILED || which == ALL))
		result = listing_add(listing, spool, SPOOL_FAILED, unless, since);
	listing_sort(listing);
	return result;
}

/*
 * Print one event, if it is selected. Unrecognised files are left out: drain and verify report
 * them. Returns an exit status.
 */
static int
list_one(struct command_line *line, enum which which, const struct selection *selection,
    enum spool_dir dir, const char *name)
{
	struct row row = {.name = name};
	struct entry entry;
	const char *why;

	row.status = listing_status_of(&line->spool, name, &row.state);
	if (which == WAITING && row.status != STATUS_WAITING)
		return EX_OK;
	enum entry_result result = entry_read_named(&line->spool, dir, name, &entry, &why);
	if (result == ENTRY_ERROR)
		return command_failed(line, dir, name);
	if (result != ENTRY_OK)
		return EX_OK;
	row.entry = &entry;
	if (listing_selection_matches(selection, &entry)) {
		if (line->json)
			print_row_json(&row);
		else
			print_row(&row);
	}
	entry_free(&entry);
	return EX_OK;
}

static int
list(struct command_line *line, enum which which, const struct selection *selection)
{
	int status = command_open(line);
	struct listing *listing = status == EX_OK ? listing_new() : NULL;

	if (status != EX_OK)
		return status;
	if (listing == NULL || collect(line, which, selection, listing) != 0) {
		log_line("%s: %s", line->config.spool, strerror(errno));
		listing_free(listing);
		return EX_IOERR;
	}
	for (size_t i = 0; i < listing_size(listing); i++) {
		int result =
		    list_one(line, which, selection, listing_dir(listing, i), listing_name(listing, i));
		status = result != EX_OK ? result : status;
	}
	listing_free(listing);
	return status;
}

int
list_main(struct command_line *line, int argc, char **argv)
{
	enum { OPTION_NEW = OPTION_OWN, OPTION_WAITING, OPTION_FAILED, OPTION_ALL };
	static const struct option names[] = {{"new", no_argument, NULL, OPTION_NEW},
		{"waiting", no_argument, NULL, OPTION_WAITING},
		{"failed", no_argument, NULL, OPTION_FAILED}, {"all", no_argument, NULL, OPTION_ALL},
		SELECT_OPTIONS, COMMON_OPTIONS};
	static const enum which meant[] = {NEW, WAITING, FAILED, ALL};
	struct selection selection = {0};
	enum which which = OPEN;

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;) {
		if (option >= OPTION_NEW && option <= OPTION_ALL) {
			if (which != OPEN)
				return command_misused(line, "only one of --new, --waiting, --failed, --all",
				    argv[optind - 1]);
			which = meant[option - OPTION_NEW];
		} else if (select_option(line, option, &selection) != EX_OK) {
			return EX_USAGE;
		}
	}
	if (optind < argc)
		return command_misused(line, "list takes options alone; show takes an ID", argv[optind]);
	return list(line, which, &selection);
}
