/* Owns the form of a mail (RFC 5322: lines of 998 bytes at most), and the process of sendmail. */
#define _GNU_SOURCE
#include "doctor/mail.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/terminal.h"
#include "drain/child.h"

enum { COLUMNS = 76, SUBJECT_MAX = 200, SEND_MS = 60000, LOOK_MS = 50 };

/* ---- the text ---- */

static void
append(struct mail *m, const char *text, size_t length)
{
	if (m->length + length + 1 > m->room && m->text != NULL) {
		size_t room = (m->length + length) * 2 + 1024;
		char *grown = realloc(m->text, room);
		if (grown == NULL)
			free(m->text);
		m->text = grown;
		m->room = room;
	}
	if (m->text == NULL)
		return;
	memcpy(m->text + m->length, text, length);
	m->length += length;
	m->text[m->length] = '\0';
}

static void
put(struct mail *m, const char *text)
{
	append(m, text, strlen(text));
}

void
mail_begin(struct mail *mail, const char *to, const char *subject)
{
	char line[TERMINAL_ESCAPED_SIZE(SUBJECT_MAX)];

	*mail = (struct mail){.text = calloc(1, 1), .room = 1};
	put(mail, "To: ");
	put(mail, to);
	put(mail, "\nSubject: ");
	put(mail, terminal_escape(line, sizeof(line), subject, strnlen(subject, SUBJECT_MAX), false));
	put(mail, "\nAuto-Submitted: auto-generated\nMIME-Version: 1.0\n"
	    "Content-Type: text/plain; charset=us-ascii\n\n");
}

/* One line without a break in it: broken at blanks, or where a word is longer than a line. */
static void
put_line(struct mail *m, const char *indent, const char *text, size_t length)
{
	size_t room = COLUMNS - strlen(indent);

	do {
		size_t n = length;
		const char *blank = n <= room ? NULL : memrchr(text, ' ', room);
		if (n > room)
			n = blank != NULL && blank > text ? (size_t)(blank - text) : room;
		put(m, indent);
		append(m, text, n);
		put(m, "\n");
		n += n < length && text[n] == ' ';
		text += n;
		length -= n;
	} while (length > 0);
}

void
mail_put(struct mail *mail, const char *indent, const char *text)
{
	size_t size = TERMINAL_ESCAPED_SIZE(strlen(text));
	char *escaped = malloc(size);

	if (escaped == NULL)
		return;
	terminal_escape(escaped, size, text, strlen(text), true);
	for (char *rest = escaped, *line; (line = strsep(&rest, "\n")) != NULL;)
		if (*line != '\0' || rest != NULL)
			put_line(mail, indent, line, strlen(line));
	free(escaped);
}

void
mail_free(struct mail *mail)
{
	free(mail->text);
	mail->text = NULL;
}

/* ---- sendmail ---- */

static bool
find_sendmail(char path[PATH_MAX])
{
	const char *search = getenv("PATH");
	char directories[PATH_MAX];

	snprintf(directories, sizeof(directories), "%s:/usr/sbin:/usr/lib",
	    search != NULL ? search : "");
	for (char *rest = directories, *one; (one = strsep(&rest, ":")) != NULL;) {
		snprintf(path, PATH_MAX, "%s/sendmail", one);
		if (*one == '/' && access(path, X_OK) == 0)
			return true;
	}
	return false;
}

bool
mail_is_possible(void)
{
	char path[PATH_MAX];

	return find_sendmail(path);
}

/* Wait for its end. Returns wait(2)'s status. */
static int
wait_for(struct child *child)
{
	int status;

	while (!child_ended(child, &status)) {
		struct pollfd fds[] = {{.fd = child->out, .events = POLLIN},
			{.fd = child->err, .events = POLLIN}};
		poll(fds, 2, LOOK_MS);
		child_read(child);
		child_enforce_deadline(child, clock_milliseconds());
	}
	return status;
}

/* The last line of what it said. */
static void
explain(const struct child *child, int status, const char *path, struct error *error)
{
	size_t length;
	const char *tail = child_tail(child, &length);

	while (length > 0 && tail[length - 1] == '\n')
		length--;
	const char *newline = memrchr(tail, '\n', length);
	if (newline != NULL)
		length -= (size_t)(newline + 1 - tail);
	if (newline != NULL)
		tail = newline + 1;
	if (child->timed_out)
		error_set(error, EX_TEMPFAIL, NULL, "%s: no end within %d s", path, SEND_MS / 1000);
	else
		error_set(error, EX_TEMPFAIL, "it is sent with the next check; look at the mail "
		    "server's log", "%s: %s %d%s%.*s", path, WIFSIGNALED(status) ? "signal" :
		    "exit status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
		    length > 0 ? ": " : "", length > 300 ? 300 : (int)length, tail);
}

int
mail_send(const struct mail *mail, struct error *error)
{
	char path[PATH_MAX];
	/* -i: a line with a dot alone does not end it */
	char *argv[] = {path, (char[]){"-i"}, (char[]){"-t"}, NULL};
	struct child child;
	bool executed;

	if (!find_sendmail(path)) {
		error_set(error, EX_UNAVAILABLE, "install a mail server's: apt install dma", "no sendmail");
		return -1;
	}
	int input = mail->text == NULL ? -1 : child_input(mail->text, mail->length);
	int result = input < 0 ? -1 : child_start(&child, -1, argv, environ, input, SEND_MS, &executed);
	if (result != 0)
		error_set(error, EX_OSERR, NULL, "%s: cannot be started: %s", path, strerror(errno));
	if (input >= 0)
		close(input);
	if (result != 0)
		return -1;
	int status = wait_for(&child);
	if (status == 0)
		return 0;
	explain(&child, status, path, error);
	return -1;
}
