/*
 * Owns how a file system is recognised. One wait is enough on ext4 with an internal journal and
 * barriers, and on XFS without realtime files, since Linux 5.2: there a link and its inode are in
 * one journal transaction, and the commit flushes the disk's cache first.
 */
#define _GNU_SOURCE
#include "base/filesystem.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <unistd.h>

/* statfs(2) */
#define XFS_MAGIC 0x58465342UL
#define EXT_MAGIC 0xEF53UL
#define TMPFS_MAGIC 0x01021994UL
#define RAMFS_MAGIC 0x858458f6UL

enum { OPTIONS_SIZE = 4096 }; /* of a mount: long paths are in those of an overlay */

/* The text of /proc/fs/ext4/DEVICE/options: one option a line. */
struct ext4_options {
	char device[256];
	char text[4096];
};

static bool
has_option(const struct ext4_options *options, const char *option)
{
	size_t length = strlen(option);

	for (const char *at = options->text; (at = strstr(at, option)) != NULL; at += length)
		if ((at == options->text || at[-1] == '\n') && (at[length] == '\n' || at[length] == '\0'))
			return true;
	return false;
}

/* Read options and device of a mounted ext4. False if the kernel does not show them. */
static bool
read_options(int directory, struct ext4_options *options)
{
	char path[512], target[256];
	struct stat st;

	if (fstat(directory, &st) != 0)
		return false;
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
	ssize_t n = readlink(path, target, sizeof(target) - 1);
	if (n <= 0)
		return false;
	target[n] = '\0';
	const char *slash = strrchr(target, '/');
	snprintf(options->device, sizeof(options->device), "%s", slash == NULL ? target : slash + 1);
	snprintf(path, sizeof(path), "/proc/fs/ext4/%s/options", options->device);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, options->text, sizeof(options->text) - 1);
	if (fd >= 0)
		close(fd);
	options->text[n < 0 ? 0 : n] = '\0';
	return n > 0;
}

static void
set_two(struct filesystem *found, const char *why, const char *warning, const char *remedy)
{
	found->why_two = why;
	found->warning = warning;
	found->remedy = remedy;
}

static void
detect_ext4(int directory, struct filesystem *found)
{
	struct ext4_options options;
	char journal[512];

	strcpy(found->type, "ext4");
	if (!read_options(directory, &options)) {
		set_two(found, "the kernel does not show its options", NULL, NULL);
		return;
	}
	snprintf(journal, sizeof(journal), "/proc/fs/jbd2/%s-8", options.device); /* 8: the inode */
	bool internal = access(journal, F_OK) == 0;
	/* Without a journal there is no data mode. */
	bool none = !internal && strstr(options.text, "data=") == NULL;
	if (none)
		set_two(found, "it has no journal", "ext4 without a journal loses events in a power cut",
		    "unmount it, then: tune2fs -O has_journal DEVICE");
	else if (has_option(&options, "fc_debug_force"))
		set_two(found, "it has fast_commit",
		    "ext4 with fast_commit loses events in a power cut (a fault of the kernel)",
		    "unmount it, then: tune2fs -O ^fast_commit DEVICE");
	else if (!has_option(&options, "barrier"))
		set_two(found, "it is mounted with nobarrier",
		    "ext4 mounted with nobarrier loses events in a power cut, unless the disk's cache has "
		    "a battery",
		    "mount it with barrier=1");
	else if (!internal)
		set_two(found, "its journal is on another device", NULL, NULL);
	else if (has_option(&options, "journal_async_commit"))
		set_two(found, "it has journal_async_commit", NULL, NULL);
	else
		found->one_wait = true;
	found->named_files = !none && has_option(&options, "fc_debug_force");
}

static bool
is_old_kernel(void)
{
	struct utsname name;
	int major = 0, minor = 0;

	return uname(&name) != 0 || sscanf(name.release, "%d.%d", &major, &minor) != 2 || major < 5 ||
	    (major == 5 && minor < 2);
}

