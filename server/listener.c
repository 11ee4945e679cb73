/*
 * Owns the listening socket. A unix socket is bound to a temporary name and renamed when it
 * listens with the right mode and group: no client ever sees an unfinished one, and a stale
 * one is replaced without a gap.
 */
#define _GNU_SOURCE
#include "server/listener.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <poll.h>
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

/* net.core.somaxconn caps it; when it is full nginx answers 502 at once. */
enum { BACKLOG = 4096, SOCKET_MODE = 0660 };

bool
listener_inherited(int fd)
{
	int accepting = 0;
	socklen_t size = sizeof(accepting);

	return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepting, &size) == 0 && accepting != 0;
}

static struct sockaddr_un
unix_address(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	return address;
}

/*
 * Whether a process may listen at the socket at path. A socket is stale if it refuses
 * (ECONNREFUSED) or is gone; after another error it may be a live socket of another user
 * or kind.
 */
static bool
is_live(const char *path)
{
	struct sockaddr_un address = unix_address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	bool live = fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof(address)) == 0 ||
	    (errno != ECONNREFUSED && errno != ENOENT && errno != ENOTDIR);

	if (fd >= 0)
		close(fd);
	return live;
}

/* A decimal number that a gid_t can be; (gid_t)-1 is none. */
static bool
parse_gid(const char *text, gid_t *group)
{
	char *end;

	errno = 0;
	unsigned long number = strtoul(text, &end, 10);
	*group = (gid_t)number;
	return text[0] >= '0' && text[0] <= '9' && *end == '\0' && errno == 0 && number < (gid_t)-1;
}

int
listener_group(const char *name, gid_t *group, struct error *error)
{
	*group = (gid_t)-1;
	if (*name == '\0' || parse_gid(name, group))
		return 0;
	*group = (gid_t)-1;
#ifdef PSAPI_STATIC
	error_set(error, EX_CONFIG, "give the number of the group (getent group)",
	    "this program has no shared libraries and cannot look up the name of a group");
	return -1;
#else
	const struct group *entry = getgrnam(name);
	if (entry == NULL) {
		error_set(error, EX_UNAVAILABLE, "name the web server's group", "no such group");
		return -1;
	}
	*group = entry->gr_gid;
	return 0;
#endif
}

/* Check that path is free: a stale socket may be replaced, nothing else. Returns 0 or -1. */
static int
check_place(const char *path, struct error *error)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		error_set(error, EX_UNAVAILABLE, "remove it or choose another path",
		    "%s: exists, but is not a socket", path);
		return -1;
	}
	if (is_live(path)) {
		error_set(error, EX_UNAVAILABLE, "stop it first",
		    "%s: another receiver is listening there", path);
		return -1;
	}
	return 0;
}

/* wanted is the path as it was configured, for the message. Returns the socket or -1. */
static int
bind_unix(const char *path, const char *wanted, gid_t group, struct error *error)
{
	struct sockaddr_un address = unix_address(path);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	const char *step = "bind";

	if (fd < 0)
		goto failed;
	unlink(path); /* of a process with our number that was killed */
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) != 0)
		goto failed;
	step = "chmod";
	if (chmod(path, SOCKET_MODE) != 0)
		goto failed;
	step = "chgrp";
	if (group != (gid_t)-1 && chown(path, (uid_t)-1, group) != 0)
		goto failed;
	step = "listen";
	if (listen(fd, BACKLOG) == 0)
		return fd;
failed:
	error_set(error, EX_UNAVAILABLE,
	    strcmp(step, "chgrp") == 0 ?
	        "the running user must be a member of PSAPI_LISTEN_GROUP" :
	        "its directory must be there and writable by the running user",
	    "%s: %s: %s", wanted, step, strerror(errno));
	if (fd >= 0)
		close(fd);
	unlink(path);
	return -1;
}

/* The temporary name of a socket that will be renamed to path. */
static void
temporary_path(const char *path, char *temporary, size_t size)
{
	snprintf(temporary, size, "%s.%ld", path, (long)getpid());
}

/*
 * Two receivers may start at the same time on one stale socket, and the second must see the
 * socket of the first: so the directory is locked. Any user who can read the directory can lock
 * it, too, so we wait for at most a second; where there are no such locks (flock(2): NFS), not at
 * all. Returns a descriptor, which holds the lock if it could be taken, or -1.
 */
static int
lock_directory_of(const char *path)
{
	char copy[sizeof(((struct sockaddr_un *)0)->sun_path)];

	snprintf(copy, sizeof(copy), "%s", path);
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	for (int i = 0; fd >= 0 && i < 100; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0 || errno != EWOULDBLOCK)
			break;
		poll(NULL, 0, 10);
	}
	return fd;
}

