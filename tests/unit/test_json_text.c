/* Owns what json_text.h promises: the tokens as they were, other white space alone. */
#include "helpers.h"

#include <jansson.h>

#include "base/json_text.h"

/* What is printed by one of the functions. The caller frees it. */
static char *
printed(void (*print)(const char *, size_t), const char *text)
{
	int memory = memfd_create("stdout", MFD_CLOEXEC),
	    saved = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 10);

	assert_true(memory >= 0 && saved >= 0);
	fflush(stdout);
	dup2(memory, STDOUT_FILENO);
	print(text, strlen(text));
	fflush(stdout);
	dup2(saved, STDOUT_FILENO);
	close(saved);
	off_t size = lseek(memory, 0, SEEK_END);
	char *output = calloc(1, (size_t)size + 1);
	assert_non_null(output);
	assert_int_equal(pread(memory, output, (size_t)size, 0), size);
	close(memory);
	return output;
}

static void
line(const char *text, size_t length)
{
	json_text_print_line(text, length, false);
}

static void
ascii_line(const char *text, size_t length)
{
	json_text_print_line(text, length, true);
}

static void
with(const char *text, size_t length)
{
	json_text_print_with(json_pack("{s:i}", "a", 1), "event", text, length);
}

static void
with_nothing(const char *text, size_t length)
{
	json_text_print_with(json_object(), "event", text, length);
}

static const struct {
	void (*print)(const char *, size_t);
	const char *text, *expected;
} rows[] = {
	/* numbers, duplicate keys, escapes, literals: token for token */
	{json_text_print_indented, "{\"a\":1.10,\"a\":1e5,\"b\":123456789012345678901,\"c\":-0.0E+00}",
	    "{\n  \"a\": 1.10,\n  \"a\": 1e5,\n  \"b\": 123456789012345678901,\n  \"c\": "
	    "-0.0E+00\n}\n"},
	{json_text_print_indented, "{\"a\":\"\\u00e9\\/\\\"{}[],:\\\\\"}",
	    "{\n  \"a\": \"\\u00e9\\/\\\"{}[],:\\\\\"\n}\n"},
	{json_text_print_indented, "[true,false,null]", "[\n  true,\n  false,\n  null\n]\n"},
	{json_text_print_indented, " { } ", "{}\n"},
	{json_text_print_indented, "[ [\r\n] , { \"a\" :\t[ 1 , 2 ] } ]",
	    "[\n  [],\n  {\n    \"a\": [\n      1,\n      2\n    ]\n  }\n]\n"},
	{json_text_print_indented, "\"text\"", "\"text\"\n"},
	{json_text_print_indented, " 12 ", "12\n"},
	{json_text_print_indented, "\"\xc3\xa9 \x7f \xc2\x9b \xf0\x9f\x98\x80 \xef\xbf\xbd\"",
	    "\"\\u00e9 \\u007f \\u009b \\ud83d\\ude00 \\ufffd\"\n"},
	{json_text_print_indented, "\"\xff \xc3\"", "\"\\ufffd \\ufffd\"\n"}, /* no JSON, and no harm */
	{line, "{\"a\" : 1.10,\r\n\t\"a\":\"\xc3\xa9\\n\"}\n",
	    "{\"a\" : 1.10,  \t\"a\":\"\xc3\xa9\\n\"} \n"},
	{ascii_line, "{\"a\":\t\"\xc3\xa9\x7f\",\"ms\":1.10}",
	    "{\"a\": \"\\u00e9\\u007f\",\"ms\":1.10}\n"},
	{with, "{\"b\":1.10,\n\"b\":2}", "{\"a\":1,\"event\":{\"b\":1.10, \"b\":2}}\n"},
	{with_nothing, "null", "{\"event\":null}\n"},
};

TEST(tokens_are_as_they_were)
{
	for (size_t i = 0; i < ROWS(rows); i++) {
		char *output = printed(rows[i].print, rows[i].text);
		assert_string_equal(output, rows[i].expected);
		free(output);
	}
}

/* A second opinion: without white space, what is printed is what was given. */
TEST(only_white_space_differs)
{
	static const char *const texts[] = {
	    "{\"data\":{\"npn\":\"1\",\"x\":[[],[1,[2,{\"a b\":[{}]}]],{}]},\"id\":\" \\t "
	    "\",\"n\":1.0e-7}",
	    "[[[[[[[[[[\"deep\"]]]]]]]]]]", "{\"\":{\"\":[\"\",\"\\\\\"]}}"};

	for (size_t i = 0; i < ROWS(texts); i++) {
		char *output = printed(json_text_print_indented, texts[i]);
		json_t *before = json_loads(texts[i], 0, NULL), *after = json_loads(output, 0, NULL);
		assert_non_null(before);
		assert_true(json_equal(before, after));
		json_decref(before);
		json_decref(after);
		free(output);
	}
}

TEST(deep_nesting_is_not_answered_with_megabytes_of_blanks)
{
	enum { DEPTH = 2000 };
	char text[2 * DEPTH + 1];

	memset(text, '[', DEPTH - 1);
	memset(text + DEPTH - 1, '1', 2);
	memset(text + DEPTH + 1, ']', DEPTH - 1);
	text[2 * DEPTH] = '\0';
	char *output = printed(json_text_print_indented, text);
	assert_true(strlen(output) < 100 * 2 * DEPTH);
	free(output);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(tokens_are_as_they_were),
		cmocka_unit_test(only_white_space_differs),
		cmocka_unit_test(deep_nesting_is_not_answered_with_megabytes_of_blanks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
