/* Owns the common options, the opening of the spool, the lock, and the look-up of events. */
#define _GNU_SOURCE
#include "commands/command.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "base/terminal.h"
#include "base/user.h"
#include "commands/usage.h"
#include "secrets/secrets.h"

static void
override(struct command_line *line, const char *setting)
{
	if (!option_override(&line->settings, setting))
		exit(EX_USAGE);
}

/* --spool DIR is -o PSAPI_SPOOL=DIR. The text is kept until the process ends. */
static void
override_spool(struct command_line *line, const char *directory)
{
	static char setting[4096 + 16];

	snprintf(setting, sizeof(setting), "PSAPI_SPOOL=%s", directory);
	override(line, setting);
}

/* Handle one of the common options. Returns false if it is another. */
static bool
take_common(struct command_line *line, int option)
{
	switch (option) {
	case 'f':
	case OPTION_FILE:
		line->settings.file = optarg;
		return true;
	case 'o':
		override(line, optarg);
		return true;
	case OPTION_SPOOL:
		override_spool(line, optarg);
		return true;
	case OPTION_JSON:
		line->json = true;
		return true;
	case OPTION_WIDE:
		terminal_set_wide();
		return true;
	case OPTION_LOCAL_TIME:
		terminal_set_local_time();
		return true;
	case 'h':
	case OPTION_HELP:
		if (line->command != NULL)
			usage_print_command(line->command);
		else
			usage_print_overview(line->commands);
		exit(io_finish(EX_OK));
	default:
		return false;
	}
}

/* "no such WHAT", or with the name that is nearest to word: "no such WHAT; did you mean NAME?". */
static int
unknown(const struct command_line *line, const char *what, const struct option_nearest *nearest,
    const char *word)
{
	char text[128];

	snprintf(text, sizeof(text), nearest->name != NULL ? "no such %s; did you mean %s?" :
	    "no such %s", what, nearest->name);
	return command_misused(line, text, word);
}

static void
compare_commands(const struct command_line *line, const char *word,
    struct option_nearest *nearest)
{
	for (const struct command *c = line->commands; c->name != NULL; c++)
		option_compare(nearest, word, c->name);
}

int
command_unknown(const struct command_line *line, const char *word)
{
	struct option_nearest nearest = {NULL, SIZE_MAX};

	compare_commands(line, word, &nearest);
	return unknown(line, "subcommand", &nearest, word);
}

int
command_unknown_topic(const struct command_line *line, const char *word)
{
	struct option_nearest nearest = {NULL, SIZE_MAX};
	const char *topic;

	compare_commands(line, word, &nearest);
	for (size_t i = 0; (topic = usage_topic(i)) != NULL; i++)
		option_compare(&nearest, word, topic);
	return unknown(line, "subcommand or topic", &nearest, word);
}

/* Log the fault that getopt_long(3) has found with word, or with the letter in optopt. */
static void
misused_option(const struct command_line *line, const struct option *names, int fault,
    const char *word)
{
	char what[128];
	const char *about = option_explain(names, fault, word, what, sizeof(what));

	command_misused(line, what, about);
}

int
command_option(struct command_line *line, int argc, char **argv, const char *letters,
    const struct option *names)
{
	bool own_f = strchr(letters, 'f') != NULL;
	char all[64];
	int option;

	/*
	 * A '+' must come first; after it, ':' has getopt tell a missing argument from an unknown
	 * option.
	 */
	snprintf(all, sizeof(all), "%s:%s%so:h", *letters == '+' ? "+" : "",
	    letters + (*letters == '+'), own_f ? "" : "f:");
	opterr = 0;
	while ((option = getopt_long(argc, argv, all, names, NULL)) != -1) {
		if (option == 'f' && own_f)
			return option;
		if (option == '?' || option == ':') {
			misused_option(line, names, option, argv[optind - 1]);
			return '?';
		}
		if (!take_common(line, option))
			return option;
	}
	return -1;
}

int
command_misused(const struct command_line *line, const char *what, const char *text)
{
	const char *name = line->command != NULL ? line->command->name : "";

	const char *end = what[strlen(what) - 1] == '?' ? "" : ";";

	const char *quote = text != NULL ? "\"" : "";

	log_line("%s%s%s%s%s%s%s%s psapi help%s%s says more", name, *name != '\0' ? ": " : "", quote,
	    text != NULL ? text : "", quote, text != NULL ? ": " : "", what, end,
	    *name != '\0' ? " " : "", name);
	return EX_USAGE;
}

int
command_configure(struct command_line *line)
{
	const struct option_settings *from = &line->settings;
	struct error error;

	if (config_load(&line->config, from->file, from->overrides, from->count, &error) != 0)
		return error_log(&error);
	line->configured = true;
	return EX_OK;
}

