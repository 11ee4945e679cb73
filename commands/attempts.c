/*
 * psapi attempts: the attempts log as a table. Owns the choice of lines, the table and the
 * waiting of --follow; attempts_reader.c reads the log.
 */
#define _GNU_SOURCE
#include "receiver/attempts.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/columns.h"
#include "base/datetime.h"
#include "base/json_text.h"
#include "base/log.h"
#include "base/terminal.h"
#include "commands/command.h"
#include "receiver/attempts_reader.h"

enum { LINES_DEFAULT = 20, LINES_MAX = 10000000, POLL_MS = 1000 };

struct query {
	struct command_line *line;
	const char *outcome; /* NULL: any */
	int64_t since;       /* nanoseconds; 0: ever */
	long last;           /* how many to show; negative: all */
	bool following;
	bool local;             /* of this host alone, from its own log */
	const char *host;       /* of the line that is printed; NULL: there is no such column */
	struct columns columns;
	bool begun; /* a line was printed, and the head of the table before it */
};

/* ---- a line ---- */

/* Whether the line is asked for. A torn one has no outcome and no time. */
static bool
is_selected(const struct query *q, const struct attempts_line *line)
{
	int64_t at;

	return (q->outcome == NULL || attempts_reader_is(line, ATTEMPTS_OUTCOME, q->outcome)) &&
	    (q->since == 0 || (attempts_reader_time(line, &at) && at >= q->since));
}

/* The colour of an outcome; COLOUR_NONE if there is no such outcome. */
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

static const char *
text_of(const json_t *attempt, const char *key)
{
	const char *text = json_string_value(json_object_get(attempt, key));

	return text != NULL ? text : "";
}

/* A number as text; "-" if there is none. */
static void
number_of(const json_t *attempt, const char *key, char *text, size_t size)
{
	const json_t *value = json_object_get(attempt, key);

	snprintf(text, size, "-");
	if (json_is_integer(value))
		snprintf(text, size, "%lld", (long long)json_integer_value(value));
	else if (json_is_real(value))
		snprintf(text, size, "%.1f", json_real_value(value));
}

enum { HOST = 1 }; /* the column that is there for a shared store alone */

static const struct columns_spec columns_of_attempts[] = {
	{"TIME", COLUMNS_TIME, 24, 19, 0}, {"HOST", COLUMNS_TEXT, 12, 0, 7},
	{"OUTCOME", COLUMNS_TEXT, 9, 0, 0}, {"", COLUMNS_NUMBER, 3, 0, 0},
	{"TYPE OR REASON", COLUMNS_TYPE, 32, 20, 0}, {"FROM", COLUMNS_TEXT, 15, 0, 6},
	{"BYTES", COLUMNS_NUMBER, 7, 0, 2}, {"SKEW", COLUMNS_NUMBER, 5, 0, 4},
	{"KEY", COLUMNS_TEXT, 8, 0, 3}, {"MS", COLUMNS_NUMBER, 6, 0, 1},
	{"WEBHOOK-ID", COLUMNS_TEXT, 31, 0, 5}};

static void
print_row(const struct query *q, const json_t *attempt)
{
	const char *outcome = text_of(attempt, "outcome"), *type = text_of(attempt, "type");
	char status[24], bytes[24], skew[24], ms[24], suppressed[24], at[TERMINAL_TIME_SIZE];
	char host[TERMINAL_ESCAPED_SIZE(64)] = "", note[128] = "";
	enum colour colour = colour_of(outcome);

	number_of(attempt, "status", status, sizeof(status));
	number_of(attempt, "bytes", bytes, sizeof(bytes));
	number_of(attempt, "skew_s", skew, sizeof(skew));
	number_of(attempt, "ms", ms, sizeof(ms));
	number_of(attempt, "suppressed", suppressed, sizeof(suppressed));
	if (*suppressed != '-')
		snprintf(note, sizeof(note), "(and %s rejected ones that are not listed)", suppressed);
	if (q->host != NULL)
		terminal_escape(host, sizeof(host), q->host, strnlen(q->host, 64), false);
	columns_row(&q->columns, (const struct columns_cell[]){
	    {terminal_time_text(text_of(attempt, "at"), at), COLOUR_NONE},
	    {*host != '\0' ? host : "-", COLOUR_NONE}, {terminal_column(outcome), colour},
	    {status, colour},
	    {terminal_column(*type != '\0' ? type : text_of(attempt, "reason")), COLOUR_NONE},
	    {terminal_column(text_of(attempt, "remote_addr")), COLOUR_NONE},
	    {bytes, COLOUR_NONE}, {skew, COLOUR_NONE},
	    {terminal_column(text_of(attempt, "key")), COLOUR_NONE},
	    {ms, COLOUR_NONE},
	    {terminal_column(text_of(attempt, "webhook_id")), COLOUR_NONE}}, note);
}

