/*
 * Owns the notes of the programs in state/, under names that no event has. They are changed under
 * a lock of the directory itself; a process that sends alerts locks tmp/. A note is replaced as a
 * state is: a member of the spool's group can do that, too. Beside each is a spare file (its name,
 * after a dot), whose blocks take the next text where the disk is full.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/io.h"
#include "store/spool/spool.h"

enum { LOCK_MS = 5000, BLOCK_BYTES = 512 };

static const char *const names[] = {[STORE_NOTE_METRICS] = "metrics", [STORE_NOTE_RUNS] = "runs",
	[STORE_NOTE_CHECK] = "check", [STORE_NOTE_ALERTS] = "alerts", [STORE_NOTE_DOCTOR] = "doctor",
	[STORE_NOTE_LEFT_OUT] = "left-out"};

int
spool_notes_lock(struct spool *spool, enum store_lock what, struct error *error)
{
	enum spool_dir dir = what == STORE_LOCK_NOTES ? SPOOL_STATE : SPOOL_TMP;
	int fd = spool_lock_directory(spool, dir, what == STORE_LOCK_NOTES ? LOCK_MS : 0);

	if (fd < 0)
		spool_failed(spool, "lock it", dir, "", error);
	return fd;
}

char *
spool_note_read(struct spool *spool, enum store_note note)
{
	char *text = malloc(STORE_NOTE_SIZE);

	if (text != NULL &&
	    spool_read_text(spool->dir[SPOOL_STATE], names[note], text, STORE_NOTE_SIZE) >= 0)
		return text;
	free(text);
	return NULL;
}

/* Write into the blocks that a file has already. Returns 0, or -1 with errno. */
static int
overwrite(int fd, const char *text)
{
	off_t length = (off_t)strlen(text);
	struct stat st;

	if (fstat(fd, &st) != 0)
		return -1;
	if (!S_ISREG(st.st_mode) || length > st.st_blocks * BLOCK_BYTES) {
		errno = ENOSPC;
		return -1;
	}
	return io_write_all(fd, text, (size_t)length) == 0 ? ftruncate(fd, length) : -1;
}

/*
 * Exchange the note with its spare file. A file system or a kernel may be unable to do so: then the
 * spare file takes the note's place, and keep_spare() makes another. Returns 0, or -1 with errno.
 */
static int
exchange(int dir, const char *spare, const char *name)
{
	if (renameat2(dir, spare, dir, name, RENAME_EXCHANGE) == 0)
		return 0;
	return errno == EINVAL || errno == ENOSYS ? renameat(dir, spare, dir, name) : -1;
}

/* Write the text into the spare file of the note, and exchange the two. */
static int
use_spare(struct spool *spool, const char *spare, const char *name, const char *text)
{
	int dir = spool->dir[SPOOL_STATE];
	int fd = openat(dir, spare, O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	int result = fd < 0 ? -1 : overwrite(fd, text);

	io_close(fd);
	return result == 0 ? exchange(dir, spare, name) : -1;
}

/* While there is room. Without one, the note cannot be changed on a full disk. */
static void
keep_spare(struct spool *spool, const char *spare, const char *text)
{
	struct stat st;

	if (fstatat(spool->dir[SPOOL_STATE], spare, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    st.st_blocks * BLOCK_BYTES < (off_t)strlen(text))
		spool_state_write(spool, spare, text);
}

enum store_result
spool_note_write(struct spool *spool, enum store_note note, const char *text, struct error *error)
{
	char spare[32];

	snprintf(spare, sizeof(spare), ".%s", names[note]);
	int result = spool_state_write(spool, names[note], text);
	if (result == 0) {
		keep_spare(spool, spare, text);
		return STORE_OK;
	}
	bool full = errno == ENOSPC || errno == EDQUOT;
	if (full && use_spare(spool, spare, names[note], text) == 0)
		return STORE_OK;
	if (full)
		errno = ENOSPC;
	spool_failed(spool, "write a file", SPOOL_STATE, names[note], error);
	return STORE_FAILED;
}
