/*
 * psapi verify: compute the signature of stored events again, from their evidence. The timestamp
 * is not compared with the clock: the receiver did that when the event arrived.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>

#include "commands/command.h"
#include "store/entry.h"
#include "base/log.h"
#include "store/spool/moves.h"
#include "secrets/secrets.h"
#include "base/terminal.h"
#include "base/text.h"

enum { RINGS_MAX = 32 };

struct verifier {
	struct command_line *line;
	struct keyring *rings[RINGS_MAX]; /* one for each secret file */
	int count;
	bool verbose; /* list the good ones as well */
	size_t good, bad;
};

/* Read one secret file. Returns whether it has a usable secret; if not, logs why. */
static bool
add_secrets(struct verifier *v, const char *path)
{
	struct error error;

	error_set(&error, EX_USAGE, NULL, "too many secret files");
	struct keyring *ring = v->count < RINGS_MAX ? secrets_read(path, &error) : NULL;
	if (ring == NULL) {
		error_log(&error);
		return false;
	}
	v->rings[v->count++] = ring;
	return true;
}

/* The fingerprint of the secret that signed the event, or NULL. */
static const char *
find_key(const struct verifier *v, const struct entry *entry)
{
	struct message message = {
		.id = entry->id,
		.id_length = strlen(entry->id),
		.timestamp = entry->timestamp,
		.timestamp_length = strlen(entry->timestamp),
		.body = entry->body,
		.body_length = entry->body_length,
	};
	struct verification outcome;
	int64_t signed_at;

	if (!verify_timestamp_parse(message.timestamp, message.timestamp_length, &signed_at))
		return NULL;
	for (int i = 0; i < v->count; i++)
		if (verify(v->rings[i], &message, entry->signature, strlen(entry->signature), signed_at, 0,
		        &outcome) == VERIFY_OK)
			return outcome.key;
	return NULL;
}

static void
report(struct verifier *v, const char *what, const char *key, const char *why)
{
	if (key != NULL)
		v->good++;
	else
		v->bad++;
	if (key != NULL && !v->verbose)
		return;
	if (v->line->json) {
		terminal_print_json(json_pack("{s:o,s:b,s:s}", "event", text_json(what), "good",
		    key != NULL, key != NULL ? "key" : "why", key != NULL ? key : why));
		return;
	}
	printf("%s%s%s  %s  %s%s\n", terminal_colour(key != NULL ? COLOUR_GOOD : COLOUR_BAD),
	    key != NULL ? "good" : "BAD ", terminal_colour(COLOUR_NONE), terminal_column(what),
	    key != NULL ? "signed with secret " : "", key != NULL ? key : why);
}

static void
check(struct verifier *v, const char *what, enum entry_result result, struct entry *entry,
    const char *why)
{
	if (result != ENTRY_OK) {
		report(v, what, NULL, why);
		return;
	}
	report(v, what, find_key(v, entry),
	    "no secret known here signed this: its contents were changed, or another secret signed it "
	    "(--secret-file)");
	entry_free(entry);
}

static int
check_name(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct verifier *v = data;
	enum entry_result result;
	struct entry entry;
	const char *why;

	/* An event that is in events/ as well was checked there. */
	if (!spool_name_valid(name) ||
	    (dir != SPOOL_EVENTS && moves_has(spool, SPOOL_EVENTS, name)))
		return 0;
	result = entry_read_named(spool, dir, name, &entry, &why);
	if (result != ENTRY_ABSENT)
		check(v, name, result, &entry, why);
	return 0;
}

static int
check_all(struct verifier *v)
{
	static const enum spool_dir dirs[] = {SPOOL_EVENTS, SPOOL_NEW, SPOOL_FAILED};

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		if (spool_each(&v->line->spool, dirs[i], check_name, v) == 0)
			continue;
		log_line("%s/%s: %s", v->line->config.spool, spool_dir_names[dirs[i]], strerror(errno));
		return EX_IOERR;
	}
	return EX_OK;
}

/* Check a file if it exists, else an event of the spool. */
static int
check_argument(struct verifier *v, const char *what)
{
	static const enum spool_dir dirs[] = {SPOOL_EVENTS, SPOOL_NEW, SPOOL_FAILED};
	char name[SPOOL_NAME_SIZE];
	enum entry_result result;
	struct entry entry;
	const char *why;
	struct stat st;

	if (stat(what, &st) == 0 && S_ISREG(st.st_mode)) {
		result = entry_read(AT_FDCWD, what, &entry, &why);
		check(v, what, result, &entry, why);
		return EX_OK;
	}
	if (!v->line->opened) {
		int status = command_open(v->line);
		if (status != EX_OK)
			return status;
	}
	if (!command_find(v->line, what, name))
		return EX_NOINPUT;
	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		if (!moves_has(&v->line->spool, dirs[i], name))
			continue;
		result = entry_read_named(&v->line->spool, dirs[i], name, &entry, &why);
		check(v, what, result, &entry, why);
		break;
	}
	return EX_OK;
}

static int
run(struct verifier *v, bool all, int argc, char **argv)
{
	int status = EX_OK;

	if (all) {
		status = command_open(v->line);
		if (status == EX_OK)
			status = check_all(v);
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
	bool all = false, usable = true;

	for (int option; (option = command_option(line, argc, argv, "v", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		all |= option == OPTION_ALL;
		v.verbose |= option == 'v';
		if (option == OPTION_SECRET_FILE)
			usable &= add_secrets(&v, optarg);
	}
	if (all == (optind < argc))
		return command_misused(
		    line, "either FILEs or IDs, or --all", all ? argv[optind] : "verify");
	v.verbose |= !all;
	/* The settings are read after all options: they may change them. */
	int status = usable ? command_configure(line) : EX_NOINPUT;
	if (status == EX_OK && !add_secrets(&v, line->config.secret_file) && v.count == 0)
		status = EX_NOINPUT;
	command_close(line);
	if (status == EX_OK)
		status = run(&v, all, argc, argv);
	for (int i = 0; i < v.count; i++)
		verify_keyring_free(v.rings[i]);
	return status;
}
