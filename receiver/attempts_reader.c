/*
 * Owns the reading of attempts.jsonl and attempts.jsonl.1: lines in both directions through
 * one buffer, following across rotation, and finding members in a line.
 *
 * Lines are scanned as text, for there may be millions. That is safe: what a sender wrote is
 * escaped in them, so a plain quote begins or ends a string of the log's own.
 */
#define _GNU_SOURCE
#include "receiver/attempts_reader.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/datetime.h"
#include "events.h"
#include "receiver/attempts.h"

enum { BUFFER_SIZE = 256 * 1024, LINE_KEPT = 64 * 1024, FILES = 2 };

struct attempts_reader {
	int dir;
	bool backwards, following;
	bool renamed;    /* following: the name stands for another file, this one is read to its end */
	int fd[FILES];   /* in the order in which they are read; -1: none */
	int current;     /* of them */
	off_t log_end;   /* of the log proper, behind its last whole line when it was opened */
	off_t position;  /* in the file, where the buffer's contents end; backwards: where they begin */
	off_t limit;     /* forwards: where reading ends */
	size_t from, to; /* what the buffer holds and was not yet given out */
	bool cut;        /* the line in the buffer was changed: it is over LINE_KEPT or has a NUL */
	char buffer[BUFFER_SIZE + 1]; /* and a NUL */
};

/* ---- open ---- */

static int
open_file(int dir, const char *name)
{
	/* O_NONBLOCK: no FIFO of that name must stop us. */
	return openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
}

/* The log that was rotated last; -1 if that is the very file that was just opened as log. */
static int
open_rotated(int dir, int log)
{
	int fd = open_file(dir, ATTEMPTS_FILE ".1");
	struct stat st, newer;

	if (fd < 0 || log < 0 || fstat(fd, &st) != 0 || fstat(log, &newer) != 0 ||
	    st.st_ino != newer.st_ino || st.st_dev != newer.st_dev)
		return fd;
	close(fd);
	return -1;
}

static off_t
size_of(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) ? st.st_size : 0;
}

/* Read length bytes at an offset, or what there is of them. */
static size_t
read_at(int fd, char *data, size_t length, off_t at)
{
	size_t n = 0;

	while (n < length) {
		ssize_t more = pread(fd, data + n, length - n, at + (off_t)n);
		if (more < 0 && errno == EINTR)
			continue;
		if (more <= 0)
			break;
		n += (size_t)more;
	}
	return n;
}

/* The offset behind the last newline of a file: what follows it is being written, or torn. */
static off_t
end_of_lines(struct attempts_reader *r, int fd)
{
	for (off_t end = size_of(fd); end > 0;) {
		size_t length = end < BUFFER_SIZE ? (size_t)end : BUFFER_SIZE;
		size_t n = read_at(fd, r->buffer, length, end - (off_t)length);
		const char *newline = memrchr(r->buffer, '\n', n);
		if (newline != NULL)
			return end - (off_t)length + (newline - r->buffer) + 1;
		end -= (off_t)length;
	}
	return 0;
}

/* Begin with a file, at its beginning or backwards behind its last newline. */
static void
begin_file(struct attempts_reader *r)
{
	r->position = 0;
	if (r->backwards)
		r->position = r->current == 0 ? r->log_end : end_of_lines(r, r->fd[r->current]);
	r->limit = r->current == FILES - 1 && !r->following ? r->log_end : INT64_MAX;
	r->from = r->to = r->backwards ? BUFFER_SIZE : 0;
	r->cut = false;
}

struct attempts_reader *
attempts_reader_open(const char *path, enum attempts_order order, bool rotated)
{
	struct attempts_reader *r = calloc(1, sizeof(*r));

	if (r == NULL)
		return NULL;
	r->backwards = order == ATTEMPTS_NEWEST_FIRST;
	r->fd[0] = r->fd[1] = -1;
	r->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int log = r->dir < 0 ? -1 : open_file(r->dir, ATTEMPTS_FILE);
	if (r->dir < 0 || (log < 0 && errno != ENOENT)) {
		int saved = errno;
		attempts_reader_close(r);
		errno = saved;
		return NULL;
	}
	r->log_end = end_of_lines(r, log);
	int older = rotated ? open_rotated(r->dir, log) : -1;
	r->fd[0] = r->backwards ? log : older;
	r->fd[1] = r->backwards ? older : log;
	begin_file(r);
	return r;
}

void
attempts_reader_close(struct attempts_reader *r)
{
	if (r == NULL)
		return;
	for (int i = 0; i < FILES; i++)
		if (r->fd[i] >= 0)
			close(r->fd[i]);
	if (r->dir >= 0)
		close(r->dir);
	free(r);
}

bool
attempts_reader_exists(const struct attempts_reader *r)
{
	return r->fd[r->backwards ? 0 : FILES - 1] >= 0;
}

