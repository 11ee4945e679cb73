/*
 * The listening socket: one of our own (PSAPI_LISTEN) or one that was inherited on
 * descriptor 0; how it is made, and how it is given up without losing a connection.
 */
#ifndef PSAPI_LISTENER_H
#define PSAPI_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct listener {
	int fd;         /* non-blocking, close-on-exec */
	bool inherited; /* other processes have it, too: never shut down */
	const char *path; /* of our own unix socket (borrowed), else NULL */
	dev_t device;   /* of the socket at path: it is removed only while it is ours */
	ino_t inode;
};

/* Whether descriptor fd is a listening socket (SO_ACCEPTCONN). */
bool listener_inherited(int fd);

/*
 * The group that a PSAPI_LISTEN_GROUP names, by name or number; (gid_t)-1 for "". Returns 0,
 * or -1 with an error, which does not repeat the name.
 */
int listener_group(const char *name, gid_t *group, struct error *error);

/*
 * Listen at where, a validated PSAPI_LISTEN: a unix socket has mode 0660 and the group
 * (see listener_group()), replaces a stale one, and appears at its path only when it is
 * ready. where "" takes descriptor 0. Returns 0, or -1 with an error that names the socket.
 */
int listener_open(struct listener *listener, const char *where, gid_t group, struct error *error);

/*
 * Check without a trace that listener_open() would succeed; a receiver that is running
 * there (on a port: any program) is fine. Returns 0 with a line of static memory in *found,
 * which says what was found, or -1 with an error.
 */
int listener_check(const char *where, gid_t group, const char **found, struct error *error);

/*
 * Let no further connection in. Connections in the backlog of a socket of our own can
 * still be accepted, until accept4() fails; the path of a unix socket is removed. An
 * inherited socket is left as it is, for its next owner.
 */
void listener_retire(struct listener *listener);

/* Close the descriptor. */
void listener_close(struct listener *listener);

#endif
