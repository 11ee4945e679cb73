/*
 * Owns what line.h promises: whatever is appended, a line is JSON in ASCII and
 * stays in its buffer.
 */
#include "helpers.h"

#include <limits.h>

#include <jansson.h>

#include "base/json_line.h"
#include "base/text.h"

#define B(text) text, sizeof(text) - 1

TEST(any_bytes_become_a_json_string_that_gives_them_back)
{
	static const struct {
		const char *bytes;
		size_t length;
		const char *text;
	} rows[] = {
		{B(""), "\"\""},
		{B("abc /~"), "\"abc /~\""},
		{B("a\"b"), "\"a\\\"b\""},
		{B("a\\b"), "\"a\\\\b\""},
		{B("\"\\"), "\"\\\"\\\\\""},
		{B("\n\r\t\x01\x1b"), "\"\\n\\r\\t\\u0001\\u001B\""},
		{B("a\0b"), "\"a\\u0000b\""},
		{B("\x7f"), "\"\\u007f\""},
		{B("\xc2\x9b"), "\"\\u009B\""},
		{B("\xe2\x82\xac"), "\"\\u20AC\""},
		{B("\xf0\x9f\x9a\x80"), "\"\\uD83D\\uDE80\""},
		{B("a\xff"), "\"a?\""},
		{B("\xe2\x82"), "\"??\""},
		{B("\x80\n\x7f"), "\"?\\n\\u007f\""},
	};
	char text[64];

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct json_line line;
		json_line_begin(&line, text, sizeof(text));
		json_line_add_string(&line, rows[i].bytes, rows[i].length);
		assert_false(line.cut);
		assert_string_equal(text, rows[i].text);
		assert_int_equal(line.length, strlen(text));
		json_t *json = json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		assert_non_null(json);
		assert_int_equal(json_string_length(json), rows[i].length);
		if (text_is_utf8(rows[i].bytes, rows[i].length))
			assert_memory_equal(json_string_value(json), rows[i].bytes, rows[i].length);
		else
			assert_non_null(strchr(text, '?'));
		json_decref(json);
	}
}

TEST(every_single_byte_is_escaped_or_plain_ascii)
{
	char text[16];

	for (int c = 0; c < 256; c++) {
		char byte = (char)c;
		struct json_line line;
		json_line_begin(&line, text, sizeof(text));
		json_line_add_string(&line, &byte, 1);
		assert_false(line.cut);
		assert_int_equal(text_is_utf8(&byte, 1), c < 0x80);
		for (size_t i = 0; i < line.length; i++)
			assert_true(text[i] >= 0x20 && text[i] < 0x7f);
	}
}

TEST(what_does_not_fit_is_cut_and_said_so)
{
	static const char whole[] = "{\"n\":12,\"s\":\"abc\",\"e\":\"\\n\\u00E4\"}";

	for (size_t size = 1; size <= 48; size++) {
		char *text = malloc(size); /* exactly, for the sanitizer */
		struct json_line line;
		json_line_begin(&line, text, size);
		json_line_add(&line, "{\"n\":%d,\"s\":", 12);
		json_line_add_string(&line, "abc", 3);
		json_line_add(&line, ",\"e\":");
		json_line_add_string(&line, "\n\xc3\xa4", 3);
		json_line_add(&line, "}");
		assert_int_equal(line.length, strlen(text));
		assert_true(line.length < size);
		assert_int_equal(line.cut, size < sizeof(whole));
		if (!line.cut)
			assert_string_equal(text, whole);
		free(text);
	}
}

TEST(numbers_are_written_as_printf_does)
{
	static const long long numbers[] = {0, 7, -7, 10, -300, 4294967296, LLONG_MAX, LLONG_MIN};
	char text[64], expected[64];

	for (size_t i = 0; i < ROWS(numbers); i++) {
		struct json_line line;
		json_line_begin(&line, text, sizeof(text));
		json_line_put(&line, "n=");
		json_line_put_number(&line, numbers[i]);
		snprintf(expected, sizeof(expected), "n=%lld", numbers[i]);
		assert_string_equal(text, expected);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(any_bytes_become_a_json_string_that_gives_them_back),
		cmocka_unit_test(every_single_byte_is_escaped_or_plain_ascii),
		cmocka_unit_test(numbers_are_written_as_printf_does),
		cmocka_unit_test(what_does_not_fit_is_cut_and_said_so),
	};

	return cmocka_run_group_tests_name("line", tests, NULL, NULL);
}
