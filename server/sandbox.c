/*
 * Owns the sandbox: the only user of libseccomp, and of Landlock's system calls, for which
 * glibc has no functions.
 *
 * Landlock takes ABI 2 (Linux 5.19): with 1, links from new/ to events/ would fail. What
 * later ABIs can refuse is refused where they are there. Its rules hold for directories
 * as they are at the start (inodes, not paths): the secret file may be replaced, a
 * directory may not.
 *
 * The seccomp filter lists the calls that are allowed; every other call fails with ENOSYS.
 * A list of forbidden calls would miss those that future kernels add. With a list of
 * allowed calls, a library that begins to use another call could stop a receiver that
 * worked; ENOSYS prevents that. glibc runs on kernels as old as Linux 3.2, so it falls back
 * when a newer call fails with ENOSYS (clone3: clone; faccessat2: faccessat). Older,
 * harmless calls are in the list also where nothing here uses them today. Calls are listed
 * by name: those that an architecture lacks are skipped. The calls of other ABIs of the
 * same machine (i386, x32) are all refused.
 *
 * Sanitizers look into their own process at its end: their leak checker forks, traces
 * and reads /proc, and reports start a symbolizer. A build with one keeps Landlock's
 * rules for writing, and nothing else of this.
 */
#define _GNU_SOURCE
#include "server/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SANITIZED = true };
#else
enum { SANITIZED = false };
#endif

/* ---- the process ---- */

void
sandbox_process(void)
{
	const struct rlimit none = {0, 0};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		log_line("no new privileges: %s: going on without", strerror(errno));
	/* The limit does not hold for a core that is piped to a program, core(5). */
	if (setrlimit(RLIMIT_CORE, &none) != 0 ||
	    (!SANITIZED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0))
		log_line("no core dumps: %s: going on without", strerror(errno));
}

/* ---- what a shared store needs ---- */

static struct store_network needed; /* all zero: nothing */

void
sandbox_network(const struct store_network *network)
{
	needed = *network;
}

/* ---- Landlock ---- */

/* landlock_create_ruleset(2): struct landlock_ruleset_attr as of ABI 6; Debian 12 has that of 2. */
struct ruleset {
	uint64_t files, network, scoped;
};

enum {
	ABI_LINKS = 2,     /* links and renames between directories, and with it REFER */
	ABI_TRUNCATE = 3,
	ABI_NETWORK = 4,
	ABI_IOCTL = 5,
	ABI_SCOPE = 6,

	BIND_AND_CONNECT_TCP = 1 << 0 | 1 << 1,     /* LANDLOCK_ACCESS_NET_* */
	CONNECT_TCP = 1 << 1,
	RULE_NET_PORT = 2, /* LANDLOCK_RULE_NET_PORT */
	DNS_PORT = 53,
	ABSTRACT_SOCKETS_AND_SIGNALS = 1 << 0 | 1 << 1, /* LANDLOCK_SCOPE_* */
	LINKS_MAX = 40 /* path_resolution(7) */
};

#define READ LANDLOCK_ACCESS_FS_READ_FILE
#define REMOVE LANDLOCK_ACCESS_FS_REMOVE_FILE
/* The rights that storing, holding, adopting and logging take. */
#define SPOOL \
	(LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_WRITE_FILE | \
	    LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REFER)
/* The rights that a sanitizer uses at its end. */
#define INSPECT (READ | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_EXECUTE)

/* All rights that an ABI can refuse: its rights are numbered without gaps, IOCTL_DEV is 1 << 15. */
static struct ruleset
everything(int abi)
{
	uint64_t next = abi >= ABI_IOCTL ? 1 << 16 :
	    abi >= ABI_TRUNCATE          ? 1 << 15 :
	                                   LANDLOCK_ACCESS_FS_REFER << 1;

	return (struct ruleset){
		.files = next - 1,
		.network = abi >= ABI_NETWORK ? BIND_AND_CONNECT_TCP : 0,
		.scoped = abi >= ABI_SCOPE ? ABSTRACT_SOCKETS_AND_SIGNALS : 0,
	};
}

/* Allow rights beneath an open directory, as far as the ruleset refuses them at all. */
static int
allow(int fd, const struct ruleset *ruleset, uint64_t rights, int directory)
{
	struct landlock_path_beneath_attr rule = {
		.allowed_access = rights & ruleset->files, .parent_fd = directory};

	if (rule.allowed_access == 0)
		return 0;
	return (int)syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0);
}

