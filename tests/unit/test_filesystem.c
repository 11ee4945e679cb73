/*
 * Owns what filesystem.h promises: one wait only where it is proved, a warning where nobody
 * can keep the promises. Tried on the file systems that this machine can mount.
 */
#include "helpers.h"

#include <errno.h>
#include <linux/fs.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "base/filesystem.h"
#include "store/store.h"

/* ---- system calls of base/filesystem.c ---- */

static struct {
	long magic;          /* of every file system, statfs(2); 0: the real one */
	const char *release; /* of the kernel; NULL: the real one */
	unsigned flags;      /* FS_XFLAG_* of every directory, with magic */
	bool refuse;         /* these calls fail */
	bool no_mount;       /* the kernel does not say which mount it is */
} pretend;

int
fstatfs(int fd, struct statfs *st)
{
	int result = (int)syscall(SYS_fstatfs, fd, st);

	if (pretend.magic != 0)
		st->f_type = (__typeof__(st->f_type))pretend.magic;
	return pretend.refuse && pretend.magic == 0 ? -1 : result;
}

int
uname(struct utsname *name)
{
	int result = (int)syscall(SYS_uname, name);

	if (pretend.release != NULL)
		snprintf(name->release, sizeof(name->release), "%s", pretend.release);
	return pretend.refuse ? -1 : result;
}

int
ioctl(int fd, unsigned long request, ...)
{
	va_list list;

	va_start(list, request);
	void *data = va_arg(list, void *);
	va_end(list);
	if (request != FS_IOC_FSGETXATTR || pretend.magic == 0)
		return (int)syscall(SYS_ioctl, fd, request, data);
	memset(data, 0, sizeof(struct fsxattr));
	((struct fsxattr *)data)->fsx_xflags = pretend.flags;
	return pretend.refuse ? -1 : 0;
}

int
statx(int fd, const char *path, int flags, unsigned mask, struct statx *st)
{
	int result = (int)syscall(SYS_statx, fd, path, flags, mask, st);

	if (pretend.no_mount)
		st->stx_mask &= ~STATX_MNT_ID;
	return result;
}

/* ---- what is pretended ---- */

enum { XFS = 0x58465342, EXT = 0xEF53, BTRFS = (int)0x9123683E };

static struct filesystem
look(const char *path)
{
	struct filesystem found;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	memset(&found, 0x55, sizeof(found));
	filesystem_detect(fd, &found);
	close(fd);
	return found;
}

/* As findmnt(8) says. */
static const char *
mounted_type(const char *path)
{
	static char type[64];
	char command[1024];

	snprintf(command, sizeof(command), "findmnt -n -o FSTYPE -T %s", path);
	FILE *output = popen(command, "r");
	assert_non_null(output);
	assert_int_equal(fscanf(output, "%63s", type), 1);
	assert_int_equal(pclose(output), 0);
	return type;
}

static void
expect_two_waits(const struct filesystem *found, const char *type, const char *why)
{
	assert_string_equal(found->type, type);
	assert_false(found->one_wait);
	assert_string_equal(found->why_two, why);
	assert_false(found->named_files);
	assert_null(found->warning);
	assert_null(found->remedy);
}

#define UNPROVED "one wait is proved on ext4 and XFS only"

/* Its type is what the kernel says of the mount: here of that with the sandbox. */
TEST(what_is_not_known_gets_two_waits)
{
	static const long magics[] = {BTRFS, 0x6969 /* NFS */, 0x794c7630 /* overlayfs */,
		0x2fc12fc1 /* ZFS */, 0x65735546 /* FUSE */};
	const char *type = mounted_type(*state);

	for (size_t i = 0; i < ROWS(magics); i++) {
		pretend.magic = magics[i];
		struct filesystem found = look(*state);
		expect_two_waits(&found, type, UNPROVED);
	}
	pretend.magic = BTRFS;
	pretend.no_mount = true;
	struct filesystem found = look(*state);
	expect_two_waits(&found, "another file system", UNPROVED);
	pretend.no_mount = false;
	pretend.magic = 0;
	pretend.refuse = true;
	found = look(*state);
	pretend.refuse = false;
	expect_two_waits(&found, "another file system", UNPROVED);
}

