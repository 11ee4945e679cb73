/*
 * Reading and writing whole: what a signal interrupts, or what takes a part, is continued.
 */
#ifndef PSAPI_IO_H
#define PSAPI_IO_H

#include <stddef.h>
#include <sys/types.h>

/* Read to the end or size bytes. Returns how many, or -1 with errno. */
ssize_t io_read_all(int fd, void *data, size_t size);

/* Returns 0, or -1 with errno: a part may be written. */
int io_write_all(int fd, const void *data, size_t length);

#endif