/* The same for the directory that path is in. */
static int
allow_directory_of(int fd, const struct ruleset *ruleset, uint64_t rights, const char *path)
{
	char copy[PATH_MAX];

	snprintf(copy, sizeof(copy), "%s", path);
	int directory = open(dirname(copy), O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return -1;
	int result = allow(fd, ruleset, rights, directory);
	close(directory);
	return result;
}

/* If path is a symbolic link, replace path by its target. Returns false if it is none. */
static bool
follow_link(char path[PATH_MAX])
{
	char target[PATH_MAX], copy[PATH_MAX], next[2 * PATH_MAX];
	ssize_t length = readlink(path, target, sizeof(target) - 1);

	if (length < 0)
		return false;
	target[length] = '\0';
	snprintf(copy, sizeof(copy), "%s", path);
	int n = target[0] == '/' ? snprintf(next, sizeof(next), "%s", target) :
	                           snprintf(next, sizeof(next), "%s/%s", dirname(copy), target);
	if (n >= PATH_MAX)
		return false;
	memcpy(path, next, (size_t)n + 1);
	return true;
}

/*
 * The secret file may be replaced: so its directory is readable, not the file alone. A
 * symbolic link may be changed to another file in the same directories.
 */
static int
allow_secret(int fd, const struct ruleset *ruleset, const char *secret_file)
{
	char path[PATH_MAX];
	int result, links = 0;

	snprintf(path, sizeof(path), "%s", secret_file);
	do
		result = allow_directory_of(fd, ruleset, READ, path);
	while (result == 0 && follow_link(path) && links++ < LINKS_MAX);
	return result;
}

/* The spool, with everything beneath it; what a symbolic link in it leads to is not beneath it. */
static int
allow_spool(int fd, const struct ruleset *ruleset, const char *spool)
{
	int directory = open(spool, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (directory < 0)
		return -1;
	int result = allow(fd, ruleset, SPOOL, directory);
	close(directory);
	return result;
}

/* struct landlock_net_port_attr */
struct port_rule {
	uint64_t rights, port;
};

static int
allow_port(int fd, const struct ruleset *ruleset, unsigned port)
{
	const struct port_rule rule = {.rights = CONNECT_TCP, .port = port};

	if ((ruleset->network & CONNECT_TCP) == 0 || port == 0)
		return 0;
	return (int)syscall(SYS_landlock_add_rule, fd, RULE_NET_PORT, &rule, 0);
}

/* Reading beneath a directory that may be missing. */
static int
allow_reading(int fd, const struct ruleset *ruleset, const char *path)
{
	int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (directory < 0)
		return errno == ENOENT || errno == ENOTDIR || errno == EACCES ? 0 : -1;
	int result = allow(fd, ruleset, READ, directory);
	close(directory);
	return result;
}

/*
 * The directories, not the files: resolv.conf and certificates are replaced while we run. What
 * is named in /etc may be a link to a file in the others.
 */
static int
allow_needed(int fd, const struct ruleset *ruleset)
{
	static const char *const directories[] = {
		"/etc", "/run", "/usr/lib/ssl", "/usr/share/ca-certificates"};
	char copy[PATH_MAX];
	int result = 0;

	for (size_t i = 0; i < sizeof(needed.ports) / sizeof(needed.ports[0]) && result == 0; i++)
		result = allow_port(fd, ruleset, needed.ports[i]);
	if (result == 0 && needed.names)
		result = allow_port(fd, ruleset, DNS_PORT);
	for (size_t i = 0; i < sizeof(directories) / sizeof(directories[0]) && result == 0; i++)
		if (needed.ports[0] != 0)
			result = allow_reading(fd, ruleset, directories[i]);
	for (size_t i = 0; i < sizeof(needed.files) / sizeof(needed.files[0]) && result == 0; i++) {
		snprintf(copy, sizeof(copy), "%s", needed.files[i]);
		if (*copy != '\0')
			result = allow_reading(fd, ruleset, dirname(copy));
	}
	return result;
}

/* Returns a descriptor of the ruleset, or -1 with errno. */
static int
make_rules(struct ruleset *ruleset, const char *spool, const char *secret_file,
    const char *socket_path)
{
	int fd = (int)syscall(SYS_landlock_create_ruleset, ruleset, sizeof(*ruleset), 0);

	if (fd < 0)
		return -1;
	if (allow_spool(fd, ruleset, spool) == 0 && allow_needed(fd, ruleset) == 0 &&
	    (socket_path == NULL || allow_directory_of(fd, ruleset, REMOVE, socket_path) == 0) &&
	    (secret_file == NULL || (ruleset->files & READ) == 0 ||
	        allow_secret(fd, ruleset, secret_file) == 0))
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

/*
 * Every request looks at the secret file, whose directory may be made later and must be
 * readable then.
 */
static int
make_rules_without_reading(struct ruleset *ruleset, const char *spool,
    const char *secret_file, const char *socket_path)
{
	log_line("%s: its directory, or the directory of its link's target: %s: reading files is not "
	         "restricted: restart the receiver when it exists", secret_file, strerror(errno));
	ruleset->files &= ~(uint64_t)READ;
	return make_rules(ruleset, spool, secret_file, socket_path);
}

void
sandbox_files(const char *spool, const char *secret_file, const char *socket_path)
{
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < ABI_LINKS) {
		log_line("Landlock: %s: files are not restricted",
		    abi < 0 ? strerror(errno) : "this kernel's (ABI 1) cannot link between directories");
		return;
	}
	struct ruleset ruleset = everything(abi);
	if (SANITIZED)
		ruleset.files &= ~(uint64_t)INSPECT;
	int fd = make_rules(&ruleset, spool, secret_file, socket_path);
	if (fd < 0 && secret_file != NULL && (ruleset.files & READ) != 0 &&
	    (errno == ENOENT || errno == ENOTDIR || errno == EACCES))
		fd = make_rules_without_reading(&ruleset, spool, secret_file, socket_path);
	if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) != 0)
		log_line("Landlock: %s: files are not restricted", strerror(errno));
	if (fd >= 0)
		close(fd);
}

