/*
 * Owns the totals: which line of the attempts log counts for what, and how they are noted. What a
 * line says is not trusted to be short, or of few kinds: a log may be torn, and a client chooses
 * ids and, of what it signs, types.
 */
#define _GNU_SOURCE
#include "metrics/totals.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include <jansson.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "events.h"

#define OTHER "other"

enum {
	LINES_MAX = 5000000, /* at once; the next call goes on there */
	FUTURE_SECONDS = 60  /* a line from later than that was written under another clock */
};

const int64_t totals_bounds[TOTALS_BUCKETS] = {1000, 2500, 5000, 10000, 25000, 50000, 100000,
	250000, 500000, 1000000, 2500000, 5000000};

const char *
totals_type(size_t number)
{
	const char *known = events_known_type(number);

	if (known != NULL || (number > 0 && events_known_type(number - 1) == NULL))
		return known;
	return OTHER;
}

/* Whether these are letters of words of our own. */
static bool
is_word(const char *text, size_t length)
{
	return strspn(text, "abcdefghijklmnopqrstuvwxyz_") >= length;
}

/* ---- the note ---- */

static void
read_numbers(const json_t *array, int64_t *numbers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		numbers[i] = json_integer_value(json_array_get(array, i));
}

static json_t *
write_numbers(const int64_t *numbers, size_t count)
{
	json_t *array = json_array();

	for (size_t i = 0; i < count; i++)
		json_array_append_new(array, json_integer(numbers[i]));
	return array;
}

