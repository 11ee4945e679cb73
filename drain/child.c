/* Owns fork, exec, pipes and signals of a handler. */
#define _GNU_SOURCE
#include "drain/child.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"

/* Time of a group between SIGTERM and SIGKILL: as much as its time-out, at most this. */
enum { GRACE_MS = 5000 };

int
child_input(const void *data, size_t length)
{
	int fd = memfd_create("event", MFD_CLOEXEC);

	if (fd >= 0 && io_write_all(fd, data, length) == 0 && lseek(fd, 0, SEEK_SET) == 0)
		return fd;
	int saved = errno;
	if (fd >= 0)
		close(fd);
	errno = saved;
	return -1;
}

/* ---- start ---- */

/* Three pipes: standard output, standard error, and errno of an exec that failed. */
enum { OUT, ERR, EXEC, PIPES };

static void
close_pipes(int pipes[PIPES][2])
{
	int saved = errno;

	for (int i = 0; i < PIPES; i++)
		for (int end = 0; end < 2; end++)
			if (pipes[i][end] >= 0)
				close(pipes[i][end]);
	errno = saved;
}

static int
open_pipes(int pipes[PIPES][2])
{
	memset(pipes, 0xff, PIPES * sizeof(pipes[0]));
	for (int i = 0; i < PIPES; i++) {
		if (pipe2(pipes[i], O_CLOEXEC) != 0) {
			close_pipes(pipes);
			return -1;
		}
		if (i != EXEC)
			fcntl(pipes[i][0], F_SETFL, O_NONBLOCK);
	}
	return 0;
}