/* ---- seccomp ---- */

static const char *const allowed[] = {
	/* descriptors and files, within Landlock's rules */
	"openat", "close", "read", "readv", "pread64", "write", "writev", "lseek",
	"_llseek", "flock", "fsync", "sync_file_range", "sync_file_range2",
	"fchown", "stat", "stat64", "lstat", "lstat64", "fstat", "fstat64", "newfstatat", "fstatat64",
	"statx", "statfs", "statfs64", "fstatfs", "fstatfs64", "access", "faccessat", "faccessat2",
	"readlink", "readlinkat", "getdents64", "linkat", "unlink", "unlinkat", "rename", "renameat",
	"renameat2",
	/* connections of the socket that exists */
	"accept", "accept4", "shutdown", "getsockopt", "getsockname", "getpeername",
	"recvfrom", "sendto",
	/* waiting */
	"poll", "ppoll", "ppoll_time64", "select", "_newselect", "pselect6", "pselect6_time64",
	"epoll_create1", "epoll_ctl", "epoll_wait", "epoll_pwait", "epoll_pwait2", "eventfd2",
	"signalfd4", "nanosleep", "clock_nanosleep", "clock_nanosleep_time64", "restart_syscall",
	/* memory; mmap and mprotect are below. What madvise(2) does to one's own is harmless */
	"brk", "munmap", "mremap", "madvise", "mlock", "mlock2", "munlock",
	/* threads and their end; clone is below */
	"futex", "futex_time64", "set_robust_list", "get_robust_list", "rseq", "membarrier",
	"sched_yield", "sched_getaffinity", "exit", "exit_group", "rt_sigaction", "rt_sigprocmask",
	"rt_sigreturn", "sigreturn", "sigaltstack",
	/* the process itself, the machine, the time */
	"clock_gettime", "clock_gettime64", "clock_getres", "clock_getres_time64", "gettimeofday",
	"time", "getrandom", "getpid", "gettid", "getuid", "getuid32", "geteuid", "geteuid32", "getgid",
	"getgid32", "getegid", "getegid32", "getrlimit", "ugetrlimit", "setrlimit", "getcpu", "sysinfo",
	"uname",
};

/* The same for a shared store: libpq's and the resolver's. futimens(3) is utimensat(2). */
static const char *const allowed_network[] = {
	"connect", "bind", "sendmsg", "sendmmsg", "recvmsg", "setsockopt", "utimensat",
	"utimensat_time64",
	"socketcall", /* 32-bit x86 has one call for all */
};

#if defined(__s390__)
enum { CLONE_FLAGS = 1 }; /* clone(2): the first two arguments change places */
#else
enum { CLONE_FLAGS = 0 };
#endif

static int
add(scmp_filter_ctx filter, const char *name, unsigned conditions,
    const struct scmp_arg_cmp *condition)
{
	int call = seccomp_syscall_resolve_name(name);

	/* Not of this architecture, or younger than the library. */
	if (call < 0)
		return 0;
	return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, call, conditions, condition);
}

static int
add_if(scmp_filter_ctx filter, const char *name, struct scmp_arg_cmp condition)
{
	return add(filter, name, 1, &condition);
}

