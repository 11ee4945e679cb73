/*
 * Owns the rule which event of a producer counts, the table of producers by NPN, and the text of
 * what was forgotten.
 */
#define _GNU_SOURCE
#include "store/roster.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/datetime.h"
#include "base/io.h"
#include "base/text.h"

#define HEAD "roster 1 "

enum { SLOTS_LEAST = 1024, CHUNK = 64 * 1024, LINE_MAX_SIZE = 128 };

bool
roster_counts(const struct event *event, bool *active)
{
	size_t digits = strspn(event->npn, "0123456789");

	*active = strcmp(event->type, ROSTER_ACTIVATED) == 0;
	return (*active || strcmp(event->type, ROSTER_DEACTIVATED) == 0) && digits >= 1 &&
	    digits <= ROSTER_NPN_MAX && event->npn[digits] == '\0';
}

void
roster_free(struct roster *roster)
{
	free(roster->marks);
	free(roster->slots);
	memset(roster, 0, sizeof(*roster));
}

/* ---- the table ---- */

/* The upper half is mixed in: NPNs differ in their last digits. */
static size_t
hash(const struct roster *roster, const char *npn, int64_t when)
{
	uint64_t value = text_hash(TEXT_HASH, npn, strlen(npn));

	if (roster->every)
		value = text_hash(value, (const char *)&when, sizeof(when));
	return (size_t)(value ^ value >> 32);
}

static bool
is_of(const struct roster *roster, const struct roster_mark *mark, const char *npn, int64_t when)
{
	return (!roster->every || mark->when == when) && strcmp(mark->npn, npn) == 0;
}

/* The slot that has the mark, or where it belongs. There is a free one. */
static uint32_t *
slot_of(const struct roster *roster, const char *npn, int64_t when)
{
	size_t i = hash(roster, npn, when) & (roster->slot_count - 1);

	while (roster->slots[i] != 0 &&
	    !is_of(roster, &roster->marks[roster->slots[i] - 1], npn, when))
		i = (i + 1) & (roster->slot_count - 1);
	return &roster->slots[i];
}

static int
grow_slots(struct roster *roster)
{
	size_t count = roster->slot_count == 0 ? SLOTS_LEAST : 2 * roster->slot_count;
	uint32_t *slots = calloc(count, sizeof(*slots));

	if (slots == NULL)
		return -1;
	free(roster->slots);
	roster->slots = slots;
	roster->slot_count = count;
	for (size_t i = 0; i < roster->count; i++)
		*slot_of(roster, roster->marks[i].npn, roster->marks[i].when) = (uint32_t)i + 1;
	return 0;
}

static int
make_room(struct roster *roster)
{
	if (2 * (roster->count + 1) > roster->slot_count && grow_slots(roster) != 0)
		return -1;
	if (roster->count < roster->room)
		return 0;
	size_t room = roster->room + roster->room / 2 + SLOTS_LEAST / 2;
	struct roster_mark *marks = reallocarray(roster->marks, room, sizeof(*marks));
	if (marks == NULL)
		return -1;
	roster->marks = marks;
	roster->room = room;
	return 0;
}

/* The mark of an NPN, and of the time if each has one. *made: it is new. NULL without memory. */
static struct roster_mark *
mark_of(struct roster *roster, const char *npn, int64_t when, bool *made)
{
	if (make_room(roster) != 0)
		return NULL;
	uint32_t *slot = slot_of(roster, npn, when);
	*made = *slot == 0;
	if (*made) {
		struct roster_mark *mark = &roster->marks[roster->count++];
		*mark = (struct roster_mark){.when = when};
		text_copy(mark->npn, sizeof(mark->npn), npn, strlen(npn));
		*slot = (uint32_t)roster->count;
	}
	return &roster->marks[*slot - 1];
}

/* ---- what counts ---- */

int
roster_add(struct roster *roster, const char *npn, int64_t when, bool active, bool *changed)
{
	bool made;
	struct roster_mark *mark = mark_of(roster, npn, when, &made);

	if (mark == NULL)
		return -1;
	bool counts = made || when > mark->when || (when == mark->when && active && !mark->active);
	if (changed != NULL)
		*changed = counts;
	if (counts) {
		mark->when = when;
		mark->active = active;
	}
	return 0;
}

