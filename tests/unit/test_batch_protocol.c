/* Owns what batch_protocol.h promises: the line of an event, what a line of output means. */
#include "helpers.h"

#include "drain/batch_protocol.h"

/* ---- to the handler ---- */

static char *
line_of(const char *body, const char *id, const char *path)
{
	struct store_work *work = calloc(1, sizeof(*work));
	struct batch_input input = {0};

	work->entry.id = (char *)(uintptr_t)id;
	work->entry.body = body;
	work->entry.body_length = strlen(body);
	events_read(body, strlen(body), &work->entry.event);
	work->state.tries = 2;
	snprintf(work->path, sizeof(work->path), "%s", path);
	assert_int_equal(batch_protocol_write(&input, 7, work), 0);
	assert_int_equal(batch_protocol_write(&input, 8, work), 0);
	char *second = memchr(input.text, '\n', input.length);
	assert_non_null(second);
	*second = '\0';
	assert_int_equal(strlen(input.text) * 2 + 2, input.length);
	free(work);
	return input.text;
}

TEST(an_event_is_a_line)
{
	char *line = line_of("{\"type\":\"a.b\",\r\n \"data\":{\"npn\":\"12\"},\n\"x\":1.10}\n",
	    "msg_1", "/s/new/msg_1.json");

	assert_string_equal(line, "{\"n\":7,\"id\":\"msg_1\",\"type\":\"a.b\",\"npn\":\"12\","
	    "\"timestamp\":\"\",\"try\":3,\"file\":\"/s/new/msg_1.json\","
	    "\"event\":{\"type\":\"a.b\",   \"data\":{\"npn\":\"12\"}, \"x\":1.10} }");
	free(line);
}

TEST(a_hostile_id_stays_in_its_line)
{
	char *line = line_of("{\"type\":\"x\\ny\"}", "a\"\n\x1b", "/s/\"");

	assert_string_equal(line, "{\"n\":7,\"id\":\"a\\\"\\n\\u001B\",\"type\":\"x\\ny\","
	    "\"npn\":\"\",\"timestamp\":\"\",\"try\":3,\"file\":\"/s/\\\"\","
	    "\"event\":{\"type\":\"x\\ny\"}}");
	free(line);
}

TEST(what_is_no_text_is_base64)
{
	char *line = line_of("no\njson", "\xff\xfe", "/f");

	assert_string_equal(line, "{\"n\":7,\"id\":null,\"id_base64\":\"//4=\",\"type\":\"\","
	    "\"npn\":\"\",\"timestamp\":\"\",\"try\":3,\"file\":\"/f\",\"event\":null,"
	    "\"body_base64\":\"bm8KanNvbg==\"}");
	free(line);
}

/* ---- from the handler ---- */

TEST(what_a_line_means)
{
	static const struct {
		const char *line;
		enum batch_line means;
		size_t n;
		enum batch_verdict verdict;
		const char *text;
	} rows[] = {
		{"ok 1", BATCH_RESULT, 1, BATCH_OK, ""},
		{"ok 500\r", BATCH_RESULT, 500, BATCH_OK, ""},
		{"ok \t 12 \t\r", BATCH_RESULT, 12, BATCH_OK, ""},
		{"later 3", BATCH_RESULT, 3, BATCH_LATER, ""},
		{"later 3 \r", BATCH_RESULT, 3, BATCH_LATER, ""},
		{"later 3 the disk is full \r", BATCH_RESULT, 3, BATCH_LATER, "the disk is full"},
		{"failed 4  no such NPN", BATCH_RESULT, 4, BATCH_FAILED, "no such NPN"},
		{"ok all 500", BATCH_ALL, 500, BATCH_OK, ""},
		{"ok all 1\r", BATCH_ALL, 1, BATCH_OK, ""},
		{"ok", BATCH_MALFORMED, 0, BATCH_OK, ""},
		{"ok ", BATCH_MALFORMED, 0, BATCH_OK, ""},
		{"ok 0", BATCH_MALFORMED, 0, BATCH_OK, ""},
		{"ok 01", BATCH_MALFORMED, 0, BATCH_OK, ""},
		{"ok -1", BATCH_MALFORMED, 0, BATCH_OK, ""},
		{"ok +1", BATCH_MALFORMED, 0, BATCH_OK, ""},
		{"ok 1.0", BATCH_MALFORMED, 0, BATCH_OK, ""},
		{"ok 1 2", BATCH_MALFORMED, 1, BATCH_OK, ""},
		{"ok 1000000000", BATCH_MALFORMED, 0, BATCH_OK, ""},
		{"ok 18446744073709551617", BATCH_MALFORMED, 0, BATCH_OK, ""},
		{"ok all", BATCH_MALFORMED, 0, BATCH_OK, ""},
		{"ok all 3 4", BATCH_MALFORMED, 0, BATCH_OK, ""},
		{"ok all x", BATCH_MALFORMED, 0, BATCH_OK, ""},
		{"later", BATCH_MALFORMED, 0, BATCH_LATER, ""},
		{"failed to connect", BATCH_MALFORMED, 0, BATCH_FAILED, "connect"},
		{"later all 3", BATCH_MALFORMED, 0, BATCH_LATER, "3"},
		{"", BATCH_OUTPUT, 0, BATCH_NOTHING, ""},
		{"\r", BATCH_OUTPUT, 0, BATCH_NOTHING, ""},
		{" ok 1", BATCH_OUTPUT, 0, BATCH_NOTHING, ""},
		{"OK 1", BATCH_OUTPUT, 0, BATCH_NOTHING, ""},
		{"ok: 1", BATCH_OUTPUT, 0, BATCH_NOTHING, ""},
		{"okay 1", BATCH_OUTPUT, 0, BATCH_NOTHING, ""},
		{"done 1", BATCH_OUTPUT, 0, BATCH_NOTHING, ""},
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct batch_result result;
		batch_protocol_parse(rows[i].line, strlen(rows[i].line), &result);
		assert_int_equal(result.line, rows[i].means);
		assert_int_equal(result.verdict, rows[i].verdict);
		assert_int_equal(result.n, rows[i].n);
		assert_int_equal(result.length, strlen(rows[i].text));
		assert_memory_equal(result.text == NULL ? "" : result.text, rows[i].text, result.length);
	}
}