/* Two arguments must have these values; the second may be the first again. */
static const struct {
	const char *name;
	struct {
		unsigned argument;
		scmp_datum_t value;
	} must[2];
} allowed_if[] = {
	/* Other commands send signals (F_SETOWN, F_SETSIG, O_ASYNC), watch, and lock. */
	{"fcntl", {{1, F_GETFL}, {1, F_GETFL}}},
	{"fcntl", {{1, F_GETFD}, {1, F_GETFD}}},
	{"fcntl", {{1, F_SETFD}, {1, F_SETFD}}},
	{"fcntl64", {{1, F_GETFL}, {1, F_GETFL}}},
	{"fcntl64", {{1, F_GETFD}, {1, F_GETFD}}},
	{"fcntl64", {{1, F_SETFD}, {1, F_SETFD}}},
	{"setsockopt", {{1, SOL_SOCKET}, {2, SO_ATTACH_FILTER}}},
	{"setsockopt", {{1, IPPROTO_TCP}, {2, TCP_NODELAY}}},
	/* A thread's own pair, see fastcgi.c. A pair for datagrams could send to others, too. */
	{"socketpair", {{0, AF_UNIX}, {1, SOCK_STREAM | SOCK_CLOEXEC}}},
};

static int
add_with_values(scmp_filter_ctx filter)
{
	int result = 0;

	for (size_t i = 0; result == 0 && i < sizeof(allowed_if) / sizeof(allowed_if[0]); i++) {
		const struct scmp_arg_cmp conditions[] = {
			SCMP_CMP(allowed_if[i].must[0].argument, SCMP_CMP_MASKED_EQ, UINT32_MAX,
			    allowed_if[i].must[0].value),
			SCMP_CMP(allowed_if[i].must[1].argument, SCMP_CMP_MASKED_EQ, UINT32_MAX,
			    allowed_if[i].must[1].value)};
		bool one = conditions[0].arg == conditions[1].arg;
		result = add(filter, allowed_if[i].name, one ? 1 : 2, conditions);
	}
	return result;
}

/* The calls of which only a part is allowed. Returns 0, or a negative errno. */
static int
add_in_part(scmp_filter_ctx filter)
{
	const struct scmp_arg_cmp not_executable = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
	const struct scmp_arg_cmp self = SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid());
	int result = 0;

	if (result == 0)
		result = add_if(filter, "mmap", not_executable);
	if (result == 0)
		result = add_if(filter, "mmap2", not_executable);
	if (result == 0)
		result = add_if(filter, "mprotect", not_executable);
	/* Threads, no processes. clone3, whose flags cannot be seen, is ENOSYS: glibc takes clone. */
	if (result == 0)
		result = add_if(filter, "clone",
		    SCMP_CMP(CLONE_FLAGS, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
	/* abort(3) */
	if (result == 0)
		result = add_if(filter, "tgkill", self);
	/* Limits of one's own. */
	if (result == 0)
		result = add_if(filter, "prlimit64", SCMP_A0(SCMP_CMP_EQ, 0));
	return result;
}

/* Sockets that libpq and the resolver open: unix, IP, and netlink for this host's addresses. */
static int
add_network(scmp_filter_ctx filter)
{
	static const int families[] = {AF_UNIX, AF_INET, AF_INET6, AF_NETLINK};
	/* To not block; not to send signals. */
	const struct scmp_arg_cmp flags[] = {
		SCMP_A1(SCMP_CMP_EQ, F_SETFL), SCMP_A2(SCMP_CMP_MASKED_EQ, O_ASYNC, 0)};
	int result = 0;

	for (size_t i = 0; i < sizeof(allowed_network) / sizeof(allowed_network[0]) && result == 0; i++)
		result = add(filter, allowed_network[i], 0, NULL);
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]) && result == 0; i++)
		result = add_if(filter, "socket", SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)families[i]));
	if (result == 0)
		result = add_if(filter, "ioctl", SCMP_A1(SCMP_CMP_EQ, FIONREAD));
	if (result == 0)
		result = add(filter, "fcntl", 2, flags);
	if (result == 0)
		result = add(filter, "fcntl64", 2, flags);
	return result;
}

static int
load(scmp_filter_ctx filter)
{
	/* The kernel's own errno, not libseccomp's ECANCELED. */
	int result = seccomp_attr_set(filter, SCMP_FLTATR_API_SYSRAWRC, 1);

	if (result == 0)
		result = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
	for (size_t i = 0; result == 0 && i < sizeof(allowed) / sizeof(allowed[0]); i++)
		result = add(filter, allowed[i], 0, NULL);
	if (result == 0)
		result = add_with_values(filter);
	if (result == 0)
		result = add_in_part(filter);
	if (result == 0 && needed.wanted)
		result = add_network(filter);
	return result == 0 ? seccomp_load(filter) : result;
}

void
sandbox_calls(void)
{
	if (SANITIZED)
		return;
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int result = filter != NULL ? load(filter) : -ENOMEM;

	if (result != 0)
		log_line("seccomp: %s: system calls are not restricted", strerror(-result));
	if (filter != NULL)
		seccomp_release(filter);
}
