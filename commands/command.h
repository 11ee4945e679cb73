/*
 * The parts that all subcommands of psapi share: their command line with the common options,
 * opening the store, finding an event.
 */
#ifndef PSAPI_COMMAND_H
#define PSAPI_COMMAND_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/config.h"
#include "base/option.h"
#include "store/store.h"
#include "verify.h"

/* A command line on its way through main() and a subcommand. */
struct command_line {
	const struct command *commands; /* the table that the help is printed from */
	const struct command *command;  /* the one that runs; NULL before it is known */
	struct option_settings settings;
	bool json;
	struct config config; /* after command_open() or command_configure() */
	bool configured;
	struct store *store;  /* after command_open() */
};

struct command {
	const char *name;
	const char *synopsis; /* of its own options and arguments */
	const char *summary;  /* one line */
	const char *details;  /* lines, for `psapi help NAME` */
	int (*run)(struct command_line *line, int argc, char **argv); /* returns an exit status */
};

int secret_main(struct command_line *line, int argc, char **argv);
int adopt_main(struct command_line *line, int argc, char **argv);
int doctor_main(struct command_line *line, int argc, char **argv);
int send_main(struct command_line *line, int argc, char **argv);
int drain_main(struct command_line *line, int argc, char **argv);
int list_main(struct command_line *line, int argc, char **argv);
int show_main(struct command_line *line, int argc, char **argv);
int retry_main(struct command_line *line, int argc, char **argv);
int replay_main(struct command_line *line, int argc, char **argv);
int done_main(struct command_line *line, int argc, char **argv);
int roster_main(struct command_line *line, int argc, char **argv);
int verify_main(struct command_line *line, int argc, char **argv);
int prune_main(struct command_line *line, int argc, char **argv);
int attempts_main(struct command_line *line, int argc, char **argv);
int store_main(struct command_line *line, int argc, char **argv);
int metrics_main(struct command_line *line, int argc, char **argv);
int check_main(struct command_line *line, int argc, char **argv);
int recover_main(struct command_line *line, int argc, char **argv);
int help_main(struct command_line *line, int argc, char **argv);

/* Options beside single letters. A command's own ones begin at OPTION_OWN. */
enum { OPTION_FILE = 256, OPTION_SPOOL, OPTION_JSON, OPTION_HELP, OPTION_WIDE, OPTION_LOCAL_TIME,
	OPTION_OWN };

/* The rows that every command's option table ends with. */
#define COMMON_OPTIONS                                                                             \
	{"file", required_argument, NULL, OPTION_FILE}, {"set", required_argument, NULL, 'o'},         \
	    {"spool", required_argument, NULL, OPTION_SPOOL},                                          \
	    {"help", no_argument, NULL, OPTION_HELP}, {"json", no_argument, NULL, OPTION_JSON},        \
	    {"wide", no_argument, NULL, OPTION_WIDE},                                                  \
	    {"local-time", no_argument, NULL, OPTION_LOCAL_TIME}, {0}

/*
 * Return the next of the command's own options, like getopt_long(3), or -1 at the end. Those of
 * COMMON_OPTIONS, -o, -h and (unless letters has an f) -f are handled here. '?': a wrong option
 * (logged); the command returns EX_USAGE.
 */
int command_option(struct command_line *line, int argc, char **argv, const char *letters,
    const struct option *names);

/*
 * Log "COMMAND: "TEXT": WHAT; psapi help COMMAND says more"; text NULL: a word is missing. Returns
 * EX_USAGE.
 */
int command_misused(const struct command_line *line, const char *what, const char *text);

/* The same for a word that is no subcommand: a similar one is suggested. */
int command_unknown(const struct command_line *line, const char *word);
/* Of a word after psapi help: also a topic. */
int command_unknown_topic(const struct command_line *line, const char *word);

/* Read the settings. Returns EX_OK, or another exit status (logged). */
int command_configure(struct command_line *line);
/*
 * Read the settings and open the store; as root become the spool's owner first. Returns EX_OK,
 * or another exit status (logged).
 */
int command_open(struct command_line *line);
/* The same with store_open_shared(). */
int command_open_shared(struct command_line *line);
void command_close(struct command_line *line);

/* As root become the spool's owner for good. Returns EX_OK, or another exit status (logged). */
int command_become_owner(const struct command_line *line);

/*
 * Read a secret file, after command_configure(); as root first as the spool's owner, as whom the
 * receiver reads it, then as root. NULL: *error says why, as command_explain_secret() does. A line
 * that is no secret is logged.
 */
struct keyring *command_read_secrets(const struct command_line *line, const char *path,
    struct error *error);

/*
 * Where the caller is the cause of an error about the secret file at path, for another user may
 * read it: EX_NOPERM, and the remedy names that user. Else EX_NOINPUT.
 */
void command_explain_secret(const struct command_line *line, const char *path,
    struct error *error);

/*
 * Take the lock of commands that move events, until the process ends. Waits for another holder
 * (and says so on a terminal). Then commits what a crash left. Returns EX_OK, or another exit
 * status (logged).
 */
int command_begin(struct command_line *line);

/* The name of an event that there is, see store_lookup(). False if there is none (logged). */
bool command_find(struct command_line *line, const char *id, char name[STORE_NAME_SIZE]);

/* The exit status of what the store did (logged). */
int command_status(enum store_result result, const struct error *error);

/* Names of events, for store_retry() and store_replay(). All zero: none. */
struct command_names {
	char **name;
	size_t count;
};

/* Add a copy. Returns 0, or -1 without memory. */
int command_names_add(struct command_names *names, const char *name);
void command_names_free(struct command_names *names);

/*
 * The name under which command_find() finds this event, and that a shell takes as one plain word:
 * its webhook-id, or its file name if the id has other characters. Returns one of the two.
 */
const char *command_id(const char *webhook_id, const char *name);

#endif
