/*
 * Owns what events.h promises: what becomes of each kind of body, and that a
 * spool file holds the signed bytes exactly.
 */
#include "helpers.h"

#include <jansson.h>

#include "base/crypto.h"
#include "base/datetime.h"
#include "events.h"
#include "store/record.h"
#include "verify.h"

#define B(text) text, sizeof(text) - 1

static struct event
read_event(const void *body, size_t length)
{
	struct event event;

	memset(&event, 0xaa, sizeof(event));
	events_read(body, length, &event);
	/* What holds for every event. */
	assert_int_equal(event.invalid != NULL, event.queue == QUEUE_FAILED);
	if (event.invalid != NULL && !event.parsed)
		assert_non_null(strstr(event.invalid, "not JSON"));
	return event;
}

/* ---- where an event goes ---- */

#define UPDATES(data) "{\"type\":\"producersync.updates_available\",\"data\":" data "}"
#define ACTIVATED(data) "{\"type\":\"producersync.npn.activated\",\"data\":" data "}"
#define DEACTIVATED(data) "{\"type\":\"producersync.npn.deactivated\",\"data\":" data "}"
#define DATE(text) UPDATES("{\"runDate\":\"" text "\"}")
#define NPN(text) ACTIVATED("{\"npn\":" text ",\"activatedAt\":\"2025-07-25T15:53:01.579Z\"}")
#define TIME(text) ACTIVATED("{\"npn\":\"1\",\"activatedAt\":\"" text "\"}")

struct row {
	const char *body;
	size_t length;
	enum event_queue queue;
	const char *invalid; /* part of the reason */
};

static void
expect_queues(const struct row *rows, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		struct event event = read_event(rows[i].body, rows[i].length);
		if (event.queue != rows[i].queue)
			fail_msg("%s: queue %d instead of %d", rows[i].body, (int)event.queue,
			    (int)rows[i].queue);
		if (rows[i].invalid != NULL && strstr(event.invalid, rows[i].invalid) == NULL)
			fail_msg("%s: \"%s\" instead of \"%s\"", rows[i].body, event.invalid, rows[i].invalid);
	}
}

TEST(a_known_type_as_documented_is_queued)
{
	/* data with more than we know, too */
	static const struct row rows[] = {
		{B(DATE("2025-07-24")), QUEUE_NEW, NULL},
		{B(DATE("2024-02-29")), QUEUE_NEW, NULL},
		{B(DATE("2000-02-29")), QUEUE_NEW, NULL},
		{B(UPDATES("{\"more\":[1],\"runDate\":\"2025-12-31\"}")), QUEUE_NEW, NULL},
		{B(NPN("\"123456789\"")), QUEUE_NEW, NULL},
		{B(NPN("\"0\"")), QUEUE_NEW, NULL},
		{B(NPN("\"12345678901234567890\"")), QUEUE_NEW, NULL},
		{B(TIME("2025-07-25T15:53:01Z")), QUEUE_NEW, NULL},
		{B(TIME("2025-07-25T23:59:60.123456789Z")), QUEUE_NEW, NULL},
		{B(TIME("2025-07-25T00:00:00+00:00")), QUEUE_NEW, NULL},
		{B(DEACTIVATED("{\"npn\":\"1\",\"deactivatedAt\":\"2025-07-25T15:53:01.579Z\"}")),
		    QUEUE_NEW, NULL},
	};

	expect_queues(rows, ROWS(rows));
}

