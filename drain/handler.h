/* Which handler an event gets, and whether it can be trusted. */
#ifndef PSAPI_HANDLER_H
#define PSAPI_HANDLER_H

#include <stddef.h>

enum handler_result {
	HANDLER_FOUND,
	HANDLER_NONE,   /* nothing for this type, and no default */
	HANDLER_REFUSED /* there is one, but it is not run: why says how to mend it */
};

/*
 * Look in directory dir for the handler of an event type, the most specific first:
 * producersync.npn.activated, producersync.npn, producersync, default. A type that
 * is empty, begins with a dot or holds a byte outside [A-Za-z0-9_.-] has only the
 * default. HANDLER_FOUND: its path is in path (size bytes). Refused is what others
 * than root and the running user own or may write to, be it the file or its
 * directory, also at the end of a symbolic link; and what cannot be executed.
 * HANDLER_REFUSED: one line in why.
 */
enum handler_result handler_find(const char *dir, const char *type, char *path, size_t size,
    char *why, size_t why_size);

/* Whether dir is a directory that handlers may be taken from. Returns 0, or -1 and one line in why. */
int handler_check_directory(const char *dir, char *why, size_t size);

#endif
