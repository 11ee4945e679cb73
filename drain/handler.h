/*
 * The choice of a handler for an event, and whether that handler can be trusted and started. The
 * same judgement for psapi drain, which runs it, and for doctor, which says what drain would do;
 * and for each directory of handlers.
 */
#ifndef PSAPI_HANDLER_H
#define PSAPI_HANDLER_H

#include <limits.h>
#include <stddef.h>

#include "base/error.h"
#include "drain/program.h"

enum handler_result {
	HANDLER_FOUND,
	HANDLER_NONE,   /* no handler for this type, and no default */
	HANDLER_REFUSED /* there is one, but it must not or cannot be run: the error says why */
};

/* A directory of handlers, and the setting that names it. */
struct handler_directory {
	const char *path, *setting;
};

/* The handler that was found, or refused. */
struct handler {
	const char *setting;     /* of the directory that was looked into */
	int directory;           /* where it is, for child_start(); O_PATH. -1: not open */
	size_t specificity;      /* the greater, the more specific; 0: default */
	char path[PATH_MAX];     /* DIR/NAME */
	struct program program;  /* what its first line says */
};

/*
 * Look in directory dir for the handler of an event type, the most specific first:
 * producersync.npn.activated, producersync.npn, producersync, default. A type that is empty,
 * begins with a dot or holds a byte outside [A-Za-z0-9_.-] has only the default.
 * HANDLER_FOUND: the caller calls handler_close(). HANDLER_REFUSED: the file, a directory or a
 * link on the way to it, or its interpreter belongs to or can be changed by other users than root
 * and the running one; or it cannot be started. *error is filled in (EX_CONFIG).
 */
enum handler_result handler_find(const struct handler_directory *dir, const char *type,
    struct handler *handler, struct error *error);
void handler_close(struct handler *handler);

/*
 * Whether handlers may be taken from dir. Returns 0, or -1 with error filled in (EX_CONFIG) and
 * errno: ENOENT if it is missing.
 */
int handler_check_directory(const struct handler_directory *dir, struct error *error);

/* How the exit status of a handler is to be read that says that it did not start; NULL: it did. */
const char *handler_broken(int exit_status);

#endif
