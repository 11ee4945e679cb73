/*
 * A handler as a process: its input, its output, its time-out, its end. It leads a process
 * group of its own, is killed when this process ends (where the system has PR_SET_PDEATHSIG),
 * and inherits nothing beside what is given here.
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
	int64_t deadline; /* clock_milliseconds(): when child_enforce_deadline() acts next */
	int64_t grace;    /* milliseconds between SIGTERM and SIGKILL */
	bool timed_out;   /* it was ended by child_enforce_deadline() */
	bool killed;      /* with SIGKILL */
	bool all_read;    /* of child_ended(): its standard output had come to its end */
	/* Gets its standard output. To be set after child_start(); NULL: it goes to ours. */
	void (*take)(void *data, const char *bytes, size_t length);
	void *taker; /* its data */
	size_t tail_length;
	char tail[2 * CHILD_TAIL]; /* child_tail() */
};

/*
 * A file without a name that holds the data, open at its beginning: as standard input it needs
 * no writer, and a handler that does not read it causes no SIGPIPE. Close-on-exec. -1 with errno.
 */
int child_input(const void *data, size_t length);

/*
 * Start argv[0], a path, with this environment and input as standard input (the caller closes
 * it). directory: an open directory that has the file under the last name of that path: then it
 * is started from there, whatever the path names by now; -1: by its path. It may run for timeout
 * milliseconds. Returns 0; or -1 with errno if it cannot be started; *executed: execve(2) was
 * called, and failed.
 */
int child_start(struct child *child, int directory, char *const argv[], char *const envp[],
    int input, int64_t timeout, bool *executed);

/*
 * Read what it has written, without waiting: its standard output goes to ours, of its standard
 * error the end is kept. Returns whether there was any.
 */
bool child_read(struct child *child);

/*
 * If its deadline has passed at now, and it runs: SIGTERM to the whole group, later SIGKILL. Before
 * that, what it has written is read, for `take` may move the deadline.
 */
void child_enforce_deadline(struct child *child, int64_t now);

/*
 * Whether it has ended. Then *status is wait(2)'s, its output was read and closed, and a group
 * that timed out was killed. Other processes that it left running go on, and block nothing.
 */
bool child_ended(struct child *child, int *status);

/* The end of its standard error so far. */
const char *child_tail(const struct child *child, size_t *length);

#endif
