/*
 * Owns state/unrecognised (no event has this name): a line for each file that was reported,
 * with its inode and the time of its last change.
 */
#define _GNU_SOURCE
#include "drain/unrecognised.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_NAME "unrecognised"

enum { FILES_MAX = 1000, LINE_SIZE = 64, TEXT_SIZE = FILES_MAX * LINE_SIZE };

struct unrecognised {
	struct spool *spool;
	int count; /* of lines in seen */
	size_t length;
	char known[TEXT_SIZE + 1]; /* reported by earlier drains */
	char seen[TEXT_SIZE + 1];  /* seen by this one */
};

struct unrecognised *
unrecognised_open(struct spool *spool)
{
	struct unrecognised *files = calloc(1, sizeof(*files));

	if (files == NULL)
		return NULL;
	files->spool = spool;
	int fd = openat(spool->dir[SPOOL_STATE], FILE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (fd >= 0) {
		ssize_t n = read(fd, files->known, TEXT_SIZE);
		files->known[n > 0 ? n : 0] = '\0';
		close(fd);
	}
	return files;
}

bool
unrecognised_report(struct unrecognised *files, const char *name)
{
	char line[LINE_SIZE];
	struct stat st;

	if (fstatat(files->spool->dir[SPOOL_NEW], name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	snprintf(line, sizeof(line), "%llu %lld.%09ld\n", (unsigned long long)st.st_ino,
	    (long long)st.st_ctim.tv_sec, st.st_ctim.tv_nsec);
	if (files->count == FILES_MAX || strstr(files->seen, line) != NULL)
		return false;
	memcpy(files->seen + files->length, line, strlen(line) + 1);
	files->length += strlen(line);
	files->count++;
	return strstr(files->known, line) == NULL;
}

void
unrecognised_close(struct unrecognised *files)
{
	if (files == NULL)
		return;
	/* If it cannot be written, they are reported once more. */
	if (strcmp(files->known, files->seen) != 0)
		spool_write_state(files->spool, FILE_NAME, files->seen);
	free(files);
}
