/*
 * Owns how the secret file is changed: read, edit in memory, write a new file beside it,
 * sync, rename, sync the directory. A reader sees the old file or the new one. A flock on
 * the directory serializes changes.
 */
#define _GNU_SOURCE
#include "secrets/secretfile.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/io.h"
#include "base/securemem.h"
#include "secrets/secrets.h"
#include "secrets/secrettext.h"

enum { LOCK_WAIT_MS = 10000, FILE_MAX = 64 * 1024, MODE_MAX = 0640 };

#define ADDED "# added "

/* ---- pasted text ---- */

/* Bytes of white space or a quote at the beginning of text; 0: none. */
static size_t
trimmable(const char *text, size_t length)
{
	static const char *const marks[] = {" ", "\t", "\r", "\n", "\v", "\f", "\"", "'", "`",
		"\xc2\xa0" /* U+00A0, no-break space */, "\xe2\x80\x8b" /* U+200B, zero width */,
		"\xef\xbb\xbf" /* U+FEFF, byte order mark */, "\xe2\x80\x98", "\xe2\x80\x99",
		"\xe2\x80\x9c", "\xe2\x80\x9d", /* U+2018 to U+201D, typographic quotes */
		"\xc2\xab", "\xc2\xbb"};

	for (size_t i = 0; i < sizeof(marks) / sizeof(marks[0]); i++) {
		size_t n = strlen(marks[i]);
		if (n <= length && memcmp(text, marks[i], n) == 0)
			return n;
	}
	return 0;
}

/* The same at its end; a mark has at most three bytes. */
static size_t
trimmable_at_end(const char *text, size_t length)
{
	for (size_t n = 1; n <= 3 && n <= length; n++)
		if (trimmable(text + length - n, n) == n)
			return n;
	return 0;
}

const char *
secretfile_trim(const char *text, size_t *length)
{
	for (size_t n; (n = trimmable(text, *length)) > 0; *length -= n)
		text += n;
	for (size_t n; (n = trimmable_at_end(text, *length)) > 0;)
		*length -= n;
	return text;
}

/* ---- the file in memory ---- */

/* The file at its real place (a symbolic link stays one), and its contents. */
struct edit {
	char path[PATH_MAX];
	char directory[PATH_MAX];
	int lock; /* the directory, locked */
	bool exists;
	struct stat st;
	bool blank; /* see secrettext_clean() */
	char *text; /* owned, FILE_MAX + 1 bytes; wiped at the end */
	size_t length;
};

static enum secretfile_result
failed(const char *path, const char *step, struct error *error)
{
	bool denied = errno == EACCES || errno == EPERM;

	if (errno == EWOULDBLOCK) {
		error_set(error, EX_TEMPFAIL, "fuser -v on that directory shows which",
		    "%s: another process has locked it for over 10 s", path);
		return SECRETFILE_ERROR;
	}
	/* A file that is a mount itself, as a container's, cannot be replaced: EBUSY. */
	bool mounted = errno == EROFS || errno == EBUSY;
	error_set(error, denied ? EX_NOPERM : EX_CANTCREAT,
	    denied  ? "run it as root, or as the file's owner" :
	    mounted ? "it is mounted here: change it where it is mounted from (the secret of Docker "
	              "or Kubernetes, the host's file)" : NULL, "%s: %s: %s", path, step,
	    strerror(errno));
	return SECRETFILE_ERROR;
}

/* The directory in which the file is to be made cannot be reached. */
static enum secretfile_result
no_directory(const char *path, const char *directory, struct error *error)
{
	bool missing = errno == ENOENT;

	failed(path, "its directory", error);
	if (missing)
		snprintf(error->remedy, sizeof(error->remedy), "install -d -m 0755 %.400s", directory);
	return SECRETFILE_ERROR;
}

