/* psapi show: all information about an event, or the signed bytes alone. */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/json_text.h"
#include "commands/command.h"
#include "base/terminal.h"
#include "base/datetime.h"

static void
print_field(const char *name, const char *value)
{
	if (*value != '\0')
		printf("%s%-12s%s %s\n", terminal_colour(COLOUR_BOLD), name, terminal_colour(COLOUR_NONE),
		    terminal_column(value));
}

/* A time of UTC, or what is there instead of one. */
static void
print_time(const char *name, const char *value)
{
	char at[TERMINAL_TIME_SIZE];

	print_field(name, datetime_is_utc(value) ? terminal_time_text(value, at) : value);
}

static void
print_status(enum store_status status, const struct handler_state *state)
{
	char text[512], at[TERMINAL_TIME_SIZE] = "";

	if (status == STORE_DEAD && state->failed_at != 0)
		terminal_time(state->failed_at, at);
	if (status == STORE_WAITING && state->due_at != 0)
		terminal_time(state->due_at, at);
	snprintf(text, sizeof(text), "%s%s%s%s%s", store_status_text(status),
	    *at == '\0'               ? "" :
	    status == STORE_WAITING  ? ", due " :
	                                " at ",
	    at, *state->reason != '\0' ? ": " : "", state->reason);
	print_field("status", text);
}

static void
print_tries(const struct handler_state *state)
{
	char text[64 + TERMINAL_TIME_SIZE], at[TERMINAL_TIME_SIZE] = "never";

	if (state->tries == 0 && state->tried_at == 0)
		return;
	if (state->tried_at != 0)
		terminal_time(state->tried_at, at);
	snprintf(text, sizeof(text), "%d, the last at %s", state->tries, at);
	print_field("tries", text);
	print_field("handler", state->handler);
	if (*state->stderr_end == '\0')
		return;
	printf("%sstandard error, its end:%s\n", terminal_colour(COLOUR_BOLD),
	    terminal_colour(COLOUR_NONE));
	terminal_print_escaped(state->stderr_end, strlen(state->stderr_end));
	if (state->stderr_end[strlen(state->stderr_end) - 1] != '\n')
		putchar('\n');
}

static void
print_evidence(const struct entry *entry, const char *path)
{
	char signed_at[TERMINAL_TIME_SIZE];

	print_field("type", entry->event.type);
	print_field("npn", entry->event.npn);
	print_field("run date", entry->event.run_date);
	print_time("event time", entry->event.timestamp);
	print_field("event id", entry->event.id);
	print_time("received", entry->received_at);
	print_field("signed", terminal_time(atoll(entry->timestamp), signed_at));
	print_field("signature", entry->signature);
	print_field("file", path);
}

/* The body as it was signed; if it is JSON, with other white space between its tokens. */
static void
print_body(const struct entry *entry)
{
	if (entry->event.parsed) {
		json_text_print_indented(entry->body, entry->body_length);
		return;
	}
	terminal_print_escaped(entry->body, entry->body_length);
	if (entry->body_length > 0)
		putchar('\n');
}

/* The body is never parsed and written anew: what is printed is what was signed. */
static void
print_json_of(const struct store_item *item)
{
	const struct entry *entry = &item->entry;

	json_text_print_with(store_json_details(item), "event",
	    entry->event.parsed ? entry->body : "null", entry->event.parsed ? entry->body_length : 4);
}

static void
print_raw(const struct entry *entry)
{
	if (isatty(STDOUT_FILENO))
		terminal_print_escaped(entry->body, entry->body_length);
	else
		fwrite(entry->body, 1, entry->body_length, stdout);
}

static int
show(struct command_line *line, const char *id, bool raw)
{
	char name[STORE_NAME_SIZE];
	struct store_item item;
	struct error error;

	if (!command_find(line, id, name))
		return EX_NOINPUT;
	enum store_result result = store_get(line->store, name, &item, &error);
	if (result == STORE_ABSENT)
		error_set(&error, EX_NOINPUT, NULL, "%s: was handled and forgotten at this moment", id);
	if (result != STORE_OK)
		return error_log(&error);
	if (raw) {
		print_raw(&item.entry);
	} else if (line->json) {
		print_json_of(&item);
	} else {
		print_field("webhook-id", item.entry.id);
		print_status(item.status, &item.state);
		print_evidence(&item.entry, item.path);
		print_tries(&item.state);
		print_body(&item.entry);
	}
	entry_free(&item.entry);
	return EX_OK;
}

int
show_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {{"raw", no_argument, NULL, OPTION_OWN}, COMMON_OPTIONS};
	bool raw = false;

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		raw = true;
	}
	if (optind == argc)
		return command_misused(line, "which event? psapi list shows ids", NULL);
	int status = command_open(line);
	for (int i = optind, opened = status; i < argc && opened == EX_OK; i++) {
		if (i > optind && !raw && !line->json)
			putchar('\n');
		int result = show(line, argv[i], raw);
		status = result != EX_OK ? result : status;
	}
	return status;
}