TEST(a_file_system_in_memory_is_warned_of)
{
	static const long magics[] = {0x01021994 /* tmpfs */, 0x858458f6 /* ramfs */};

	for (size_t i = 0; i < ROWS(magics); i++) {
		pretend.magic = magics[i];
		struct filesystem found = look(*state);
		pretend.magic = 0;
		assert_false(found.one_wait);
		assert_string_equal(found.why_two, "it is in memory");
		assert_non_null(strstr(found.warning, "in memory loses all events"));
		assert_non_null(strstr(found.remedy, "a directory on a disk"));
	}
}

TEST(xfs_gets_one_wait_unless_its_files_are_realtime_files)
{
	static const unsigned flags[] = {FS_XFLAG_REALTIME, FS_XFLAG_RTINHERIT,
	    FS_XFLAG_REALTIME | FS_XFLAG_RTINHERIT};

	pretend.magic = XFS;
	struct filesystem found = look(*state);
	assert_string_equal(found.type, "XFS");
	assert_true(found.one_wait);
	assert_false(found.named_files);
	assert_null(found.warning);
	for (size_t i = 0; i < ROWS(flags); i++) {
		pretend.flags = flags[i];
		found = look(*state);
		expect_two_waits(&found, "XFS", "its files are realtime files");
	}
	pretend.flags = 0;
	pretend.refuse = true; /* it does not say */
	found = look(*state);
	pretend.refuse = false;
	expect_two_waits(&found, "XFS", "the kernel does not show its options");
	pretend.no_mount = true;
	found = look(*state);
	pretend.no_mount = false;
	pretend.magic = 0;
	expect_two_waits(&found, "XFS", "the kernel does not show its options");
}

TEST(before_linux_5_2_there_is_no_way_with_one_wait)
{
	static const struct {
		const char *release;
		bool one_wait;
	} rows[] = {{"5.2.0", true}, {"5.2-rc1", true}, {"5.10.0-8-amd64", true}, {"6.0", true},
	    {"10.1", true},
		{"5.1.21", false}, {"5.0", false}, {"4.19.0-27-amd64", false}, {"4.99", false}, {"", false},
		    {"x", false},
		{"5", false}, {"5.x", false}};

	pretend.magic = XFS;
	for (size_t i = 0; i < ROWS(rows); i++) {
		pretend.release = rows[i].release;
		struct filesystem found = look(*state);
		if (found.one_wait != rows[i].one_wait)
			fail_msg("Linux \"%s\"", rows[i].release);
		if (!rows[i].one_wait)
			assert_string_equal(found.why_two, "Linux is older than 5.2");
	}
	pretend.release = NULL;
	pretend.magic = 0;
}

/* ---- the store says it ---- */

static struct store *
open_store(const char *path, const char *sync)
{
	struct config config = {.spool = (char *)(uintptr_t)path, .sync = (char *)(uintptr_t)sync};
	struct error error;
	struct store *store = store_open(&config, true, &error);

	if (store == NULL)
		fail_msg("%s", error.text);
	return store;
}

static struct error warned;

static void
warn(const struct error *warning, void *data)
{
	warned = *warning;
	++*(int *)data;
}

