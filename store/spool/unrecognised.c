/*
 * Owns state/unrecognised (no event has this name): a line for each unrecognised file that was
 * reported, with its inode and the time of its last change.
 */
#define _GNU_SOURCE
#include "store/spool/unrecognised.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNRECOGNISED_FILE "unrecognised"

enum { UNRECOGNISED_MAX = 1000, LINE_SIZE = 64, TEXT_SIZE = UNRECOGNISED_MAX * LINE_SIZE };

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
	struct unrecognised *u = calloc(1, sizeof(*u));

	if (u == NULL)
		return NULL;
	u->spool = spool;
	spool_read_text(spool->dir[SPOOL_STATE], UNRECOGNISED_FILE, u->known, sizeof(u->known));
	return u;
}

bool
unrecognised_report(struct unrecognised *u, const char *name)
{
	char line[LINE_SIZE];
	struct stat st;

	if (fstatat(u->spool->dir[SPOOL_NEW], name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	snprintf(line, sizeof(line), "%llu %lld.%09ld\n", (unsigned long long)st.st_ino,
	    (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	if (u->count == UNRECOGNISED_MAX || strstr(u->seen, line) != NULL)
		return false;
	memcpy(u->seen + u->length, line, strlen(line) + 1);
	u->length += strlen(line);
	u->count++;
	return strstr(u->known, line) == NULL;
}

void
unrecognised_close(struct unrecognised *u)
{
	if (u == NULL)
		return;
	/* If it cannot be written, they are reported once more: that does no harm. */
	if (strcmp(u->known, u->seen) != 0)
		spool_state_write(u->spool, UNRECOGNISED_FILE, u->seen);
	free(u);
}