/* The line as it is, after a member of ours. */
static void
print_json_with_host(const struct query *q, const char *text)
{
	json_t *host = json_string(q->host);
	char *quoted = json_dumps(host, JSON_ENCODE_ANY | JSON_ENSURE_ASCII);

	printf("{\"host\":%s,", quoted);
	json_text_print_line(text + 1, strlen(text + 1), true);
	free(quoted);
	json_decref(host);
}

static void
print_line(struct query *q, const char *text)
{
	json_t *attempt = json_loads(text, 0, NULL);

	if (!q->begun && !q->line->json)
		columns_begin(&q->columns, columns_of_attempts,
		    sizeof(columns_of_attempts) / sizeof(columns_of_attempts[0]),
		    q->host == NULL ? 1U << HOST : 0);
	q->begun = true;
	if (attempt != NULL && q->line->json && q->host != NULL)
		print_json_with_host(q, text);
	else if (attempt != NULL && q->line->json)
		json_text_print_line(text, strlen(text), true);
	else if (attempt != NULL)
		print_row(q, attempt);
	else if (!q->line->json)
		printf("%s(torn line) %s%s\n", terminal_colour(COLOUR_DIM), terminal_column(text),
		    terminal_colour(COLOUR_NONE));
	json_decref(attempt);
}

/* ---- the lines ---- */

/* Print what the reader has, in its order. */
static void
print_all(struct query *q, struct attempts_reader *reader)
{
	struct attempts_line line;

	while (attempts_reader_next(reader, &line))
		if (is_selected(q, &line))
			print_line(q, line.text);
}

/* Print the last lines, which the reader gives newest first. Returns 0, or -1 without memory. */
static int
print_last(struct query *q, struct attempts_reader *reader)
{
	struct attempts_line line;
	char **kept = NULL;
	long count = 0, room = 0;
	int result = 0;

	while (result == 0 && count < q->last && attempts_reader_next(reader, &line)) {
		if (!is_selected(q, &line))
			continue;
		if (count == room) {
			char **grown = realloc(kept, (size_t)(room * 2 + 32) * sizeof(*kept));
			if (grown == NULL) {
				result = -1;
				break;
			}
			kept = grown;
			room = room * 2 + 32;
		}
		char *copy = strdup(line.text);
		if (copy == NULL)
			result = -1;
		else
			kept[count++] = copy;
	}
	while (count > 0) {
		if (result == 0)
			print_line(q, kept[count - 1]);
		free(kept[--count]);
	}
	free(kept);
	return result;
}

/* Print what is appended, until standard output is closed. */
static int
follow(struct query *q, struct attempts_reader *reader)
{
	struct pollfd watch = {.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK), .events = POLLIN};
	char events[4096];

	/* Without inotify (its limits are low on some machines), look once a second. */
	bool watching = watch.fd >= 0 &&
	    inotify_add_watch(watch.fd, q->line->config.spool, IN_MODIFY | IN_CREATE | IN_MOVED_TO) >=
	        0;
	attempts_reader_follow(reader);
	for (;;) {
		print_all(q, reader);
		if (fflush(stdout) != 0)
			return EX_OK;
		poll(&watch, watching ? 1 : 0, watching ? -1 : POLL_MS);
		while (watching && read(watch.fd, events, sizeof(events)) > 0)
			continue;
	}
}

/* ---- the lines of all hosts ---- */

/* store_attempts()'s visit. */
static int
print_copy(const char *host, const char *line, void *data)
{
	struct query *q = data;

	q->host = host;
	print_line(q, line);
	q->host = "";
	return 0;
}

