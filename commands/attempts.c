/*
 * psapi attempts: the attempts log as a table. The log is read as a stream, and only
 * the last lines that are meant are kept.
 */
#define _GNU_SOURCE
#include "receiver/attempts.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands/command.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/terminal.h"
#include "base/datetime.h"

enum { LINES_DEFAULT = 20, LINES_MAX = 10000000, POLL_MS = 1000 };

struct reader {
	struct command_line *line;
	const char *outcome; /* NULL: any */
	int64_t since;       /* nanoseconds; 0: ever */
	long last;           /* how many to show; negative: all */
	char **kept;         /* ring of the last lines that are meant */
	long count;          /* how many were kept, ever */
	FILE *file;          /* the log, or NULL */
	char *text;          /* the line being read */
	size_t room, length; /* of it; a line may come in pieces */
	bool head;           /* the head of the table was printed */
};

/* ---- a line ---- */

static const char *
text_of(const json_t *attempt, const char *key)
{
	const char *text = json_string_value(json_object_get(attempt, key));

	return text != NULL ? text : "";
}

/* A number as text; "" if there is none. */
static void
number_of(const json_t *attempt, const char *key, char *text, size_t size)
{
	const json_t *value = json_object_get(attempt, key);

	*text = '\0';
	if (json_is_integer(value))
		snprintf(text, size, "%lld", (long long)json_integer_value(value));
	else if (json_is_real(value))
		snprintf(text, size, "%.1f", json_real_value(value));
}

/* Whether the line is meant. One that cannot be read (torn by a full disk) has no outcome or time. */
static bool
is_meant(const struct reader *r, const char *text)
{
	if (r->outcome == NULL && r->since == 0)
		return true;
	json_t *attempt = json_loads(text, 0, NULL);
	int64_t at;
	bool meant = (r->outcome == NULL || strcmp(text_of(attempt, "outcome"), r->outcome) == 0) &&
	    (r->since == 0 || (datetime_parse(text_of(attempt, "at"), &at) && at >= r->since));
	json_decref(attempt);
	return meant;
}

/* Of an outcome; COLOUR_NONE: there is none of that name. */
static enum colour
colour_of(const char *outcome)
{
	static const struct {
		const char *outcome;
		enum colour colour;
	} colours[] = {{"accepted", COLOUR_GOOD}, {"duplicate", COLOUR_DIM}, {"held", COLOUR_WARN},
		{"ignored", COLOUR_WARN}, {"rejected", COLOUR_BAD}, {"error", COLOUR_BAD}};

	for (size_t i = 0; i < sizeof(colours) / sizeof(colours[0]); i++)
		if (strcmp(colours[i].outcome, outcome) == 0)
			return colours[i].colour;
	return COLOUR_NONE;
}

static void
print_attempt(const json_t *attempt)
{
	const char *outcome = text_of(attempt, "outcome"), *type = text_of(attempt, "type");
	char status[24], bytes[24], skew[24], ms[24], suppressed[24];

	number_of(attempt, "status", status, sizeof(status));
	number_of(attempt, "bytes", bytes, sizeof(bytes));
	number_of(attempt, "skew_s", skew, sizeof(skew));
	number_of(attempt, "ms", ms, sizeof(ms));
	number_of(attempt, "suppressed", suppressed, sizeof(suppressed));
	printf("%-24s  %s%-9s  %3s%s  ", terminal_column(text_of(attempt, "at")), terminal_colour(colour_of(outcome)),
	    terminal_column(outcome), terminal_column(status), terminal_colour(COLOUR_NONE));
	printf("%-32s  %-15s  %7s  %5s  %-8s  %6s  ", terminal_column(*type != '\0' ? type : text_of(attempt, "reason")),
	    terminal_column(text_of(attempt, "remote_addr")), terminal_column(bytes), terminal_column(skew),
	    terminal_column(text_of(attempt, "key")), terminal_column(ms));
	printf("%s", terminal_column(text_of(attempt, "webhook_id")));
	if (*suppressed != '\0')
		printf("  (and %s rejected ones that are not listed)", terminal_column(suppressed));
	putchar('\n');
}

static void
print_line(struct reader *r, const char *text)
{
	json_t *attempt = json_loads(text, 0, NULL);

	if (r->line->json && attempt != NULL) {
		terminal_print_json(attempt);
		return;
	}
	if (!r->head && !r->line->json)
		printf("%s%-24s  %-9s  %3s  %-32s  %-15s  %7s  %5s  %-8s  %6s  %s%s\n", terminal_colour(COLOUR_BOLD),
		    "TIME", "OUTCOME", "", "TYPE OR REASON", "FROM", "BYTES", "SKEW", "KEY", "MS", "WEBHOOK-ID",
		    terminal_colour(COLOUR_NONE));
	r->head = true;
	if (attempt != NULL)
		print_attempt(attempt);
	else if (!r->line->json)
		printf("%s(torn line) %s%s\n", terminal_colour(COLOUR_DIM), terminal_column(text), terminal_colour(COLOUR_NONE));
	json_decref(attempt);
}

/* ---- the log ---- */

static bool
open_log(struct reader *r)
{
	int fd = openat(r->line->spool.root, ATTEMPTS_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);

	r->file = fd < 0 ? NULL : fdopen(fd, "r");
	if (r->file == NULL && fd >= 0)
		close(fd);
	r->length = 0;
	return r->file != NULL;
}

