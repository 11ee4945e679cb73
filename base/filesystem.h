/*
 * Which promises the file system of a spool keeps. It is recognised and never guessed: in any
 * doubt an event waits twice for the disk. docs/design.md says how each way was proved.
 */
#ifndef PSAPI_FILESYSTEM_H
#define PSAPI_FILESYSTEM_H

#include <stdbool.h>

struct filesystem {
	char type[32];       /* "ext4", "XFS", "btrfs", as the kernel says; "another file system" */
	bool one_wait;       /* data written back, then link, then one fsync of the file: proved here */
	const char *why_two; /* why not, if it is not */
	bool named_files;    /* an unnamed file (O_TMPFILE) does not survive here */
	const char *warning; /* a promise that nobody can keep here; NULL: none */
	const char *remedy;  /* of the warning */
};

/* Detect the file system of an open directory. Reads /sys and /proc: call it before the sandbox. */
void filesystem_detect(int directory, struct filesystem *found);

#endif
