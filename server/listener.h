/*
 * The listening socket: one of our own (PSAPI_LISTEN) or one that was inherited on
 * descriptor 0; how it is made, and how it is given up without losing a connection.
 */
#ifndef PSAPI_LISTENER_H
#define PSAPI_LISTENER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct listener {
	int fd;         /* non-blocking, close-on-exec */
	bool inherited; /* others hold it, too: never shut down */
	const char *path; /* of our own unix socket (borrowed), else NULL */
	dev_t device;   /* of the socket at path: it is removed only while it is ours */
	ino_t inode;
	bool no_group;  /* listener_open() failed for want of the group that was named */
};

/* Whether descriptor fd is a listening socket (SO_ACCEPTCONN). */
bool listener_inherited(int fd);

/*
 * The group that a PSAPI_LISTEN_GROUP names, by name or number; (gid_t)-1 for "". Returns
 * NULL, or why there is no such group, in static memory.
 */
const char *listener_group(const char *name, gid_t *group);

/*
 * Listen at where, a validated PSAPI_LISTEN: a unix socket is mode 0660 with the
 * group named (or ""), replaces a stale one, and appears at its path only when it
 * is ready. where "" takes descriptor 0. Returns 0, or -1 with one line in why
 * (size bytes) that names the socket and the remedy.
 */
int listener_open(struct listener *listener, const char *where, const char *group, char *why,
    size_t size);

/*
 * Check without a trace that listener_open() would succeed; a receiver that is
 * running there (on a port: whatever is) is fine. Returns 0 or -1, either with one line in why.
 */
int listener_check(const char *where, const char *group, char *why, size_t size);

/*
 * Let no further connection in. What waits in the backlog of a socket of our own
 * can still be accepted, until accept4() fails; a unix socket's path is gone. An
 * inherited socket is left as it is, for its next owner.
 */
void listener_retire(struct listener *listener);

/* Close the descriptor. */
void listener_close(struct listener *listener);

#endif
