/* Owns the common options, the opening of the spool, the lock, and the look-up of events. */
#define _GNU_SOURCE
#include "commands/command.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/log.h"
#include "base/user.h"
#include "commands/usage.h"
#include "store/spool/moves.h"

static void
override(struct command_line *line, const char *setting)
{
	if (line->count == OVERRIDES_MAX) {
		log_line("-o %s: more than %d settings; use a file", setting, OVERRIDES_MAX);
		exit(EX_USAGE);
	}
	line->overrides[line->count++] = setting;
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
		line->file = optarg;
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
	case 'h':
	case OPTION_HELP:
		if (line->command != NULL)
			usage_print_command(line->command);
		else
			usage_print_overview(line->commands);
		exit(EX_OK);
	default:
		return false;
	}
}

static bool
is_known(const struct option *names, int value)
{
	while (names->name != NULL && names->val != value)
		names++;
	return names->name != NULL;
}

/* Log the fault that getopt_long(3) has found with word, or with the letter in optopt. */
static void
misused_option(const struct command_line *line, const struct option *names, int fault,
    const char *word)
{
	char letter[] = {'-', (char)optopt, '\0'};

	if (fault == ':')
		command_misused(line, "takes an argument", word[1] == '-' ? word : letter);
	else if (is_known(names, optopt))
		command_misused(line, "takes no argument", word);
	else
		command_misused(line, "no such option", optopt != 0 ? letter : word);
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

	log_line("%s%s\"%s\": %s; psapi help%s%s says more", name, *name != '\0' ? ": " : "", text,
	    what, *name != '\0' ? " " : "", name);
	return EX_USAGE;
}

int
command_configure(struct command_line *line)
{
	struct error error;

	if (config_load(&line->config, line->file, line->overrides, line->count, &error) != 0)
		return error_log(&error);
	line->configured = true;
	return EX_OK;
}

/* Log why the spool cannot be opened. Returns an exit status. */
static int
refuse_spool(struct command_line *line, const char *why, int error)
{
	char text[4200];
	struct stat st;

	if (error == EACCES && stat(line->config.spool, &st) == 0 && st.st_uid != geteuid()) {
		moves_owner_explain(&st, line->config.spool, error, text, sizeof(text));
		log_line("%s", text);
		return EX_NOPERM;
	}
	log_line("%s%s", why,
	    error == ENOENT ? "; the receiver makes it when it starts, and --spool names another" : "");
	return error == EACCES ? EX_NOPERM : EX_NOINPUT;
}

int
command_open(struct command_line *line)
{
	char why[512];
	int status = command_configure(line);

	if (status != EX_OK)
		return status;
	/* The receiver makes the spool: directories that root makes here could not be written by it. */
	errno = 0;
	if (spool_open(&line->spool, line->config.spool, false, why, sizeof(why)) != 0)
		return refuse_spool(line, why, errno);
	line->opened = true;
	return EX_OK;
}

void
command_close(struct command_line *line)
{
	if (line->opened)
		spool_close(&line->spool);
	if (line->configured)
		config_free(&line->config);
	line->opened = line->configured = false;
}

int
command_lock(struct command_line *line)
{
	int lock = moves_lock(&line->spool, false);

	if (lock < 0 && errno == EWOULDBLOCK) {
		/* For people alone: cron would mail this line each night in which prune has to wait. */
		if (isatty(STDERR_FILENO))
			log_line("%s: psapi drain or another is at work; waiting for it to finish",
			    line->config.spool);
		lock = moves_lock(&line->spool, true);
	}
	if (lock >= 0)
		return EX_OK; /* the descriptor is kept */
	return moves_lock_failed(&line->spool);
}

static bool
exists(struct command_line *line, const char *name)
{
	return moves_has(&line->spool, SPOOL_NEW, name) ||
	    moves_has(&line->spool, SPOOL_FAILED, name) || moves_has(&line->spool, SPOOL_EVENTS, name);
}

bool
command_find(struct command_line *line, const char *id, char name[SPOOL_NAME_SIZE])
{
	const char *slash = strrchr(id, '/');

	if (*id != '\0' && spool_name(id, strlen(id), name) == 0 && exists(line, name))
		return true;
	slash = slash == NULL ? id : slash + 1;
	if (strlen(slash) < SPOOL_NAME_SIZE && spool_name_valid(slash)) {
		strcpy(name, slash);
		if (exists(line, name))
			return true;
	}
	log_line("%s: no such event in %s; psapi list --all shows all", id, line->config.spool);
	return false;
}

int
command_recover(struct command_line *line)
{
	if (spool_recover(&line->spool) < 0)
		return errno == EPERM || errno == EACCES ? EX_NOPERM : EX_IOERR;
	return spool_sync(&line->spool, SPOOL_EVENTS) == 0 ? EX_OK : EX_IOERR;
}

int
command_failed(struct command_line *line, enum spool_dir dir, const char *name)
{
	char why[1024];
	int error = errno;

	moves_explain(&line->spool, dir, name, why, sizeof(why));
	log_line("%s", why);
	return error == EPERM || error == EACCES ? EX_NOPERM : EX_IOERR;
}

const char *
command_id(const char *webhook_id, const char *name)
{
	static const char plain[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.:-";

	return *webhook_id != '-' && strspn(webhook_id, plain) == strlen(webhook_id) ? webhook_id :
	                                                                               name;
}
