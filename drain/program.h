/*
 * Whether the kernel, and the interpreter that the first line of a script names, would run a file:
 * what execve(2) answers with one of four errors, or an interpreter with 127, has a dozen causes,
 * and each has its own remedy.
 */
#ifndef PSAPI_PROGRAM_H
#define PSAPI_PROGRAM_H

#include <limits.h>
#include <sys/types.h>

#include "base/error.h"

/* What the first line of a script leads to. */
struct program {
	char found[PATH_MAX]; /* what env(1) would run, from PATH; "": it names no env */
};

/*
 * Check a regular file, open for reading; path is for the error. A script's interpreter, and the
 * program that env finds, are checked in the same way if they are scripts. Returns 0, or -1 with
 * the error (EX_CONFIG), whose text begins with path.
 */
int program_check(int fd, const char *path, struct program *program, struct error *error);

/*
 * Find a program as a shell and env(1) do: word itself if it has a slash, else the first in the
 * directories of search, a PATH. NULL, none is set: those of execvp(3). "": the current directory.
 * Returns 0 with its path, or -1.
 */
int program_find(const char *word, const char *search, char *path, size_t size);

/*
 * Why an execve(2) of path failed with error_number, and the remedy: by what is in the file, as
 * program_check() says it, or else by the number.
 */
void program_explain(const char *path, int error_number, struct error *error);

#endif