int
command_become_owner(const struct command_line *line)
{
	if (user_become_owner(line->config.spool) == 0)
		return EX_OK;
	log_line("%s: cannot become its owner: %s", line->config.spool, strerror(errno));
	return EX_OSERR;
}

struct secret_look {
	const char *path;
	struct keyring *keyring;
	struct error *error;
};

static void
read_secrets(void *data)
{
	struct secret_look *look = data;

	look->keyring = secrets_read(look->path, look->error);
}

void
command_explain_secret(const struct command_line *line, const char *path, struct error *error)
{
	char owner[USER_NAME_SIZE];
	struct stat st;
	bool known = user_of_spool(AT_FDCWD, line->config.spool, &st) == 0;

	error->status = EX_NOINPUT;
	/* The spool's owner is the receiver's user: what it may not read is the file's fault. */
	if (access(path, R_OK) == 0 || errno != EACCES || (known && st.st_uid == geteuid()))
		return;
	error->status = EX_NOPERM;
	if (strcmp(path, line->config.secret_file) != 0 || (known && st.st_uid == 0))
		snprintf(error->remedy, sizeof(error->remedy), "run it as root");
	else
		snprintf(error->remedy, sizeof(error->remedy), "run it as root, or as %s",
		    known ? user_name(st.st_uid, owner) : "the receiver's user");
}

struct keyring *
command_read_secrets(const struct command_line *line, const char *path, struct error *error)
{
	struct secret_look look = {path, NULL, error};
	struct error own; /* root's own look; the owner's error counts, for it is the receiver's */

	if (user_as_owner(line->config.spool, read_secrets, &look) != 0)
		error_set(error, EX_OSERR, NULL, "%s: cannot become its owner: %s", line->config.spool,
		    strerror(errno));
	if (look.keyring == NULL && geteuid() == 0) {
		look.keyring = secrets_read(path, &own);
		if (look.keyring != NULL)
			*error = own;
	}
	if (look.keyring == NULL)
		command_explain_secret(line, path, error);
	if (look.keyring != NULL && error->status != 0)
		error_log(error);
	return look.keyring;
}

static int
open_store(struct command_line *line, bool shared)
{
	struct error error;
	int status = command_configure(line);

	if (status == EX_OK)
		status = command_become_owner(line);
	if (status != EX_OK)
		return status;
	/* Not made here: the receiver makes it, as its user. */
	line->store = shared ? store_open_shared(&line->config, &error) :
	    store_open(&line->config, false, &error);
	return line->store != NULL ? EX_OK : error_log(&error);
}

int
command_open(struct command_line *line)
{
	return open_store(line, false);
}

int
command_open_shared(struct command_line *line)
{
	return open_store(line, true);
}

void
command_close(struct command_line *line)
{
	store_close(line->store);
	if (line->configured)
		config_free(&line->config);
	line->store = NULL;
	line->configured = false;
}

int
command_status(enum store_result result, const struct error *error)
{
	return result == STORE_OK ? EX_OK : error_log(error);
}

int
command_begin(struct command_line *line)
{
	struct error error;
	long committed;
	enum store_result result = store_work_begin(line->store, false, &error);

	if (result == STORE_BUSY) {
		/* Only on a terminal: cron would mail it each night that prune has to wait. */
		if (isatty(STDERR_FILENO))
			log_line("%s: psapi drain or another command is at work; waiting for it to finish",
			    line->config.spool);
		result = store_work_begin(line->store, true, &error);
	}
	if (result == STORE_OK)
		result = store_recover(line->store, &committed, &error);
	return command_status(result, &error);
}

bool
command_find(struct command_line *line, const char *id, char name[STORE_NAME_SIZE])
{
	struct error error;

	return command_status(store_lookup(line->store, id, name, &error), &error) == EX_OK;
}

int
command_names_add(struct command_names *names, const char *name)
{
	char *copy = strdup(name);
	char **grown = names->count % 1024 != 0 ? names->name :
	    reallocarray(names->name, names->count + 1024, sizeof(*grown));

	if (grown != NULL)
		names->name = grown;
	if (grown == NULL || copy == NULL) {
		free(copy);
		return -1;
	}
	names->name[names->count++] = copy;
	return 0;
}

void
command_names_free(struct command_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->name[i]);
	free(names->name);
}

const char *
command_id(const char *webhook_id, const char *name)
{
	static const char plain[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-";

	return *webhook_id != '-' && strspn(webhook_id, plain) == strlen(webhook_id) ? webhook_id :
	                                                                               name;
}
