/*
 * Any attempts log: `psapi attempts` and `psapi secret list` read it without harm, and what they
 * show steers no terminal. Input: one byte for the options, then the log.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands/command.h"
#include "oracle.h"
#include "receiver/attempts.h"
#include "receiver/last_match.h"
#include "store/spool/spool.h"

static char directory[] = "/dev/shm/psapi-fuzz-XXXXXX";
static int root = -1;

static void
clean_up(void)
{
	unlinkat(root, ATTEMPTS_FILE, 0);
	spool_remove(directory);
}

static void
start(void)
{
	struct spool spool;
	struct error error;

	MUST(mkdtemp(directory) != NULL);
	MUST(spool_open(&spool, directory, false, true, &error) == STORE_OK);
	spool_close(&spool);
	root = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int out = memfd_create("stdout", MFD_CLOEXEC);
	MUST(root >= 0 && out >= 0 && dup2(out, STDOUT_FILENO) == STDOUT_FILENO);
	MUST(setenv("PSAPI_SPOOL", directory, 1) == 0 && setenv("PSAPI_CONF", "/dev/null", 1) == 0);
	atexit(clean_up);
}

static void
put_log(const uint8_t *data, size_t size)
{
	int fd = openat(root, ATTEMPTS_FILE, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
}

/* What was printed is lines of printable ASCII; of JSON, DEL is a character like others. */
static void
check_output(bool json)
{
	off_t size = lseek(STDOUT_FILENO, 0, SEEK_END);
	char *text = malloc((size_t)size + 1);

	MUST(pread(STDOUT_FILENO, text, (size_t)size, 0) == size);
	for (off_t i = 0; i < size; i++)
		MUST(text[i] == '\n' || (text[i] >= 0x20 && (json || text[i] != 0x7f)));
	MUST(size == 0 || text[size - 1] == '\n');
	free(text);
}

static void
show(uint8_t options)
{
	struct command_line line = {0};
	char *argv[8] = {(char[]){"attempts"}};
	int argc = 1;

	if (options & 1)
		argv[argc++] = (char[]){"--json"};
	if (options & 2)
		argv[argc++] = (char[]){"--outcome=accepted"};
	if (options & 4)
		argv[argc++] = (char[]){"--since=2025-07-24"};
	if (options & 8)
		argv[argc++] = (char[]){"-n2"};
	MUST(ftruncate(STDOUT_FILENO, 0) == 0 && lseek(STDOUT_FILENO, 0, SEEK_SET) == 0);
	optind = 0; /* glibc: from the beginning */
	MUST(attempts_main(&line, argc, argv) == EX_OK);
	MUST(fflush(stdout) == 0);
	command_close(&line);
	check_output(options & 1);
}

/* A secret last matched when a line says so, or never. */
static void
ask(const uint8_t *data, size_t size)
{
	struct last_match matches[2] = {{.fingerprint = "0123abcd"}, {.fingerprint = "ffffffff"}};

	MUST(last_match_find(directory, matches, 2) == 0);
	for (int i = 0; i < 2; i++)
		MUST(*matches[i].at == '\0' ||
		    (memmem(data, size, matches[i].fingerprint, 8) != NULL &&
		        memmem(data, size, matches[i].at, strlen(matches[i].at)) != NULL));
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size == 0)
		return 0;
	if (root < 0)
		start();
	put_log(data + 1, size - 1);
	show(*data);
	ask(data + 1, size - 1);
	return 0;
}