TEST(the_store_says_how_data_reaches_the_disk)
{
	static const struct {
		const char *sync, *text;
		long magic;
	} rows[] = {
		{"auto", "XFS, one wait for the disk", XFS},
		{"two", "XFS, two waits for the disk (PSAPI_SYNC=two)", XFS},
		{"auto", "another file system, two waits for the disk (" UNPROVED ")", BTRFS},
		{"two", "another file system, two waits for the disk (PSAPI_SYNC=two)", BTRFS},
	};
	const char *path = in(*state, "spool");
	struct error error;
	char text[256];
	int warnings = 0;

	for (size_t i = 0; i < ROWS(rows); i++) {
		pretend.magic = rows[i].magic;
		pretend.no_mount = rows[i].magic != XFS;
		struct store *store = open_store(path, rows[i].sync);
		store_describe(store, text, sizeof(text));
		assert_string_equal(text, rows[i].text);
		store_warnings(store, warn, &warnings);
		store_close(store);
	}
	pretend.no_mount = false;
	pretend.magic = 0;
	assert_int_equal(warnings, 0);
	store_close(NULL);
	struct config config = {.spool = (char *)(uintptr_t)in(*state, "a/b"),
	    .sync = (char *)(uintptr_t)"auto"};
	assert_null(store_open(&config, true, &error));
	assert_int_equal(error.status, EX_NOINPUT);
}

/* ---- what is there ---- */

struct kind {
	const char *what;
	const char *make;    /* on $image; what it needs beside is in $other */
	const char *mount;   /* options and source of mount(8) */
	const char *type;
	bool one_wait, named_files;
	const char *why_two, *warning, *remedy; /* NULL: none */
};

#define MKFS "mkfs.ext4 -q -F "
#define TWO_DEVICES "truncate -s 64M $other && device=$(losetup -f --show $other) && " \
	MKFS "-O journal_dev $device && " MKFS "-J device=$device $image 64M"

static const struct kind kinds[] = {
	{"ext4", MKFS "$image 64M", "-o loop $image", "ext4", true, false, NULL, NULL, NULL},
	{"ext4 data=writeback", MKFS "$image 64M", "-o loop,data=writeback $image", "ext4", true, false,
	    NULL, NULL, NULL},
	{"ext4 data=journal", MKFS "$image 64M", "-o loop,data=journal $image", "ext4", true, false,
	    NULL, NULL, NULL},
	{"ext3's layout", "mkfs.ext3 -q -F $image 64M", "-o loop $image", "ext4", true, false,
	    NULL, NULL, NULL},
	{"ext4 without a journal", MKFS "-O ^has_journal $image 64M", "-o loop $image", "ext4", false,
	    false, "it has no journal", "without a journal", "tune2fs -O has_journal"},
	{"ext4 fast_commit", MKFS "-O fast_commit $image 64M", "-o loop $image", "ext4", false, true,
	    "it has fast_commit", "fast_commit", "tune2fs -O ^fast_commit"},
	{"ext4 nobarrier", MKFS "$image 64M", "-o loop,nobarrier $image", "ext4", false, false,
	    "it is mounted with nobarrier", "nobarrier", "barrier=1"},
	{"ext4 journal_async_commit", MKFS "$image 64M",
	    "-o loop,data=writeback,journal_async_commit $image", "ext4", false, false,
	    "it has journal_async_commit", NULL, NULL},
	{"ext4 with its journal elsewhere", TWO_DEVICES, "-o loop $image", "ext4", false, false,
	    "its journal is on another device", NULL, NULL},
	{"XFS", "truncate -s 320M $image && mkfs.xfs -q -f $image", "-o loop $image", "XFS", true,
	    false, NULL, NULL, NULL},
	{"XFS with its log elsewhere", "truncate -s 320M $image && truncate -s 64M $other && "
	    "device=$(losetup -f --show $other) && mkfs.xfs -q -f -l logdev=$device $image",
	    "-o loop,logdev=$device $image", "XFS", false, false, "its log is on another device",
	    NULL, NULL},
	{"tmpfs", "true", "-t tmpfs psapi-test", "tmpfs", false, false, "it is in memory",
	    "in memory loses all events", "on a disk"},
	{"ramfs", "true", "-t ramfs psapi-test", "ramfs", false, false, "it is in memory",
	    "in memory loses all events", "on a disk"},
	{"btrfs", "truncate -s 128M $image && mkfs.btrfs -q -f $image", "-o loop $image",
	    "btrfs", false, false, UNPROVED, NULL, NULL},
	{"btrfs nobarrier", "truncate -s 128M $image && mkfs.btrfs -q -f $image",
	    "-o loop,nobarrier $image", "btrfs", false, false, "it is mounted with nobarrier",
	    "nobarrier loses events in a power cut", "without nobarrier"},
	{"f2fs nobarrier", "truncate -s 128M $image && mkfs.f2fs -q -f $image",
	    "-o loop,nobarrier $image", "f2fs", false, false, "it is mounted with nobarrier",
	    "nobarrier loses events in a power cut", "without nobarrier"},
	{"f2fs fsync_mode=nobarrier", "truncate -s 128M $image && mkfs.f2fs -q -f $image",
	    "-o loop,fsync_mode=nobarrier $image", "f2fs", false, false, "it is mounted with nobarrier",
	    "nobarrier loses events in a power cut", "without nobarrier"},
	{"overlayfs", "mkdir -p $image.low $image.up $image.work",
	    "-t overlay -o lowerdir=$image.low,upperdir=$image.up,workdir=$image.work psapi-test",
	    "overlay", false, false, UNPROVED, NULL, NULL},
	{"overlayfs volatile", "mkdir -p $image.low $image.up $image.work",
	    "-t overlay -o volatile,lowerdir=$image.low,upperdir=$image.up,workdir=$image.work "
	    "psapi-test", "overlay", false, false, "it is mounted with volatile",
	    "volatile loses events in a power cut", "without volatile"},
};

