/*
 * The parts that all subcommands of psapi share: their command line with the common options,
 * opening the spool, the lock, finding an event.
 */
#ifndef PSAPI_COMMAND_H
#define PSAPI_COMMAND_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "store/spool/spool.h"

#define OVERRIDES_MAX 64

/* A command line on its way through main() and a subcommand. */
struct command_line {
	const struct command *commands; /* the table that the help is printed from */
	const struct command *command;  /* the one that runs; NULL before it is known */
	const char *file; /* of the configuration; NULL: the default */
	const char *overrides[OVERRIDES_MAX];
	size_t count;
	bool json;
	struct config config; /* after command_open() or command_configure() */
	bool configured;
	struct spool spool;   /* after command_open() */
	bool opened;
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
int verify_main(struct command_line *line, int argc, char **argv);
int prune_main(struct command_line *line, int argc, char **argv);
int attempts_main(struct command_line *line, int argc, char **argv);
int help_main(struct command_line *line, int argc, char **argv);

/* Options beside single letters. A command's own ones begin at OPTION_OWN. */
enum { OPTION_FILE = 256, OPTION_SPOOL, OPTION_JSON, OPTION_HELP, OPTION_OWN };

/* The rows that every command's option table ends with. */
#define COMMON_OPTIONS                                                                             \
	{"file", required_argument, NULL, OPTION_FILE}, {"set", required_argument, NULL, 'o'},         \
	    {"spool", required_argument, NULL, OPTION_SPOOL},                                          \
	    {"help", no_argument, NULL, OPTION_HELP}, {"json", no_argument, NULL, OPTION_JSON}, {0}

/*
 * Return the next of the command's own options, like getopt_long(3), or -1 at the end. Those of
 * COMMON_OPTIONS, -o, -h and (unless letters has an f) -f are handled here. '?': a wrong option
 * (logged); the command returns EX_USAGE.
 */
int command_option(struct command_line *line, int argc, char **argv, const char *letters,
    const struct option *names);

/* Log "COMMAND: "TEXT": WHAT; psapi help COMMAND says more". Returns EX_USAGE. */
int command_misused(const struct command_line *line, const char *what, const char *text);

/* Read the settings. Returns EX_OK, or another exit status (logged). */
int command_configure(struct command_line *line);
/* Read the settings and open the spool. Returns EX_OK, or another exit status (logged). */
int command_open(struct command_line *line);
void command_close(struct command_line *line);

/*
 * Take the lock until the process ends. Waits if another process has it (and says so on a
 * terminal). Returns EX_OK, or another exit status (logged).
 */
int command_lock(struct command_line *line);

/*
 * Find the file name of an event in new/, failed/ or events/: by its webhook-id, or by the file's
 * name or path. Returns false if there is none (logged).
 */
bool command_find(struct command_line *line, const char *id, char name[SPOOL_NAME_SIZE]);

/*
 * Run recovery, then sync events/. An event that is in new/ or failed/ and not in events/ after
 * that is still being accepted. Call it under the lock. Returns EX_OK, or another exit status
 * (logged).
 */
int command_recover(struct command_line *line);

/*
 * Log errno of an operation on a file of the spool (moves_explain()). Returns EX_NOPERM or
 * EX_IOERR.
 */
int command_failed(struct command_line *line, enum spool_dir dir, const char *name);

/*
 * The name under which command_find() finds this event, and that a shell takes as one plain word:
 * its webhook-id, or its file name if the id has other characters. Returns one of the two.
 */
const char *command_id(const char *webhook_id, const char *name);

#endif