TEST(a_date_that_is_none_is_invalid)
{
	static const struct row rows[] = {
		{B(DATE("")), QUEUE_FAILED, "runDate"},
		{B(DATE("2025-07-24T00:00:00Z")), QUEUE_FAILED, "runDate"},
		{B(DATE("2025-7-24")), QUEUE_FAILED, "runDate"},
		{B(DATE("24.07.2025")), QUEUE_FAILED, "runDate"},
		{B(DATE("2025/07/24")), QUEUE_FAILED, "runDate"},
		{B(DATE("2025-07-32")), QUEUE_FAILED, "runDate"},
		{B(DATE("2025-07-00")), QUEUE_FAILED, "runDate"},
		{B(DATE("2025-13-01")), QUEUE_FAILED, "runDate"},
		{B(DATE("2025-00-01")), QUEUE_FAILED, "runDate"},
		{B(DATE("2025-04-31")), QUEUE_FAILED, "runDate"},
		{B(DATE("2025-02-29")), QUEUE_FAILED, "runDate"},
		{B(DATE("1900-02-29")), QUEUE_FAILED, "runDate"},
		{B(DATE("2025-07-2x")), QUEUE_FAILED, "runDate"},
		{B(DATE("2025-07-24\\u0000")), QUEUE_FAILED, "runDate"},
		{B(DATE(" 2025-07-24")), QUEUE_FAILED, "runDate"},
		{B(UPDATES("{\"runDate\":20250724}")), QUEUE_FAILED, "runDate"},
		{B(UPDATES("{\"runDate\":null}")), QUEUE_FAILED, "runDate"},
		{B(UPDATES("{\"rundate\":\"2025-07-24\"}")), QUEUE_FAILED, "runDate"},
		{B(UPDATES("{}")), QUEUE_FAILED, "runDate"},
		{B(UPDATES("null")), QUEUE_FAILED, "data is no object"},
		{B(UPDATES("[]")), QUEUE_FAILED, "data is no object"},
		{B(UPDATES("\"2025-07-24\"")), QUEUE_FAILED, "data is no object"},
		{B("{\"type\":\"producersync.updates_available\"}"), QUEUE_FAILED, "data is no object"},
	};

	expect_queues(rows, ROWS(rows));
}

TEST(an_npn_that_is_none_is_invalid)
{
	static const struct row rows[] = {
		{B(NPN("\"\"")), QUEUE_FAILED, "data.npn"},
		{B(NPN("\"12a\"")), QUEUE_FAILED, "data.npn"},
		{B(NPN("\"-1\"")), QUEUE_FAILED, "data.npn"},
		{B(NPN("\"1 \"")), QUEUE_FAILED, "data.npn"},
		{B(NPN("\"../1\"")), QUEUE_FAILED, "data.npn"},
		{B(NPN("\"\xef\xbc\x91\"")), QUEUE_FAILED, "data.npn"},
		{B(NPN("\"1\\u0000\"")), QUEUE_FAILED, "data.npn"},
		{B(NPN("\"123456789012345678901\"")), QUEUE_FAILED, "data.npn"},
		{B(NPN("123456789")), QUEUE_FAILED, "data.npn"},
		{B(ACTIVATED("{\"activatedAt\":\"2025-07-25T15:53:01.579Z\"}")), QUEUE_FAILED, "data.npn"},
	};

	expect_queues(rows, ROWS(rows));
}

TEST(a_time_that_is_none_or_not_in_utc_is_invalid)
{
	static const struct row rows[] = {
		{B(TIME("")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-07-25")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-07-25T15:53:01")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-07-25 15:53:01Z")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-07-25T15:53Z")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-07-25T24:00:00Z")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-07-25T15:60:00Z")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-07-25T15:53:61Z")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-02-30T15:53:01Z")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-07-25T15:53:01+02:00")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-07-25T15:53:01.579")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-07-25T15:53:01,579Z")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-07-25T15:53:01.5x9Z")), QUEUE_FAILED, "activatedAt"},
		{B(TIME("2025-07-25T15:53:01ZZ")), QUEUE_FAILED, "activatedAt"},
		{B(ACTIVATED("{\"npn\":\"1\"}")), QUEUE_FAILED, "activatedAt"},
		{B(ACTIVATED("{\"npn\":\"1\",\"activatedAt\":1753397465}")), QUEUE_FAILED, "activatedAt"},
		{B(DEACTIVATED("{\"npn\":\"1\",\"activatedAt\":\"2025-07-25T15:53:01.579Z\"}")),
		    QUEUE_FAILED, "deactivatedAt"},
	};

	expect_queues(rows, ROWS(rows));
}

