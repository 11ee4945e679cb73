/* psapi secret: add, list and drop signing secrets. secrets/secretfile.c changes the file. */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <termios.h>
#include <unistd.h>

#include "commands/command.h"
#include "receiver/attempts_reader.h"
#include "receiver/last_match.h"
#include "base/clock.h"
#include "base/columns.h"
#include "base/datetime.h"
#include "base/io.h"
#include "base/log.h"
#include "secrets/secretfile.h"
#include "secrets/secrettext.h"
#include "base/terminal.h"
#include "base/user.h"

/* ---- reading a secret ---- */

static volatile sig_atomic_t interrupted;

static void
interrupt(int number)
{
	interrupted = number;
}

/*
 * Read a line, unless a signal arrives. Signals are blocked except during ppoll(2): one that
 * arrived just before a read(2) would not interrupt it.
 */
static ssize_t
read_line(char *text, size_t size, const sigset_t *waiting)
{
	struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};
	size_t n = 0;

	while (n < size && memchr(text, '\n', n) == NULL) {
		if (ppoll(&input, 1, NULL, waiting) < 0)
			return -1;
		ssize_t more = read(STDIN_FILENO, text + n, size - n);
		if (more < 0)
			return -1;
		if (more == 0)
			break;
		n += (size_t)more;
	}
	return (ssize_t)n;
}

/*
 * Read a line that is not blank: text that is copied from a page may begin with a line break,
 * with the secret after it.
 */
static ssize_t
read_answer(char *text, size_t size, const sigset_t *waiting)
{
	ssize_t n;
	size_t rest;

	do {
		fputs("Signing secret (whsec_..., from the endpoint's page; it is not shown): ", stderr);
		n = read_line(text, size, waiting);
		fputc('\n', stderr);
		rest = n > 0 ? (size_t)n : 0;
		secretfile_trim(text, &rest);
	} while (n > 0 && rest == 0 && text[n - 1] == '\n');
	return n;
}

/*
 * Ask without echo. A signal only interrupts the reading; it is raised again after the echo is
 * on again.
 */
static ssize_t
ask_once(char *text, size_t size)
{
	static const int signals[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGTSTP};
	struct sigaction action = {.sa_handler = interrupt}, before[5];
	struct termios shown, hidden;
	sigset_t ours, waiting;

	if (tcgetattr(STDIN_FILENO, &shown) != 0)
		return -1;
	sigemptyset(&ours);
	for (int i = 0; i < 5; i++)
		sigaddset(&ours, signals[i]);
	sigprocmask(SIG_BLOCK, &ours, &waiting);
	for (int i = 0; i < 5; i++)
		sigaction(signals[i], &action, &before[i]);
	hidden = shown;
	hidden.c_lflag &= ~(tcflag_t)ECHO;
	/* In this order: input that is typed after the question appears is neither shown nor lost. */
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &hidden);
	ssize_t n = read_answer(text, size, &waiting);
	tcsetattr(STDIN_FILENO, TCSAFLUSH, &shown);
	for (int i = 0; i < 5; i++)
		sigaction(signals[i], &before[i], NULL);
	sigprocmask(SIG_SETMASK, &waiting, NULL);
	if (interrupted != 0)
		raise((int)interrupted);
	return n;
}

/* Ask again after a signal that did not end the process: ^Z and fg. */
static ssize_t
ask(char *text, size_t size)
{
	ssize_t n = -1;

	do {
		interrupted = 0;
		n = ask_once(text, size);
	} while (interrupted != 0);
	return n;
}

/* ---- add ---- */

/* Mention the held requests, which wait for this secret. */
static void
mention_hold(struct command_line *line)
{
	struct error error;
	char **names;
	struct store *store = store_open(&line->config, false, &error);

	if (store == NULL)
		return;
	int count = store_held(store, &names, &error);
	store_held_free(names);
	store_close(store);
	if (count > 0)
		printf("%d request(s) arrived before this secret and are held. The receiver adopts them "
		       "after\nits next request, psapi drain when it runs, psapi adopt at once.\n",
		    count);
}

static int
add(struct command_line *line, const char *text, size_t length)
{
	const char *path = line->config.secret_file;
	char fingerprint[FINGERPRINT_SIZE];
	struct error error;
	struct stat st;
	gid_t group = user_of_spool(AT_FDCWD, line->config.spool, &st) == 0 ? st.st_gid : (gid_t)-1;

	text = secretfile_trim(text, &length);
	switch (secretfile_add(path, text, length, (time_t)clock_unix(), group, fingerprint,
	    &error)) {
	case SECRETFILE_DONE:
		printf(
		    "%s: secret %s added; the receiver reads it at its next request\n", path, fingerprint);
		mention_hold(line);
		return EX_OK;
	case SECRETFILE_ALREADY:
		printf("%s: secret %s is there already\n", path, fingerprint);
		return EX_OK;
	case SECRETFILE_REFUSED:
		return error_log(&error);
	case SECRETFILE_ERROR:
		break;
	}
	error_log(&error);
	return EX_CANTCREAT;
}

static int
add_main(struct command_line *line)
{
	char text[SECRET_TEXT_MAX + 1];
	/* All of standard input: two lines must be refused, not cut to the first one. */
	ssize_t n = isatty(STDIN_FILENO) ? ask(text, SECRET_TEXT_MAX) :
	                                   io_read_all(STDIN_FILENO, text, SECRET_TEXT_MAX);
	const char *found;
	int status = EX_IOERR;
	bool blank;

	if (n < 0)
		log_line("standard input: %s", strerror(errno));
	else
		status = add(line, text, secrettext_clean(text, (size_t)n, &found, &blank));
	explicit_bzero(text, sizeof(text));
	return status;
}

/* ---- list ---- */