/* The type and the options of a mount, proc(5): ID ... - TYPE SOURCE OPTIONS. False: not there. */
static bool
read_mount(uint64_t id, char *type, size_t type_size, char *options, size_t options_size)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char *line = NULL, *rest = NULL;
	size_t size = 0;

	while (file != NULL && rest == NULL && getline(&line, &size, file) > 0)
		if (strtoull(line, NULL, 10) == id)
			rest = strstr(line, " - ");
	if (rest != NULL) {
		rest += strlen(" - ");
		snprintf(type, type_size, "%s", strsep(&rest, " "));
		strsep(&rest, " ");
		snprintf(options, options_size, ",%s,", rest == NULL ? "" : strsep(&rest, "\n"));
	}
	bool known = file != NULL && rest != NULL;
	if (file != NULL)
		fclose(file);
	free(line);
	return known;
}

/* The same of the mount that a directory is on. */
static bool
read_mount_of(int directory, struct filesystem *found, char options[OPTIONS_SIZE])
{
	struct statx st;

	return statx(directory, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) == 0 &&
	    (st.stx_mask & STATX_MNT_ID) != 0 &&
	    read_mount(st.stx_mnt_id, found->type, sizeof(found->type), options, OPTIONS_SIZE);
}

/* Realtime files, or the log, may be on a device whose cache is not flushed in time. */
static void
detect_xfs(int directory, struct filesystem *found)
{
	struct fsxattr attributes;
	char options[OPTIONS_SIZE];
	bool known = read_mount_of(directory, found, options) &&
	    ioctl(directory, FS_IOC_FSGETXATTR, &attributes) == 0;

	strcpy(found->type, "XFS");
	if (!known)
		found->why_two = "the kernel does not show its options";
	else if (strstr(options, ",logdev=") != NULL)
		found->why_two = "its log is on another device";
	else if ((attributes.fsx_xflags & (FS_XFLAG_REALTIME | FS_XFLAG_RTINHERIT)) != 0)
		found->why_two = "its files are realtime files";
	else
		found->one_wait = true;
}

/* Of any other file system: its type, and what cannot be kept there. */
static void
detect_other(int directory, unsigned long magic, struct filesystem *found)
{
	char options[OPTIONS_SIZE];
	bool known = read_mount_of(directory, found, options);

	/* f2fs has fsync_mode=nobarrier; overlayfs, by kernel, volatile or fsync=volatile. */
	if (known && (strstr(options, ",nobarrier,") != NULL || strstr(options, "=nobarrier,") != NULL))
		set_two(found, "it is mounted with nobarrier",
		    "a file system mounted with nobarrier loses events in a power cut, unless the disk's "
		    "cache has a battery",
		    "mount it without nobarrier");
	else if (known &&
	    (strstr(options, ",volatile,") != NULL || strstr(options, "=volatile,") != NULL))
		set_two(found, "it is mounted with volatile",
		    "an overlay file system mounted with volatile loses events in a power cut",
		    "mount it without volatile");
	if (magic == TMPFS_MAGIC || magic == RAMFS_MAGIC)
		set_two(found, "it is in memory", "a file system in memory loses all events with a restart",
		    "name a directory on a disk with PSAPI_SPOOL");
}

void
filesystem_detect(int directory, struct filesystem *found)
{
	struct statfs st;

	*found = (struct filesystem){
		.type = "another file system", .why_two = "one wait is proved on ext4 and XFS only"};
	if (fstatfs(directory, &st) != 0)
		return;
	unsigned long magic = (unsigned long)st.f_type & 0xffffffffUL;
	if (magic == EXT_MAGIC)
		detect_ext4(directory, found);
	else if (magic == XFS_MAGIC)
		detect_xfs(directory, found);
	else
		detect_other(directory, magic, found);
	if (found->one_wait && is_old_kernel()) {
		found->one_wait = false;
		found->why_two = "Linux is older than 5.2";
	}
}
