/* The choice of a handler for an event, and whether that handler can be trusted. */
#ifndef PSAPI_HANDLER_H
#define PSAPI_HANDLER_H

#include <stddef.h>

#include "base/error.h"

enum handler_result {
	HANDLER_FOUND,
	HANDLER_NONE,   /* no handler for this type, and no default */
	HANDLER_REFUSED /* there is one, but it must not be run: the error says why */
};

/*
 * Look in directory dir for the handler of an event type, the most specific first:
 * producersync.npn.activated, producersync.npn, producersync, default. A type that is empty,
 * begins with a dot or holds a byte outside [A-Za-z0-9_.-] has only the default.
 * HANDLER_FOUND: its path is in path (size bytes). HANDLER_REFUSED: the file or its directory,
 * also behind a symbolic link, belongs to or can be changed by other users than root and the
 * running one, or it cannot be executed; error is filled in (EX_CONFIG).
 */
enum handler_result handler_find(const char *dir, const char *type, char *path, size_t size,
    struct error *error);

/* Whether handlers may be taken from dir. Returns 0, or -1 with error filled in (EX_CONFIG). */
int handler_check_directory(const char *dir, struct error *error);

#endif