TEST(an_unknown_type_is_normal_whatever_its_data)
{
	static const struct row rows[] = {
		{B("{\"type\":\"id.producer.updated\",\"data\":{\"npn\":12}}"), QUEUE_NEW, NULL},
		{B("{\"type\":\"x\"}"), QUEUE_NEW, NULL},
		{B("{\"type\":\"Producersync.updates_available\"}"), QUEUE_NEW, NULL},
		{B("{\"type\":\"producersync.npn\",\"data\":null}"), QUEUE_NEW, NULL},
		{B("{\"type\":\"producersync.npn.activated.more\"}"), QUEUE_NEW, NULL},
		{B("{\"type\":\"../../etc/passwd\"}"), QUEUE_NEW, NULL},
	};

	expect_queues(rows, ROWS(rows));
}

TEST(the_probe_is_queued_nowhere)
{
	static const struct row rows[] = {
		{B("{\"type\":\"psapi.doctor\"}"), QUEUE_NONE, NULL},
		{B("{\"type\":\"psapi.doctor2\"}"), QUEUE_NEW, NULL},
	};

	expect_queues(rows, ROWS(rows));
}

TEST(json_that_is_no_event_is_invalid)
{
	static const struct row rows[] = {
		{B("{}"), QUEUE_FAILED, "no type"},
		{B("{\"Type\":\"x\"}"), QUEUE_FAILED, "no type"},
		{B("{\"type\":\"\"}"), QUEUE_FAILED, "no type"},
		{B("{\"type\":null}"), QUEUE_FAILED, "no type"},
		{B("{\"type\":1}"), QUEUE_FAILED, "no type"},
		{B("{\"type\":{\"type\":\"x\"}}"), QUEUE_FAILED, "no type"},
		{B("{\"type\":\"\\u0000\"}"), QUEUE_FAILED, "no type"},
		{B("{\"type\":\"psapi.doctor\\u0000\"}"), QUEUE_FAILED, "no type"},
		{B("{\"type\":\"a\\u0000b\"}"), QUEUE_FAILED, "no type"},
		{B("[]"), QUEUE_FAILED, "no JSON object"},
		{B("[{\"type\":\"x\"}]"), QUEUE_FAILED, "no JSON object"},
		{B("42"), QUEUE_FAILED, "no JSON object"},
		{B("\"type\""), QUEUE_FAILED, "no JSON object"},
		{B("null"), QUEUE_FAILED, "no JSON object"},
		{B(" true "), QUEUE_FAILED, "no JSON object"},
	};

	expect_queues(rows, ROWS(rows));
}

TEST(the_last_of_several_equal_keys_counts_as_for_jq)
{
	static const struct row rows[] = {
		{B("{\"type\":\"psapi.doctor\",\"type\":\"x\"}"), QUEUE_NEW, NULL},
		{B("{\"type\":\"x\",\"type\":\"psapi.doctor\"}"), QUEUE_NONE, NULL},
		{B(UPDATES("{\"runDate\":\"2025-07-24\",\"runDate\":1}")), QUEUE_FAILED, "runDate"},
	};

	expect_queues(rows, ROWS(rows));
}

TEST(a_key_with_a_nul_is_another_key)
{
	static const struct row rows[] = {
		{B("{\"type\\u0000\":\"x\"}"), QUEUE_FAILED, ""},
	};

	expect_queues(rows, ROWS(rows));
}

