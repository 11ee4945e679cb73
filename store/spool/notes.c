/*
 * Owns the notes of the programs in state/, under names that no event has. They are changed under
 * a lock of the directory itself; a process that sends alerts locks tmp/. A note is replaced as a
 * state is: a member of the spool's group can do that, too.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "store/spool/spool.h"

enum { LOCK_MS = 5000, BLOCK_BYTES = 512 };

static const char *const names[] = {[STORE_NOTE_METRICS] = "metrics", [STORE_NOTE_RUNS] = "runs",
	[STORE_NOTE_CHECK] = "check", [STORE_NOTE_ALERTS] = "alerts",
	[STORE_NOTE_LEFT_OUT] = "left-out"};

/* flock(2) belongs to the open file: a descriptor of our own excludes threads, too. */
int
spool_notes_lock(struct spool *spool, enum store_lock what, struct error *error)
{
	enum spool_dir dir = what == STORE_LOCK_NOTES ? SPOOL_STATE : SPOOL_TMP;
	int fd = spool_open_directory(spool, dir);

	if (fd >= 0 && io_lock(fd, what == STORE_LOCK_NOTES ? LOCK_MS : 0) == 0)
		return fd;
	spool_failed(spool, "lock it", dir, "", error);
	if (fd >= 0)
		close(fd);
	return -1;
}

char *
spool_note_read(struct spool *spool, enum store_note note)
{
	int fd = openat(spool->dir[SPOOL_STATE], names[note],
	    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	char *text = fd < 0 ? NULL : malloc(STORE_NOTE_SIZE);
	ssize_t n = text == NULL ? -1 : io_read_all(fd, text, STORE_NOTE_SIZE - 1);

	if (fd >= 0)
		close(fd);
	if (n >= 0) {
		text[n] = '\0';
		return text;
	}
	free(text);
	return NULL;
}

/* Write into the blocks that the file has already. Returns 0, or -1 with errno. */
static int
overwrite(struct spool *spool, const char *name, const char *text)
{
	int fd = openat(spool->dir[SPOOL_STATE], name, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	size_t length = strlen(text);
	struct stat st;

	if (fd < 0) {
		errno = errno == ENOENT ? ENOSPC : errno;
		return -1;
	}
	int result = fstat(fd, &st);
	if (result == 0 && (!S_ISREG(st.st_mode) || (off_t)length > st.st_blocks * BLOCK_BYTES)) {
		errno = ENOSPC;
		result = -1;
	}
	if (result == 0)
		result = io_write_all(fd, text, length) == 0 && ftruncate(fd, (off_t)length) == 0 ? 0 : -1;
	int saved = errno;
	close(fd);
	errno = saved;
	return result;
}

enum store_result
spool_note_write(struct spool *spool, enum store_note note, const char *text, struct error *error)
{
	if (spool_state_write(spool, names[note], text) == 0)
		return STORE_OK;
	if ((errno == ENOSPC || errno == EDQUOT) && overwrite(spool, names[note], text) == 0)
		return STORE_OK;
	spool_failed(spool, "write a file", SPOOL_STATE, names[note], error);
	return STORE_FAILED;
}
