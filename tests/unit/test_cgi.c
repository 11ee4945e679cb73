/*
 * Owns what cgi.h promises of the header of a response, and what request.h does of the
 * variables. How a body arrives is for the end-to-end tests.
 */
#include "helpers.h"

#include "server/cgi.h"

/* ---- variables ---- */

static struct request
request_of(const char *const *variables)
{
	return (struct request){.variables = (char *const *)(uintptr_t)variables};
}

TEST(a_variable_is_found_by_its_whole_name)
{
	static const char *const variables[] = {
		"", "=", "A", "AB=1", "B=2", "EMPTY=", "C=3=4", "B=5", NULL};
	struct request request = request_of(variables);

	assert_string_equal(request_variable(&request, "B"), "2");
	assert_string_equal(request_variable(&request, "AB"), "1");
	assert_string_equal(request_variable(&request, "C"), "3=4"); /* the first = divides */
	assert_null(request_variable(&request, "A"));
	assert_null(request_variable(&request, "ABC"));
	assert_null(request_variable(&request, "b"));
	assert_null(request_variable(&request, "EMPTY"));
	assert_null(request_variable(&request, "NONE"));
}

TEST(a_length_is_decimal_digits_and_nothing_else)
{
	static const char *const wrong[] = {
		"", "-1", "+1", " 1", "1 ", "0x10", "1e3", "1.0", "5,5", "many"};
	long long length;

	for (size_t i = 0; i < ROWS(wrong); i++)
		if (request_length_parse(wrong[i], strlen(wrong[i]), &length))
			fail_msg("\"%s\" is %lld", wrong[i], length);
	assert_true(request_length_parse("0", 1, &length) && length == 0);
	assert_true(request_length_parse("0050", 4, &length) && length == 50);
	assert_true(request_length_parse("1234", 2, &length) && length == 12);
	/* Larger than any type holds: large all the same. */
	assert_true(request_length_parse("18446744073709551617", 20, &length) && length > 1LL << 50);
}

/* The variables are of the heap, and are freed, as libfcgi does. */
static const char *
corrected(const char *length, const char *software)
{
	static char text[32];
	char *variables[3] = {strdup(length), software != NULL ? strdup(software) : NULL, NULL};
	struct request request = {.variables = variables};

	cgi_correct(variables);
	const char *value = request_variable(&request, "CONTENT_LENGTH");
	snprintf(text, sizeof(text), "%s", value != NULL ? value : "");
	free(variables[0]);
	free(variables[1]);
	return value != NULL ? text : NULL;
}

/* From another server it is malformed, which is the program's to refuse. */
TEST(minus_one_is_no_length_from_caddy_alone)
{
	static const char minus_one[] = "CONTENT_LENGTH=-1", twelve[] = "CONTENT_LENGTH=12";
	static const char caddy[] = "SERVER_SOFTWARE=Caddy/v2.6.2";
	static const char nginx[] = "SERVER_SOFTWARE=nginx/1.22.1";

	assert_null(corrected(minus_one, caddy));
	assert_null(corrected(caddy, minus_one));
	assert_string_equal(corrected(caddy, twelve), "12");
	assert_string_equal(corrected(minus_one, nginx), "-1");
	assert_string_equal(corrected(minus_one, NULL), "-1");
}

/* ---- the header ---- */

TEST(a_header_is_status_type_length_further_lines_and_a_blank_one)
{
	struct reply reply = {.status = 405,
		.phrase = "Method Not Allowed",
		.type = "text/html; charset=utf-8",
		.header = "Allow: POST\r\nCache-Control: no-store\r\n",
		.length = 123456789};
	char text[CGI_HEADER_SIZE];

	size_t length = cgi_header(&reply, text);
	assert_int_equal(length, strlen(text));
	assert_string_equal(text,
	    "Status: 405 Method Not Allowed\r\n"
	    "Content-Type: text/html; charset=utf-8\r\n"
	    "Content-Length: 123456789\r\n"
	    "Allow: POST\r\n"
	    "Cache-Control: no-store\r\n"
	    "\r\n");
}

TEST(a_header_that_does_not_fit_is_none)
{
	char lines[CGI_HEADER_SIZE], text[CGI_HEADER_SIZE];
	struct reply reply = {.status = 200, .phrase = "OK", .type = "text/plain", .header = lines};

	memset(lines, 'x', sizeof(lines));
	lines[1536] = '\0';
	assert_true(cgi_header(&reply, text) > 1536);
	lines[1536] = 'x';
	lines[sizeof(lines) - 1] = '\0';
	assert_int_equal(cgi_header(&reply, text), 0);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_variable_is_found_by_its_whole_name),
		cmocka_unit_test(a_length_is_decimal_digits_and_nothing_else),
		cmocka_unit_test(minus_one_is_no_length_from_caddy_alone),
		cmocka_unit_test(a_header_is_status_type_length_further_lines_and_a_blank_one),
		cmocka_unit_test(a_header_that_does_not_fit_is_none),
	};

	return cmocka_run_group_tests_name("cgi", tests, NULL, NULL);
}
