/* Owns walks through the deliveries. */
#define _GNU_SOURCE
#include "web/walk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/clock.h"
#include "receiver/attempts.h"

enum {
	OLDER_MAX = 100,     /* lines before "since" that end it: what was held is out of order */
	LINES_PER_LOOK = 64, /* at the clock */
	BATCH = 500          /* rows of a shared store */
};

/* What a line means for the walk. */
enum step { GO_ON, STOP, END };

struct walk_state {
	struct log_walk *walk;
	long lines, older;
	enum step step; /* of the last line */
};

static bool
is_late(struct walk_state *w)
{
	return w->lines++ % LINES_PER_LOOK == LINES_PER_LOOK - 1 &&
	    clock_milliseconds() >= w->walk->deadline;
}

static enum step
take(struct walk_state *w, const struct attempts_line *line, const char *host)
{
	struct log_walk *walk = w->walk;
	bool late = is_late(w);
	int64_t at;

	if (!line->whole || !attempts_reader_time(line, &at))
		return late ? STOP : GO_ON;
	walk->reached = at;
	if (at < walk->since)
		return ++w->older >= OLDER_MAX ? END : late ? STOP : GO_ON;
	w->older = 0;
	if (walk->until != 0 && at >= walk->until)
		return late ? STOP : GO_ON;
	return !walk->visit(line, host, walk->data) || late ? STOP : GO_ON;
}

/* ---- the local log ---- */

static enum store_result
walk_log(struct web *web, struct walk_state *w, struct error *error)
{
	struct log_walk *walk = w->walk;
	struct attempts_line line;
	struct attempts_reader *reader =
	    attempts_reader_open(web->config->spool, ATTEMPTS_NEWEST_FIRST, true);

	if (reader == NULL) {
		error_set(error, EX_NOINPUT, NULL, "%s/" ATTEMPTS_FILE ": %s", web->config->spool,
		    strerror(errno));
		return STORE_FAILED;
	}
	if (*walk->cursor != '\0' && !attempts_reader_seek(reader, walk->cursor)) {
		attempts_reader_close(reader);
		return STORE_ABSENT;
	}
	if (*walk->cursor == '\0' && walk->until != 0)
		attempts_reader_until(reader, walk->until);
	w->step = GO_ON;
	while (w->step == GO_ON && attempts_reader_next(reader, &line))
		w->step = take(w, &line, NULL);
	walk->cursor[0] = '\0';
	if (w->step == STOP)
		attempts_reader_cursor(reader, walk->cursor);
	attempts_reader_close(reader);
	return STORE_OK;
}

/* ---- of all hosts ---- */

static int
visit_copy(const char *host, const char *text, int64_t at, int64_t serial, void *data)
{
	struct walk_state *w = data;
	struct attempts_line line;

	attempts_reader_parse(&line, text);
	w->step = take(w, &line, host);
	snprintf(w->walk->cursor, sizeof(w->walk->cursor), "%lld.%lld", (long long)at,
	    (long long)serial);
	return w->step != GO_ON;
}

static bool
read_cursor(const struct log_walk *walk, struct store_attempts_page *page)
{
	char *end;

	page->at = walk->until;
	if (*walk->cursor == '\0')
		return true;
	errno = 0;
	page->at = strtoll(walk->cursor, &end, 10);
	if (errno != 0 || page->at <= 0 || *end != '.')
		return false;
	page->serial = strtoll(end + 1, &end, 10);
	return errno == 0 && page->serial > 0 && *end == '\0';
}

static enum store_result
walk_copies(struct web *web, struct walk_state *w, struct error *error)
{
	struct store_attempts_page page = {.visit = visit_copy, .data = w};
	enum store_result result;

	if (!read_cursor(w->walk, &page))
		return STORE_ABSENT;
	w->step = GO_ON;
	do {
		page.count = BATCH;
		result = store_attempts_page(web->store, &page, error);
	} while (result == STORE_OK && w->step == GO_ON && page.count == BATCH);
	if (w->step != STOP)
		w->walk->cursor[0] = '\0';
	return result;
}

enum store_result
walk_newest(struct web *web, struct log_walk *walk, struct error *error)
{
	struct walk_state walker = {.walk = walk};

	walk->reached = 0;
	return store_is_shared(web->store) ? walk_copies(web, &walker, error) :
	                                     walk_log(web, &walker, error);
}
