/*
 * Reading and writing all of it: what a signal interrupts, or takes a part, is continued.
 */
#ifndef PSAPI_IO_H
#define PSAPI_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/*
 * To be called first: a server or cron may start us with descriptors 0 to 2 closed, and the
 * next file that is opened must not take their place. Those are opened on /dev/null.
 * Returns false with errno if that fails.
 */
bool io_open_standard(void);

/*
 * Lock an open file or directory with flock(2), exclusively, waiting for at most so many
 * milliseconds. Returns 0, or -1 with errno: EWOULDBLOCK if another still has it then.
 */
int io_lock(int fd, int64_t milliseconds);

/* Close it, unless it is -1. errno stays. */
void io_close(int fd);

/* Read to the end or size bytes. Returns how many, or -1 with errno. */
ssize_t io_read_all(int fd, void *data, size_t size);

/* Returns 0, or -1 with errno: a part may be written. */
int io_write_all(int fd, const void *data, size_t length);

#endif