static enum secretfile_result
find_place(struct edit *d, const char *path, struct error *error)
{
	char copy[PATH_MAX], parent[PATH_MAX];

	if (realpath(path, d->path) == NULL) {
		if (errno == ELOOP) {
			secrets_refuse_path(path, ELOOP, error);
			return SECRETFILE_ERROR;
		}
		if (errno != ENOENT)
			return failed(path, "find", error);
		snprintf(copy, sizeof(copy), "%s", path);
		const char *directory = dirname(copy);
		if (realpath(directory, parent) == NULL)
			return no_directory(path, directory, error);
		snprintf(copy, sizeof(copy), "%s", path);
		if ((size_t)snprintf(d->path, sizeof(d->path), "%s/%s", parent, basename(copy)) >=
		    sizeof(d->path)) {
			errno = ENAMETOOLONG;
			return failed(path, "find", error);
		}
	}
	snprintf(d->directory, sizeof(d->directory), "%s", d->path);
	dirname(d->directory);
	d->lock = open(d->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (d->lock < 0 || io_lock(d->lock, LOCK_WAIT_MS) != 0)
		return failed(d->directory, "lock", error);
	return SECRETFILE_DONE;
}

/* path: as it was named, a link perhaps, for errors. */
static enum secretfile_result
read_edit(struct edit *d, const char *path, struct error *error)
{
	int fd = open(d->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	enum secretfile_result result = SECRETFILE_DONE;
	const char *found;

	if (fd < 0 && errno == ENOENT)
		return SECRETFILE_DONE;
	if (fd < 0 && errno != ELOOP)
		return failed(d->path, "read", error);
	if (fd < 0) {
		secrets_refuse_path(path, ELOOP, error);
		return SECRETFILE_ERROR;
	}
	d->exists = true;
	if (fstat(fd, &d->st) != 0 || !S_ISREG(d->st.st_mode)) {
		secrets_refuse_path(path, 0, error);
		close(fd);
		return SECRETFILE_ERROR;
	}
	ssize_t n = io_read_all(fd, d->text, FILE_MAX);
	if (n < 0 || n == FILE_MAX) {
		errno = n < 0 ? errno : EFBIG;
		result = failed(d->path, "read", error);
		n = 0;
	}
	d->length = secrettext_clean(d->text, (size_t)n, &found, &d->blank);
	close(fd);
	return result;
}

static void
close_edit(struct edit *d)
{
	securemem_free(d->text, FILE_MAX + 1);
	if (d->lock >= 0)
		close(d->lock);
}

static enum secretfile_result
open_edit(struct edit *d, const char *path, struct error *error)
{
	*d = (struct edit){.lock = -1};
	d->text = securemem_new(FILE_MAX + 1);
	if (d->text == NULL)
		return failed(path, "read", error);
	enum secretfile_result result = find_place(d, path, error);
	return result == SECRETFILE_DONE ? read_edit(d, path, error) : result;
}

/* To look alone: without a lock, for the file is only ever replaced as a whole. */
static enum secretfile_result
open_view(struct edit *d, const char *path, struct error *error)
{
	*d = (struct edit){.lock = -1};
	d->text = securemem_new(FILE_MAX + 1);
	if (d->text == NULL)
		return failed(path, "read", error);
	snprintf(d->path, sizeof(d->path), "%s", path);
	return read_edit(d, path, error);
}

/* ---- writing it ---- */

/* Write the text, set owner, group and mode, sync: then the file may take its name. */
static int
fill(int fd, const struct edit *d, gid_t group)
{
	uid_t owner = d->exists ? d->st.st_uid : (uid_t)-1;
	gid_t owners = d->exists ? d->st.st_gid : group;
	mode_t mode = d->exists ? d->st.st_mode & MODE_MAX : MODE_MAX;
	struct stat st;

	if (fstat(fd, &st) != 0)
		return -1;
	/* Changed only where it differs: a user other than root cannot give a file away. */
	if ((owner != (uid_t)-1 && owner != st.st_uid && fchown(fd, owner, (gid_t)-1) != 0) ||
	    (owners != (gid_t)-1 && owners != st.st_gid && fchown(fd, (uid_t)-1, owners) != 0))
		return -1;
	if (io_write_all(fd, d->text, d->length) != 0)
		return -1;
	return fchmod(fd, mode | S_IRUSR) == 0 && fsync(fd) == 0 ? 0 : -1;
}

static enum secretfile_result
replace(const struct edit *d, gid_t group, struct error *error)
{
	char temporary[PATH_MAX + 32];

	snprintf(temporary, sizeof(temporary), "%s.psapi.new", d->path);
	/* We have the lock, so a process that was killed left this file: it may hold a secret. */
	unlink(temporary);
	int fd = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return failed(temporary, "make", error);
	int filled = fill(fd, d, group);
	int saved = errno;
	close(fd);
	errno = saved;
	if (filled != 0 || rename(temporary, d->path) != 0) {
		enum secretfile_result result = failed(d->path, "replace", error);
		unlink(temporary);
		return result;
	}
	return fsync(d->lock) == 0 ? SECRETFILE_DONE :
	                             failed(d->directory, "fsync", error);
}

/* ---- its lines ---- */

/* A line of the file, while it is walked through. */
struct walk {
	char *begin, *end; /* of the line, without its newline */
	char *next;        /* the line after it, or the end of the text */
	int number;
	struct secretfile_entry entry; /* of a line that is meant to be a secret */
	char *comment;                 /* the beginning of its "# added" line, or NULL */
};

static void
note_comment(struct walk *w)
{
	size_t mark = strlen(ADDED), length = (size_t)(w->end - w->begin);

	w->comment = NULL;
	w->entry.added[0] = '\0';
	if (length <= mark || memcmp(w->begin, ADDED, mark) != 0)
		return;
	w->comment = w->begin;
	snprintf(w->entry.added, sizeof(w->entry.added), "%.*s", (int)(length - mark),
	    w->begin + mark);
}

static enum secret_kind
check_secret(const char *text, size_t length, char fingerprint[FINGERPRINT_SIZE])
{
	struct keyring *keyring = verify_keyring_new();
	enum secret_kind kind =
	    keyring == NULL ? SECRET_NO_MEMORY : verify_keyring_add(keyring, text, length);

	snprintf(fingerprint, FINGERPRINT_SIZE, "%s",
	    kind == SECRET_GOOD ? verify_keyring_fingerprint(keyring, 0) : "");
	verify_keyring_free(keyring);
	return kind;
}

/* To the next line that is meant to be a secret. Returns false at the end. */
static bool
next_entry(struct walk *w)
{
	w->comment = NULL;
	w->entry.added[0] = '\0';
	while (*w->next != '\0') {
		w->begin = w->next;
		w->end = strchrnul(w->begin, '\n');
		w->next = *w->end == '\n' ? w->end + 1 : w->end;
		w->number++;
		const char *text = w->begin + strspn(w->begin, " \t\r");
		if (*text == '#') {
			note_comment(w);
			continue;
		}
		if (text >= w->end) {
			w->comment = NULL;
			w->entry.added[0] = '\0';
			continue;
		}
		w->entry.line = w->number;
		w->entry.kind = check_secret(text, (size_t)(w->end - text), w->entry.fingerprint);
		return true;
	}
	return false;
}

/* Whether it may be added: it is not there yet, and a keyring has room for it. */
static enum secretfile_result
may_add(const struct edit *d, const char *fingerprint, struct error *error)
{
	struct walk walk = {.next = d->text};
	int good = 0;

	while (next_entry(&walk)) {
		if (strcmp(walk.entry.fingerprint, fingerprint) == 0)
			return SECRETFILE_ALREADY;
		good += walk.entry.kind == SECRET_GOOD ? 1 : 0;
	}
	if (good < KEYRING_MAX)
		return SECRETFILE_DONE;
	error_set(error, EX_DATAERR, NULL, "the text given %s",
	    verify_secret_kind_text(SECRET_TOO_MANY));
	return SECRETFILE_REFUSED;
}

enum secretfile_result
secretfile_add(const char *path, const char *secret, size_t length, time_t now, gid_t group,
    char fingerprint[FINGERPRINT_SIZE], struct error *error)
{
	enum secret_kind kind = check_secret(secret, length, fingerprint);
	struct edit d;
	char at[32];
	struct tm tm;

	if (kind != SECRET_GOOD) {
		error_set(error, EX_DATAERR, NULL, "the text given %s",
		    memchr(secret, '\n', length) != NULL ?
		        "has several lines: give one secret at a time, in one line" :
		        verify_secret_kind_text(kind));
		return SECRETFILE_REFUSED;
	}
	enum secretfile_result result = open_edit(&d, path, error);
	if (result == SECRETFILE_DONE)
		result = may_add(&d, fingerprint, error);
	if (result == SECRETFILE_DONE) {
		strftime(at, sizeof(at), "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&now, &tm));
		bool open_line = d.length > 0 && d.text[d.length - 1] != '\n';
		int n = snprintf(d.text + d.length, FILE_MAX - d.length, "%s" ADDED "%s\n%.*s\n",
		    open_line ? "\n" : "", at, (int)length, secret);
		d.length += (size_t)n;
		errno = EFBIG;
		result = d.length < FILE_MAX ? replace(&d, group, error) :
		                               failed(path, "add", error);
	}
	close_edit(&d);
	return result;
}

enum secretfile_result
secretfile_drop(const char *path, const char *fingerprint, size_t *left, struct error *error)
{
	enum secretfile_result result;
	struct edit d;
	bool found = false;

	*left = 0;
	result = open_edit(&d, path, error);
	struct walk walk = {.next = d.text};
	while (result == SECRETFILE_DONE && next_entry(&walk)) {
		if (strcmp(walk.entry.fingerprint, fingerprint) != 0) {
			*left += walk.entry.kind == SECRET_GOOD ? 1 : 0;
			continue;
		}
		char *from = walk.comment != NULL ? walk.comment : walk.begin;
		size_t rest = d.length - (size_t)(walk.next - d.text);
		memmove(from, walk.next, rest + 1);
		d.length = (size_t)(from - d.text) + rest;
		walk.next = from;
		found = true;
	}
	if (result == SECRETFILE_DONE)
		result = found ? replace(&d, (gid_t)-1, error) : SECRETFILE_ALREADY;
	close_edit(&d);
	return result;
}

int
secretfile_list(const char *path, struct secretfile_entry **entries, size_t *count,
    struct error *error)
{
	struct edit d;
	int result = open_view(&d, path, error) == SECRETFILE_DONE ? 0 : -1;
	struct walk walk = {.next = d.text};

	*entries = NULL;
	*count = 0;
	while (result == 0 && next_entry(&walk)) {
		struct secretfile_entry *grown = realloc(*entries, (*count + 1) * sizeof(**entries));
		if (grown == NULL)
			break;
		*entries = grown;
		grown[(*count)++] = walk.entry;
	}
	if (result == 0 && !d.exists) {
		error_set(error, EX_NOINPUT, "psapi secret add makes it", "%s: is missing", path);
		result = -1;
	}
	if (result == 0 && d.blank) {
		error_set(error, EX_NOINPUT, "psapi secret add writes it anew",
		    "%s: holds NUL bytes alone: its contents were lost", path);
		result = -1;
	}
	close_edit(&d);
	return result;
}