TEST(a_body_that_is_not_json_fails_and_is_not_kept_as_json)
{
	static const struct {
		const char *body;
		size_t length;
	} rows[] = {
		{B("")},
		{B(" ")},
		{B("\n")},
		{B("hello")},
		{B("{\"type\":\"x\"")},
		{B("{\"type\":\"x\"}}")},
		{B("{\"type\":\"x\"} {}")},
		{B("{'type':'x'}")},
		{B("{\"type\":\"x\",}")},
		{B("{\"type\":\"x\"}\0")},
		{B("\0")},
		{B("{\"ty\0pe\":\"x\"}")},
		{B("{\"type\":\"a\0b\"}")},
		{B("\xef\xbb\xbf{\"type\":\"x\"}")},
		{B("{\"type\":\"\xff\"}")},
		{B("{\"type\":\"\xc0\xaf\"}")},
		{B("{\"type\":\"\xed\xa0\x80\"}")},
		{B("{\"type\":\"\xf4\x90\x80\x80\"}")},
		{B("{\"type\":\"x\",\"n\":\"\xe2\x82\"}")},
		{B("{\"type\":\"\\ud800\"}")},
		{B("{\"type\":\"\\udc00\"}")},
		{B("{\"type\":\"\\ud800\\ud800\"}")},
		{B("{\"type\":\"x\",\"n\":1e999}")},
		{B("{\"type\":\"x\",\"n\":-1e999}")},
		{B("{\"type\":\"x\",\"n\":NaN}")},
		{B("{\"type\":\"x\",\"n\":01}")},
		{B("{\"type\":\"x\",\"n\":\"\n\"}")},
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct event event = read_event(rows[i].body, rows[i].length);
		if (event.parsed || event.queue != QUEUE_FAILED)
			fail_msg("row %zu: %s", i, rows[i].body);
		assert_string_equal(event.type, "");
		assert_string_equal(event.id, "");
	}
}

TEST(numbers_that_no_integer_holds_are_read)
{
	static const char *const numbers[] = {"1e-999", "-0", "9223372036854775808",
		"-9223372036854775809", "123456789012345678901234567890", "1.7976931348623157e308"};
	char body[600];

	for (size_t i = 0; i < ROWS(numbers); i++) {
		int n = snprintf(body, sizeof(body), "{\"type\":\"x\",\"n\":%s}", numbers[i]);
		if (read_event(body, (size_t)n).queue != QUEUE_NEW)
			fail_msg("%s", numbers[i]);
	}
	/* 300 digits fit a double, 400 do not. */
	for (int digits = 300; digits <= 400; digits += 100) {
		int n = snprintf(body, sizeof(body), "{\"type\":\"x\",\"n\":9%0*d}", digits - 1, 0);
		struct event event = read_event(body, (size_t)n);
		assert_int_equal(event.queue, digits == 300 ? QUEUE_NEW : QUEUE_FAILED);
		assert_int_equal(event.parsed, digits == 300);
	}
}

TEST(deep_nesting_is_survived)
{
	enum { DEEP = 100000 };
	static const char *const brackets[] = {"[", "{\"a\":"};

	for (size_t k = 0; k < ROWS(brackets); k++) {
		size_t n = strlen(brackets[k]);
		char *body = malloc(DEEP * (n + 1) + 1);
		for (size_t i = 0; i < DEEP; i++)
			memcpy(body + i * n, brackets[k], n);
		body[DEEP * n] = '1';
		memset(body + DEEP * n + 1, brackets[k][0] == '[' ? ']' : '}', DEEP);
		for (size_t length = DEEP * n + 1; length <= DEEP * (n + 1) + 1; length += DEEP) {
			struct event event = read_event(body, length);
			assert_false(event.parsed);
			assert_int_equal(event.queue, QUEUE_FAILED);
		}
		free(body);
	}
}

TEST(what_is_known_of_an_event_is_told)
{
	struct event event =
	    read_event(B("{\"id\":\"whe_1\",\"timestamp\":\"2025-07-25T15:53:01.579Z\","
	                 "\"type\":\"producersync.npn.activated\",\"data\":{"
	                 "\"npn\":\"123\",\"activatedAt\":\"2025-07-25T15:53:01Z\"}}"));

	assert_true(event.parsed);
	assert_string_equal(event.type, "producersync.npn.activated");
	assert_string_equal(event.id, "whe_1");
	assert_string_equal(event.timestamp, "2025-07-25T15:53:01.579Z");
	assert_string_equal(event.npn, "123");
	assert_string_equal(event.run_date, "");
	event = read_event(B(DATE("2025-07-24")));
	assert_string_equal(event.run_date, "2025-07-24");
	assert_string_equal(event.npn, "");
	assert_string_equal(event.id, "");

	/* Texts of the wrong kind or with a NUL are not there; data may be anything. */
	event = read_event(B("{\"id\":7,\"timestamp\":null,\"type\":\"x\",\"data\":[\"npn\"]}"));
	assert_string_equal(event.id, "");
	assert_string_equal(event.timestamp, "");
	event = read_event(B("{\"id\":\"a\\u0000b\",\"type\":\"x\"}"));
	assert_string_equal(event.id, "");
}

