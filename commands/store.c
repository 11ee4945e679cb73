/*
 * psapi store: the shared store that PSAPI_STORE names: its tables are made, its nodes and sizes
 * shown, the local spool's events imported.
 */
#define _GNU_SOURCE
#include "store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/terminal.h"
#include "commands/command.h"
#include "commands/progress.h"

/* ---- init ---- */

static int
init(struct command_line *line)
{
	struct error error;
	bool made;
	int status = command_status(store_init(line->store, &made, &error), &error);

	if (status == EX_OK && line->json)
		printf("{\"made\":%s}\n", made ? "true" : "false");
	else if (status == EX_OK)
		puts(made ? "the tables are made" : "the tables are there already");
	return status;
}

/* ---- status ---- */

static const char *
text_of(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));

	return terminal_column(text != NULL ? text : "");
}

static long long
number_of(const json_t *object, const char *key)
{
	return (long long)json_integer_value(json_object_get(object, key));
}

static void
print_nodes(const json_t *report)
{
	const json_t *item;
	size_t i;

	json_array_foreach (json_object_get(report, "hosts"), i, item) {
		printf("%-12s  %s: %s%s%s\n", i == 0 ? "hosts" : "", text_of(item, "host"),
		    text_of(item, "role"), json_object_get(item, "error") != NULL ? ": " : "",
		    json_object_get(item, "error") != NULL ? text_of(item, "error") : "");
	}
	json_array_foreach (json_object_get(report, "standbys"), i, item) {
		printf("%-12s  %s (%s): %s, %s, %lld bytes behind\n", i == 0 ? "standbys" : "",
		    text_of(item, "name"), text_of(item, "address"), text_of(item, "state"),
		    text_of(item, "sync_state"), number_of(item, "lag_bytes"));
	}
	if (json_array_size(json_object_get(report, "standbys")) == 0)
		printf("%-12s  none\n", "standbys");
	const char *names = json_string_value(json_object_get(report, "synchronous_standby_names"));
	printf("%-12s  %s\n", "synchronous", names != NULL && *names != '\0' ?
	    terminal_column(names) : "none: a 200 is on one machine only");
	printf("%-12s  PostgreSQL %s, %lld of %lld connections\n", "server", text_of(report, "version"),
	    number_of(report, "connections"), number_of(report, "max_connections"));
}

static void
print_events(const json_t *report)
{
	const json_t *item;
	size_t i;

	printf("%-12s  %lld, %.1f MiB with all else\n", "events", number_of(report, "events"),
	    (double)number_of(report, "bytes") / (1 << 20));
	printf("%-12s  %lld", "waiting", number_of(report, "waiting"));
	if (number_of(report, "waiting") > 0)
		printf(", of which %lld for a retry; the oldest since %s", number_of(report, "retrying"),
		    text_of(report, "oldest_waiting"));
	putchar('\n');
	printf("%-12s  %lld\n", "failed", number_of(report, "failed"));
	json_array_foreach (json_object_get(report, "lanes"), i, item) {
		printf("%-12s  %s: %lld lane(s) in work\n", i == 0 ? "drains" : "",
		    text_of(item, "owner"), number_of(item, "lanes"));
	}
}

static int
status(struct command_line *line)
{
	struct error error;
	char *text = store_status(line->store, &error);

	if (text == NULL)
		return error_log(&error);
	if (line->json) {
		puts(text);
	} else {
		json_t *report = json_loads(text, 0, NULL);
		print_nodes(report);
		print_events(report);
		json_decref(report);
	}
	free(text);
	return EX_OK;
}

/* ---- import ---- */

struct importing {
	struct store *to;
	struct error *error;
	enum store_result result;
	size_t count; /* events that were given to the shared store */
	size_t left_out; /* files that are no events (logged) */
	char *left;      /* the names of those that wait or failed, a line each, as many as fit */
	size_t length;
	struct progress progress;
};

/* Say why a file is left out, and note it for doctor if somebody expects it to be handled. */
static void
leave_out(struct importing *i, const struct store_item *item)
{
	progress_end(&i->progress);
	i->left_out++;
	log_line("%s: left out: %s", item->path, item->invalid);
	if (item->status != STORE_HANDLED && i->length + strlen(item->name) + 2 < STORE_NOTE_SIZE)
		i->length += (size_t)sprintf(i->left + i->length, "%s\n", item->name);
}

/* store_each()'s visit. */
static int
import_item(const struct store_item *item, void *data)
{
	struct importing *i = data;

	if (item->invalid != NULL) {
		leave_out(i, item);
		return 0;
	}
	i->result = store_import(i->to, item, i->error);
	i->count++;
	progress_show(&i->progress, i->count, 0, "events");
	return i->result == STORE_OK ? 0 : 1;
}

