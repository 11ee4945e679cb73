/*
 * psapi verify: compute the signature of stored events again, from their evidence. The timestamp
 * is not compared with the clock: the receiver did that when the event arrived.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands/command.h"
#include "receiver/evidence.h"
#include "base/terminal.h"
#include "base/text.h"

enum { RINGS_MAX = 32 };

struct verifier {
	struct command_line *line;
	struct keyring *rings[RINGS_MAX]; /* one for each secret file */
	int count;
	const char *files[RINGS_MAX];     /* of --secret-file */
	int file_count;
	bool verbose; /* list the good ones as well */
	size_t good, bad;
};

/* Read one secret file. Returns EX_OK, or an exit status (logged): it has no usable secret. */
static int
add_secrets(struct verifier *v, const char *path)
{
	struct error error;

	error_set(&error, EX_USAGE, NULL, "too many secret files");
	struct keyring *ring = v->count < RINGS_MAX ?
	    command_read_secrets(v->line, path, &error) : NULL;
	if (ring == NULL)
		return error_log(&error);
	v->rings[v->count++] = ring;
	return EX_OK;
}

/*
 * Read all secret files: those of the options, which must be usable, and the configured one, which
 * need not be beside them. Returns EX_OK, or an exit status (logged).
 */
static int
read_secrets(struct verifier *v)
{
	/* The settings are read after all options: they may change them. */
	int status = command_configure(v->line);

	for (int i = 0; i < v->file_count && status == EX_OK; i++)
		status = add_secrets(v, v->files[i]);
	int configured = status == EX_OK ? add_secrets(v, v->line->config.secret_file) : EX_OK;
	if (v->count == 0 && configured != EX_OK)
		status = configured;
	command_close(v->line);
	return status;
}

/* A file that is verified, or an event of the store. */
struct subject {
	const char *word; /* of the table */
	const char *file;
	const char *id;   /* "": it is not known */
};

static void
print_json(const struct subject *s, const char *key, const char *why)
{
	json_t *object = json_pack("{s:o,s:b,s:s}", "file", text_json(s->file), "good", key != NULL,
	    key != NULL ? "key" : "why", key != NULL ? key : why);

	if (*s->id != '\0')
		json_object_set_new(object, "webhook_id", text_json(s->id));
	terminal_print_json(object);
}

static void
report(struct verifier *v, const struct subject *s, const char *key, const char *why)
{
	if (key != NULL)
		v->good++;
	else
		v->bad++;
	if (key != NULL && !v->verbose)
		return;
	if (v->line->json) {
		print_json(s, key, why);
		return;
	}
	printf("%s%s%s  %s  %s%s\n", terminal_colour(key != NULL ? COLOUR_GOOD : COLOUR_BAD),
	    key != NULL ? "good" : "BAD ", terminal_colour(COLOUR_NONE), terminal_column(s->word),
	    key != NULL ? "signed with secret " : "", key != NULL ? key : why);
}

/* store_each()'s visit. */
static int
check_item(const struct store_item *item, void *data)
{
	struct verifier *v = data;

	if (item->invalid != NULL)
		report(v, &(struct subject){item->name, item->name, ""}, NULL, item->invalid);
	else
		report(v, &(struct subject){item->name, item->name, item->entry.id},
		    evidence_key(v->rings, v->count, &item->entry), evidence_unproven);
	return 0;
}

static void
check_file(struct verifier *v, const char *path)
{
	struct entry entry;
	const char *why;
	int fd;
	enum entry_result result = entry_open(AT_FDCWD, path, &fd, &why);

	if (result == ENTRY_OK) {
		result = entry_read(fd, &entry, &why);
		close(fd);
	}
	if (result != ENTRY_OK) {
		report(v, &(struct subject){path, path, ""}, NULL, why);
		return;
	}
	report(v, &(struct subject){path, path, entry.id}, evidence_key(v->rings, v->count, &entry),
	    evidence_unproven);
	entry_free(&entry);
}

static int
check_event(struct verifier *v, const char *id)
{
	char name[STORE_NAME_SIZE];
	struct store_item item;
	struct error error;

	if (v->line->store == NULL) {
		int status = command_open(v->line);
		if (status != EX_OK)
			return status;
	}
	if (!command_find(v->line, id, name))
		return EX_NOINPUT;
	enum store_result result = store_get(v->line->store, name, &item, &error);
	if (result == STORE_OK) {
		report(v, &(struct subject){id, name, item.entry.id},
		    evidence_key(v->rings, v->count, &item.entry), evidence_unproven);
		entry_free(&item.entry);
		return EX_OK;
	}
	report(v, &(struct subject){id, name, ""}, NULL,
	    result == STORE_ABSENT ? "it is gone" : error.text);
	return EX_OK;
}

/* A file that there is, else an event of the store. */
static int
check_argument(struct verifier *v, const char *what)
{
	struct stat st;

	if (stat(what, &st) != 0 || !S_ISREG(st.st_mode))
		return check_event(v, what);
	check_file(v, what);
	return EX_OK;
}

static int
run(struct verifier *v, bool all, int argc, char **argv)
{
	const struct store_filter everything = {0};
	struct error error;
	int status = EX_OK;

	if (all) {
		status = command_open(v->line);
		if (status == EX_OK) {
			enum store_result result =
			    store_each(v->line->store, &everything, check_item, v, &error);
			status = command_status(result, &error);
		}
	}
	for (int i = optind; i < argc; i++) {
		int result = check_argument(v, argv[i]);
		status = result != EX_OK ? result : status;
	}
	if (all && status == EX_OK && !v->line->json)
		printf("%zu good, %zu bad\n", v->good, v->bad);
	return v->bad > 0 ? 1 : status;
}

int
verify_main(struct command_line *line, int argc, char **argv)
{
	enum { OPTION_SECRET_FILE = OPTION_OWN, OPTION_ALL };
	static const struct option names[] = {
	    {"secret-file", required_argument, NULL, OPTION_SECRET_FILE},
	    {"all", no_argument, NULL, OPTION_ALL}, {"verbose", no_argument, NULL, 'v'},
	    COMMON_OPTIONS};
	struct verifier v = {.line = line};
	bool all = false;

	for (int option; (option = command_option(line, argc, argv, "v", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		all |= option == OPTION_ALL;
		v.verbose |= option == 'v';
		if (option == OPTION_SECRET_FILE && v.file_count == RINGS_MAX)
			return command_misused(line, "too many secret files", optarg);
		if (option == OPTION_SECRET_FILE)
			v.files[v.file_count++] = optarg;
	}
	if (all == (optind < argc))
		return command_misused(
		    line, "either FILEs or IDs, or --all", all ? argv[optind] : NULL);
	v.verbose |= !all;
	int status = read_secrets(&v);
	if (status == EX_OK)
		status = run(&v, all, argc, argv);
	for (int i = 0; i < v.count; i++)
		verify_keyring_free(v.rings[i]);
	return status;
}
