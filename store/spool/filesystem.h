/*
 * What the file system below a spool keeps in order, recognised and never guessed: in
 * any doubt it is the careful way. docs/design.md tells how each was proved.
 */
#ifndef PSAPI_FILESYSTEM_H
#define PSAPI_FILESYSTEM_H

#include <stdbool.h>

struct filesystem {
	const char *type;    /* "ext4", "XFS", "another file system" */
	bool one_wait;       /* data written back, then link, then one fsync of the file: proved here */
	const char *why_two; /* why not, if it is not */
	bool named_files;    /* an unnamed file (O_TMPFILE) does not survive here */
	const char *warning; /* a promise that nobody can keep here; NULL: none */
	const char *remedy;  /* of the warning */
};

/* Look at the file system of an open directory. Reads /sys and /proc: to be called before the sandbox. */
void filesystem_look(int directory, struct filesystem *found);

#endif