/* Until standard output is closed. A failover is logged once, and waited for. */
static int
follow_shared(struct query *q, struct store_attempts *copies)
{
	enum store_result before = STORE_OK, result;
	struct error error;

	while (fflush(stdout) == 0) {
		poll(NULL, 0, POLL_MS);
		result = store_attempts(q->line->store, copies, &error);
		if (result != STORE_OK && error.status != EX_TEMPFAIL)
			return error_log(&error);
		if (result != STORE_OK && before == STORE_OK)
			error_log(&error);
		before = result;
	}
	return EX_OK;
}

static int
run_shared(struct query *q)
{
	static struct store_attempts_follow follow;
	struct store_attempts copies = {.since = q->since, .last = q->last, .outcome = q->outcome,
	    .follow = q->following ? &follow : NULL, .visit = print_copy, .data = q};
	struct error error;

	q->host = "";
	int status = command_status(store_attempts(q->line->store, &copies, &error), &error);
	copies.last = -1; /* as long as there is none */
	return status != EX_OK || !q->following ? status : follow_shared(q, &copies);
}

/* ---- the lines of this host ---- */

/* Whether all that is asked for is there: what was before may be gone, or in a compressed log. */
static void
tell_beginning(const struct query *q)
{
	char at[TERMINAL_TIME_SIZE], unread[96] = "";
	int64_t begins;
	int compressed;

	if (!attempts_reader_begins(q->line->config.spool, &begins, &compressed) ||
	    begins <= q->since || (q->line->json && compressed == 0))
		return;
	terminal_time(begins / NANOSECONDS, at);
	if (compressed > 0)
		snprintf(unread, sizeof(unread), "; %d older one(s) are compressed: zcat and jq read them",
		    compressed);
	log_line("%s/" ATTEMPTS_FILE ": begins at %s%s", q->line->config.spool, at, unread);
}

static int
run(struct query *q)
{
	int status = command_open(q->line);

	if (status != EX_OK)
		return status;
	if (store_is_shared(q->line->store) && !q->local)
		return run_shared(q);
	const char *spool = q->line->config.spool;
	struct attempts_reader *reader = attempts_reader_open(
	    spool, q->last < 0 ? ATTEMPTS_OLDEST_FIRST : ATTEMPTS_NEWEST_FIRST, true);
	if (reader == NULL) {
		log_line("%s/%s: %s", spool, ATTEMPTS_FILE, strerror(errno));
		return errno == EACCES ? EX_NOPERM : EX_NOINPUT;
	}
	if (q->since != 0)
		tell_beginning(q);
	if (q->last < 0) {
		attempts_reader_since(reader, q->since);
		print_all(q, reader);
	}
	if (q->last >= 0 && print_last(q, reader) != 0)
		status = EX_OSERR;
	if (status == EX_OK && q->following)
		status = follow(q, reader);
	else if (!q->begun && !attempts_reader_exists(reader))
		log_line("%s/%s: no such file: nothing was delivered yet", spool, ATTEMPTS_FILE);
	attempts_reader_close(reader);
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
	enum { OPTION_OUTCOME = OPTION_OWN, OPTION_SINCE, OPTION_LOCAL };
	static const struct option names[] = {{"follow", no_argument, NULL, 'f'},
		{"lines", required_argument, NULL, 'n'},
		{"outcome", required_argument, NULL, OPTION_OUTCOME},
		{"since", required_argument, NULL, OPTION_SINCE},
		{"local", no_argument, NULL, OPTION_LOCAL}, COMMON_OPTIONS};
	struct query q = {.line = line, .last = LINES_DEFAULT};
	bool counted = false;

	for (int option; (option = command_option(line, argc, argv, "fn:", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		q.following |= option == 'f';
		q.local |= option == OPTION_LOCAL;
		counted |= option == 'n';
		if (option == 'n' && !parse_count(optarg, &q.last))
			return command_misused(line, "-n takes a number", optarg);
		if (option == OPTION_OUTCOME && colour_of(q.outcome = optarg) == COLOUR_NONE)
			return command_misused(line, "--outcome takes accepted, duplicate, held, ignored, "
			    "rejected or error", optarg);
		if (option == OPTION_SINCE && !datetime_argument(optarg, clock_unix(), &q.since))
			return command_misused(
			    line, "--since takes 2025-07-24, 2025-07-24T22:51 or an age like 12h", optarg);
	}
	if (optind < argc)
		return command_misused(line, "attempts takes options alone", argv[optind]);
	if (q.since != 0 && !counted)
		q.last = -1;
	return run(&q);
}
