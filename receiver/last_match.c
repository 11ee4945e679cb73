/* Owns one question to the attempts log: the latest time at which each key matched. */
#include "receiver/last_match.h"

#include <string.h>

#include "receiver/attempts_reader.h"

enum {
	LINES_MAX = 5000000, /* a bound for the time that it takes */
	LINES_MORE = 1000    /* what was held is logged late, with the time at which it arrived */
};

static void
note(const struct attempts_line *line, struct last_match *matches, int count)
{
	const char *at = line->member[ATTEMPTS_AT].text;

	if (line->member[ATTEMPTS_AT].length != DATETIME_ISO_SIZE - 1 || attempts_reader_is_test(line))
		return;
	/* Times of one form and length: the later one compares as the greater text. */
	for (int i = 0; i < count; i++)
		if (attempts_reader_is(line, ATTEMPTS_KEY, matches[i].fingerprint) &&
		    strncmp(at, matches[i].at, DATETIME_ISO_SIZE - 1) > 0)
			memcpy(matches[i].at, at, DATETIME_ISO_SIZE - 1);
}

static bool
all_found(const struct last_match *matches, int count)
{
	for (int i = 0; i < count; i++)
		if (matches[i].at[0] == '\0')
			return false;
	return true;
}

int
last_match_find(const char *path, struct last_match *matches, int count)
{
	return last_match_find_within(path, matches, count, LINES_MAX);
}

int
last_match_find_within(const char *path, struct last_match *matches, int count, long lines)
{
	struct attempts_line line;
	long more = LINES_MORE;

	for (int i = 0; i < count; i++)
		memset(matches[i].at, 0, sizeof(matches[i].at));
	struct attempts_reader *reader = attempts_reader_open(path, ATTEMPTS_NEWEST_FIRST, true);
	if (reader == NULL)
		return -1;
	for (long i = 0; i < lines && more > 0 && attempts_reader_next(reader, &line); i++) {
		note(&line, matches, count);
		more -= all_found(matches, count) ? 1 : 0;
	}
	attempts_reader_close(reader);
	return 0;
}

json_t *
last_match_json(const struct secretfile_entry *entry, const char *matched)
{
	if (entry->kind != SECRET_GOOD)
		return json_pack("{s:i,s:s}", "line", entry->line, "unusable",
		    verify_secret_kind_text(entry->kind));
	return json_pack("{s:s,s:s*,s:s*}", "fingerprint", entry->fingerprint, "added",
	    *entry->added != '\0' ? entry->added : NULL, "matched", *matched != '\0' ? matched : NULL);
}