/* ---- lines ---- */

/* Read more behind what the buffer holds. Returns false at the end of the file. */
static bool
fill_forwards(struct attempts_reader *r)
{
	size_t held = r->to - r->from;

	memmove(r->buffer, r->buffer + r->from, held);
	if (held == BUFFER_SIZE) {
		held = LINE_KEPT;
		r->cut = true;
	}
	off_t left = r->limit - r->position;
	size_t room = BUFFER_SIZE - held, n = 0;
	if (left > 0)
		n = read_at(r->fd[r->current], r->buffer + held, left < (off_t)room ? (size_t)left : room,
		    r->position);
	r->position += (off_t)n;
	r->from = 0;
	r->to = held + n;
	return n > 0;
}

static bool
next_forwards(struct attempts_reader *r, struct attempts_line *line)
{
	size_t looked = 0; /* bytes of the line in which there is no newline */

	for (;;) {
		char *begin = r->buffer + r->from;
		char *newline = memchr(begin + looked, '\n', r->to - r->from - looked);
		if (newline != NULL) {
			*newline = '\0';
			line->text = begin;
			line->length = (size_t)(newline - begin);
			r->from += line->length + 1;
			return true;
		}
		looked = r->to - r->from;
		if (looked == BUFFER_SIZE)
			looked = LINE_KEPT;
		if (!fill_forwards(r))
			return false;
	}
}

/* Read more before what the buffer holds. Returns false at the beginning of the file. */
static bool
fill_backwards(struct attempts_reader *r)
{
	size_t held = r->to - r->from;

	if (held == BUFFER_SIZE) {
		held = LINE_KEPT;
		r->cut = true;
	}
	size_t room = BUFFER_SIZE - held,
	       length = r->position < (off_t)room ? (size_t)r->position : room;
	memmove(r->buffer + room, r->buffer + r->from, held);
	r->from = room - length;
	r->to = BUFFER_SIZE;
	if (length == 0 ||
	    read_at(r->fd[r->current], r->buffer + r->from, length, r->position - (off_t)length) !=
	        length) {
		r->from = room; /* the file was cut meanwhile */
		r->position = 0;
		return false;
	}
	r->position -= (off_t)length;
	return true;
}

/* The buffer ends where the line ends; the line begins behind a newline, or with the file. */
static bool
next_backwards(struct attempts_reader *r, struct attempts_line *line)
{
	for (;;) {
		char *newline = memrchr(r->buffer + r->from, '\n', r->to - r->from);
		if (newline == NULL && fill_backwards(r))
			continue;
		char *begin = newline != NULL ? newline + 1 : r->buffer + r->from;
		line->text = begin;
		line->length = (size_t)(r->buffer + r->to - begin);
		r->buffer[r->to] = '\0';
		r->to = newline != NULL ? (size_t)(newline - r->buffer) : r->from;
		return newline != NULL || line->length > 0;
	}
}

/* ---- following ---- */

void
attempts_reader_follow(struct attempts_reader *r)
{
	if (r->backwards) {
		int log = r->fd[0];
		r->fd[0] = r->fd[1];
		r->fd[1] = log;
	}
	r->backwards = false;
	r->following = true;
	r->current = FILES - 1;
	begin_file(r);
	r->position = r->log_end;
}

/* At the end of the file that is followed: whether there is more, in it or in its successor. */
static bool
follow(struct attempts_reader *r)
{
	struct stat named, open;
	int *fd = &r->fd[r->current];

	if (fstatat(r->dir, ATTEMPTS_FILE, &named, AT_SYMLINK_NOFOLLOW) != 0)
		return false; /* renamed, and nothing was delivered since */
	if (*fd >= 0 && fstat(*fd, &open) == 0 && open.st_ino == named.st_ino &&
	    open.st_dev == named.st_dev) {
		if (open.st_size >= r->position)
			return false;
		begin_file(r);
		return true;
	}
	if (*fd >= 0 && !r->renamed) {
		r->renamed = true; /* once more: a line may have come before it was renamed */
		return true;
	}
	if (*fd >= 0)
		close(*fd);
	r->renamed = false;
	*fd = open_file(r->dir, ATTEMPTS_FILE);
	begin_file(r);
	return *fd >= 0;
}

/* ---- members ---- */

static const char *
skip_blanks(const char *p)
{
	while (*p == ' ' || *p == '\t' || *p == '\r')
		p++;
	return p;
}

/* The quote that ends the string whose contents begin at p; NULL if there is none. */
static const char *
string_end(const char *p, const char *end)
{
	for (const char *quote = p; (quote = memchr(quote, '"', (size_t)(end - quote))) != NULL;
	     quote++) {
		const char *before = quote;
		while (before > p && before[-1] == '\\')
			before--;
		if ((quote - before) % 2 == 0)
			return quote;
	}
	return NULL;
}

