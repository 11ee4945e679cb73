/*
 * The test build of the receiver: the objects of psapi-fcgi as they are shipped, linked
 * with the calls of server/sandbox.h wrapped (ld --wrap). So the shipped
 * program itself cannot leave the sandbox out.
 *
 *   PSAPI_HOOK_SKIP=files,calls          leaves out sandbox_files(), sandbox_calls()
 *   PSAPI_HOOK_OPEN=1                    its user may trace it after all (strace -p)
 *   PSAPI_HOOK_PROBE=DIR                 tries forbidden operations, and prints each
 *                                        result to standard error: "hook: NAME:
 *                                        allowed", or an errno. DIR is outside of the
 *                                        sandbox and has the files file, moved and gone
 *   PSAPI_HOOK_PORT=N                    a port of 127.0.0.1 where the test listens
 *   PSAPI_HOOK_STOP=1                    stops (SIGSTOP) at exit, so that a test can read its
 *                                        memory
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/sandbox.h"

void __real_sandbox_process(void);
void __real_sandbox_files(const char *spool, const char *secret_file, const char *socket_path);
void __real_sandbox_calls(void);
void __wrap_sandbox_process(void);
void __wrap_sandbox_files(const char *spool, const char *secret_file, const char *socket_path);
void __wrap_sandbox_calls(void);

static int queue = -1; /* new/ of the spool, opened before */
static const char *directory, *secret;
static int connecting = -1, binding = -1; /* sockets made before */
static struct sockaddr_in listening = {.sin_family = AF_INET};

/* ---- files. Each returns 0, or an errno ---- */

static int
opened(int fd)
{
	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int
done(long result)
{
	return result < 0 ? errno : 0;
}

static const char *
in_directory(const char *name)
{
	static char path[4096];

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static int read_passwd(void) { return opened(open("/etc/passwd", O_RDONLY)); }
static int list_etc(void) { return opened(open("/etc", O_RDONLY | O_DIRECTORY)); }
static int read_outside(void) { return opened(open(in_directory("file"), O_RDONLY)); }
static int write_outside(void) { return opened(open(in_directory("file"), O_WRONLY)); }
static int make_outside(void)
{
	return opened(open(in_directory("made"), O_WRONLY | O_CREAT | O_EXCL, 0600));
}
static int rename_outside(void) { return done(rename(in_directory("moved"), "renamed")); }
static int remove_outside(void) { return done(unlink(in_directory("gone"))); }
static int write_secret(void) { return opened(open(secret, O_WRONLY)); }
/* An event carried out of the spool, a file carried into it. */
static int link_out(void)
{
	int fd = openat(queue, "hook", O_WRONLY | O_CREAT, 0600);

	if (fd < 0)
		return errno;
	close(fd);
	int result = done(linkat(queue, "hook", AT_FDCWD, in_directory("out"), 0));
	unlinkat(queue, "hook", 0);
	return result;
}
static int link_in(void)
{
	int result = done(linkat(AT_FDCWD, in_directory("file"), queue, "in", 0));

	unlinkat(queue, "in", 0);
	return result;
}

/* ---- calls ---- */

/* A child's exit status is the errno of its attempt. */
static int
in_child(int (*attempt)(void))
{
	int status;
	pid_t child = fork();

	if (child < 0)
		return attempt(); /* no fork: if it is allowed, the report ends here */
	if (child == 0)
		_exit(attempt());
	waitpid(child, &status, 0);
	return WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
}

static int
try_exec(void)
{
	char name[] = "true", *arguments[] = {name, NULL}, *environment[] = {NULL};

	execve("/bin/true", arguments, environment);
	return errno;
}
static int try_fork(void)
{
	pid_t child = fork();

	if (child == 0)
		_exit(0);
	if (child > 0)
		waitpid(child, NULL, 0);
	return done(child);
}
static int try_traceme(void) { return done(ptrace(PTRACE_TRACEME, 0, NULL, NULL)); }
static int execute(void) { return in_child(try_exec); }
static int trace(void) { return in_child(try_traceme); }
static int make_socket(void) { return opened(socket(AF_INET, SOCK_STREAM, 0)); }
static int make_unix_socket(void) { return opened(socket(AF_UNIX, SOCK_STREAM, 0)); }
static int connect_socket(void)
{
	return done(connect(connecting, (struct sockaddr *)&listening, sizeof(listening)));
}
static int bind_socket(void)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};

	return done(bind(binding, (struct sockaddr *)&any, sizeof(any)));
}
static int listen_socket(void) { return done(listen(binding, 1)); }
static int signal_parent(void) { return done(kill(getppid(), 0)); }
static int map_executable(void)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return memory == MAP_FAILED ? errno : done(munmap(memory, 4096));
}
static int make_executable(void)
{
	void *memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int result = memory == MAP_FAILED ? -1 : mprotect(memory, 4096, PROT_READ | PROT_EXEC);
	int error = done(result);

	munmap(memory, 4096);
	return error;
}
/* With these three a descriptor sends a signal of our choice to another process. */
static int set_owner(void) { return done(fcntl(connecting, F_SETOWN, getppid())); }
static int set_signal(void) { return done(fcntl(connecting, F_SETSIG, SIGURG)); }
static int set_async(void) { return done(fcntl(connecting, F_SETFL, O_ASYNC)); }
static int notify(void) { return done(fcntl(queue, F_NOTIFY, DN_CREATE)); }
static int duplicate(void) { return opened(fcntl(queue, F_DUPFD_CLOEXEC, 0)); }
static int datagram_pair(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) != 0)
		return errno;
	close(pair[0]);
	return opened(pair[1]);
}
static int socket_option(void)
{
	int on = 1;

	return done(setsockopt(binding, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)));
}
static int become_dumpable(void) { return done(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0)); }

