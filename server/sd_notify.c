/*
 * Owns the messages to the service manager: datagrams of "NAME=VALUE" lines to the unix
 * socket that NOTIFY_SOCKET names, as sd_notify(3) documents.
 */
#include "server/sd_notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"

enum { MESSAGE_SIZE = 1024 };

/* Send one datagram. Returns 0, or -1 with errno. */
static int
send_to(const char *path, const char *message)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	size_t length = strlen(path);

	if ((path[0] != '/' && path[0] != '@') || length >= sizeof(address.sun_path)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(address.sun_path, path, length);
	if (path[0] == '@') /* unix(7): an abstract socket */
		address.sun_path[0] = '\0';
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ssize_t sent = fd < 0 ? -1 : sendto(fd, message, strlen(message), MSG_NOSIGNAL,
	    (struct sockaddr *)&address, (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length));
	int error = errno;
	if (fd >= 0)
		close(fd);
	errno = error;
	return sent < 0 ? -1 : 0;
}

static void
notify(const char *message)
{
	const char *path = getenv("NOTIFY_SOCKET");

	if (path != NULL && *path != '\0' && send_to(path, message) != 0)
		log_line("NOTIFY_SOCKET=\"%s\": cannot tell the service manager: %s", path,
		    strerror(errno));
}

void
sd_notify_ready(const char *status)
{
	char message[MESSAGE_SIZE];

	snprintf(message, sizeof(message), "READY=1\nSTATUS=%s", status == NULL ? "" : status);
	notify(message);
}

void
sd_notify_failed(const char *why)
{
	char message[MESSAGE_SIZE];

	snprintf(message, sizeof(message), "STATUS=%s", why);
	notify(message);
}
