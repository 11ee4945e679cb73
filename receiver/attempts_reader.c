/*
 * Owns the reading of attempts.jsonl and of the logs that were rotated: which files those are,
 * lines in both directions through one buffer, following across rotation, and finding members
 * in a line.
 *
 * Lines are scanned as text, for there may be millions. That is safe: what a sender wrote is
 * escaped in them, so a plain quote begins or ends a string of the log's own.
 */
#define _GNU_SOURCE
#include "receiver/attempts_reader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/datetime.h"
#include "events.h"
#include "receiver/attempts.h"

enum {
	BUFFER_SIZE = 256 * 1024,
	LINE_KEPT = 64 * 1024,
	FILES_MAX = 64, /* the log and rotated ones: a year of weeks */
	BEGINNING = 8192 /* bytes in which a log's first time is looked for */
};

/* A log that was rotated. */
struct rotated {
	int fd;
	int64_t begins; /* nanoseconds: the time of its first line, or of its last change */
};

struct attempts_reader {
	int dir;
	bool backwards, following;
	bool renamed;    /* following: the name stands for another file, this one is read to its end */
	int fd[FILES_MAX]; /* in the order in which they are read; -1: none */
	int files;         /* of them */
	int current;
	int64_t begins[FILES_MAX]; /* of each; of the log proper INT64_MAX */
	int compressed;    /* rotated logs that are not read */
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

/* ---- rotated logs ---- */

enum log_kind { OTHER, PLAIN, COMPRESSED };

/*
 * What a name in the spool is: logrotate(8) gives numbers (.1) or dates (-20260131, or as
 * dateformat has it), and compresses. Names of its own begin with the log's, too.
 */
static enum log_kind
kind_of(const char *name)
{
	static const char *const endings[] = {".gz", ".xz", ".zst", ".bz2", ".lz4", ".Z"};
	size_t length = strlen(name);

	if (strncmp(name, ATTEMPTS_FILE, strlen(ATTEMPTS_FILE)) != 0)
		return OTHER;
	const char *rest = name + strlen(ATTEMPTS_FILE);
	if ((*rest != '.' && *rest != '-') || rest[1] < '0' || rest[1] > '9')
		return OTHER;
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++)
		if (length > strlen(endings[i]) &&
		    strcmp(name + length - strlen(endings[i]), endings[i]) == 0)
			return COMPRESSED;
	return rest[1 + strspn(rest + 1, "0123456789-._T:")] == '\0' ? PLAIN : OTHER;
}

static bool scan(struct attempts_line *line);

/* When a log begins: the time of its first whole line that has one. */
static int64_t
beginning_of(struct attempts_reader *r, int fd, const struct stat *st)
{
	size_t n = read_at(fd, r->buffer, BEGINNING, 0);
	int64_t at;

	r->buffer[n] = '\0';
	for (char *text = r->buffer, *end; (end = strchr(text, '\n')) != NULL; text = end + 1) {
		struct attempts_line line = {.text = text, .length = (size_t)(end - text)};
		*end = '\0';
		if (scan(&line) && attempts_reader_time(&line, &at))
			return at;
	}
	return st->st_mtim.tv_sec * NANOSECONDS + st->st_mtim.tv_nsec;
}

/* Note one name of the spool, if it is a log that can be read and not the one that is open. */
static int
add_rotated(struct attempts_reader *r, const char *name, const struct stat *log,
    struct rotated found[FILES_MAX], int count)
{
	enum log_kind kind = kind_of(name);
	struct stat st;

	r->compressed += kind == COMPRESSED;
	int fd = kind == PLAIN && count < FILES_MAX - 1 ? open_file(r->dir, name) : -1;
	if (fd < 0)
		return count;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) ||
	    (st.st_ino == log->st_ino && st.st_dev == log->st_dev)) {
		close(fd);
		return count;
	}
	found[count] = (struct rotated){fd, beginning_of(r, fd, &st)};
	return count + 1;
}

static int
compare_rotated(const void *a, const void *b)
{
	int64_t one = ((const struct rotated *)a)->begins, two = ((const struct rotated *)b)->begins;

	return one < two ? -1 : one > two;
}

/* Open the rotated logs, the oldest first. Returns how many. */
static int
open_rotated(struct attempts_reader *r, int log, struct rotated found[FILES_MAX])
{
	struct stat st = {0};
	int count = 0, fd = openat(r->dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);

	if (stream == NULL) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	if (log >= 0)
		fstat(log, &st);
	for (const struct dirent *entry; (entry = readdir(stream)) != NULL;)
		count = add_rotated(r, entry->d_name, &st, found, count);
	closedir(stream);
	qsort(found, (size_t)count, sizeof(*found), compare_rotated);
	return count;
}

