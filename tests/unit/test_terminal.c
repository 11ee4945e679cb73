/* Owns what terminal.h promises: no text from outside steers a terminal. */
#include "helpers.h"

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

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_is_escaped),
		cmocka_unit_test(text_is_cut_at_whole_characters),
		cmocka_unit_test(several_columns_in_one_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
