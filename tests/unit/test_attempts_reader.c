/*
 * Owns what attempts_reader.h promises: every whole line once, in both directions, across
 * rotation, whatever the lines are; and what is found in them.
 */
#include "helpers.h"

#include <errno.h>

#include "base/datetime.h"
#include "receiver/attempts_reader.h"

#define LOG "attempts.jsonl"

/* All lines, each with a newline. The caller frees it. */
static char *
read_with(struct attempts_reader *reader)
{
	struct attempts_line line;
	char *text = calloc(1, 1), *more;

	while (attempts_reader_next(reader, &line)) {
		assert_int_equal(strlen(line.text), line.length);
		assert_true(asprintf(&more, "%s%s\n", text, line.text) >= 0);
		free(text);
		text = more;
	}
	return text;
}

static char *
read_all(const char *dir, enum attempts_order order, bool rotated)
{
	struct attempts_reader *reader = attempts_reader_open(dir, order, rotated);

	assert_non_null(reader);
	char *text = read_with(reader), *rest = read_with(reader);
	assert_string_equal(rest, "");
	free(rest);
	attempts_reader_close(reader);
	return text;
}

static void
append(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

TEST(whole_lines_in_both_directions)
{
	static const struct {
		const char *log, *oldest_first, *newest_first;
	} rows[] = {
		{"", "", ""},
		{"\n", "", ""},
		{"\n\n\n", "", ""},
		{"a\n", "a\n", "a\n"},
		{"a\nb\nc\n", "a\nb\nc\n", "c\nb\na\n"},
		{"\n\na\n\n\nb\n\n", "a\nb\n", "b\na\n"},
		{"a\nb", "a\n", "a\n"}, /* being written, or torn */
		{"torn", "", ""},
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		file_write(in(*state, LOG), rows[i].log, 0600);
		char *text = read_all(*state, ATTEMPTS_OLDEST_FIRST, false);
		assert_string_equal(text, rows[i].oldest_first);
		free(text);
		text = read_all(*state, ATTEMPTS_NEWEST_FIRST, false);
		assert_string_equal(text, rows[i].newest_first);
		free(text);
	}
}

/* Lines of every length around the buffer's, against a second opinion. */
TEST(lines_of_any_length)
{
	static const size_t lengths[] = {1, 65535, 65536, 65537, 131072, 262143, 262144, 262145, 300000,
		524288, 700000, 3};
	static char log[4 << 20];
	size_t n = 0, last = ROWS(lengths) - 1;
	struct attempts_line line;

	for (size_t i = 0; i <= last; i++) {
		memset(log + n, 'a' + (int)i, lengths[i]);
		n += lengths[i];
		log[n++] = '\n';
	}
	log[n] = '\0';
	file_write(in(*state, LOG), log, 0600);
	for (int backwards = 0; backwards < 2; backwards++) {
		struct attempts_reader *reader = attempts_reader_open(*state,
		    backwards ? ATTEMPTS_NEWEST_FIRST : ATTEMPTS_OLDEST_FIRST, false);
		assert_non_null(reader);
		for (size_t i = 0; i <= last; i++) {
			size_t which = backwards ? last - i : i;
			assert_true(attempts_reader_next(reader, &line));
			assert_int_equal(line.length, lengths[which] < 65536 ? lengths[which] : 65536);
			assert_int_equal(line.text[0], 'a' + (int)which);
			assert_int_equal(line.text[line.length - 1], 'a' + (int)which);
			assert_false(line.whole);
		}
		assert_false(attempts_reader_next(reader, &line));
		attempts_reader_close(reader);
	}
}

TEST(many_lines)
{
	enum { LINES = 50000 };
	char *log = malloc(LINES * 40), expected[40];
	struct attempts_line line;
	size_t n = 0;
	int64_t number;

	assert_non_null(log);
	for (int i = 0; i < LINES; i++)
		n += (size_t)sprintf(log + n, "{\"bytes\":%d,\"x\":\"%.*s\"}\n", i, i % 7, "xxxxxxx");
	file_write(in(*state, LOG), log, 0600);
	struct attempts_reader *up = attempts_reader_open(*state, ATTEMPTS_OLDEST_FIRST, false);
	struct attempts_reader *down = attempts_reader_open(*state, ATTEMPTS_NEWEST_FIRST, false);
	for (int i = 0; i < LINES; i++) {
		assert_true(attempts_reader_next(up, &line));
		assert_true(line.whole && attempts_reader_number(&line, ATTEMPTS_BYTES, &number));
		assert_int_equal(number, i);
		assert_true(attempts_reader_next(down, &line));
		snprintf(expected, sizeof(expected), "{\"bytes\":%d,\"x\":\"%.*s\"}", LINES - 1 - i,
		    (LINES - 1 - i) % 7, "xxxxxxx");
		assert_string_equal(line.text, expected);
	}
	assert_false(attempts_reader_next(up, &line));
	assert_false(attempts_reader_next(down, &line));
	attempts_reader_close(up);
	attempts_reader_close(down);
	free(log);
}

TEST(the_rotated_log_is_the_older_part)
{
	char *text;

	file_write(in(*state, LOG), "c\nd\n", 0600);
	file_write(in(*state, LOG ".1"), "a\nb\ntorn", 0600);
	text = read_all(*state, ATTEMPTS_OLDEST_FIRST, true);
	assert_string_equal(text, "a\nb\nc\nd\n");
	free(text);
	text = read_all(*state, ATTEMPTS_NEWEST_FIRST, true);
	assert_string_equal(text, "d\nc\nb\na\n");
	free(text);
	text = read_all(*state, ATTEMPTS_NEWEST_FIRST, false);
	assert_string_equal(text, "d\nc\n");
	free(text);
	unlink(in(*state, LOG));
	text = read_all(*state, ATTEMPTS_NEWEST_FIRST, true);
	assert_string_equal(text, "b\na\n");
	free(text);
	/* Renamed between the two opens: one file, and its lines once. */
	assert_int_equal(link(in(*state, LOG ".1"), in(*state, LOG)), 0);
	text = read_all(*state, ATTEMPTS_NEWEST_FIRST, true);
	assert_string_equal(text, "b\na\n");
	free(text);
}

TEST(a_log_that_cannot_be_opened)
{
	struct attempts_reader *reader = attempts_reader_open(*state, ATTEMPTS_OLDEST_FIRST, true);
	struct attempts_line line;

	assert_non_null(reader); /* nothing was delivered yet */
	assert_false(attempts_reader_exists(reader));
	assert_false(attempts_reader_next(reader, &line));
	attempts_reader_close(reader);
	assert_int_equal(symlink("/etc/passwd", in(*state, LOG)), 0);
	assert_null(attempts_reader_open(*state, ATTEMPTS_OLDEST_FIRST, true));
	assert_int_equal(errno, ELOOP);
	assert_null(attempts_reader_open(in(*state, "nowhere"), ATTEMPTS_OLDEST_FIRST, true));
	assert_int_equal(errno, ENOENT);
	/* A directory and a FIFO are no logs, and stop nobody. */
	unlink(in(*state, LOG));
	assert_int_equal(mkfifo(in(*state, LOG), 0600), 0);
	assert_int_equal(mkdir(in(*state, LOG ".1"), 0700), 0);
	char *text = read_all(*state, ATTEMPTS_NEWEST_FIRST, true);
	assert_string_equal(text, "");
	free(text);
	int before = descriptors();
	attempts_reader_close(attempts_reader_open(*state, ATTEMPTS_OLDEST_FIRST, true));
	assert_int_equal(descriptors(), before);
}

static void
assert_follows(struct attempts_reader *reader, const char *expected)
{
	char *text = read_with(reader);

	assert_string_equal(text, expected);
	free(text);
}

TEST(following_goes_on_where_the_log_ended)
{
	for (int order = 0; order < 2; order++) {
		const char *log = in(*state, LOG);
		file_write(log, "a\nb\n", 0600);
		unlink(in(*state, LOG ".1"));
		struct attempts_reader *reader =
		    attempts_reader_open(*state, (enum attempts_order)order, true);
		append(log, "c\nhal"); /* before the first line was read: the iteration ends before it */
		assert_follows(reader, order == ATTEMPTS_OLDEST_FIRST ? "a\nb\n" : "b\na\n");
		attempts_reader_follow(reader);
		assert_follows(reader, "c\n");
		assert_follows(reader, "");
		append(log, "f\n");
		assert_follows(reader, "half\n");
		/* Renamed: what is still written to it comes before what the new one has. */
		assert_int_equal(rename(log, in(*state, LOG ".1")), 0);
		assert_follows(reader, "");
		append(in(*state, LOG ".1"), "late\n");
		append(log, "new\n");
		assert_follows(reader, "late\nnew\n");
		/* Cut to nothing, and shorter than before. */
		file_write(log, "x\n", 0600);
		assert_follows(reader, "x\n");
		assert_int_equal(unlink(log), 0);
		assert_follows(reader, "");
		attempts_reader_close(reader);
	}
}

TEST(following_a_log_that_is_made_later)
{
	struct attempts_reader *reader = attempts_reader_open(*state, ATTEMPTS_NEWEST_FIRST, true);

	assert_follows(reader, "");
	attempts_reader_follow(reader);
	assert_follows(reader, "");
	append(in(*state, LOG), "first\n");
	assert_follows(reader, "first\n");
	attempts_reader_close(reader);
}

/* The only line of a log that has this text. */
static void
line_of(
    const char *dir, const char *text, struct attempts_line *line, struct attempts_reader **reader)
{
	file_write(in(dir, LOG), text, 0600);
	append(in(dir, LOG), "\n");
	*reader = attempts_reader_open(dir, ATTEMPTS_OLDEST_FIRST, false);
	assert_non_null(*reader);
	assert_true(attempts_reader_next(*reader, line));
}

TEST(members)
{
	struct attempts_reader *reader;
	struct attempts_line line;
	int64_t number;

	line_of(*state,
	    "{ \"at\" : \"2026-01-02T03:04:05.678Z\", \"outcome\":\"accepted\",\"status\":200,"
	    "\"webhook_id\":\"a\\\"b\\\\\",\"skew_s\":-17,\"ms\":1.10,\"key\":\"0123abcd\","
	    "\"none\":null }",
	    &line, &reader);
	assert_true(line.whole);
	assert_true(attempts_reader_is(&line, ATTEMPTS_OUTCOME, "accepted"));
	assert_false(attempts_reader_is(&line, ATTEMPTS_OUTCOME, "accepte"));
	assert_false(attempts_reader_is(&line, ATTEMPTS_OUTCOME, "acceptedx"));
	assert_true(attempts_reader_is(&line, ATTEMPTS_WEBHOOK_ID, "a\\\"b\\\\"));
	assert_true(attempts_reader_is(&line, ATTEMPTS_KEY, "0123abcd"));
	assert_false(attempts_reader_is(&line, ATTEMPTS_TYPE, ""));
	assert_true(attempts_reader_number(&line, ATTEMPTS_SKEW, &number));
	assert_int_equal(number, -17);
	assert_false(attempts_reader_number(&line, ATTEMPTS_BYTES, &number));
	assert_false(attempts_reader_number(&line, ATTEMPTS_OUTCOME, &number));
	assert_true(attempts_reader_time(&line, &number));
	assert_int_equal(number, 1767323045678000000);
	attempts_reader_close(reader);
}

TEST(torn_lines_have_no_members)
{
	static const char *const rows[] = {"{\"outcome\":\"accepted\"", "{\"outcome\":\"accepted\",",
	    "{", "x", "{\"outcome\":\"accepted}", "{\"outcome\":\"accepted\"}}",
	    "{\"outcome\":\"accepted\"}{", "{\"outcome\"}", "{\"outcome\":}",
	    "{\"outcome\":\"accepted\",\"x\":{}}", "{\"outcome\":\"accepted\",\"x\":[1]}", "\"",
	    "{\"outcome\":\"accepted\\\"}", "{outcome:\"accepted\"}", "[\"outcome\"]"};
	struct attempts_reader *reader;
	struct attempts_line line;

	for (size_t i = 0; i < ROWS(rows); i++) {
		line_of(*state, rows[i], &line, &reader);
		assert_string_equal(line.text, rows[i]);
		assert_false(line.whole);
		assert_false(attempts_reader_is(&line, ATTEMPTS_OUTCOME, "accepted"));
		attempts_reader_close(reader);
	}
}

TEST(a_nul_ends_no_line)
{
	static const char log[] = "{\"outcome\":\"accepted\"}\0{}\n{\"outcome\":\"\0\"}\n";
	struct attempts_line line;
	int fd = open(in(*state, LOG), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	assert_int_equal(write(fd, log, sizeof(log) - 1), sizeof(log) - 1);
	close(fd);
	struct attempts_reader *reader = attempts_reader_open(*state, ATTEMPTS_NEWEST_FIRST, false);
	assert_true(attempts_reader_next(reader, &line));
	assert_string_equal(line.text, "{\"outcome\":\"?\"}");
	assert_false(line.whole);
	assert_true(attempts_reader_next(reader, &line));
	assert_string_equal(line.text, "{\"outcome\":\"accepted\"}?{}");
	assert_false(line.whole);
	attempts_reader_close(reader);
}

TEST(tests_of_our_own_are_told_from_the_senders)
{
	static const struct {
		const char *line;
		bool test;
	} rows[] = {
		{"{\"at\":\"x\",\"webhook_id\":\"msg_psapi0\",\"key\":\"01234567\"}", true},
		{"{\"webhook_id\":\"msg_psapi\"}", true},
		{"{\"webhook_id\":\"msg_2Kpsapi\"}", false},
		{"{\"webhook_id\":\"msg_psap\"}", false},
		{"{\"type\":\"msg_psapi\"}", false},
		{"{\"webhook_id\":\"x\\\",\\\"webhook_id\\\":\\\"msg_psapi\"}", false}, /* forged */
	};
	struct attempts_reader *reader;
	struct attempts_line line;

	for (size_t i = 0; i < ROWS(rows); i++) {
		line_of(*state, rows[i].line, &line, &reader);
		assert_int_equal(attempts_reader_is_test(&line), rows[i].test);
		attempts_reader_close(reader);
	}
}

/* ---- places ---- */

/* Read all that is new since the place, and move it. */
static void
assert_new(const char *dir, struct attempts_place *place, bool found, const char *expected)
{
	struct attempts_reader *reader = attempts_reader_open(dir, ATTEMPTS_OLDEST_FIRST, true);

	assert_non_null(reader);
	assert_int_equal(attempts_reader_resume(reader, place), found);
	char *text = read_with(reader);
	assert_string_equal(text, expected);
	free(text);
	attempts_reader_place(reader, place);
	attempts_reader_close(reader);
}

TEST(a_place_is_found_again_after_a_rotation)
{
	struct attempts_place place = {.offset = 0};
	const char *log = in(*state, LOG), *old = in(*state, LOG ".1");

	assert_new(*state, &place, false, "");
	append(log, "a\nb\nc");
	assert_new(*state, &place, false, "a\nb\n");
	append(log, "c\nd\n");
	assert_int_equal(rename(log, old), 0);
	assert_new(*state, &place, true, "cc\nd\n"); /* the new log is still missing */
	append(log, "torn");
	assert_new(*state, &place, true, "");
	append(log, "e\n");
	assert_new(*state, &place, true, "torne\n");
	assert_new(*state, &place, true, "");
}

/* The same file goes on with another first line, and may be longer than before. */
TEST(a_place_is_not_found_in_a_log_that_begins_anew)
{
	struct attempts_place place = {.offset = 0};

	file_write(in(*state, LOG), "a\nb\n", 0640);
	assert_new(*state, &place, false, "a\nb\n");
	file_write(in(*state, LOG), "c\nd\ne\n", 0640);
	assert_new(*state, &place, false, "c\nd\ne\n");
	file_write(in(*state, LOG), "c\n", 0640);
	assert_new(*state, &place, false, "c\n");
	file_write(in(*state, LOG), "c\nlonger\n", 0640);
	assert_new(*state, &place, true, "longer\n");
	file_write(in(*state, LOG), "c\nnow another line is at this place\n", 0640);
	assert_new(*state, &place, false, "c\nnow another line is at this place\n");
}

/* The line of a minute of 2026-01-01, as the receiver would write it. */
static void
append_minute(const char *path, int minute)
{
	char line[96];

	snprintf(line, sizeof(line), "{\"at\":\"2026-01-01T%02d:%02d:00.000Z\",\"n\":\"%d\"}\n",
	    minute / 60, minute % 60, minute);
	append(path, line);
}

/* The number in the next line; -1 if there is none. */
static int
next_number(struct attempts_reader *reader)
{
	struct attempts_line line;

	return attempts_reader_next(reader, &line) ? atoi(strstr(line.text, "\"n\":\"") + 5) : -1;
}

TEST(a_cursor_is_found_again)
{
	char cursor[ATTEMPTS_CURSOR_SIZE], end[ATTEMPTS_CURSOR_SIZE];

	for (int i = 0; i < 9; i++)
		append_minute(in(*state, LOG), i);
	struct attempts_reader *reader = attempts_reader_open(*state, ATTEMPTS_NEWEST_FIRST, true);
	attempts_reader_cursor(reader, end);
	assert_int_equal(next_number(reader), 8);
	assert_int_equal(next_number(reader), 7);
	attempts_reader_cursor(reader, cursor);
	attempts_reader_close(reader);
	/* Also after the log was rotated, and a new one was begun. */
	assert_int_equal(rename(in(*state, LOG), in(*state, LOG ".1")), 0);
	append_minute(in(*state, LOG), 9);
	reader = attempts_reader_open(*state, ATTEMPTS_NEWEST_FIRST, true);
	assert_true(attempts_reader_seek(reader, cursor));
	assert_int_equal(next_number(reader), 6);
	assert_true(attempts_reader_seek(reader, end));
	assert_int_equal(next_number(reader), 8);
	static const char *const wrong[] = {"", ".", "1", "1.", ".1", "x.1", "1.x", "-1.1", "1.-1",
		"1.1x", " 1.1", "99999999999999999999.1", "1.99999999999999999999", "1.1"};
	for (size_t i = 0; i < ROWS(wrong); i++)
		assert_false(attempts_reader_seek(reader, wrong[i]));
	assert_int_equal(next_number(reader), 7);
	attempts_reader_close(reader);
}

TEST(until_leaves_out_what_is_younger)
{
	enum { MINUTES = 600 };
	int64_t begin;

	assert_true(datetime_parse("2026-01-01", &begin));
	for (int i = 0; i < MINUTES; i++)
		append_minute(in(*state, i < 200 ? LOG ".1" : LOG), i);
	for (int i = 0; i <= MINUTES; i += i < 190 || i > 210 ? 37 : 1) {
		struct attempts_reader *reader = attempts_reader_open(*state, ATTEMPTS_NEWEST_FIRST, true);
		struct attempts_line line;
		int64_t at = 0, until = begin + i * 60 * NANOSECONDS;
		int younger = 0, first = -1;

		attempts_reader_until(reader, until);
		while (attempts_reader_next(reader, &line) && attempts_reader_time(&line, &at) &&
		    at >= until)
			younger++;
		if (at < until && i > 0)
			first = atoi(strstr(line.text, "\"n\":\"") + 5);
		assert_int_equal(first, i - 1);
		/* It looks in steps of 8 KiB: not at all the younger ones. */
		assert_true(younger < 8192 / 40 + 1);
		attempts_reader_close(reader);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		SANDBOX_TEST(whole_lines_in_both_directions),
		SANDBOX_TEST(lines_of_any_length),
		SANDBOX_TEST(many_lines),
		SANDBOX_TEST(the_rotated_log_is_the_older_part),
		SANDBOX_TEST(a_log_that_cannot_be_opened),
		SANDBOX_TEST(following_goes_on_where_the_log_ended),
		SANDBOX_TEST(following_a_log_that_is_made_later),
		SANDBOX_TEST(members),
		SANDBOX_TEST(torn_lines_have_no_members),
		SANDBOX_TEST(a_nul_ends_no_line),
		SANDBOX_TEST(tests_of_our_own_are_told_from_the_senders),
		SANDBOX_TEST(a_place_is_found_again_after_a_rotation),
		SANDBOX_TEST(a_place_is_not_found_in_a_log_that_begins_anew),
		SANDBOX_TEST(a_cursor_is_found_again),
		SANDBOX_TEST(until_leaves_out_what_is_younger),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
