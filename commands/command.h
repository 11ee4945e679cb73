/*
 * What the subcommands of psapi share: the table that they are in, the options that
 * all of them take, opening the spool, finding an event.
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
	    {"spool", required_argument, NULL, OPTION_SPOOL}, {"help", no_argument, NULL, OPTION_HELP}, \
	    {"json", no_argument, NULL, OPTION_JSON}, {0}

/*
 * The next of the command's own options, like getopt_long(3), or -1 at the end of
 * them; those of COMMON_OPTIONS, -o, -h and (unless letters has an f) -f are dealt
 * with. '?': one that is wrong; said so, the command returns EX_USAGE.
 */
int command_option(struct command_line *line, int argc, char **argv, const char *letters,
    const struct option *names);

/* Complain about the arguments of this command. Returns EX_USAGE. */
int command_misused(const struct command_line *line, const char *what, const char *text);

/* Read the settings. Returns EX_OK, or another exit status (said why). */
int command_configure(struct command_line *line);
/* Read the settings and open the spool. Returns EX_OK, or another exit status (said why). */
int command_open(struct command_line *line);
void command_close(struct command_line *line);

/*
 * Hold the lock until the process ends, waiting for it if need be (and saying so on a
 * terminal). Returns EX_OK, or another exit status (said why).
 */
int command_lock(struct command_line *line);

/*
 * The file name of an event that is in new/, failed/ or events/: by its webhook-id, or
 * by the file's name or path. False if there is none (said so).
 */
bool command_find(struct command_line *line, const char *id, char name[SPOOL_NAME_SIZE]);

/*
 * Finish what a crash or a power cut left half-done, so that what is in events/ is on
 * the disk: whatever is then in new/ or failed/ and not in events/ is still on its way
 * in. To be called under the lock. Returns EX_OK, or another exit status (said why).
 */
int command_recover(struct command_line *line);

/* Say what moves_explain() says of errno. Returns EX_NOPERM or EX_IOERR. */
int command_failed(struct command_line *line, enum spool_dir dir, const char *name);

/*
 * What command_find() takes for this event, and a shell takes as one plain word: its
 * webhook-id, or for one of other characters its file name. Static memory.
 */
const char *command_id(const char *webhook_id, const char *name);

#endif