TEST(texts_that_are_too_long_are_cut_and_the_type_still_compared_whole)
{
	char body[2000], text[401];

	memset(text, 'x', 400);
	text[400] = '\0';
	int n = snprintf(body, sizeof(body),
	    "{\"id\":\"%s\",\"timestamp\":\"%s\",\"type\":\"%s\",\"data\":{\"npn\":\"%s\"}}", text,
	    text, text, text);
	struct event event = read_event(body, (size_t)n);
	assert_int_equal(event.queue, QUEUE_NEW);
	assert_int_equal(strlen(event.id), sizeof(event.id) - 1);
	assert_int_equal(strlen(event.type), sizeof(event.type) - 1);
	assert_int_equal(strlen(event.timestamp), sizeof(event.timestamp) - 1);
	assert_int_equal(strlen(event.npn), sizeof(event.npn) - 1);
}

TEST(texts_are_cut_between_characters)
{
	struct event event = read_event(
	    B("{\"type\":\"x\",\"data\":{\"npn\":\"1234567890123456789012\xc3\xa9\"}}"));
	assert_string_equal(event.npn, "1234567890123456789012");
	event = read_event(
	    B("{\"type\":\"x\",\"data\":{\"npn\":\"123456789012345678901\xf0\x9f\x98\x80\"}}"));
	assert_string_equal(event.npn, "123456789012345678901");
	event = read_event(B("{\"type\":\"x\",\"data\":{\"npn\":\"123456789012345678901\xc3\xa9\"}}"));
	assert_string_equal(event.npn, "123456789012345678901\xc3\xa9");
}

/* ---- the file ---- */

#define SIGNATURE "v1,oJ3PEhfGD0maOIe59bKbo/AtrbPeLDQdq+4xPOJpPEE="

static struct evidence
evidence_of(const char *id, size_t length)
{
	return (struct evidence){.id = id,
		.id_length = length,
		.timestamp = "1753397465",
		.timestamp_length = 10,
		.signature = SIGNATURE " v1,more",
		.signature_length = SIGNATURE_SIZE,
		.received_at = {1753397465, 391999999}};
}

/* The file's bytes, with a NUL. The caller frees them. */
static char *
file_of(const struct evidence *evidence, const void *body, size_t length, bool parsed, size_t *size)
{
	struct record record;
	char *file;

	assert_int_equal(record_make(&record, evidence, body, length, parsed), 0);
	*size = 0;
	for (int i = 0; i < record.count; i++)
		*size += record.iov[i].iov_len;
	char *end = file = malloc(*size + 1);
	for (int i = 0; i < record.count; i++)
		end = mempcpy(end, record.iov[i].iov_base, record.iov[i].iov_len);
	*end = '\0';
	record_free(&record);
	return file;
}

TEST(a_file_is_the_evidence_then_the_signed_bytes_then_one_brace)
{
	static const char body[] = "{ \"type\" : \"x\",\r\n\t\"n\":1.50, \"u\":\"\\u00e4\xc3\xa4\" }\n";
	struct evidence evidence = evidence_of("msg_1", 5);
	size_t size;
	char *file = file_of(&evidence, body, strlen(body), true, &size);

	assert_string_equal(file,
	    "{\"webhook_id\":\"msg_1\",\"webhook_timestamp\":\"1753397465\",\"webhook_signature\":"
	    "\"" SIGNATURE "\",\"received_at\":\"2025-07-24T22:51:05.391Z\",\"event\":\n"
	    "{ \"type\" : \"x\",\r\n\t\"n\":1.50, \"u\":\"\\u00e4\xc3\xa4\" }\n"
	    "\n}\n");
	free(file);
}

