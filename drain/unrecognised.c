/*
 * Owns state/strays (a name that no event has): a line for each stray that was
 * reported, inode and time of its last change.
 */
#define _GNU_SOURCE
#include "drain/unrecognised.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define STRAYS_FILE "strays"

enum { STRAYS_MAX = 1000, LINE_SIZE = 64, TEXT_SIZE = STRAYS_MAX * LINE_SIZE };

struct unrecognised {
	struct spool *spool;
	int count; /* of lines in seen */
	size_t length;
	char known[TEXT_SIZE + 1]; /* as it was read */
	char seen[TEXT_SIZE + 1];  /* as it will be written */
};

struct unrecognised *
unrecognised_open(struct spool *spool)
{
	struct unrecognised *strays = calloc(1, sizeof(*strays));

	if (strays == NULL)
		return NULL;
	strays->spool = spool;
	int fd = openat(spool->dir[SPOOL_STATE], STRAYS_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0) {
		ssize_t n = read(fd, strays->known, TEXT_SIZE);
		strays->known[n > 0 ? n : 0] = '\0';
		close(fd);
	}
	return strays;
}

bool
unrecognised_report(struct unrecognised *strays, const char *name)
{
	char line[LINE_SIZE];
	struct stat st;

	if (fstatat(strays->spool->dir[SPOOL_NEW], name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	snprintf(line, sizeof(line), "%llu %lld.%09ld\n", (unsigned long long)st.st_ino,
	    (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	if (strays->count == STRAYS_MAX || strstr(strays->seen, line) != NULL)
		return false;
	memcpy(strays->seen + strays->length, line, strlen(line) + 1);
	strays->length += strlen(line);
	strays->count++;
	return strstr(strays->known, line) == NULL;
}

void
unrecognised_close(struct unrecognised *strays)
{
	if (strays == NULL)
		return;
	/* Not written: they are reported once more, no harm done. */
	if (strcmp(strays->known, strays->seen) != 0)
		spool_write_state(strays->spool, STRAYS_FILE, strays->seen);
	free(strays);
}