/*
 * Handled events first; then those that wait or failed, all at once; then what forgotten ones said.
 */
static enum store_result
import_all(struct importing *i, struct store *from, size_t *imported, struct error *error)
{
	static const struct store_filter filters[] = {
	    {.statuses = 1U << STORE_HANDLED, .invalid = true},
	    {.statuses = 1U << STORE_NEW | 1U << STORE_WAITING | 1U << STORE_DEAD, .invalid = true}};
	size_t part;

	*imported = 0;
	for (size_t k = 0; k < sizeof(filters) / sizeof(filters[0]); k++) {
		enum store_result listed = store_each(from, &filters[k], import_item, i, error);
		if (listed != STORE_OK || i->result != STORE_OK)
			return listed != STORE_OK ? listed : i->result;
		if (store_import_end(i->to, &part, error) != STORE_OK)
			return STORE_FAILED;
		*imported += part;
	}
	struct roster forgotten = {.every = true};
	enum store_result result = store_forgotten(from, &forgotten, error);
	if (result == STORE_OK)
		result = store_import_forgotten(i->to, &forgotten, error);
	roster_free(&forgotten);
	return result;
}

/* The local spool, where no drain and no command moves events meanwhile. NULL with *error. */
static struct store *
open_local(const struct command_line *line, struct error *error)
{
	struct config local = line->config;
	long committed;

	local.store = (char *)(uintptr_t)"";
	struct store *store = store_open(&local, false, error);
	if (store != NULL && store_work_begin(store, true, error) == STORE_OK &&
	    store_recover(store, &committed, error) == STORE_OK)
		return store;
	store_close(store);
	return NULL;
}

/* What doctor looks at later. */
static void
note_import(struct importing *i, struct store *from, int64_t begun)
{
	struct error error;

	store_note_import(from, begun);
	if (store_note_write(from, STORE_NOTE_LEFT_OUT, i->left, &error) != STORE_OK)
		error_log(&error);
}

/* Returns the exit status. */
static int
report(const struct command_line *line, const struct importing *i, size_t imported)
{
	if (line->json)
		printf("{\"imported\":%zu,\"events\":%zu,\"left_out\":%zu}\n", imported, i->count,
		    i->left_out);
	else
		printf("%zu of %zu events imported; the others were there already\n", imported, i->count);
	if (i->left_out == 0)
		return EX_OK;
	log_line("store: %zu file(s) left out, which are no events; all others are imported",
	    i->left_out);
	return EX_DATAERR;
}

static int
import(struct command_line *line)
{
	struct error error;
	struct importing i = {.to = line->store, .error = &error};
	int64_t begun = clock_unix();
	size_t imported;
	struct store *from = open_local(line, &error);

	if (from == NULL)
		return error_log(&error);
	i.left = calloc(1, STORE_NOTE_SIZE);
	enum store_result result = STORE_FAILED;
	progress_begin(&i.progress);
	if (i.left == NULL)
		error_set(&error, EX_OSERR, NULL, "out of memory");
	else
		result = import_all(&i, from, &imported, &error);
	progress_end(&i.progress);
	if (result == STORE_OK)
		note_import(&i, from, begun);
	free(i.left);
	store_close(from);
	if (result == STORE_OK)
		return report(line, &i, imported);
	log_line("store: the import ended early; it can be repeated");
	return error_log(&error);
}

/* ---- the command line ---- */

static const struct {
	const char *name;
	int (*run)(struct command_line *line);
	int (*open)(struct command_line *line);
} verbs[] = {{"init", init, command_open_shared}, {"status", status, command_open_shared},
	{"import", import, command_open}};

int
store_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {COMMON_OPTIONS};
	size_t verb = 0;

	if (command_option(line, argc, argv, "", names) != -1)
		return EX_USAGE;
	if (argc - optind != 1)
		return command_misused(line, "init, status or import",
		    argc > optind ? argv[optind + 1] : NULL);
	while (verb < sizeof(verbs) / sizeof(verbs[0]) && strcmp(verbs[verb].name, argv[optind]) != 0)
		verb++;
	if (verb == sizeof(verbs) / sizeof(verbs[0]))
		return command_misused(line, "init, status or import", argv[optind]);
	int result = command_configure(line);
	if (result != EX_OK)
		return result;
	if (*line->config.store != '\0') {
		config_free(&line->config); /* command_open() reads it again */
		line->configured = false;
		result = verbs[verb].open(line);
		return result != EX_OK ? result : verbs[verb].run(line);
	}
	log_line("store %s: there is no shared store: set PSAPI_STORE", argv[optind]);
	return EX_USAGE;
}