static int64_t
number(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

static void
read_pairs(const json_t *array, struct totals *t)
{
	const json_t *one;
	size_t i;

	json_array_foreach (array, i, one) {
		const char *outcome = json_string_value(json_array_get(one, 0));
		const char *reason = json_string_value(json_array_get(one, 1));
		if (outcome == NULL || reason == NULL || t->count == TOTALS_PAIRS_MAX ||
		    !is_word(outcome, strlen(outcome)) || !is_word(reason, strlen(reason)))
			continue;
		struct totals_pair *pair = &t->pairs[t->count++];
		snprintf(pair->outcome, sizeof(pair->outcome), "%s", outcome);
		snprintf(pair->reason, sizeof(pair->reason), "%s", reason);
		pair->count = json_integer_value(json_array_get(one, 2));
		pair->refused = json_integer_value(json_array_get(one, 3));
	}
}

static void
read_types(const json_t *object, struct totals *t)
{
	const char *type;

	for (size_t i = 0; i < TOTALS_TYPES_MAX && (type = totals_type(i)) != NULL; i++)
		t->accepted[i] = number(object, type);
}

/* All zero where there is no note, or none that can be read. */
static void
parse(const char *text, struct totals *t)
{
	json_t *note = text == NULL ? NULL : json_loads(text, 0, NULL);
	const char *log = json_string_value(json_object_get(note, "log"));

	memset(t, 0, sizeof(*t));
	if (log != NULL)
		snprintf(t->place.log, sizeof(t->place.log), "%s", log);
	t->place.offset = number(note, "offset");
	t->newest = number(note, "newest");
	t->suppressed = number(note, "suppressed");
	t->us = number(note, "us");
	read_pairs(json_object_get(note, "attempts"), t);
	read_types(json_object_get(note, "accepted"), t);
	read_numbers(json_object_get(note, "answers"), t->answers, TOTALS_BUCKETS + 1);
	const json_t *skews = json_object_get(note, "skews");
	t->skew_count = (int)json_array_size(skews);
	if (t->skew_count > TOTALS_SKEWS)
		t->skew_count = TOTALS_SKEWS;
	read_numbers(skews, t->skews, (size_t)t->skew_count);
	json_decref(note);
}

/* To be freed; NULL without memory. */
static char *
format(const struct totals *t)
{
	json_t *pairs = json_array(), *types = json_object();
	const char *type;

	for (int i = 0; i < t->count; i++)
		json_array_append_new(pairs, json_pack("[s,s,I,I]", t->pairs[i].outcome,
		    t->pairs[i].reason, (json_int_t)t->pairs[i].count, (json_int_t)t->pairs[i].refused));
	for (size_t i = 0; i < TOTALS_TYPES_MAX && (type = totals_type(i)) != NULL; i++)
		if (t->accepted[i] != 0)
			json_object_set_new(types, type, json_integer(t->accepted[i]));
	json_t *note = json_pack("{s:s,s:I,s:I,s:I,s:I,s:o,s:o,s:o,s:o}", "log", t->place.log,
	    "offset", (json_int_t)t->place.offset, "newest", (json_int_t)t->newest, "suppressed",
	    (json_int_t)t->suppressed, "us", (json_int_t)t->us, "attempts", pairs, "accepted", types,
	    "answers", write_numbers(t->answers, TOTALS_BUCKETS + 1), "skews",
	    write_numbers(t->skews, (size_t)t->skew_count));
	char *text = note == NULL ? NULL : json_dumps(note, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(note);
	return text;
}

/* ---- lines ---- */

/* A word of our own, or "other" for what is none. */
static void
copy_word(const struct attempts_line *line, enum attempts_member member, char *word, size_t size)
{
	size_t length = line->member[member].length;
	const char *text = line->member[member].text;

	if (text == NULL)
		*word = '\0';
	else if (length == 0 || length >= size || !is_word(text, length))
		snprintf(word, size, OTHER);
	else
		snprintf(word, size, "%.*s", (int)length, text);
}

static struct totals_pair *
look_up(struct totals *t, const char *outcome, const char *reason)
{
	for (int i = 0; i < t->count; i++)
		if (strcmp(t->pairs[i].outcome, outcome) == 0 && strcmp(t->pairs[i].reason, reason) == 0)
			return &t->pairs[i];
	return NULL;
}

/* The pair for an outcome and a reason; the last place is for all others, where there are many. */
static struct totals_pair *
find_pair(struct totals *t, const char *outcome, const char *reason)
{
	struct totals_pair *pair = look_up(t, outcome, reason);

	if (pair == NULL && t->count >= TOTALS_PAIRS_MAX - 1) {
		outcome = reason = OTHER;
		pair = look_up(t, outcome, reason);
	}
	if (pair != NULL)
		return pair;
	pair = &t->pairs[t->count == TOTALS_PAIRS_MAX ? t->count - 1 : t->count++];
	*pair = (struct totals_pair){.count = 0};
	snprintf(pair->outcome, sizeof(pair->outcome), "%s", outcome);
	snprintf(pair->reason, sizeof(pair->reason), "%s", reason);
	return pair;
}

/* "12.345" milliseconds as microseconds; -1: there are none. */
static int64_t
microseconds(const struct attempts_line *line)
{
	const char *text = line->member[ATTEMPTS_MS].text, *point;
	int64_t ms, fraction = 0, unit = 100;

	if (!attempts_reader_number(line, ATTEMPTS_MS, &ms) || ms < 0 || ms > INT32_MAX)
		return -1;
	point = memchr(text, '.', line->member[ATTEMPTS_MS].length);
	for (const char *p = point; p != NULL && unit > 0 && p[1] >= '0' && p[1] <= '9'; p++) {
		fraction += (p[1] - '0') * unit;
		unit /= 10;
	}
	return ms * 1000 + fraction;
}

static void
count_duration(struct totals *t, const struct attempts_line *line)
{
	int64_t us = microseconds(line);
	int bucket = 0;

	if (us < 0)
		return;
	while (bucket < TOTALS_BUCKETS && us > totals_bounds[bucket])
		bucket++;
	t->answers[bucket]++;
	t->us += us;
}

/* An authentic delivery of the sender's: its type, and its clock. Both cannot be forged. */
static void
count_delivery(struct totals *t, const struct attempts_line *line, int64_t at)
{
	const char *type = NULL;
	int64_t skew;
	size_t i = 0;

	if (attempts_reader_number(line, ATTEMPTS_SKEW, &skew)) {
		if (t->skew_count == TOTALS_SKEWS)
			memmove(t->skews, t->skews + 1, sizeof(t->skews) - sizeof(t->skews[0]));
		t->skew_count -= t->skew_count == TOTALS_SKEWS;
		t->skews[t->skew_count++] = skew;
	}
	if (!attempts_reader_is(line, ATTEMPTS_OUTCOME, "accepted"))
		return;
	while ((type = events_known_type(i)) != NULL && !attempts_reader_is(line, ATTEMPTS_TYPE, type))
		i++;
	if (i < TOTALS_TYPES_MAX && at > t->accepted[i])
		t->accepted[i] = at;
}

static void
count_line(struct totals *t, const struct attempts_line *line, int64_t at)
{
	bool test = attempts_reader_is_test(line);
	char outcome[16], reason[32];
	int64_t suppressed;

	copy_word(line, ATTEMPTS_OUTCOME, outcome, sizeof(outcome));
	if (*outcome == '\0')
		return; /* torn by a full disk */
	copy_word(line, ATTEMPTS_REASON, reason, sizeof(reason));
	struct totals_pair *pair = find_pair(t, outcome, reason);
	pair->count++;
	if (attempts_reader_number(line, ATTEMPTS_SUPPRESSED, &suppressed) && suppressed > 0)
		t->suppressed += suppressed;
	count_duration(t, line);
	if (line->member[ATTEMPTS_WEBHOOK_ID].text == NULL || test)
		return;
	pair->refused += strcmp(outcome, "rejected") == 0 || strcmp(outcome, "error") == 0;
	if (line->member[ATTEMPTS_KEY].text != NULL)
		count_delivery(t, line, at);
}

/* ---- the log ---- */

/* Where no log has the place, a line that is not newer was counted before. */
static void
read_lines(struct attempts_reader *reader, struct totals *t, int64_t now)
{
	bool resumed = attempts_reader_resume(reader, &t->place);
	int64_t before = t->newest, latest = (now + FUTURE_SECONDS) * NANOSECONDS;
	struct attempts_line line;

	if (!resumed && before != 0)
		attempts_reader_since(reader, before);
	for (long i = 0; i < LINES_MAX && attempts_reader_next(reader, &line); i++) {
		int64_t at = 0;
		bool known = attempts_reader_time(&line, &at);
		if (!resumed && (!known || at <= before) && before != 0)
			continue;
		if (known && at > t->newest && at <= latest)
			t->newest = at;
		count_line(t, &line, at < latest ? at : now * NANOSECONDS);
	}
	attempts_reader_place(reader, &t->place);
}

static int
count_log(const struct config *config, struct store *store, struct totals *t, struct error *error)
{
	struct attempts_reader *reader =
	    attempts_reader_open(config->spool, ATTEMPTS_OLDEST_FIRST, true);
	struct error ignored;

	if (reader == NULL) {
		error_set(error, EX_NOINPUT, NULL, "%s/attempts.jsonl: %s", config->spool, strerror(errno));
		return -1;
	}
	char *before = store_note_read(store, STORE_NOTE_METRICS);
	parse(before, t);
	read_lines(reader, t, clock_unix());
	attempts_reader_close(reader);
	char *after = format(t);
	if (after != NULL && (before == NULL || strcmp(before, after) != 0))
		store_note_write(store, STORE_NOTE_METRICS, after, &ignored);
	free(before);
	free(after);
	return 0;
}

int
totals_update(const struct config *config, struct store *store, struct totals *totals,
    struct error *error)
{
	int lock = store_lock(store, STORE_LOCK_NOTES, error);

	memset(totals, 0, sizeof(*totals));
	if (lock < 0)
		return -1;
	int result = count_log(config, store, totals, error);
	store_unlock(store, lock);
	return result;
}

void
totals_read(struct store *store, struct totals *totals)
{
	char *note = store_note_read(store, STORE_NOTE_METRICS);

	parse(note, totals);
	free(note);
}

int64_t
totals_accepted(const struct totals *totals, const char *type)
{
	const char *known;

	for (size_t i = 0; i < TOTALS_TYPES_MAX && (known = totals_type(i)) != NULL; i++)
		if (strcmp(known, type) == 0)
			return totals->accepted[i];
	return 0;
}

static int
compare(const void *a, const void *b)
{
	int64_t one = *(const int64_t *)a, two = *(const int64_t *)b;

	return one < two ? -1 : one > two;
}

bool
totals_skew(const struct totals *totals, int64_t *seconds)
{
	int64_t sorted[TOTALS_SKEWS];

	if (totals->skew_count == 0)
		return false;
	memcpy(sorted, totals->skews, sizeof(sorted));
	qsort(sorted, (size_t)totals->skew_count, sizeof(sorted[0]), compare);
	*seconds = sorted[totals->skew_count / 2];
	return true;
}
