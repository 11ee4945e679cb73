/* Owns what terminal.h promises: no text from outside steers a terminal. */
#include "helpers.h"

#include <time.h>

#include "base/terminal.h"
#include "base/text.h"

#define B(text) text, sizeof(text) - 1

TEST(text_is_escaped)
{
	static const struct {
		const char *text;
		size_t length;
		bool lines;
		const char *escaped;
	} rows[] = {
		{B("plain ~ text"), false, "plain ~ text"},
		{B("\x1b[31m"), false, "\\x1b[31m"},
		{B("a\nb\tc\r"), false, "a\\x0ab\\x09c\\x0d"},
		{B("a\nb\tc\r"), true, "a\nb\tc\\x0d"},
		{B("\x7f\x80\x9b\xff"), true, "\\x7f\\x80\\x9b\\xff"},
		{B("\xc3\xa9"), false, "\\xc3\\xa9"},
		{B("\\x1b"), false, "\\x5cx1b"}, /* an escape is not to be forged either */
		{B("a\0b"), false, "a\\x00b"},
		{B(""), false, ""},
	};
	char text[TERMINAL_ESCAPED_SIZE(32)];

	for (size_t i = 0; i < ROWS(rows); i++)
		assert_string_equal(
		    terminal_escape(text, sizeof(text), rows[i].text, rows[i].length, rows[i].lines),
		    rows[i].escaped);
}

TEST(text_is_cut_at_whole_characters)
{
	char text[TERMINAL_ESCAPED_SIZE(2)];

	assert_string_equal(
	    terminal_escape(text, sizeof(text), B("\xff\xff\xff"), false), "\\xff\\xff");
	assert_string_equal(terminal_escape(text, 5, B("\xff\xff"), false), "\\xff");
	assert_string_equal(terminal_escape(text, 4, B("\xff"), false), "");
	assert_string_equal(terminal_escape(text, 1, B("a"), false), "");
}

TEST(several_columns_in_one_line)
{
	char line[64];

	snprintf(line, sizeof(line), "%s %s %s %s", terminal_column("a"), terminal_column(""),
	    terminal_column("\n"), terminal_column("b"));
	assert_string_equal(line, "a - \\x0a b");
}

/* Letters that are inserted, removed, changed, or swapped with the next one. */
TEST(distance_of_words)
{
	static const struct {
		const char *a, *b;
		size_t distance;
	} rows[] = {{"", "", 0}, {"", "ab", 2}, {"list", "list", 0}, {"lst", "list", 1},
		{"listt", "list", 1}, {"lost", "list", 1}, {"lsit", "list", 1}, {"attemps", "attempts", 1},
		{"docotr", "doctor", 1}, {"ca", "abc", 3}, {"show", "drain", 5}};
	char longest[80];

	for (size_t i = 0; i < ROWS(rows); i++) {
		assert_int_equal(text_distance(rows[i].a, rows[i].b), rows[i].distance);
		assert_int_equal(text_distance(rows[i].b, rows[i].a), rows[i].distance);
	}
	memset(longest, 'a', sizeof(longest));
	longest[63] = '\0';
	assert_int_equal(text_distance(longest, ""), 63);
	longest[63] = 'a';
	longest[64] = '\0';
	assert_true(text_distance(longest, "") == SIZE_MAX);
}

/* The offset of the zone, also in summer time; what is no time stays. */
TEST(local_times)
{
	char to[TERMINAL_TIME_SIZE];

	setenv("TZ", "Europe/Berlin", 1);
	tzset();
	assert_string_equal(terminal_time_text("2025-07-24T22:51:05.391Z", to),
	    "2025-07-24T22:51:05.391Z");
	terminal_set_local_time();
	assert_string_equal(terminal_zone(), "LOCAL");
	assert_string_equal(terminal_time_text("2025-07-24T22:51:05.391Z", to),
	    "2025-07-25T00:51:05.391+02:00");
	assert_string_equal(
	    terminal_time_text("2025-12-24T22:51:05Z", to), "2025-12-24T23:51:05+01:00");
	assert_string_equal(terminal_time_text("1969-12-31T23:59:59.500Z", to),
	    "1970-01-01T00:59:59.500+01:00");
	assert_string_equal(terminal_time(0, to), "1970-01-01T01:00:00+01:00");
	assert_string_equal(terminal_time_text("", to), "-");
	assert_string_equal(terminal_time_text("\x1b[2J", to), "\\x1b[2J");
	setenv("TZ", "America/St_Johns", 1);
	tzset();
	assert_string_equal(terminal_time(0, to), "1969-12-31T20:30:00-03:30");
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_escaped),
		cmocka_unit_test(text_is_cut_at_whole_characters),
		cmocka_unit_test(several_columns_in_one_line),
		cmocka_unit_test(distance_of_words),
		cmocka_unit_test(local_times),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