/* ---- the order ---- */

static int
compare(const void *a, const void *b)
{
	const struct roster_mark *x = a, *y = b;
	size_t m = strlen(x->npn), n = strlen(y->npn);

	int order = m != n ? (m < n ? -1 : 1) : strcmp(x->npn, y->npn);
	return order != 0 ? order : (x->when > y->when) - (x->when < y->when);
}

void
roster_sort(struct roster *roster)
{
	if (roster->count > 0)
		qsort(roster->marks, roster->count, sizeof(*roster->marks), compare);
}

/* ---- the text of what was forgotten ---- */

/* The next word of a line, which it ends there; NULL if there is none. */
static char *
word(char **line)
{
	char *text = strsep(line, " ");

	return text != NULL && *text != '\0' ? text : NULL;
}

/* "activated" or "deactivated". */
static bool
parse_state(const char *text, bool *active)
{
	*active = text != NULL && strcmp(text, "activated") == 0;
	return *active || (text != NULL && strcmp(text, "deactivated") == 0);
}

/* 1: added, or later than at; 0: it is no line of ours; -1: no memory. */
static int
read_mark(char *line, int64_t at, struct roster *roster)
{
	char *npn = word(&line), *time = word(&line);
	int64_t when;
	bool active;

	if (npn == NULL || strspn(npn, "0123456789") != strlen(npn) || strlen(npn) > ROSTER_NPN_MAX ||
	    time == NULL || !datetime_parse(time, &when) || !parse_state(line, &active))
		return 0;
	return when > at || roster_add(roster, npn, when, active, NULL) == 0 ? 1 : -1;
}

static bool
read_head(char *line, struct roster *roster, size_t *count)
{
	char *rest = line + strlen(HEAD), *end;
	int64_t until;

	if (strncmp(line, HEAD, strlen(HEAD)) != 0)
		return false;
	char *time = word(&rest);
	if (time == NULL || !datetime_parse(time, &until) || rest == NULL || *rest < '0' || *rest > '9')
		return false;
	errno = 0;
	*count = strtoull(rest, &end, 10);
	roster->forgotten = until / NANOSECONDS;
	return errno == 0 && *end == '\0';
}

int
roster_read(FILE *file, int64_t at, struct roster *roster, size_t *good)
{
	size_t size = 0, count = 0;
	char *line = NULL;
	int added = 1;
	ssize_t n = 0;

	*good = 0;
	while (added > 0 && (n = getline(&line, &size, file)) > 0 && line[n - 1] == '\n') {
		line[n - 1] = '\0';
		added = *good > 0 ? read_mark(line, at, roster) : read_head(line, roster, &count);
		*good += added > 0;
	}
	bool whole = added > 0 && n < 0 && *good > 0 && *good - 1 == count;
	int number = n < 0 && !feof(file) ? errno : added < 0 ? ENOMEM : 0;
	free(line);
	errno = number;
	return number != 0 ? -1 : whole;
}

int
roster_write(int fd, const struct roster *roster)
{
	char *text = malloc(CHUNK), until[DATETIME_TEXT_SIZE];
	int result = text == NULL ? -1 : 0;
	size_t length = 0;

	datetime_text(roster->forgotten, until);
	if (text != NULL)
		length = (size_t)snprintf(text, CHUNK, HEAD "%s %zu\n", until, roster->count);
	for (size_t i = 0; i < roster->count && result == 0; i++) {
		const struct roster_mark *mark = &roster->marks[i];
		char when[DATETIME_EXACT_SIZE];
		datetime_exact(mark->when, when);
		length += (size_t)snprintf(text + length, LINE_MAX_SIZE, "%s %s %s\n", mark->npn, when,
		    mark->active ? "activated" : "deactivated");
		if (length < CHUNK - LINE_MAX_SIZE)
			continue;
		result = io_write_all(fd, text, length);
		length = 0;
	}
	if (result == 0)
		result = io_write_all(fd, text, length);
	int saved = errno;
	free(text);
	errno = saved;
	return result;
}
