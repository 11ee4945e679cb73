/*
 * logdisk IMAGE LOG WRITE_US FLUSH_US MOUNTPOINT [FUSE OPTIONS]
 *
 * A FUSE file system with one file, "disk", whose content is IMAGE. Put a loop device over it: then
 * its writes are those that reach a disk, and its fsyncs are what the loop driver makes of a flush.
 *
 * Owns LOG: the begin and the end of each write (with its data) and of each flush, in the order in
 * which they happened, as struct entry in the byte order of the machine; history.py reads it. A
 * write is durable once a flush has ended that began after the end of the write. Before, a disk
 * may have it in its cache only.
 *
 * WRITE_US, FLUSH_US: microseconds that a write and a flush take on average, from 1/4 to 7/4 of it.
 */
#define FUSE_USE_VERSION 31
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <fuse3/fuse.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum kind { WRITE_BEGINS = 1, WRITE_ENDS, FLUSH_BEGINS, FLUSH_ENDS };

/* The data of a write follows the entry of its begin. */
struct entry {
	uint32_t kind;
	uint32_t id;   /* of the write or flush: the same at its begin and its end */
	uint64_t ns;   /* CLOCK_MONOTONIC */
	uint64_t offset;
	uint64_t length;
};

static struct {
	pthread_mutex_t lock;
	char *image;
	size_t size;
	FILE *log;
	uint32_t last_id;
	long write_us, flush_us;
} disk = {.lock = PTHREAD_MUTEX_INITIALIZER};

static uint64_t
now_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Under the lock: entries are in the order of their times. A log with a gap would prove nothing. */
static void
add(enum kind kind, uint32_t id, size_t offset, size_t length, const char *data)
{
	struct entry entry = {kind, id, now_ns(), offset, length};
	if (fwrite(&entry, sizeof(entry), 1, disk.log) != 1 ||
	    (data != NULL && length > 0 && fwrite(data, length, 1, disk.log) != 1))
		abort();
}

static uint32_t
begin(enum kind kind, size_t offset, size_t length, const char *data)
{
	pthread_mutex_lock(&disk.lock);
	uint32_t id = ++disk.last_id;
	add(kind, id, offset, length, data);
	if (data != NULL)
		memcpy(disk.image + offset, data, length);
	pthread_mutex_unlock(&disk.lock);
	return id;
}

static void
end(enum kind kind, uint32_t id)
{
	pthread_mutex_lock(&disk.lock);
	add(kind, id, 0, 0, NULL);
	pthread_mutex_unlock(&disk.lock);
}

/* The time of a disk. Without it, no two requests would be under way at the same time. */
static void
take(long us)
{
	static _Thread_local unsigned seed;
	if (us <= 0)
		return;
	if (seed == 0)
		seed = (unsigned)now_ns();
	usleep((useconds_t)(us / 4 + rand_r(&seed) % (us * 3 / 2)));
}

static int
disk_getattr(const char *path, struct stat *st, struct fuse_file_info *file)
{
	(void)file;
	memset(st, 0, sizeof(*st));
	if (strcmp(path, "/") == 0) {
		st->st_mode = S_IFDIR | 0700;
		st->st_nlink = 2;
		return 0;
	}
	if (strcmp(path, "/disk") != 0)
		return -ENOENT;
	st->st_mode = S_IFREG | 0600;
	st->st_nlink = 1;
	st->st_size = (off_t)disk.size;
	return 0;
}

static int
disk_open(const char *path, struct fuse_file_info *file)
{
	(void)path;
	file->direct_io = 1; /* no page cache in between */
	return 0;
}

static int
disk_read(const char *path, char *buffer, size_t size, off_t offset,
    struct fuse_file_info *file)
{
	(void)path;
	(void)file;
	if ((size_t)offset >= disk.size)
		return 0;
	if (size > disk.size - (size_t)offset)
		size = disk.size - (size_t)offset;
	memcpy(buffer, disk.image + offset, size);
	return (int)size;
}

static int
disk_write(const char *path, const char *data, size_t size, off_t offset,
    struct fuse_file_info *file)
{
	(void)path;
	(void)file;
	if ((size_t)offset > disk.size || size > disk.size - (size_t)offset)
		return -ENOSPC;
	uint32_t id = begin(WRITE_BEGINS, (size_t)offset, size, data);
	take(disk.write_us);
	end(WRITE_ENDS, id);
	return (int)size;
}

static int
disk_fsync(const char *path, int data_only, struct fuse_file_info *file)
{
	(void)path;
	(void)data_only;
	(void)file;
	uint32_t id = begin(FLUSH_BEGINS, 0, 0, NULL);
	take(disk.flush_us);
	end(FLUSH_ENDS, id);
	return 0;
}

static void
disk_destroy(void *data)
{
	(void)data;
	if (fclose(disk.log) != 0)
		abort();
}

/* No fallocate: the block layer writes zeroes instead, so each change of the disk is a write. */
static const struct fuse_operations operations = {
	.getattr = disk_getattr,
	.open = disk_open,
	.read = disk_read,
	.write = disk_write,
	.fsync = disk_fsync,
	.destroy = disk_destroy,
};

static int
open_disk(const char *image, const char *log)
{
	struct stat st;
	int fd = open(image, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st) != 0)
		return -1;
	disk.size = (size_t)st.st_size;
	disk.image = mmap(NULL, disk.size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	disk.log = fopen(log, "wbe");
	return disk.image == MAP_FAILED || disk.log == NULL ? -1 : 0;
}

int
main(int argc, char **argv)
{
	if (argc < 6) {
		fputs("usage: logdisk IMAGE LOG WRITE_US FLUSH_US MOUNTPOINT [FUSE OPTIONS]\n", stderr);
		return 64;
	}
	if (open_disk(argv[1], argv[2]) != 0) {
		fprintf(stderr, "logdisk: %s, %s: %s\n", argv[1], argv[2], strerror(errno));
		return 1;
	}
	disk.write_us = atol(argv[3]);
	disk.flush_us = atol(argv[4]);
	argv[4] = argv[0];
	return fuse_main(argc - 4, argv + 4, &operations, NULL);
}
