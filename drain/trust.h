/*
 * Whether root and the running user alone can change the file that a path names. A path is only
 * as safe as each directory and link on it: a user who may write to one of them can put another
 * file into its place. So a path is walked from /, name by name and by descriptor, and each
 * directory is checked before a name is looked up in it.
 */
#ifndef PSAPI_TRUST_H
#define PSAPI_TRUST_H

#include <limits.h>
#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

enum trust_result {
	TRUST_OK,
	TRUST_REFUSED, /* another user can change it: the error says where (EX_CONFIG) */
	TRUST_FAILED   /* it cannot be reached: errno */
};

/* The remedy where others may change a directory on the way; the caller may know a better one. */
extern const char trust_elsewhere[];

/* Where a walk has ended. */
struct trust {
	int directory;           /* of the file, or the directory itself. O_PATH */
	int file;                /* O_PATH; -1: the path names a directory */
	char path[PATH_MAX];     /* the real path of the directory */
	char name[NAME_MAX + 2]; /* of the file in it; links were followed */
	bool shared;             /* others may make files in it, but not replace ours: like /tmp */
	mode_t others;           /* the mode bits that let other users write */
	int links;               /* followed so far */
};

/*
 * Walk path: from /, or if it is relative, from the directory of `from`. Anything but TRUST_OK
 * leaves nothing open; after TRUST_FAILED, shared is that of the last directory that was reached.
 * The end of the path is not checked yet: trust_check_file(), trust_check_directory().
 */
enum trust_result trust_open(struct trust *trust, const struct trust *from, const char *path,
    struct error *error);
/* The same for an absolute path on which a directory's group may write: only all others may not. */
enum trust_result trust_open_group(struct trust *trust, const char *path, struct error *error);
void trust_close(struct trust *trust);

/* Whether others can make files in the directory, or change it. TRUST_OK or TRUST_REFUSED. */
enum trust_result trust_check_directory(const struct trust *trust, struct error *error);

/* The same for the directory and the file. shown: the file's path in the error. */
enum trust_result trust_check_file(
    const struct trust *trust, const char *shown, struct error *error);

#endif
