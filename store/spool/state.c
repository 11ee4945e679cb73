/*
 * Owns state/: files with the tries of an event, its next retry, its failure. A state is written
 * before the move that it explains. It is not synced: without it the event is only tried again.
 * A state that cannot be read counts as absent.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/datetime.h"
#include "store/spool/spool.h"

/* Names that no event has. */
#define DRAIN_FILE "drain"
#define IMPORT_FILE "imported"

/* A state is a few hundred bytes and 4 KiB of standard error, each byte at most \u00XX. */
enum { FILE_SIZE_MAX = 64 * 1024 };

int
spool_state_write(struct spool *spool, const char *name, const char *text)
{
	struct iovec piece = {(char *)(uintptr_t)text, strlen(text)};
	struct spool_file file;

	if (spool_file_write(spool, &file, &piece, 1, false) != 0)
		return -1;
	int result = spool_file_replace(spool, &file, SPOOL_STATE, name);
	spool_file_close(spool, &file);
	return result;
}

int
spool_state_put(struct spool *spool, const char *name, const struct handler_state *state)
{
	char *text = handler_state_format(state);

	if (text == NULL) {
		errno = ENOMEM;
		return -1;
	}
	int result = spool_state_write(spool, name, text);
	int saved = errno;
	free(text);
	errno = saved;
	return result;
}

bool
spool_state_read(struct spool *spool, const char *name, struct handler_state *state)
{
	memset(state, 0, sizeof(*state));
	/* Almost no event has one: ask before memory is taken for it. */
	if (faccessat(spool->dir[SPOOL_STATE], name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	char *text = malloc(FILE_SIZE_MAX);
	ssize_t n = text == NULL ? -1 :
	    spool_read_text(spool->dir[SPOOL_STATE], name, text, FILE_SIZE_MAX);
	bool known = n > 0 && handler_state_parse(text, (size_t)n, state);
	free(text);
	return known;
}

/* ---- when something was last done: a file with the time ---- */

static void
note(struct spool *spool, const char *file, int64_t now)
{
	char text[DATETIME_TEXT_SIZE + 1];

	datetime_text(now, text);
	strcat(text, "\n");
	spool_state_write(spool, file, text);
}

/* Unix seconds; 0: never. */
static int64_t
noted(const struct spool *spool, const char *file)
{
	char text[DATETIME_TEXT_SIZE + 1];
	int64_t nanoseconds;

	spool_read_text(spool->dir[SPOOL_STATE], file, text, sizeof(text));
	text[strcspn(text, "\n")] = '\0';
	return datetime_parse(text, &nanoseconds) ? nanoseconds / NANOSECONDS : 0;
}

void
spool_note_run(struct spool *spool, int64_t now)
{
	note(spool, DRAIN_FILE, now);
}

int64_t
spool_last_run(struct spool *spool)
{
	return noted(spool, DRAIN_FILE);
}

void
spool_note_import(struct spool *spool, int64_t now)
{
	note(spool, IMPORT_FILE, now);
}

int64_t
spool_last_import(const struct spool *spool)
{
	return noted(spool, IMPORT_FILE);
}

int
spool_state_remove(struct spool *spool, const char *name)
{
	if (unlinkat(spool->dir[SPOOL_STATE], name, 0) == 0)
		return 0;
	return errno == ENOENT || errno == EISDIR ? 0 : -1; /* no state is a directory */
}