/* Put a socket in its place. */
static int
place_unix(struct listener *listener, const char *path, gid_t group, struct error *error)
{
	char temporary[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct stat st;

	if (check_place(path, error) != 0)
		return -1;
	temporary_path(path, temporary, sizeof(temporary));
	listener->fd = bind_unix(temporary, path, group, error);
	if (listener->fd < 0)
		return -1;
	if (stat(temporary, &st) != 0 || rename(temporary, path) != 0) {
		error_set(error, EX_UNAVAILABLE, NULL, "%s: %s", path, strerror(errno));
		unlink(temporary);
		close(listener->fd);
		return -1;
	}
	listener->path = path;
	listener->device = st.st_dev;
	listener->inode = st.st_ino;
	return 0;
}

static int
open_unix(struct listener *listener, const char *path, gid_t group, struct error *error)
{
	int lock = lock_directory_of(path);
	int result = place_unix(listener, path, group, error);

	if (lock >= 0)
		close(lock);
	return result;
}

/*
 * where is 127.0.0.1:port or [::1]:port, as config.c has checked. Returns the socket, or -1
 * with errno and an error.
 */
static int
bind_tcp(const char *where, struct error *error)
{
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	uint16_t port = htons((uint16_t)atoi(strrchr(where, ':') + 1));
	bool is_six = where[0] == '[';
	int on = 1;
	int fd = socket(is_six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	six.sin6_port = four.sin_port = port;
	if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) == 0 &&
	    bind(fd, is_six ? (struct sockaddr *)&six : (struct sockaddr *)&four,
	        is_six ? sizeof(six) : sizeof(four)) == 0)
		return fd;
	int failed = errno;
	error_set(error, EX_UNAVAILABLE, "choose another port", "%s: bind: %s", where,
	    strerror(failed));
	if (fd >= 0)
		close(fd);
	errno = failed;
	return -1;
}

static int
open_tcp(struct listener *listener, const char *where, struct error *error)
{
	listener->fd = bind_tcp(where, error);
	if (listener->fd < 0)
		return -1;
	if (listen(listener->fd, BACKLOG) == 0)
		return 0;
	error_set(error, EX_UNAVAILABLE, "choose another port", "%s: listen: %s", where,
	    strerror(errno));
	listener_close(listener);
	return -1;
}

static int
take_inherited(struct listener *listener, struct error *error)
{
	listener->inherited = true;
	listener->fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
	/* Another process may take the connection that epoll reported. */
	if (listener->fd >= 0 &&
	    fcntl(listener->fd, F_SETFL, fcntl(listener->fd, F_GETFL) | O_NONBLOCK) == 0)
		return 0;
	error_set(error, EX_UNAVAILABLE, NULL, "descriptor 0: %s", strerror(errno));
	return -1;
}

int
listener_open(struct listener *listener, const char *where, gid_t group, struct error *error)
{
	*listener = (struct listener){.fd = -1};
	if (*where == '\0')
		return take_inherited(listener, error);
	if (strncmp(where, "unix:", 5) == 0)
		return open_unix(listener, where + 5, group, error);
	return open_tcp(listener, where, error);
}

static int
check_unix(const char *path, gid_t group, const char **found, struct error *error)
{
	char temporary[sizeof(((struct sockaddr_un *)0)->sun_path)];
	struct stat st;

	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode) && is_live(path)) {
		*found = "a receiver is listening there";
		return 0;
	}
	if (check_place(path, error) != 0)
		return -1;
	temporary_path(path, temporary, sizeof(temporary));
	int fd = bind_unix(temporary, path, group, error);
	if (fd < 0)
		return -1;
	close(fd);
	unlink(temporary);
	*found = "can be made";
	return 0;
}

int
listener_check(const char *where, gid_t group, const char **found, struct error *error)
{
	if (strncmp(where, "unix:", 5) == 0)
		return check_unix(where + 5, group, found, error);
	int fd = bind_tcp(where, error);
	if (fd < 0 && errno != EADDRINUSE)
		return -1;
	*found = fd < 0 ? "something listens there: fine if it is a receiver" : "can be made";
	if (fd >= 0)
		close(fd);
	return 0;
}

void
listener_retire(struct listener *listener)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	struct sock_fprog filter = {.len = 1, .filter = &drop};
	struct stat st;

	if (listener->inherited)
		return;
	if (listener->path == NULL) {
		/* TCP, where shutdown(2) would reset the backlog: drop every SYN from now on. */
		setsockopt(listener->fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter));
		return;
	}
	if (stat(listener->path, &st) == 0 && st.st_dev == listener->device &&
	    st.st_ino == listener->inode)
		unlink(listener->path);
	/* unix(7) sockets refuse connections from now on, and keep those in the backlog. */
	shutdown(listener->fd, SHUT_RD);
}

void
listener_close(struct listener *listener)
{
	if (listener->fd >= 0)
		close(listener->fd);
	listener->fd = -1;
}