/* ---- open and close ---- */

static void
add_file(struct attempts_reader *r, int fd, int64_t begins)
{
	r->fd[r->files] = fd;
	r->begins[r->files++] = begins;
}

/* Begin with a file, at its beginning or backwards behind its last newline. */
static void
begin_file(struct attempts_reader *r)
{
	bool is_log = r->begins[r->current] == INT64_MAX;

	r->position = 0;
	if (r->backwards)
		r->position = is_log ? r->log_end : end_of_lines(r, r->fd[r->current]);
	r->limit = is_log && !r->following ? r->log_end : INT64_MAX;
	r->from = r->to = r->backwards ? BUFFER_SIZE : 0;
	r->cut = false;
}

struct attempts_reader *
attempts_reader_open(const char *path, enum attempts_order order, bool rotated)
{
	struct attempts_reader *r = calloc(1, sizeof(*r));
	struct rotated found[FILES_MAX];

	if (r == NULL)
		return NULL;
	r->backwards = order == ATTEMPTS_NEWEST_FIRST;
	r->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int log = r->dir < 0 ? -1 : open_file(r->dir, ATTEMPTS_FILE);
	if (r->dir < 0 || (log < 0 && errno != ENOENT)) {
		int saved = errno;
		attempts_reader_close(r);
		errno = saved;
		return NULL;
	}
	int count = rotated ? open_rotated(r, log, found) : 0;
	r->log_end = end_of_lines(r, log);
	if (r->backwards)
		add_file(r, log, INT64_MAX);
	for (int i = 0; i < count; i++) {
		const struct rotated *one = &found[r->backwards ? count - 1 - i : i];
		add_file(r, one->fd, one->begins);
	}
	if (!r->backwards)
		add_file(r, log, INT64_MAX);
	begin_file(r);
	return r;
}

void
attempts_reader_close(struct attempts_reader *r)
{
	if (r == NULL)
		return;
	for (int i = 0; i < r->files; i++)
		if (r->fd[i] >= 0)
			close(r->fd[i]);
	if (r->dir >= 0)
		close(r->dir);
	free(r);
}

bool
attempts_reader_exists(const struct attempts_reader *r)
{
	return r->fd[r->backwards ? 0 : r->files - 1] >= 0;
}

/* A file is left out if the one after it begins before that time. */
void
attempts_reader_since(struct attempts_reader *r, int64_t since)
{
	while (!r->backwards && r->current + 1 < r->files && r->begins[r->current] != INT64_MAX &&
	    r->begins[r->current + 1] <= since)
		r->current++;
	begin_file(r);
}

/* ---- places ---- */

/* The hash of a log's first line, or "" while it has none. It is a log of its own by that. */
static void
mark_of(int fd, char mark[65])
{
	char head[BEGINNING];
	size_t n = fd < 0 ? 0 : read_at(fd, head, sizeof(head), 0);
	const char *newline = memchr(head, '\n', n);

	if (newline == NULL || crypto_sha256_hex(head, (size_t)(newline - head), mark) != 0)
		*mark = '\0';
}

static bool
is_at(int fd, const struct attempts_place *place)
{
	char mark[65], before;

	if (fd < 0 || place->offset <= 0 || read_at(fd, &before, 1, place->offset - 1) != 1 ||
	    before != '\n')
		return false;
	mark_of(fd, mark);
	return *mark != '\0' && strcmp(mark, place->log) == 0;
}

/* The newest first: while a log is copied, for copytruncate, two files have the same first line. */
bool
attempts_reader_resume(struct attempts_reader *r, const struct attempts_place *place)
{
	for (int i = r->files - 1; i >= 0; i--) {
		if (!is_at(r->fd[i], place))
			continue;
		r->current = i;
		begin_file(r);
		r->position = place->offset;
		return true;
	}
	return false;
}

void
attempts_reader_place(struct attempts_reader *r, struct attempts_place *place)
{
	off_t offset = r->position - (off_t)(r->to - r->from);

	/* A log without a whole line has no mark: the place is the end of the one before it. */
	for (int i = r->current; i >= 0; i--) {
		mark_of(r->fd[i], place->log);
		place->offset = i == r->current ? offset : end_of_lines(r, r->fd[i]);
		if (*place->log != '\0' && place->offset > 0)
			return;
	}
	*place = (struct attempts_place){.offset = 0};
}

