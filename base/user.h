/* Users of this machine by name. */
#ifndef PSAPI_USER_H
#define PSAPI_USER_H

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
 * Call act as the owner of a path, if we are root and the owner is not; else as we are. A process
 * without threads. Returns 0, or -1 with errno: it was not called.
 */
int user_as_owner(const char *path, void (*act)(void *data), void *data);

/*
 * As root, become the owner of a path for good, with that user's groups: files that a command
 * makes are then the owner's. Otherwise, or where root owns it, nothing happens. Returns
 * 0, or -1 with errno.
 */
int user_become_owner(const char *path);

#endif