TEST(a_body_that_is_no_json_is_kept_as_base64_on_one_line)
{
	static const struct {
		const char *body;
		size_t length;
		const char *encoded;
	} rows[] = {{B(""), ""}, {B("hello"), "aGVsbG8="}, {B("\0\xff\n"), "AP8K"}};
	struct evidence evidence = evidence_of("msg_1", 5);

	for (size_t i = 0; i < ROWS(rows); i++) {
		size_t size;
		char *file = file_of(&evidence, rows[i].body, rows[i].length, false, &size), *end;
		assert_true(
		    asprintf(&end, "\"event\":null,\"body_base64\":\"%s\"}\n", rows[i].encoded) > 0);
		assert_int_equal(lines_of(file), 1);
		assert_string_equal(file + size - strlen(end), end);
		json_t *json = json_loadb(file, size, JSON_REJECT_DUPLICATES, NULL);
		assert_non_null(json);
		json_decref(json);
		free(end);
		free(file);
	}
}

/* Every body that is kept as JSON makes a file that is JSON. */
TEST(a_file_is_valid_json_whatever_the_body)
{
	static const struct {
		const char *body;
		size_t length;
	} rows[] = {{B("{}")}, {B("42")}, {B("null")}, {B("\"\\u0000\"")},
	    {B("\n{\"type\":\"x\"}\n\n")}, {B("{\"a\":1,\"a\":2}")}, {B("[18446744073709551616]")}};
	struct evidence evidence = evidence_of("msg_1", 5);

	for (size_t i = 0; i < ROWS(rows); i++) {
		size_t size;
		assert_true(read_event(rows[i].body, rows[i].length).parsed);
		char *file = file_of(&evidence, rows[i].body, rows[i].length, true, &size);
		json_t *json =
		    json_loadb(file, size, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
		if (json == NULL)
			fail_msg("%s", file);
		assert_non_null(json_object_get(json, "event"));
		json_decref(json);
		free(file);
	}
}

/* Jansson stops at 2,048 levels, and a file is one level deeper than its body. */
TEST(the_deepest_body_that_is_parsed_makes_a_file_that_can_be_parsed)
{
	struct evidence evidence = evidence_of("msg_1", 5);
	int parsed = 0, kept = 0;

	for (size_t deep = 2040; deep <= 2052; deep++) {
		char body[2 * 2052];
		size_t size;
		memset(body, '[', deep);
		memset(body + deep, ']', deep);
		if (!read_event(body, 2 * deep).parsed)
			continue;
		parsed++;
		char *file = file_of(&evidence, body, 2 * deep, true, &size);
		json_t *json = json_loadb(file, size, 0, NULL);
		kept += json != NULL;
		json_decref(json);
		free(file);
	}
	assert_true(parsed > 0);
	assert_int_equal(kept, parsed);
}

TEST(an_id_of_any_bytes_makes_valid_json_that_gives_it_back)
{
	static const struct {
		const char *id;
		size_t length;
		bool text;
	} rows[] = {{B("msg_1"), true}, {B("a\"b\\c/d"), true}, {B("\x01\x1f\x7f"), true},
	    {B("Zo\xc3\xab \xf0\x9f\x9a\x80"), true}, {B("\xc2\x9b" "31m"), true}, {B("\xff"), false},
	    {B("a\xc3"), false}, {B("\xed\xa0\x80"), false}, {B("\xc0\x80"), false}};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct evidence evidence = evidence_of(rows[i].id, rows[i].length);
		size_t size;
		char *file = file_of(&evidence, "{}", 2, true, &size), back[64];
		for (size_t k = 0; k < size; k++)
			assert_true(file[k] == '\n' || (file[k] >= 0x20 && file[k] < 0x7f));
		assert_int_equal(lines_of(file), 3);
		json_t *json = json_loadb(file, size, 0, NULL);
		assert_non_null(json);
		const json_t *id = json_object_get(json, "webhook_id");
		const char *encoded =
		    json_string_value(json_object_get(json, "webhook_id_base64"));
		if (rows[i].text) {
			assert_int_equal(json_string_length(id), rows[i].length);
			assert_memory_equal(json_string_value(id), rows[i].id, rows[i].length);
			assert_null(encoded);
		} else {
			assert_true(json_is_null(id));
			assert_non_null(encoded);
			assert_int_equal(crypto_base64_decode(encoded, strlen(encoded), back, sizeof(back)),
			    rows[i].length);
			assert_memory_equal(back, rows[i].id, rows[i].length);
		}
		json_decref(json);
		free(file);
	}
}

