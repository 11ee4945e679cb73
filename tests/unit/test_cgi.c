/*
 * Owns what cgi.h promises of names and form: meta-variables into a request, a
 * reply into a response. How a body arrives is for the end-to-end tests.
 */
#include "helpers.h"

#include "server/cgi.h"

static struct request
request_of(const char *const *envp)
{
	struct request request;

	memset(&request, 0, sizeof(request));
	cgi_variables(&request, (char *const *)(uintptr_t)envp);
	return request;
}

TEST(each_variable_that_decides_is_taken)
{
	static const char *const envp[] = {"REQUEST_METHOD=POST", "CONTENT_LENGTH=12",
		"REMOTE_ADDR=192.0.2.1", "HTTP_CONTENT_ENCODING=gzip", "HTTP_WEBHOOK_ID=msg_1",
		"HTTP_WEBHOOK_TIMESTAMP=1753397465", "HTTP_WEBHOOK_SIGNATURE=v1,a=", NULL};
	struct request request = request_of(envp);

	assert_string_equal(request.value[REQUEST_METHOD], "POST");
	assert_string_equal(request.value[CONTENT_LENGTH], "12");
	assert_string_equal(request.value[REMOTE_ADDR], "192.0.2.1");
	assert_string_equal(request.value[HTTP_CONTENT_ENCODING], "gzip");
	assert_string_equal(request.value[HTTP_WEBHOOK_ID], "msg_1");
	assert_string_equal(request.value[HTTP_WEBHOOK_TIMESTAMP], "1753397465");
	assert_string_equal(request.value[HTTP_WEBHOOK_SIGNATURE], "v1,a="); /* the first = divides */
	for (int i = 0; i < VARIABLES; i++)
		assert_false(request.differs[i]);
}

TEST(no_other_variable_is)
{
	static const char *const envp[] = {"", "=", "=POST", "REQUEST_METHOD", "REQUEST_METHO=GET",
		"REQUEST_METHODS=GET", "request_method=GET", "HTTP_WEBHOOK_ID2=a", "WEBHOOK_ID=a",
		"HTTP_WEBHOOK_IDENTITY=a", "HTTP_CONTENT_LENGTH=1", "HTTP_REMOTE_ADDR=203.0.113.1",
		"PSAPI_SPOOL=/tmp", "QUERY_STRING=PSAPI_SPOOL=/tmp", "HTTP_PROXY=a", NULL};
	static const char *const nothing[] = {NULL};
	struct request request = request_of(envp);

	for (int i = 0; i < VARIABLES; i++)
		assert_null(request.value[i]);
	request = request_of(nothing);
	for (int i = 0; i < VARIABLES; i++)
		assert_null(request.value[i]);
}

TEST(a_variable_that_comes_twice_is_remembered_if_it_differs)
{
	static const char *const envp[] = {"HTTP_WEBHOOK_ID=a", "HTTP_WEBHOOK_SIGNATURE=s",
		"HTTP_WEBHOOK_TIMESTAMP=1", "HTTP_WEBHOOK_SIGNATURE=s", "HTTP_WEBHOOK_ID=b",
		"HTTP_WEBHOOK_ID=b", "HTTP_WEBHOOK_TIMESTAMP=", NULL};
	struct request request = request_of(envp);

	assert_true(request.differs[HTTP_WEBHOOK_ID]);
	assert_true(request.differs[HTTP_WEBHOOK_TIMESTAMP]);
	assert_false(request.differs[HTTP_WEBHOOK_SIGNATURE]);
	assert_string_equal(request.value[HTTP_WEBHOOK_SIGNATURE], "s");
}

/* What another server says with it is malformed, and for receive() to refuse. */
TEST(minus_one_is_no_length_from_caddy_alone)
{
	static const char *const caddy[] = {"CONTENT_LENGTH=-1", "SERVER_SOFTWARE=Caddy/v2.6.2", NULL};
	static const char *const before[] = {"SERVER_SOFTWARE=Caddy/v2.6.2", "CONTENT_LENGTH=12", NULL};
	static const char *const other[] = {"CONTENT_LENGTH=-1", "SERVER_SOFTWARE=nginx/1.22.1", NULL};
	static const char *const none[] = {"CONTENT_LENGTH=-1", NULL};

	assert_null(request_of(caddy).value[CONTENT_LENGTH]);
	assert_string_equal(request_of(before).value[CONTENT_LENGTH], "12");
	assert_string_equal(request_of(other).value[CONTENT_LENGTH], "-1");
	assert_string_equal(request_of(none).value[CONTENT_LENGTH], "-1");
}

TEST(a_response_is_status_headers_a_blank_line_and_the_body)
{
	struct reply reply = {.status = 200, .phrase = "OK", .header = "", .body = "{\"status\":\"x\"}\n"};
	char text[CGI_RESPONSE_SIZE];

	size_t length = cgi_response(&reply, text);
	assert_int_equal(length, strlen(text));
	assert_string_equal(text,
	    "Status: 200 OK\r\n"
	    "Content-Type: application/json\r\n"
	    "Content-Length: 15\r\n"
	    "Cache-Control: no-store\r\n"
	    "\r\n"
	    "{\"status\":\"x\"}\n");
}

TEST(a_reply_s_own_header_is_among_the_headers)
{
	struct reply reply = {
		.status = 405, .phrase = "Method Not Allowed", .header = "Allow: POST\r\n", .body = "{}\n"};
	char text[CGI_RESPONSE_SIZE];

	cgi_response(&reply, text);
	assert_int_equal(strncmp(text, "Status: 405 Method Not Allowed\r\nAllow: POST\r\n", 45), 0);
	assert_string_equal(strstr(text, "\r\n\r\n"), "\r\n\r\n{}\n");
}

TEST(the_longest_reply_fits)
{
	struct reply reply = {
		.status = 503, .phrase = "Service Unavailable", .header = "Retry-After: 60\r\n"};
	char text[CGI_RESPONSE_SIZE];

	memset(reply.body, 'x', sizeof(reply.body) - 1);
	size_t length = cgi_response(&reply, text);
	assert_int_equal(length, strlen(text));
	assert_true(length < CGI_RESPONSE_SIZE - 1);
	assert_string_equal(text + length - (sizeof(reply.body) - 1), reply.body);
}

TEST(what_is_not_configured_says_so_as_any_other_reply)
{
	struct reply reply;
	char text[CGI_RESPONSE_SIZE];

	receive_unconfigured(&reply);
	cgi_response(&reply, text);
	assert_non_null(strstr(text, "Status: 503 Service Unavailable\r\nRetry-After: 60\r\n"));
	assert_non_null(strstr(text, "\"reason\":\"spool_error\""));
	assert_non_null(strstr(text, "not configured"));
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_variable_that_decides_is_taken),
		cmocka_unit_test(no_other_variable_is),
		cmocka_unit_test(a_variable_that_comes_twice_is_remembered_if_it_differs),
		cmocka_unit_test(minus_one_is_no_length_from_caddy_alone),
		cmocka_unit_test(a_response_is_status_headers_a_blank_line_and_the_body),
		cmocka_unit_test(a_reply_s_own_header_is_among_the_headers),
		cmocka_unit_test(the_longest_reply_fits),
		cmocka_unit_test(what_is_not_configured_says_so_as_any_other_reply),
	};

	return cmocka_run_group_tests_name("cgi", tests, NULL, NULL);
}
