/*
 * A handler as a process: its input, its output, its time-out, its end. It leads a
 * process group of its own, dies with this process where the system can do that
 * (PR_SET_PDEATHSIG), and inherits nothing but what is given here.
 */
#ifndef PSAPI_CHILD_H
#define PSAPI_CHILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* The end of standard error that is kept, bytes. */
#define CHILD_TAIL 4096

struct child {
	pid_t pid;        /* also its process group */
	int out, err;     /* our ends of its output, non-blocking; -1: closed */
	int64_t deadline; /* milliseconds, clock_milliseconds(): when child_press() acts next */
	int64_t grace;    /* milliseconds between SIGTERM and SIGKILL */
	bool timed_out;   /* it was ended by child_press() */
	bool killed;      /* with SIGKILL */
	size_t tail_length;
	char tail[2 * CHILD_TAIL]; /* child_tail() */
};

/*
 * A file without a name that holds the data, open at its beginning: standard input
 * that needs no feeding and cannot break. Close-on-exec. -1 with errno.
 */
int child_input(const void *data, size_t length);

/*
 * Start argv[0], a path, with this environment and input as standard input (still
 * the caller's to close). It may run for timeout milliseconds. Returns 0; or -1 with
 * errno if it cannot be started, *executed saying if that was execve(2)'s answer.
 */
int child_start(struct child *child, char *const argv[], char *const envp[], int input,
    int64_t timeout, bool *executed);

/*
 * Take what it has written, without waiting: standard output goes to our own, of
 * standard error the end is kept. Returns whether any came.
 */
bool child_read(struct child *child);

/* If its deadline is over at now: SIGTERM for the whole group, later SIGKILL. */
void child_press(struct child *child, int64_t now);

/*
 * Whether it has ended; then *status is wait(2)'s, its output is taken and closed,
 * and of a group that was timed out nobody is left. What it left running otherwise
 * is its own business, and blocks nobody.
 */
bool child_ended(struct child *child, int *status);

/* The end of its standard error so far. */
const char *child_tail(const struct child *child, size_t *length);

#endif