static void
print_good(const struct secretfile_entry *entry, const char *matched)
{
	char added[TERMINAL_TIME_SIZE], at[TERMINAL_TIME_SIZE];

	terminal_time_text(entry->added, added);
	printf("%-12s %-*s ", entry->fingerprint, 20 + (int)strlen(terminal_offset()), added);
	if (*matched != '\0')
		puts(terminal_time_text(matched, at));
	else
		puts("never, as far as the attempts log goes back");
}

static void
print_bad(const struct secretfile_entry *entry)
{
	char text[32];
	int n = snprintf(text, sizeof(text), "line %d ", entry->line);

	printf("%s%s", terminal_colour(COLOUR_BAD), text);
	columns_wrap(verify_secret_kind_text(entry->kind), (size_t)n, 4);
	printf("%s\n", terminal_colour(COLOUR_NONE));
}

static void
print_entry(bool json, const struct secretfile_entry *entry, const char *matched)
{
	if (json)
		terminal_print_json(last_match_json(entry, matched));
	else if (entry->kind == SECRET_GOOD)
		print_good(entry, matched);
	else
		print_bad(entry);
}

/* "never" is as far as the log goes back. */
static void
print_beginning(const char *spool)
{
	char at[TERMINAL_TIME_SIZE], unread[64] = "";
	int64_t begins;
	int compressed;

	if (!attempts_reader_begins(spool, &begins, &compressed))
		return;
	terminal_time(begins / NANOSECONDS, at);
	if (compressed > 0)
		snprintf(unread, sizeof(unread), "; %d compressed one(s) are not read", compressed);
	printf("The attempts log begins at %s%s.\n", at, unread);
}

static int
print_list(struct command_line *line, const struct secretfile_entry *entries, size_t count)
{
	struct last_match *matches = calloc(count + 1, sizeof(*matches));

	if (matches == NULL)
		return EX_OSERR;
	for (size_t i = 0; i < count; i++)
		memcpy(matches[i].fingerprint, entries[i].fingerprint, FINGERPRINT_SIZE);
	if (last_match_find(line->config.spool, matches, (int)count) != 0)
		log_line(
		    "%s: %s: it is not known when they last matched", line->config.spool, strerror(errno));
	if (!line->json && count > 0)
		printf("%s%-12s %-*s %s%s\n", terminal_colour(COLOUR_BOLD), "SECRET",
		    20 + (int)strlen(terminal_offset()), "ADDED", "LAST MATCHED",
		    terminal_colour(COLOUR_NONE));
	for (size_t i = 0; i < count; i++)
		print_entry(line->json, &entries[i], matches[i].at);
	for (size_t i = 0; !line->json && i < count; i++) {
		if (entries[i].kind != SECRET_GOOD || matches[i].at[0] != '\0')
			continue;
		print_beginning(line->config.spool);
		break;
	}
	free(matches);
	return EX_OK;
}

static int
list_secrets(struct command_line *line)
{
	struct secretfile_entry *entries;
	struct error error;
	size_t count;

	if (secretfile_list(line->config.secret_file, &entries, &count, &error) != 0) {
		command_explain_secret(line, line->config.secret_file, &error);
		return error_log(&error);
	}
	int status = print_list(line, entries, count);
	free(entries);
	if (count == 0)
		log_line("%s: holds no secret yet: psapi secret add", line->config.secret_file);
	return status;
}

/* ---- drop ---- */

static int
drop_main(struct command_line *line, const char *given)
{
	const char *path = line->config.secret_file;
	char fingerprint[FINGERPRINT_SIZE] = "";
	struct error error;
	size_t left;

	if (strlen(given) != FINGERPRINT_SIZE - 1 ||
	    strspn(given, "0123456789abcdefABCDEF") != FINGERPRINT_SIZE - 1)
		return command_misused(line, "a fingerprint is 8 hex digits, as psapi secret list shows",
		    given);
	for (int i = 0; given[i] != '\0'; i++)
		fingerprint[i] = (char)tolower((unsigned char)given[i]);
	switch (secretfile_drop(path, fingerprint, &left, &error)) {
	case SECRETFILE_DONE:
		printf("%s: secret %s dropped, %zu left\n", path, fingerprint, left);
		if (left == 0)
			printf(
			    "A receiver that runs keeps the last good secrets in force: to revoke %s, add "
			    "another secret,\nor restart the receiver.\n",
			    fingerprint);
		return EX_OK;
	case SECRETFILE_ALREADY:
		log_line("%s: no secret %s there; psapi secret list shows all", path, fingerprint);
		return EX_DATAERR;
	default:
		error_log(&error);
		return EX_CANTCREAT;
	}
}

int
secret_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {COMMON_OPTIONS};

	if (command_option(line, argc, argv, "", names) != -1)
		return EX_USAGE;
	argc -= optind;
	argv += optind;
	int status = command_configure(line);
	if (status != EX_OK)
		return status;
	if (argc == 1 && strcmp(argv[0], "add") == 0)
		return add_main(line);
	if (argc == 1 && strcmp(argv[0], "list") == 0)
		return list_secrets(line);
	if (argc == 2 && strcmp(argv[0], "drop") == 0)
		return drop_main(line, argv[1]);
	if (argc > 1 && strcmp(argv[0], "add") == 0) {
		log_line(
		    "secret add: takes no argument, for a command line is seen by all users of the "
		    "machine; type the secret when asked, or give it on standard input");
		return EX_USAGE;
	}
	if (argc > 1 && strcmp(argv[0], "list") == 0)
		return command_misused(line, "list takes no argument", argv[1]);
	return command_misused(line, "add, list or drop FINGERPRINT",
	    argc > 2 ? argv[2] : argc > 0 ? argv[0] : NULL);
}
