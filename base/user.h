/* Users of this machine by name. */
#ifndef PSAPI_USER_H
#define PSAPI_USER_H

#include <sys/stat.h>
#include <sys/types.h>

/* Room for a name and a NUL; Linux allows 32 bytes. */
#define USER_NAME_SIZE 64

/*
 * The name of a user; for one that has none its number, which chown(1) takes as well. (sudo(8)
 * wants "#NUMBER", which a shell takes for a comment.) Returns name.
 */
const char *user_name(uid_t user, char name[USER_NAME_SIZE]);

/* The name of a group; for one that has none its number, which chown(1) takes as well. */
const char *user_group_name(gid_t group, char name[USER_NAME_SIZE]);

/*
 * The status of a spool directory, with user and group of its owner, whom the receiver runs as: the
 * directory's; but where that is root's, those of events/ in it. For a receiver whose group may
 * write to root's directory has made all that is there. path: relative to the directory `at`.
 * Returns 0, or -1 with errno.
 */
int user_of_spool(int at, const char *path, struct stat *st);

/*
 * Call act as the owner of a spool, if we are root and the owner is not; else as we are. A process
 * without threads. Returns 0, or -1 with errno: it was not called.
 */
int user_as_owner(const char *spool, void (*act)(void *data), void *data);

/*
 * As root, become the owner of a spool for good, with that user's groups, HOME, USER and LOGNAME:
 * files that a command makes are then the owner's. Otherwise, or where root owns it, nothing
 * happens. Returns 0, or -1 with errno.
 */
int user_become_owner(const char *spool);

#endif
