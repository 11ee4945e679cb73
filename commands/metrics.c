/*
 * psapi metrics: which endpoints, and where the text goes. A process for each endpoint becomes the
 * owner of its spool; the file of --output is the caller's.
 */
#define _GNU_SOURCE
#include "metrics/metrics.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/io.h"
#include "base/log.h"
#include "commands/command.h"

enum { FILE_MODE = 0644, LOCK_MS = 10000, DRAFT_TRIES = 10 };

/* ---- the numbers ---- */

/* Collect the numbers of the endpoint of a configuration file; NULL: of the command line's. */
static struct metrics *
collect(struct command_line *line, const char *file)
{
	struct error error;

	if (file != NULL)
		line->settings.file = file;
	if (command_configure(line) != EX_OK)
		return NULL;
	struct metrics *metrics = NULL;
	if (command_become_owner(line) == EX_OK) {
		line->store = store_open(&line->config, false, &error);
		if (line->store == NULL)
			error_log(&error);
		metrics = metrics_collect(&line->config, line->store);
	}
	command_close(line);
	return metrics;
}

/* Whether it has the label of one before it, which is logged. */
static bool
is_twice(const struct metrics *const *all, int n)
{
	const char *endpoint = metrics_endpoint(all[n]);

	for (int i = 0; i < n; i++)
		if (strcmp(metrics_endpoint(all[i]), endpoint) == 0) {
			log_line("two configuration files are of an endpoint named %s: the label is the file's "
			         "name, so rename one of them", endpoint);
			return true;
		}
	return false;
}

/* Print all of them; an endpoint whose numbers cannot be read at all ends it. */
static int
print(struct command_line *line, char *const *files, int count, FILE *stream)
{
	const struct metrics **all = calloc((size_t)count + 1, sizeof(struct metrics *));
	int status = all == NULL ? EX_OSERR : EX_OK, n = 0;

	while (status == EX_OK && n < (count > 0 ? count : 1)) {
		all[n] = collect(line, count > 0 ? files[n] : NULL);
		if (all[n] == NULL)
			status = EX_CONFIG;
		else if (is_twice(all, n++))
			status = EX_USAGE;
	}
	if (status == EX_OK && metrics_print(stream, all, (size_t)n) != 0) {
		log_line("the metrics cannot be written: %s", strerror(errno));
		status = EX_IOERR;
	}
	while (n > 0)
		metrics_free((struct metrics *)(uintptr_t)all[--n]);
	free(all);
	return status;
}

/* ---- the file ---- */

/*
 * In a process of its own, which may become another user: the file stays open to it, and its
 * directory to us. Returns an exit status.
 */
static int
print_apart(struct command_line *line, char *const *files, int count, int fd)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		FILE *stream = fdopen(fd, "w");
		_exit(stream == NULL ? EX_OSERR : print(line, files, count, stream));
	}
	if (pid < 0) {
		log_line("cannot start a process: %s", strerror(errno));
		return EX_OSERR;
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return WIFEXITED(status) ? WEXITSTATUS(status) : EX_SOFTWARE;
}

/* Whether it is the file of that name, and ours. If not: it is removed if it is another user's. */
static bool
is_ours(int fd, const char *path)
{
	struct stat opened, named;

	if (fstat(fd, &opened) != 0 || lstat(path, &named) != 0 || named.st_dev != opened.st_dev ||
	    named.st_ino != opened.st_ino)
		return false; /* another run has just renamed it */
	if (S_ISREG(opened.st_mode) && opened.st_uid == geteuid())
		return true;
	unlink(path);
	return false;
}

/*
 * Open the draft of the file, and lock it. It has always the same name: a run that is killed leaves
 * one, and the next run uses it. Returns -1 with an exit status in *status (logged).
 */
static int
open_draft(const char *path, int *status)
{
	for (int i = 0; i < DRAFT_TRIES; i++) {
		int fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0600);
		if (fd < 0)
			break;
		if (io_lock(fd, LOCK_MS) != 0) {
			log_line("%s: another psapi metrics is at work, for over %d s", path, LOCK_MS / 1000);
			close(fd);
			*status = EX_TEMPFAIL;
			return -1;
		}
		if (is_ours(fd, path) && ftruncate(fd, 0) == 0)
			return fd;
		close(fd);
		errno = EEXIST;
	}
	log_line("%s: cannot be made: %s", path, strerror(errno));
	*status = EX_CANTCREAT;
	return -1;
}

/* A reader sees the old file or the new one, whole. */
static int
replace(struct command_line *line, char *const *files, int count, const char *output)
{
	char path[PATH_MAX];

	if ((size_t)snprintf(path, sizeof(path), "%s.new", output) >= sizeof(path))
		return command_misused(line, "the path is too long", output);
	int status, fd = open_draft(path, &status);
	if (fd < 0)
		return status;
	status = print_apart(line, files, count, fd);
	if (status == EX_OK && (fchmod(fd, FILE_MODE) != 0 || rename(path, output) != 0)) {
		log_line("%s: cannot be replaced: %s", output, strerror(errno));
		status = EX_CANTCREAT;
	}
	if (status != EX_OK)
		unlink(path);
	close(fd);
	return status;
}

int
metrics_main(struct command_line *line, int argc, char **argv)
{
	enum { OPTION_OUTPUT = OPTION_OWN };
	static const struct option names[] = {
	    {"output", required_argument, NULL, OPTION_OUTPUT}, COMMON_OPTIONS};
	const char *output = NULL;

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		output = optarg;
	}
	if (output != NULL && *output == '\0')
		return command_misused(line, "--output takes the path of a file", output);
	return output != NULL ? replace(line, argv + optind, argc - optind, output) :
	                        print(line, argv + optind, argc - optind, stdout);
}