/* ---- lines ---- */

struct seen {
	char text[65536];
	size_t length;
};

static void
note(void *data, const char *bytes, size_t length)
{
	struct seen *seen = data;

	assert_true(seen->length + length <= sizeof(seen->text));
	memcpy(seen->text + seen->length, bytes, length);
	seen->length += length;
}

static void
note_result(void *data, const struct batch_result *result, const char *line, size_t length)
{
	char text[64];

	(void)line;
	assert_true(length <= BATCH_LINE_MAX);
	snprintf(text, sizeof(text), "<%d %zu %zu>", (int)result->line, result->n, result->length);
	note(data, text, strlen(text));
}

/* What is seen of the bytes, which come in parts of so many, and whose writer was ended or not. */
static void
assert_seen_until(const char *bytes, size_t length, size_t part, bool complete,
    const char *expected)
{
	static struct seen seen;
	struct batch_reader reader = {.result = note_result, .output = note, .data = &seen};

	seen.length = 0;
	for (size_t i = 0; i < length; i += part)
		batch_protocol_read(&reader, bytes + i, length - i < part ? length - i : part);
	batch_protocol_end(&reader, complete);
	seen.text[seen.length] = '\0';
	assert_string_equal(seen.text, expected);
}

static void
assert_seen(const char *bytes, size_t length, size_t part, const char *expected)
{
	assert_seen_until(bytes, length, part, true, expected);
}

TEST(lines_may_come_in_any_parts)
{
	static const char text[] = "hello\nok 1\r\n\nlater 2 x\nfailed 3\nworld\nok all 4";

	for (size_t part = 1; part <= sizeof(text); part++)
		assert_seen(text, strlen(text), part,
		    "hello\n<1 1 0>\n<1 2 1><1 3 0>world\n<2 4 0>");
	assert_seen("no newline", 10, 3, "no newline");
	assert_seen("", 0, 1, "");
}

/* It may be the beginning of another result. */
TEST(of_an_incomplete_output_a_last_line_without_newline_is_no_result)
{
	static const struct {
		const char *text, *expected;
	} rows[] = {
		{"ok 2\nok 1", "<1 2 0>"},
		{"ok 2\nfailed 1", "<1 2 0>"},
		{"ok 2\nlater 1 no ro", "<1 2 0>"},
		{"ok 2\nok all 5", "<1 2 0>"},
		{"ok 2\nok", "<1 2 0>"},
		{"ok 2\n", "<1 2 0>"},
		{"ok 2\nhel", "<1 2 0>hel"},
	};

	for (size_t i = 0; i < ROWS(rows); i++)
		for (size_t part = 1; part < 20; part++)
			assert_seen_until(rows[i].text, strlen(rows[i].text), part, false, rows[i].expected);
}

/* A line of so many bytes: a beginning, then one byte again and again. */
static char *
long_line(const char *beginning, char byte, size_t length, const char *end)
{
	char *text = malloc(length + strlen(end) + 1);

	memset(text, byte, length);
	memcpy(text, beginning, strlen(beginning));
	strcpy(text + length, end);
	return text;
}

TEST(long_output_passes_as_it_is)
{
	static const size_t lengths[] = {BATCH_LINE_MAX - 1, BATCH_LINE_MAX, BATCH_LINE_MAX + 1, 9000};

	for (size_t i = 0; i < ROWS(lengths); i++) {
		char *text = long_line("", 'x', lengths[i], "\nok 1\n");
		char *expected = long_line("", 'x', lengths[i], "\n<1 1 0>");
		for (size_t part = 1; part < 2000; part += 333)
			assert_seen(text, strlen(text), part, expected);
		free(text);
		free(expected);
	}
}

TEST(a_long_result_is_cut)
{
	char *text = long_line("failed 12 because ", 'y', 9000, "\nok 3\n");

	for (size_t part = 1; part < 2000; part += 333)
		assert_seen(text, strlen(text), part, "<1 12 1014><1 3 0>");
	free(text);
	/* where the number ends is not known */
	text = long_line("later ", ' ', BATCH_LINE_MAX - 2, "1234\nok 3");
	assert_seen(text, strlen(text), 100, "<3 0 0><1 3 0>");
	free(text);
	text = long_line("ok 7 ", ' ', 3000, "\n");
	assert_seen(text, strlen(text), 100, "<3 0 0>");
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_event_is_a_line),
		cmocka_unit_test(a_hostile_id_stays_in_its_line),
		cmocka_unit_test(what_is_no_text_is_base64),
		cmocka_unit_test(what_a_line_means),
		cmocka_unit_test(lines_may_come_in_any_parts),
		cmocka_unit_test(of_an_incomplete_output_a_last_line_without_newline_is_no_result),
		cmocka_unit_test(long_output_passes_as_it_is),
		cmocka_unit_test(a_long_result_is_cut),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