#define SKIPPED "skipped: "

static const char *
compare(const struct kind *kind, const struct filesystem *found)
{
	static char text[512];

	if (strcmp(found->type, kind->type) == 0 && found->one_wait == kind->one_wait &&
	    found->named_files == kind->named_files &&
	    (kind->why_two == NULL || strcmp(found->why_two, kind->why_two) == 0) &&
	    (found->warning == NULL) == (kind->warning == NULL) &&
	    (kind->warning == NULL || (strstr(found->warning, kind->warning) != NULL &&
	                                  strstr(found->remedy, kind->remedy) != NULL)))
		return NULL;
	snprintf(text, sizeof(text), "%s: one wait %d (%s), named files %d, warning %s", found->type,
	    found->one_wait,
	    found->why_two, found->named_files, found->warning != NULL ? found->warning : "none");
	return text;
}

/* In a mount namespace: what goes with it is unmounted. */
static const char *
check_kind(const char *path, const struct kind *kind)
{
	static char command[2048];
	const char *mounted = in(path, "mounted");

	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL) != 0)
		return SKIPPED "no mount namespace";
	snprintf(command, sizeof(command), "exec >/dev/null 2>&1; PATH=$PATH:/usr/sbin:/sbin "
	    "image=%s/image other=%s/other; %s && mount %s %s", path, path, kind->make,
	    kind->mount, mounted);
	mkdir(mounted, 0755);
	if (system(command) != 0)
		return SKIPPED "it cannot be made or mounted here";
	struct filesystem found = look(mounted);
	return compare(kind, &found);
}

/* What is done with it. Returns what failed, or NULL. */
static const char *(*check)(const char *path, const struct kind *kind) = check_kind;

static void
detach(const char *path)
{
	char command[1024];

	snprintf(command, sizeof(command), "PATH=$PATH:/usr/sbin:/sbin; "
		"losetup -j %s/other -n -O NAME 2>/dev/null | xargs -r losetup -d", path);
	if (system(command) != 0)
		print_message("a loop device of %s is left\n", path);
}

