/* Owns the plan: which call is meant, and what happens at it. */
#define _GNU_SOURCE
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

int shim_trace = -1, shim_log = -1;

static struct {
	bool allocations;
	long at, kill_at;
	const char *what; /* of FAULT_DO */
	int error;
	const char *also;
	const char *without;
	const char *with;
} plan = {.what = "", .also = "", .without = "", .with = ""};

static atomic_long calls, allocations;
static atomic_bool stuck, kill_now;
static bool ready;

void
shim_say(int fd, const char *text, size_t length)
{
	if (fd >= 0)
		syscall(SYS_write, fd, text, length);
}

/* High, so that the program's own descriptors are what they would be. */
int
shim_open_for_append(const char *path)
{
	int fd = path == NULL ? -1 :
	    (int)syscall(SYS_openat, AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	int high = fd < 0 ? -1 : (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 1000);

	if (fd >= 0)
		syscall(SYS_close, fd);
	return high;
}

bool
shim_without(const char *what)
{
	return strstr(plan.without, what) != NULL;
}

bool
shim_with(const char *what)
{
	return strstr(plan.with, what) != NULL;
}

static const char *
setting(const char *name, const char *fallback)
{
	const char *value = getenv(name);

	return value != NULL ? value : fallback;
}

/* Children are none of the plan, nor what they run. */
static void
forked(void)
{
	ready = false;
}

static void __attribute__((constructor))
start(void)
{
	const char *equals;

	plan.allocations = strcmp(setting("FAULT_WHAT", "calls"), "allocations") == 0;
	plan.at = atol(setting("FAULT_AT", "0"));
	plan.kill_at = atol(setting("FAULT_KILL_AT", "0"));
	plan.what = setting("FAULT_DO", "");
	plan.also = setting("FAULT_ALSO", "");
	plan.without = setting("FAULT_WITHOUT", "");
	plan.with = setting("FAULT_WITH", "");
	if ((equals = strchr(plan.what, '=')) != NULL)
		plan.error = atoi(equals + 1);
	shim_trace = shim_open_for_append(getenv("FAULT_TRACE"));
	shim_log = shim_open_for_append(getenv("FAULT_LOG"));
	oplog_start();
	unsetenv("LD_PRELOAD");
	pthread_atfork(NULL, NULL, forked);
	ready = true;
}

/* What the program leaves open, apart from the standard descriptors and ours. */
static void __attribute__((destructor))
finish(void)
{
	char path[64], target[256], line[400];

	for (int fd = 3; shim_trace >= 0 && fd < 1000; fd++) {
		snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
		ssize_t n = syscall(SYS_readlink, path, target, sizeof(target));
		if (n < 0 || strncmp(target, "pipe:", 5) == 0)
			continue;
		int length = snprintf(line, sizeof(line), "leak %d %.*s\n", fd, (int)n, target);
		shim_say(shim_trace, line, (size_t)length);
	}
	ready = false;
}

static void
die(void)
{
	syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
	for (;;)
		syscall(SYS_pause);
}

static bool
is_stuck(const char *name)
{
	char quoted[64];

	if (!atomic_load(&stuck))
		return false;
	snprintf(quoted, sizeof(quoted), ":%s:", name);
	return strstr(plan.also, quoted) != NULL;
}

static enum fate
fate_of(void)
{
	if (strcmp(plan.what, "kill-before") == 0)
		die();
	if (strcmp(plan.what, "kill-after") == 0)
		atomic_store(&kill_now, true);
	if (strcmp(plan.what, "short") == 0)
		return CUT_SHORT;
	if (strncmp(plan.what, "stick=", 6) == 0)
		atomic_store(&stuck, true);
	if (strncmp(plan.what, "fail=", 5) != 0 && strncmp(plan.what, "stick=", 6) != 0)
		return GO_ON;
	errno = plan.error;
	return FAIL;
}

enum fate
shim_enter(const char *name)
{
	char line[96];

	if (!ready)
		return GO_ON;
	bool allocation = strcmp(name, "allocation") == 0;
	long n = 1 + atomic_fetch_add(allocation ? &allocations : &calls, 1);
	if (allocation == plan.allocations) {
		int length = snprintf(line, sizeof(line), "%ld %s\n", n, name);
		shim_say(shim_trace, line, (size_t)length);
	}
	if (!allocation && n == plan.kill_at)
		die();
	if (allocation == plan.allocations && n == plan.at)
		return fate_of();
	if (is_stuck(name)) {
		errno = plan.error;
		return FAIL;
	}
	return GO_ON;
}

void
shim_leave(void)
{
	if (atomic_load(&kill_now))
		die();
}
