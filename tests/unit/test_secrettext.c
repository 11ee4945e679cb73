/* secrets/secrettext.c: what is cleaned from the text of a secret file, and what that is called. */
#include "helpers.h"

#include "secrets/secrettext.h"

#define TEXT(text) {text, sizeof(text) - 1}

TEST(what_nobody_sees_is_cleaned_and_named)
{
	static const struct {
		struct {
			const char *text;
			size_t length;
		} is;
		const char *becomes, *found;
		bool blank;
	} rows[] = {
		{TEXT(""), "", NULL, false},
		{TEXT("whsec_abc\n"), "whsec_abc\n", NULL, false},
		{TEXT("\n# a \xc3\xa9\n"), "\n# a \xc3\xa9\n", NULL, false},
		{TEXT("\xef\xbb\xbfwhsec_abc\n"), "whsec_abc\n", "byte order mark", false},
		{TEXT("a\n\xef\xbb\xbf" "b\n"), "a\nb\n", "byte order mark", false},
		{TEXT("\xef\xbb\xbf"), "", "byte order mark", false},
		{TEXT("\xff\xfew\0h\0\n\0"), "wh\n", "UTF-16", false},
		{TEXT("\xfe\xff\0w\0h\0\n"), "wh\n", "UTF-16", false},
		{TEXT("w\0h\0\r\0\n\0"), "wh\r\n", "UTF-16", false},
		{TEXT("\0w\0h\0\n"), "wh\n", "UTF-16", false},
		{TEXT("\xff\xfe"), "", "UTF-16", false},
		{TEXT("\xff\xfew\0\x14\x20h\0"), "w?h", "UTF-16", false}, /* U+2014: no base64 */
		{TEXT("\xff\xfew\0h"), "w", "UTF-16", false}, /* half a character */
		{TEXT("whsec_abc\0"), "whsec_abc", "NUL bytes", false},
		{TEXT("whsec_abc\n\0\0\0"), "whsec_abc\n", "NUL bytes", false},
		{TEXT("\0\0\0\0"), "", "NUL bytes", true},
		{TEXT("\0"), "", "NUL bytes", true},
		{TEXT("\xef\xbb\xbf\0\0"), "", "byte order mark", true},
		{TEXT("\xc2\xa0whsec_abc\xe2\x80\x8b\xe2\x81\xa0\n"), "whsec_abc\n", "not seen", false},
		{TEXT("a\rb\r\nc\r"), "a\nb\r\nc\r", NULL, false},
		/* A part of a mark is none. */
		{TEXT("a\xef\xbb"), "a\xef\xbb", NULL, false},
		{TEXT("a\xc2"), "a\xc2", NULL, false},
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		char buffer[64];
		const char *found;
		bool blank;
		memset(buffer, 'x', sizeof(buffer));
		memcpy(buffer, rows[i].is.text, rows[i].is.length);
		size_t length = secrettext_clean(buffer, rows[i].is.length, &found, &blank);
		if (strcmp(buffer, rows[i].becomes) != 0 || length != strlen(rows[i].becomes))
			fail_msg("%zu: %zu, \"%s\"", i, length, buffer);
		if (rows[i].found == NULL ? found != NULL :
		    found == NULL || strstr(found, rows[i].found) == NULL)
			fail_msg("%zu: %s", i, found == NULL ? "nothing" : found);
		assert_int_equal(blank, rows[i].blank);
		/* Nothing of a secret stays behind the text. */
		for (size_t k = length; k < rows[i].is.length; k++)
			assert_int_equal(buffer[k], 0);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_nobody_sees_is_cleaned_and_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