/* Returns whether it could be tried. */
static bool
try(const char *path, const struct kind *kind)
{
	int status, channel[2];
	char text[1024];
	pid_t child;

	assert_int_equal(pipe2(channel, O_CLOEXEC), 0);
	assert_true((child = fork()) >= 0);
	if (child == 0) {
		const char *failed = check(path, kind);
		if (failed != NULL && write(channel[1], failed, strlen(failed)) < 0)
			_exit(2);
		_exit(0);
	}
	close(channel[1]);
	ssize_t n = read(channel[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	close(channel[0]);
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	detach(path);
	unlink(in(path, "image"));
	unlink(in(path, "other"));
	bool tried = strncmp(text, SKIPPED, strlen(SKIPPED)) != 0;
	if (tried && *text != '\0')
		fail_msg("%s: %s", kind->what, text);
	if (!tried)
		print_message("%s: %s\n", kind->what, text);
	return tried;
}

TEST(what_this_machine_can_mount_is_recognised)
{
	int tried = 0;

	if (geteuid() != 0) {
		print_message("only root can mount an image\n");
		skip();
	}
	for (size_t i = 0; i < ROWS(kinds); i++)
		tried += try(*state, &kinds[i]);
	if (tried == 0)
		skip();
}

/* A container shows no /proc/fs, a unit with ProcSubset=pid neither: nothing is guessed. */
static const char *
hide_options(const char *path, const struct kind *kind)
{
	static const struct kind hidden = {.type = "ext4", 
	    .why_two = "the kernel does not show its options"};
	const char *failed = check_kind(path, kind);

	if (failed != NULL)
		return failed;
	if (mount("psapi-test", "/proc/fs", "tmpfs", 0, NULL) != 0)
		return SKIPPED "nothing can be mounted there";
	struct filesystem found = look(in(path, "mounted"));
	return compare(&hidden, &found);
}

TEST(where_the_kernel_shows_no_options_there_are_two_waits)
{
	if (geteuid() != 0) {
		print_message("only root can mount an image\n");
		skip();
	}
	check = hide_options;
	bool tried = try(*state, &kinds[0]);
	check = check_kind;
	if (!tried)
		skip();
}

static const char *
warn_of(const char *path, const struct kind *kind)
{
	static char text[1400];
	const char *failed = check_kind(path, kind), *spool = in(path, "mounted/spool");
	int warnings = 0;

	if (failed != NULL)
		return failed;
	struct config config = {.spool = (char *)(uintptr_t)spool, .sync = (char *)(uintptr_t)"auto"};
	struct error error;
	struct store *store = store_open(&config, true, &error);
	if (store == NULL)
		return "it cannot be opened";
	store_warnings(store, warn, &warnings);
	store_close(store);
	if (warnings == 1 && strncmp(warned.text, spool, strlen(spool)) == 0 &&
	    strstr(warned.text, kind->warning) != NULL && strstr(warned.remedy, kind->remedy) != NULL)
		return NULL;
	snprintf(text, sizeof(text), "%d warnings: %s", warnings, warned.text);
	return text;
}

TEST(the_store_warns_with_its_path_and_the_remedy)
{
	if (geteuid() != 0) {
		print_message("only root can mount an image\n");
		skip();
	}
	check = warn_of;
	bool tried = try(*state, &kinds[4]);
	check = check_kind;
	if (!tried)
		skip();
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		SANDBOX_TEST(what_is_not_known_gets_two_waits),
		SANDBOX_TEST(a_file_system_in_memory_is_warned_of),
		SANDBOX_TEST(xfs_gets_one_wait_unless_its_files_are_realtime_files),
		SANDBOX_TEST(before_linux_5_2_there_is_no_way_with_one_wait),
		SANDBOX_TEST(the_store_says_how_data_reaches_the_disk),
		SANDBOX_TEST(what_this_machine_can_mount_is_recognised),
		SANDBOX_TEST(where_the_kernel_shows_no_options_there_are_two_waits),
		SANDBOX_TEST(the_store_warns_with_its_path_and_the_remedy),
	};

	return cmocka_run_group_tests_name("filesystem", tests, NULL, NULL);
}