/* ---- further system calls ---- */

#define CALL(name) {#name, SYS_##name}
static const struct {
	const char *name;
	long number;
} further[] = {
	CALL(process_vm_readv), CALL(process_vm_writev), CALL(kcmp), CALL(keyctl), CALL(add_key),
	CALL(bpf), CALL(perf_event_open), CALL(io_uring_setup), CALL(userfaultfd), CALL(unshare),
	CALL(setns), CALL(mount), CALL(init_module), CALL(finit_module), CALL(kexec_load),
	CALL(open_by_handle_at), CALL(socketpair), CALL(sendmsg), CALL(recvmsg), CALL(ioctl),
	CALL(chmod), CALL(fchownat), CALL(symlinkat), CALL(mknodat), CALL(memfd_create),
	CALL(execveat), CALL(clone3), CALL(pidfd_open), CALL(pidfd_getfd), CALL(splice),
	CALL(inotify_init1), CALL(fanotify_init), CALL(personality), CALL(setuid), CALL(capset),
	CALL(prctl), CALL(seccomp),
};

/* With invalid arguments: any error other than ENOSYS means that the call is allowed. */
static int
try_call(long number)
{
	return syscall(number, -1L, -1L, -1L, -1L, -1L, -1L) < 0 && errno == ENOSYS ? ENOSYS : 0;
}

#if defined(__x86_64__)
static sigjmp_buf without_i386;

static void
no_i386(int number)
{
	(void)number;
	siglongjmp(without_i386, 1);
}

/* getpid(2) of i386, through int 0x80. ENOSYS also if this kernel does not have that. */
static int
call_of_i386(void)
{
	struct sigaction action = {.sa_handler = no_i386}, before;
	long result;

	sigaction(SIGSEGV, &action, &before);
	if (sigsetjmp(without_i386, 1) == 0)
		__asm__ volatile("int $0x80"
		                 : "=a"(result)
		                 : "a"(20L)
		                 : "r8", "r9", "r10", "r11", "memory");
	else
		result = -ENOSYS;
	sigaction(SIGSEGV, &before, NULL);
	return (int)result == (int)getpid() ? 0 : ENOSYS;
}
#endif

static const struct {
	const char *name;
	int (*attempt)(void);
} probes[] = {
	{"read /etc/passwd", read_passwd},
	{"list /etc", list_etc},
	{"read outside", read_outside},
	{"write outside", write_outside},
	{"make outside", make_outside},
	{"rename outside", rename_outside},
	{"remove outside", remove_outside},
	{"write secret", write_secret},
	{"link out", link_out},
	{"link in", link_in},
	{"exec", execute},
	{"fork", try_fork},
	{"ptrace", trace},
	{"socket", make_socket},
	{"unix socket", make_unix_socket},
	{"connect", connect_socket},
	{"bind", bind_socket},
	{"listen", listen_socket},
	{"kill", signal_parent},
	{"mmap executable", map_executable},
	{"mprotect executable", make_executable},
	{"fcntl owner", set_owner},
	{"fcntl signal", set_signal},
	{"fcntl flags", set_async},
	{"fcntl notify", notify},
	{"fcntl duplicate", duplicate},
	{"datagram pair", datagram_pair},
	{"socket option", socket_option},
	{"become dumpable", become_dumpable},
#if defined(__x86_64__)
	{"call of i386", call_of_i386},
#endif
};

static void
report(const char *kind, const char *name, int error)
{
	dprintf(STDERR_FILENO, "hook: %s%s: %s\n", kind, name,
	    error == 0 ? "allowed" : strerrorname_np(error));
}

static void
try_all(void)
{
	for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++)
		report("", probes[i].name, probes[i].attempt());
	for (size_t i = 0; i < sizeof(further) / sizeof(further[0]); i++)
		report("system call ", further[i].name, try_call(further[i].number));
	report("", "end", 0);
}

/* ---- the wrappers ---- */

static bool
skipped(const char *what)
{
	const char *skip = getenv("PSAPI_HOOK_SKIP");

	return skip != NULL && strstr(skip, what) != NULL;
}

static void
stop(void)
{
	raise(SIGSTOP);
}

static void
prepare(void)
{
	const char *port = getenv("PSAPI_HOOK_PORT");

	directory = getenv("PSAPI_HOOK_PROBE");
	if (getenv("PSAPI_HOOK_STOP") != NULL)
		atexit(stop);
	if (directory == NULL)
		return;
	if (chdir(directory) != 0)
		_exit(1);
	connecting = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	binding = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	listening.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	listening.sin_port = htons((uint16_t)(port != NULL ? atoi(port) : 0));
}

void
__wrap_sandbox_process(void)
{
	__real_sandbox_process();
	if (getenv("PSAPI_HOOK_OPEN") != NULL)
		prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
}

void
__wrap_sandbox_files(const char *spool, const char *secret_file, const char *socket_path)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/new", spool);
	queue = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	secret = secret_file;
	prepare();
	if (!skipped("files"))
		__real_sandbox_files(spool, secret_file, socket_path);
}

void
__wrap_sandbox_calls(void)
{
	if (!skipped("calls"))
		__real_sandbox_calls();
	if (directory != NULL)
		try_all();
}