/* The next whole line, without its end; NULL where the log ends for now. */
static char *
next_line(struct reader *r)
{
	for (int c; r->file != NULL && (c = getc_unlocked(r->file)) != EOF;) {
		if (r->length + 1 >= r->room) {
			size_t room = r->room * 2 + 1024;
			char *text = realloc(r->text, room);
			if (text == NULL)
				return NULL;
			r->text = text;
			r->room = room;
		}
		if (c == '\n') {
			r->text[r->length] = '\0';
			r->length = 0;
			return r->text;
		}
		r->text[r->length++] = (char)c;
	}
	if (r->file != NULL)
		clearerr(r->file);
	return NULL;
}

/* Everything that there is: print it, or keep the last of it. */
static int
read_log(struct reader *r)
{
	for (char *text; (text = next_line(r)) != NULL;) {
		if (*text == '\0' || !is_meant(r, text))
			continue;
		if (r->last < 0) {
			print_line(r, text);
		} else if (r->last > 0) {
			char **slot = &r->kept[r->count++ % r->last];
			free(*slot);
			if ((*slot = strdup(text)) == NULL)
				return -1;
		}
	}
	return 0;
}

static void
print_kept(struct reader *r)
{
	long first = r->count > r->last ? r->count - r->last : 0;

	for (long i = first; r->last > 0 && i < r->count; i++) {
		print_line(r, r->kept[i % r->last]);
		free(r->kept[i % r->last]);
		r->kept[i % r->last] = NULL;
	}
	r->last = -1; /* whatever comes from now on */
}

/* ---- following ---- */

/* The file at the name is another one, or was cut: read on from its beginning. */
static void
follow_rotation(struct reader *r)
{
	struct stat named, open;
	int root = r->line->spool.root;

	if (fstatat(root, ATTEMPTS_FILE, &named, AT_SYMLINK_NOFOLLOW) != 0)
		return; /* renamed, and nothing came since */
	if (r->file != NULL && fstat(fileno(r->file), &open) == 0 && open.st_ino == named.st_ino &&
	    open.st_dev == named.st_dev) {
		if (open.st_size < ftello(r->file))
			rewind(r->file);
		return;
	}
	if (r->file != NULL) {
		read_log(r); /* what came before it was renamed */
		fclose(r->file);
	}
	open_log(r);
}

static int
follow(struct reader *r)
{
	struct pollfd watch = {.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), .events = POLLIN};
	char events[4096];

	/* Without inotify (its limits are low on some machines), look once a second. */
	bool watching = watch.fd >= 0 &&
	    inotify_add_watch(watch.fd, r->line->config.spool, IN_MODIFY | IN_CREATE | IN_MOVED_TO) >= 0;
	for (;;) {
		follow_rotation(r);
		if (read_log(r) != 0)
			return EX_OSERR;
		if (fflush(stdout) != 0)
			return EX_OK; /* nobody reads on */
		poll(&watch, watching ? 1 : 0, watching ? -1 : POLL_MS);
		while (watching && read(watch.fd, events, sizeof(events)) > 0)
			continue;
	}
}

static int
run(struct reader *r, bool following)
{
	int status = command_open(r->line);

	if (status != EX_OK)
		return status;
	if (!open_log(r) && (errno != ENOENT || !following)) {
		log_line("%s/%s: %s%s", r->line->config.spool, ATTEMPTS_FILE, strerror(errno),
		    errno == ENOENT ? ": nothing was delivered yet" : "");
		return errno == ENOENT ? EX_OK : errno == EACCES ? EX_NOPERM : EX_NOINPUT;
	}
	if (r->last > 0 && (r->kept = calloc((size_t)r->last, sizeof(*r->kept))) == NULL)
		return EX_OSERR;
	if (read_log(r) != 0)
		return EX_OSERR;
	print_kept(r);
	status = following ? follow(r) : EX_OK;
	free(r->kept);
	free(r->text);
	if (r->file != NULL)
		fclose(r->file);
	return status;
}

static bool
parse_count(const char *text, long *count)
{
	char *end;

	*count = strtol(text, &end, 10);
	return *text >= '0' && *text <= '9' && *end == '\0' && *count <= LINES_MAX;
}

int
attempts_main(struct command_line *line, int argc, char **argv)
{
	enum { OPTION_OUTCOME = OPTION_OWN, OPTION_SINCE };
	static const struct option names[] = {{"follow", no_argument, NULL, 'f'},
		{"lines", required_argument, NULL, 'n'},
		{"outcome", required_argument, NULL, OPTION_OUTCOME},
		{"since", required_argument, NULL, OPTION_SINCE}, COMMON_OPTIONS};
	struct reader r = {.line = line, .last = LINES_DEFAULT};
	bool following = false, counted = false;

	for (int option; (option = command_option(line, argc, argv, "fn:", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		following |= option == 'f';
		counted |= option == 'n';
		if (option == 'n' && !parse_count(optarg, &r.last))
			return command_misused(line, "-n takes a number", optarg);
		if (option == OPTION_OUTCOME && colour_of(r.outcome = optarg) == COLOUR_NONE)
			return command_misused(line, "--outcome takes accepted, duplicate, held, ignored, "
			    "rejected or error", optarg);
		if (option == OPTION_SINCE && !datetime_argument(optarg, clock_unix(), &r.since))
			return command_misused(line, "--since takes 2025-07-24, 2025-07-24T22:51 or an age like 12h",
			    optarg);
	}
	if (optind < argc)
		return command_misused(line, "attempts takes options alone", argv[optind]);
	if (r.since != 0 && !counted)
		r.last = -1;
	return run(&r, following);
}