bool
attempts_reader_begins(const char *path, int64_t *nanoseconds, int *compressed)
{
	struct attempts_reader *r = attempts_reader_open(path, ATTEMPTS_OLDEST_FIRST, true);
	struct attempts_line line;
	bool found = false;

	*compressed = 0;
	while (r != NULL && !found && attempts_reader_next(r, &line))
		found = attempts_reader_time(&line, nanoseconds);
	if (r != NULL)
		*compressed = r->compressed;
	attempts_reader_close(r);
	return found;
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
	int log = r->backwards ? 0 : r->files - 1;

	for (int i = 0; i < r->files; i++)
		if (i != log && r->fd[i] >= 0)
			close(r->fd[i]);
	r->fd[0] = r->fd[log];
	r->begins[0] = INT64_MAX;
	r->files = 1;
	r->backwards = false;
	r->following = true;
	r->current = 0;
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
	    [ATTEMPTS_KEY] = NAME("key"),
	    [ATTEMPTS_REASON] = NAME("reason"),
	    [ATTEMPTS_MS] = NAME("ms"),
	    [ATTEMPTS_NPN] = NAME("npn"),
	    [ATTEMPTS_SUPPRESSED] = NAME("suppressed")};
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

void
attempts_reader_parse(struct attempts_line *line, const char *text)
{
	*line = (struct attempts_line){.text = text, .length = strlen(text)};
	line->whole = scan(line);
	if (!line->whole)
		memset(line->member, 0, sizeof(line->member));
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
		if (r->following ? !follow(r) : r->current == r->files - 1)
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

/* ---- places ---- */

/* Go on before an offset of a file. */
static void
go_to(struct attempts_reader *r, int file, off_t offset)
{
	r->current = file;
	begin_file(r);
	r->position = offset;
}

void
attempts_reader_cursor(const struct attempts_reader *r, char cursor[ATTEMPTS_CURSOR_SIZE])
{
	off_t end = r->position + (off_t)(r->to - r->from);
	struct stat st = {0};

	if (r->fd[r->current] >= 0)
		fstat(r->fd[r->current], &st);
	snprintf(cursor, ATTEMPTS_CURSOR_SIZE, "%llu.%lld", (unsigned long long)st.st_ino,
	    (long long)end);
}

bool
attempts_reader_seek(struct attempts_reader *r, const char *cursor)
{
	char *dot, *end;
	struct stat st;

	errno = 0;
	unsigned long long inode = strtoull(cursor, &dot, 10);
	if (errno != 0 || *cursor < '0' || *cursor > '9' || *dot != '.' || dot[1] < '0' || dot[1] > '9')
		return false;
	off_t offset = strtoll(dot + 1, &end, 10);
	if (errno != 0 || *end != '\0')
		return false;
	for (int i = 0; i < r->files; i++) {
		if (r->fd[i] < 0 || fstat(r->fd[i], &st) != 0 || st.st_ino != inode ||
		    offset > st.st_size)
			continue;
		go_to(r, i, offset);
		return true;
	}
	return false;
}

/* The time of the first line with one that begins behind an offset; INT64_MIN if there is none. */
static int64_t
time_behind(struct attempts_reader *r, int fd, off_t offset)
{
	size_t n = read_at(fd, r->buffer, BEGINNING, offset);
	int64_t at;

	r->buffer[n] = '\0';
	char *text = offset == 0 ? r->buffer : memchr(r->buffer, '\n', n);
	if (text != NULL && offset != 0)
		text++;
	for (char *end; text != NULL && (end = strchr(text, '\n')) != NULL; text = end + 1) {
		struct attempts_line line = {.text = text, .length = (size_t)(end - text)};
		*end = '\0';
		if (scan(&line) && attempts_reader_time(&line, &at))
			return at;
	}
	return INT64_MIN;
}

void
attempts_reader_until(struct attempts_reader *r, int64_t until)
{
	int file = 0;

	while (file < r->files - 1 && (r->fd[file] < 0 || (r->begins[file] != INT64_MAX &&
	        r->begins[file] >= until) || time_behind(r, r->fd[file], 0) >= until))
		file++;
	off_t low = 0, high = r->begins[file] == INT64_MAX ? r->log_end : size_of(r->fd[file]);
	/* Before low all is older, from high on all is younger. */
	while (high - low > BEGINNING) {
		off_t middle = low + (high - low) / 2;
		if (time_behind(r, r->fd[file], middle) < until)
			low = middle;
		else
			high = middle;
	}
	/* The line that crosses high: its rest is read, too. */
	size_t n = read_at(r->fd[file], r->buffer, BEGINNING, high);
	const char *newline = memchr(r->buffer, '\n', n);
	go_to(r, file, newline != NULL ? high + (newline - r->buffer) + 1 : high);
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
	if (*end == '.' && end > text)
		end += 1 + strspn(end + 1, "0123456789");
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
