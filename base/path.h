/* Why a path cannot be reached. */
#ifndef PSAPI_PATH_H
#define PSAPI_PATH_H

/* Room for the remedy and a NUL. */
#define PATH_REMEDY_SIZE 320

/*
 * The remedy after EACCES for path: if this process may not search a directory on the way to it,
 * "chmod a+x DIRECTORY" in text, with links followed; else otherwise, for then the path itself is
 * closed. Returns text or otherwise.
 */
const char *path_remedy(const char *path, const char *otherwise, char text[PATH_REMEDY_SIZE]);

#endif