static void
keep_member(struct attempts_line *line, const char *name, size_t name_length, const char *value,
    size_t length)
{
#define NAME(text) {text, sizeof(text) - 1}
	static const struct {
		const char *text;
		size_t length;
	} names[ATTEMPTS_MEMBERS] = {[ATTEMPTS_AT] = NAME("at"),
	    [ATTEMPTS_OUTCOME] = NAME("outcome"),
	    [ATTEMPTS_WEBHOOK_ID] = NAME("webhook_id"),
	    [ATTEMPTS_TYPE] = NAME("type"),
	    [ATTEMPTS_BYTES] = NAME("bytes"),
	    [ATTEMPTS_SKEW] = NAME("skew_s"),
	    [ATTEMPTS_KEY] = NAME("key")};
#undef NAME

	for (int i = 0; i < ATTEMPTS_MEMBERS; i++) {
		if (names[i].length != name_length || memcmp(names[i].text, name, name_length) != 0)
			continue;
		line->member[i].text = value;
		line->member[i].length = length;
		return;
	}
}

/* Find the members. Returns whether the line is one flat object. */
static bool
scan(struct attempts_line *line)
{
	const char *p = skip_blanks(line->text), *end = line->text + line->length;

	if (*p++ != '{')
		return false;
	for (;; p++) {
		p = skip_blanks(p);
		const char *name = p + 1, *name_end = *p == '"' ? string_end(name, end) : NULL;
		if (name_end == NULL)
			return false;
		p = skip_blanks(name_end + 1);
		if (*p++ != ':')
			return false;
		p = skip_blanks(p);
		bool quoted = *p == '"';
		const char *value = quoted ? p + 1 : p;
		const char *value_end = quoted ? string_end(value, end) : p + strcspn(p, ",}{[\" \t\r");
		if (value_end == NULL || (!quoted && value_end == value))
			return false;
		keep_member(line, name, (size_t)(name_end - name), value, (size_t)(value_end - value));
		p = skip_blanks(quoted ? value_end + 1 : value_end);
		if (*p == '}')
			return skip_blanks(p + 1) == end;
		if (*p != ',')
			return false;
	}
}

bool
attempts_reader_next(struct attempts_reader *r, struct attempts_line *line)
{
	for (;;) {
		bool found = r->fd[r->current] >= 0 &&
		    (r->backwards ? next_backwards(r, line) : next_forwards(r, line));
		if (found && line->length > 0)
			break;
		if (found)
			continue;
		if (r->following ? !follow(r) : r->current == FILES - 1)
			return false;
		if (!r->following) {
			r->current++;
			begin_file(r);
		}
	}
	char *text = r->buffer + (line->text - r->buffer);
	if (line->length > LINE_KEPT) {
		text[LINE_KEPT] = '\0';
		line->length = LINE_KEPT;
		r->cut = true;
	}
	for (char *zero = text;
	     (zero = memchr(zero, '\0', line->length - (size_t)(zero - text))) != NULL;) {
		*zero = '?';
		r->cut = true;
	}
	memset(line->member, 0, sizeof(line->member));
	line->whole = !r->cut && scan(line);
	if (!line->whole)
		memset(line->member, 0, sizeof(line->member));
	r->cut = false;
	return true;
}

bool
attempts_reader_is(const struct attempts_line *line, enum attempts_member member, const char *value)
{
	size_t length = strlen(value);

	return line->member[member].text != NULL && line->member[member].length == length &&
	    memcmp(line->member[member].text, value, length) == 0;
}

/* The member as a text of its own; false if it is absent or does not fit. */
static bool
copy_member(const struct attempts_line *line, enum attempts_member member, char *text, size_t size)
{
	size_t length = line->member[member].length;

	if (line->member[member].text == NULL || length >= size)
		return false;
	memcpy(text, line->member[member].text, length);
	text[length] = '\0';
	return true;
}

bool
attempts_reader_number(
    const struct attempts_line *line, enum attempts_member member, int64_t *number)
{
	char text[24], *end;

	if (!copy_member(line, member, text, sizeof(text)) || *text == '\0')
		return false;
	errno = 0;
	*number = strtoll(text, &end, 10);
	return *end == '\0' && errno == 0;
}

bool
attempts_reader_time(const struct attempts_line *line, int64_t *nanoseconds)
{
	char text[DATETIME_ISO_SIZE + 16];

	return copy_member(line, ATTEMPTS_AT, text, sizeof(text)) && datetime_parse(text, nanoseconds);
}

bool
attempts_reader_is_test(const struct attempts_line *line)
{
	static const char mark[] = EVENTS_TEST_ID;

	return line->member[ATTEMPTS_WEBHOOK_ID].length >= sizeof(mark) - 1 &&
	    memcmp(line->member[ATTEMPTS_WEBHOOK_ID].text, mark, sizeof(mark) - 1) == 0;
}
