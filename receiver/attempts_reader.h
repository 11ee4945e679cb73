/*
 * Reading the attempts log: an iterator over its lines; nothing else reads them.
 * Memory is bounded, however large the log and its lines are.
 */
#ifndef PSAPI_ATTEMPTS_READER_H
#define PSAPI_ATTEMPTS_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct attempts_reader;

enum attempts_order { ATTEMPTS_OLDEST_FIRST, ATTEMPTS_NEWEST_FIRST };

/* Members of a line that a reader can ask for without parsing it. */
enum attempts_member {
	ATTEMPTS_AT,
	ATTEMPTS_OUTCOME,
	ATTEMPTS_WEBHOOK_ID,
	ATTEMPTS_TYPE,
	ATTEMPTS_BYTES,
	ATTEMPTS_SKEW,
	ATTEMPTS_KEY,
	ATTEMPTS_REASON,
	ATTEMPTS_MS,
	ATTEMPTS_NPN,
	ATTEMPTS_SUPPRESSED,
	ATTEMPTS_MEMBERS
};

/* One line. Valid until the next call. */
struct attempts_line {
	const char *text; /* without its newline, with a NUL at its end; others appear as '?' */
	size_t length;
	bool whole; /* it is one flat JSON object; else (torn by a full disk) it has no members */
	struct {
		const char *text; /* as it is written: without quotes, escapes not undone; NULL: absent */
		size_t length;
	} member[ATTEMPTS_MEMBERS];
};

/*
 * Open the log of the spool at path; with rotated, also the logs that were rotated, as the older
 * part: attempts.jsonl.N and attempts.jsonl-DATE, in the order of their first lines. Compressed
 * ones are counted and not read. A log that does not exist is an empty one, and so is a rotated
 * one that cannot be read. Returns NULL with errno if the log cannot be opened. The caller
 * closes it.
 */
struct attempts_reader *attempts_reader_open(
    const char *path, enum attempts_order order, bool rotated);
void attempts_reader_close(struct attempts_reader *reader);

/* Whether the log existed when it was opened. */
bool attempts_reader_exists(const struct attempts_reader *reader);

/*
 * Before the first line, of a reader of the oldest first: leave out the files that end before
 * this time, nanoseconds since 1970.
 */
void attempts_reader_since(struct attempts_reader *reader, int64_t since);

/* Where a reader stopped. All zero: at the beginning. */
struct attempts_place {
	char log[65];   /* SHA-256 of the log's first line, as hex: it is known after a rotation, too */
	int64_t offset; /* in that log, behind a newline */
};

/*
 * Before the first line, of a reader of the oldest first: go on at that place, in whichever file
 * the log is now. Returns false if no log has it (removed, compressed, cut): then all are read.
 */
bool attempts_reader_resume(struct attempts_reader *reader, const struct attempts_place *place);

/* The place behind the last line that was read. Of a reader of the oldest first. */
void attempts_reader_place(struct attempts_reader *reader, struct attempts_place *place);

/*
 * When the logs of the spool at path begin, as far as they can be read: the time of the first
 * line. *compressed: how many are not read. Returns false if there is no line with a time.
 */
bool attempts_reader_begins(const char *path, int64_t *nanoseconds, int *compressed);

/*
 * Read the next line that is complete and not empty. Of a line over 64 KiB (the receiver writes
 * none) only the beginning is given, as of a torn one. Returns false after the last one, as the
 * log was when it was opened.
 */
bool attempts_reader_next(struct attempts_reader *reader, struct attempts_line *line);

/*
 * From now on attempts_reader_next() gives what was appended since the log was opened,
 * oldest first. It returns false where the log ends for now, and goes on with another call;
 * also when the log was renamed and made anew, or cut to nothing.
 */
void attempts_reader_follow(struct attempts_reader *reader);

/* ---- places, of a reader of the newest first ---- */

/* Room for a cursor and a NUL. */
#define ATTEMPTS_CURSOR_SIZE 48

/* Where the lines that were not yet given end, as a text for attempts_reader_seek(). */
void attempts_reader_cursor(
    const struct attempts_reader *reader, char cursor[ATTEMPTS_CURSOR_SIZE]);

/*
 * Go on where a cursor was made, also after the log was rotated. Returns false if that place is
 * gone, or the text is no cursor: then nothing is changed.
 */
bool attempts_reader_seek(struct attempts_reader *reader, const char *cursor);

/*
 * Leave out what was logged at this time (nanoseconds since 1970) or later. It takes steps of
 * halves, not of lines; lines that are out of order (of what was held) may be left out or not.
 */
void attempts_reader_until(struct attempts_reader *reader, int64_t until);

/* A line that is somewhere else, as attempts_reader_next() would give it. The text is borrowed. */
void attempts_reader_parse(struct attempts_line *line, const char *text);

/* ---- members ---- */

/* Whether a member is there and has this value. */
bool attempts_reader_is(
    const struct attempts_line *line, enum attempts_member member, const char *value);

/*
 * Read a member that is a number, without its fraction. Returns false if it is absent or no
 * such number.
 */
bool attempts_reader_number(
    const struct attempts_line *line, enum attempts_member member, int64_t *number);

/* Read the time of the attempt, nanoseconds since 1970. Returns false if there is none. */
bool attempts_reader_time(const struct attempts_line *line, int64_t *nanoseconds);

/*
 * Whether the delivery was one of `psapi send` or `psapi doctor` (EVENTS_TEST_ID): it tells
 * nothing of the sender, its clock or the secrets that it uses.
 */
bool attempts_reader_is_test(const struct attempts_line *line);

#endif