/* Handlers start with the default signal handling. */
static void
reset_signals(void)
{
	sigset_t none;

	for (int number = 1; number < NSIG; number++)
		signal(number, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/*
 * Execute the program. A script's interpreter opens it by a name: /proc/self/fd/N/NAME, so that N
 * must stay open. It is the directory and not the file, so that $0 keeps its name, and what is
 * beside it is found. Only root and the running user can change names in that directory. Perl
 * would take /dev/fd/N/NAME, the name that execveat(2) gives, for N itself. Without /proc, in a
 * chroot, its path must do.
 */
static void
execute(int directory, char *const argv[], char *const envp[])
{
	const char *name = strrchr(argv[0], '/');
	char path[sizeof("/proc/self/fd/-2147483648/") + NAME_MAX];
	int kept = directory < 0 || access("/proc/self/fd/0", F_OK) != 0 ? -1 :
	    fcntl(directory, F_DUPFD, STDERR_FILENO + 1);

	if (kept >= 0 && name != NULL) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d%s", kept, name);
		execve(path, argv, envp);
	} else {
		execve(argv[0], argv, envp);
	}
}

static _Noreturn void
become(int directory, char *const argv[], char *const envp[], int input, int pipes[PIPES][2],
    pid_t parent)
{
	setpgid(0, 0);
#ifdef PR_SET_PDEATHSIG
	prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
	if (getppid() != parent)
		_exit(0); /* the parent ended before that took effect */
	if (dup2(input, STDIN_FILENO) >= 0 && dup2(pipes[OUT][1], STDOUT_FILENO) >= 0 &&
	    dup2(pipes[ERR][1], STDERR_FILENO) >= 0) {
		reset_signals();
		/*
		 * A handler that is left running must keep no lock of our caller, of flock(1) for example.
		 */
		close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
		execute(directory, argv, envp);
	}
	(void)!write(pipes[EXEC][1], &errno, sizeof(errno));
	_exit(127);
}

/* Wait for the exec: the pipe closes with it, or brings errno. Returns 0, or that. */
static int
exec_error(int fd)
{
	int error = 0;
	ssize_t n;

	do
		n = read(fd, &error, sizeof(error));
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(error) ? error : 0;
}

int
child_start(struct child *child, int directory, char *const argv[], char *const envp[],
    int input, int64_t timeout, bool *executed)
{
	int pipes[PIPES][2];
	pid_t parent = getpid();

	*executed = false;
	memset(child, 0, sizeof(*child));
	if (open_pipes(pipes) != 0)
		return -1;
	child->pid = fork();
	if (child->pid == 0)
		become(directory, argv, envp, input, pipes, parent);
	if (child->pid < 0) {
		close_pipes(pipes);
		return -1;
	}
	setpgid(child->pid, child->pid); /* here as well: either process may be the first */
	for (int i = 0; i < PIPES; i++)
		close(pipes[i][1]);
	int error = exec_error(pipes[EXEC][0]);
	close(pipes[EXEC][0]);
	child->out = pipes[OUT][0];
	child->err = pipes[ERR][0];
	child->deadline = clock_milliseconds() + timeout;
	child->grace = timeout < GRACE_MS ? timeout : GRACE_MS;
	if (error == 0)
		return 0;
	close(child->out);
	close(child->err);
	while (waitpid(child->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	*executed = true;
	errno = error;
	return -1;
}

/* ---- output ---- */

/* The end of the output stays: when the buffer is full, its second half moves to the front. */
static void
append_to_tail(struct child *child, const char *data, size_t length)
{
	if (length >= CHILD_TAIL) {
		memcpy(child->tail, data + length - CHILD_TAIL, CHILD_TAIL);
		child->tail_length = CHILD_TAIL;
		return;
	}
	if (child->tail_length + length > sizeof(child->tail)) {
		memmove(child->tail, child->tail + child->tail_length - CHILD_TAIL, CHILD_TAIL);
		child->tail_length = CHILD_TAIL;
	}
	memcpy(child->tail + child->tail_length, data, length);
	child->tail_length += length;
}

const char *
child_tail(const struct child *child, size_t *length)
{
	*length = child->tail_length < CHILD_TAIL ? child->tail_length : CHILD_TAIL;
	return child->tail + child->tail_length - *length;
}

/* One read. Returns the bytes, 0 if there is nothing now, and closes at the end. */
static size_t
take(int *fd, char *buffer, size_t size)
{
	ssize_t n = *fd < 0 ? 0 : read(*fd, buffer, size);

	if (*fd >= 0 && (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))) {
		close(*fd);
		*fd = -1;
	}
	return n > 0 ? (size_t)n : 0;
}

bool
child_read(struct child *child)
{
	char buffer[16384];
	size_t out = take(&child->out, buffer, sizeof(buffer));

	if (out > 0 && child->take != NULL)
		child->take(child->taker, buffer, out);
	else if (out > 0)
		io_write_all(STDOUT_FILENO, buffer, out);
	size_t err = take(&child->err, buffer, sizeof(buffer));
	if (err > 0)
		append_to_tail(child, buffer, err);
	return out > 0 || err > 0;
}

/* As much as a pipe holds: a process that it left running may write without end. */
static void
read_rest(struct child *child)
{
	for (int i = 0; i < 64 && child_read(child); i++)
		continue;
}

/* ---- end ---- */

/* Not reaped yet: until then no other process can get its number, and kill(2) is safe. */
static bool
has_ended(const struct child *child)
{
	siginfo_t info = {0};

	return waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	    info.si_pid != 0;
}

/* We may have been stopped until after the deadline: what the child has done before it counts. */
void
child_enforce_deadline(struct child *child, int64_t now)
{
	if (now >= child->deadline && !child->timed_out)
		read_rest(child);
	if (now < child->deadline || child->killed || has_ended(child))
		return;
	child->killed = child->timed_out;
	child->timed_out = true;
	kill(-child->pid, child->killed ? SIGKILL : SIGTERM);
	child->deadline = child->killed ? INT64_MAX : now + child->grace;
}

bool
child_ended(struct child *child, int *status)
{
	if (!has_ended(child))
		return false;
	if (child->timed_out)
		kill(-child->pid, SIGKILL);
	while (waitpid(child->pid, status, 0) < 0 && errno == EINTR)
		continue;
	read_rest(child);
	child->all_read = child->out < 0;
	for (int i = 0; i < 2; i++) {
		int *fd = i == 0 ? &child->out : &child->err;
		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
	return true;
}
