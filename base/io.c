/* Owns the loops around read(2), write(2) and flock(2), and the standard descriptors. */
#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/clock.h"

enum { PAUSE_MS = 100 }; /* between two tries to lock */

bool
io_open_standard(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) != fd)
			return false;
	return true;
}

int
io_lock(int fd, int64_t milliseconds)
{
	int64_t end = clock_milliseconds() + milliseconds;
	int result, pause = 1;

	while ((result = flock(fd, LOCK_EX | LOCK_NB)) != 0 &&
	    (errno == EINTR || (errno == EWOULDBLOCK && clock_milliseconds() < end))) {
		poll(NULL, 0, pause);
		pause = pause < PAUSE_MS ? pause * 2 : PAUSE_MS;
	}
	return result;
}

void
io_close(int fd)
{
	int saved = errno;

	if (fd >= 0)
		close(fd);
	errno = saved;
}

ssize_t
io_read_all(int fd, void *data, size_t size)
{
	char *text = data;
	size_t length = 0;
	ssize_t n;

	do {
		n = read(fd, text + length, size - length);
		if (n > 0)
			length += (size_t)n;
	} while ((n > 0 && length < size) || (n < 0 && errno == EINTR));
	return n < 0 ? -1 : (ssize_t)length;
}

int
io_write_all(int fd, const void *data, size_t length)
{
	const char *text = data;

	while (length > 0) {
		ssize_t n = write(fd, text, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		text += n;
		length -= (size_t)n;
	}
	return 0;
}