TEST(an_id_that_is_escaped_and_long_is_kept_whole)
{
	static const char fills[] = {'x', '\x01', '"', '\x7f', '\xff'};
	char id[2000];

	for (size_t i = 0; i < sizeof(fills); i++)
		for (size_t length = 1; length <= sizeof(id); length += 37) {
			struct evidence evidence = evidence_of(id, length);
			size_t size;
			memset(id, fills[i], length);
			char *file = file_of(&evidence, "{}", 2, true, &size);
			json_t *json = json_loadb(file, size, 0, NULL);
			assert_non_null(json);
			if (fills[i] != '\xff')
				assert_int_equal(
				    json_string_length(json_object_get(json, "webhook_id")), length);
			json_decref(json);
			free(file);
		}
}

TEST(iso_time_is_utc_with_milliseconds_cut_not_rounded)
{
	static const struct {
		struct timespec time;
		const char *text;
	} rows[] = {
		{{1753397465, 391999999}, "2025-07-24T22:51:05.391Z"},
		{{0, 0}, "1970-01-01T00:00:00.000Z"},
		{{1709251199, 999999999}, "2024-02-29T23:59:59.999Z"},
		{{4102444800, 5000000}, "2100-01-01T00:00:00.005Z"},
	};
	char text[DATETIME_ISO_SIZE];

	setenv("TZ", "UTC+5", 1);
	tzset();
	for (size_t i = 0; i < ROWS(rows); i++) {
		datetime_iso(rows[i].time, text);
		assert_string_equal(text, rows[i].text);
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_known_type_as_documented_is_queued),
		cmocka_unit_test(a_date_that_is_none_is_invalid),
		cmocka_unit_test(an_npn_that_is_none_is_invalid),
		cmocka_unit_test(a_time_that_is_none_or_not_in_utc_is_invalid),
		cmocka_unit_test(an_unknown_type_is_normal_whatever_its_data),
		cmocka_unit_test(the_probe_is_queued_nowhere),
		cmocka_unit_test(json_that_is_no_event_is_invalid),
		cmocka_unit_test(the_last_of_several_equal_keys_counts_as_for_jq),
		cmocka_unit_test(a_key_with_a_nul_is_another_key),
		cmocka_unit_test(a_body_that_is_not_json_fails_and_is_not_kept_as_json),
		cmocka_unit_test(numbers_that_no_integer_holds_are_read),
		cmocka_unit_test(deep_nesting_is_survived),
		cmocka_unit_test(what_is_known_of_an_event_is_told),
		cmocka_unit_test(texts_that_are_too_long_are_cut_and_the_type_still_compared_whole),
		cmocka_unit_test(texts_are_cut_between_characters),
		cmocka_unit_test(a_file_is_the_evidence_then_the_signed_bytes_then_one_brace),
		cmocka_unit_test(a_body_that_is_no_json_is_kept_as_base64_on_one_line),
		cmocka_unit_test(a_file_is_valid_json_whatever_the_body),
		cmocka_unit_test(the_deepest_body_that_is_parsed_makes_a_file_that_can_be_parsed),
		cmocka_unit_test(an_id_of_any_bytes_makes_valid_json_that_gives_it_back),
		cmocka_unit_test(an_id_that_is_escaped_and_long_is_kept_whole),
		cmocka_unit_test(iso_time_is_utc_with_milliseconds_cut_not_rounded),
	};

	return cmocka_run_group_tests_name("events", tests, NULL, NULL);
}
