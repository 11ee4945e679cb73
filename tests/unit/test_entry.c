/*
 * Owns what entry.h and state.h promise: what the receiver wrote is read back byte for
 * byte, and nothing else is taken for it.
 */
#include "helpers.h"

#include <errno.h>
#include <time.h>

#include "store/entry.h"
#include "store/record.h"
#include "store/spool/spool.h"
#include "store/spool/handler_state.h"
#include "base/text.h"
#include "base/datetime.h"

#define B(text) text, sizeof(text) - 1

static const struct evidence evidence = {
	.id = "msg_1",
	.id_length = 5,
	.timestamp = "1753397465",
	.timestamp_length = 10,
	.signature = "v1,oJ3PoJ3PoJ3PoJ3PoJ3PoJ3PoJ3PoJ3PoJ3PoJ3PoJ0=",
	.signature_length = 47,
	.received_at = {1753397465, 391000000},
};

/* Write a spool file as the receiver does. Returns its size. */
static size_t
write_event(const char *path, const struct evidence *e, const void *body, size_t length)
{
	struct record record;
	struct event event;
	size_t size = 0;

	events_read(body, length, &event);
	assert_int_equal(record_make(&record, e, body, length, event.parsed), 0);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
	assert_true(fd >= 0);
	for (int i = 0; i < record.count; i++) {
		assert_int_equal(write(fd, record.iov[i].iov_base, record.iov[i].iov_len),
		    record.iov[i].iov_len);
		size += record.iov[i].iov_len;
	}
	close(fd);
	record_free(&record);
	return size;
}

TEST(what_was_written_is_read)
{
	static const struct {
		const char *body;
		size_t length;
	} bodies[] = {
		{B("{\"type\":\"x.y\",\"id\":\"i\",\"timestamp\":\"2025-07-24T22:51:05Z\",\"data\":{\"npn\":\"7\"}}")},
		{B("{ \"type\" :\n\"x\" }\n\n}\n")}, /* not JSON */
		{B("{\n\"a\": [1,\n2]\n}\n")},
		{B("")},
		{B("null")},
		{B("\xff\0\n}\n")},
		{B("\"event\":\n")},
		{B("[1e999]")},
	};
	const char *path = in(*state, "event.json"), *why;
	struct entry entry;

	for (size_t i = 0; i < ROWS(bodies); i++) {
		write_event(path, &evidence, bodies[i].body, bodies[i].length);
		assert_int_equal(entry_read(AT_FDCWD, path, &entry, &why), ENTRY_OK);
		assert_int_equal(entry.body_length, bodies[i].length);
		assert_memory_equal(entry.body, bodies[i].body, bodies[i].length);
		assert_string_equal(entry.id, "msg_1");
		assert_string_equal(entry.timestamp, "1753397465");
		assert_string_equal(entry.signature, evidence.signature);
		assert_string_equal(entry.received_at, "2025-07-24T22:51:05.391Z");
		assert_int_equal(entry.received, 1753397465391000000);
		entry_free(&entry);
	}
}

TEST(the_event_is_known)
{
	const char *path = in(*state, "event.json"), *why;
	struct entry entry;

	write_event(path, &evidence,
	    B("{\"type\":\"x.y\",\"timestamp\":\"2025-07-24T00:00:00.5Z\",\"data\":{\"npn\":\"7\"}}"));
	assert_int_equal(entry_read(AT_FDCWD, path, &entry, &why), ENTRY_OK);
	assert_string_equal(entry.event.type, "x.y");
	assert_string_equal(entry.event.npn, "7");
	assert_int_equal(entry_when(&entry), 1753315200500000000);
	entry_free(&entry);
	write_event(path, &evidence, B("{\"type\":\"x.y\",\"timestamp\":\"today\"}"));
	assert_int_equal(entry_read(AT_FDCWD, path, &entry, &why), ENTRY_OK);
	assert_int_equal(entry_when(&entry), entry.received); /* the next best */
	entry_free(&entry);
}

TEST(ids_of_any_bytes)
{
	static const struct {
		const char *id;
		size_t length;
	} ids[] = {{B("a\"b\\c\x1b")}, {B("\xc3\xa9")}, {B("\xff\xfe")}, {B(".")}};
	const char *path = in(*state, "event.json"), *why;
	struct evidence e = evidence;
	struct entry entry;

	for (size_t i = 0; i < ROWS(ids); i++) {
		e.id = ids[i].id;
		e.id_length = ids[i].length;
		write_event(path, &e, B("{}"));
		assert_int_equal(entry_read(AT_FDCWD, path, &entry, &why), ENTRY_OK);
		assert_int_equal(strlen(entry.id), ids[i].length);
		assert_memory_equal(entry.id, ids[i].id, ids[i].length);
		entry_free(&entry);
	}
}

/* Each prefix of a file, and the file with each byte lost, is no event, or the same event. */
TEST(no_half_of_a_file_is_an_event)
{
	static const char *const bodies[] = {"{\"type\":\"x\",\"data\":{\"npn\":\"7\"}}", "no JSON"};
	const char *path = in(*state, "event.json"), *cut = in(*state, "cut.json"), *why;
	struct entry entry;
	size_t length;

	for (size_t b = 0; b < ROWS(bodies); b++) {
		size_t size = write_event(path, &evidence, bodies[b], strlen(bodies[b]));
		char *text = file_read(path, &length);
		assert_int_equal(size, length);
		for (size_t n = 0; n < size; n++) {
			char saved = text[n];
			text[n] = '\0';
			file_write(cut, text, 0640);
			text[n] = saved;
			/* Torn: the length is there, the data is not. */
			assert_int_equal(entry_read(AT_FDCWD, cut, &entry, &why), ENTRY_ODD);
			assert_int_equal(truncate(cut, (off_t)size), 0);
			assert_int_equal(entry_read(AT_FDCWD, cut, &entry, &why), ENTRY_ODD);
		}
		free(text);
	}
}

TEST(what_is_no_event_is_odd)
{
#define HEAD "{\"webhook_id\":\"a\",\"webhook_timestamp\":\"1\",\"webhook_signature\":\"v1,x\","
#define AT "\"received_at\":\"2025-07-24T22:51:05.391Z\""
	static const char *const texts[] = {
		"", "\n", "{}\n", "null\n", "[]\n", "not at all\n",
		"{\"webhook_id\":\"a\",\"event\":\n{}\n}\n",
		HEAD AT ",\"event\":\n{}\n}", HEAD AT ",\"event\":\n{}}\n", HEAD AT ",\"event\":\n{}\n}\n\n",
		HEAD AT ",\"event\":\n{\n}\n", HEAD AT ",\"event\":\n}\n", HEAD AT ",\"event\": \n{}\n}\n",
		" " HEAD AT ",\"event\":\n{}\n}\n", HEAD AT ",\"more\":1,\"event\":\n{}\n}\n",
		HEAD AT "," AT ",\"event\":\n{}\n}\n", HEAD "\"received_at\":\"now\",\"event\":\n{}\n}\n",
		HEAD "\"received_at\":17,\"event\":\n{}\n}\n",
		"{\"webhook_id\":\"\",\"webhook_timestamp\":\"1\",\"webhook_signature\":\"v1,x\"," AT ",\"event\":\n{}\n}\n",
		"{\"webhook_id\":\"a\\u0000b\",\"webhook_timestamp\":\"1\",\"webhook_signature\":\"v1,x\"," AT ",\"event\":\n{}\n}\n",
		"{\"webhook_id\":null,\"webhook_timestamp\":\"1\",\"webhook_signature\":\"v1,x\"," AT ",\"event\":\n{}\n}\n",
		"{\"webhook_id\":null,\"webhook_id_base64\":\"AA==\",\"webhook_timestamp\":\"1\",\"webhook_signature\":\"v1,x\"," AT ",\"event\":\n{}\n}\n",
		"{\"webhook_id\":\"a\",\"webhook_id_base64\":\"/w==\",\"webhook_timestamp\":\"1\",\"webhook_signature\":\"v1,x\"," AT ",\"event\":null,\"body_base64\":\"!\"}\n",
		HEAD AT ",\"event\":null}\n", HEAD AT ",\"event\":{},\"body_base64\":\"\"}\n",
		HEAD AT ",\"event\":null,\"body_base64\":\"YQ\"}\n",
		HEAD AT ",\"event\":null,\"body_base64\":\"YR==\"}\n", /* stray bits */
		HEAD AT ",\"event\":null,\"body_base64\":\"Y Q==\"}\n",
		HEAD AT ",\"event\":null,\"body_base64\":\"YQ==\",\"x\":1}\n",
	};
	const char *path = in(*state, "odd.json"), *why;
	struct entry entry;

	for (size_t i = 0; i < ROWS(texts); i++) {
		file_write(path, texts[i], 0640);
		why = NULL;
		assert_int_equal(entry_read(AT_FDCWD, path, &entry, &why), ENTRY_ODD);
		assert_non_null(why);
	}
	file_write(path, HEAD AT ",\"event\":\n{}\n}\n", 0640); /* what they were made from is one */
	assert_int_equal(entry_read(AT_FDCWD, path, &entry, &why), ENTRY_OK);
	entry_free(&entry);
	file_write(path, HEAD AT ",\"event\":null,\"body_base64\":\"YQ==\"}\n", 0640);
	assert_int_equal(entry_read(AT_FDCWD, path, &entry, &why), ENTRY_OK);
	assert_memory_equal(entry.body, "a", 1);
	entry_free(&entry);
}

TEST(what_is_no_file_is_odd)
{
	const char *why;
	struct entry entry;

	assert_int_equal(entry_read(AT_FDCWD, in(*state, "nothing"), &entry, &why), ENTRY_ABSENT);
	assert_int_equal(mkdir(in(*state, "dir"), 0755), 0);
	assert_int_equal(entry_read(AT_FDCWD, in(*state, "dir"), &entry, &why), ENTRY_ODD);
	assert_int_equal(mkfifo(in(*state, "fifo"), 0644), 0);
	assert_int_equal(entry_read(AT_FDCWD, in(*state, "fifo"), &entry, &why), ENTRY_ODD);
	write_event(in(*state, "event.json"), &evidence, B("{}"));
	assert_int_equal(symlink("event.json", in(*state, "link")), 0);
	assert_int_equal(entry_read(AT_FDCWD, in(*state, "link"), &entry, &why), ENTRY_ODD);
}

TEST(a_file_has_the_name_of_its_id)
{
	struct spool spool;
	struct entry entry;
	char why_not[512];
	const char *why, *path = in(*state, "spool");

	assert_int_equal(spool_open(&spool, path, true, why_not, sizeof(why_not)), 0);
	write_event(in(path, "new/msg_1.json"), &evidence, B("{}"));
	write_event(in(path, "new/msg_2.json"), &evidence, B("{}"));
	write_event(in(path, "new/msg_1"), &evidence, B("{}"));
	assert_int_equal(entry_read_named(&spool, SPOOL_NEW, "msg_1.json", &entry, &why), ENTRY_OK);
	entry_free(&entry);
	assert_int_equal(entry_read_named(&spool, SPOOL_NEW, "msg_2.json", &entry, &why), ENTRY_ODD);
	assert_int_equal(entry_read_named(&spool, SPOOL_NEW, "msg_1", &entry, &why), ENTRY_ODD);
	assert_int_equal(entry_read_named(&spool, SPOOL_NEW, "msg_3.json", &entry, &why), ENTRY_ABSENT);
	spool_close(&spool);
}

TEST(lanes_are_npns_or_types)
{
	struct event a = {.type = "t", .npn = "1"}, b = {.type = "u", .npn = "1"},
	             c = {.type = "t", .npn = "2"}, d = {.type = "t"}, e = {.type = "t"},
	             f = {.type = "1"};

	assert_true(entry_lane(&a) == entry_lane(&b));
	assert_true(entry_lane(&a) != entry_lane(&c));
	assert_true(entry_lane(&a) != entry_lane(&d));
	assert_true(entry_lane(&d) == entry_lane(&e));
	assert_true(entry_lane(&f) != entry_lane(&a));
}

/* ---- state ---- */

TEST(a_state_is_read_as_it_was_written)
{
	struct handler_state written = {.tries = 3, .tried_at = 1000, .due_at = 2000, .failed_at = 3000}, read;
	struct spool spool;
	char why[512];

	assert_int_equal(spool_open(&spool, in(*state, "spool"), true, why, sizeof(why)), 0);
	strcpy(written.handler, "/etc/psapi/handlers.d/default");
	strcpy(written.reason, "exit status 75 \"quoted\"");
	memset(written.said, '\x1b', HANDLER_STATE_STDERR_MAX); /* the longest there is: \u001b each */
	assert_int_equal(handler_state_write(&spool, "a.json", &written), 0);
	assert_true(handler_state_read(&spool, "a.json", &read));
	assert_memory_equal(&written, &read, sizeof(read));
	assert_int_equal(handler_state_remove(&spool, "a.json"), 0);
	assert_int_equal(handler_state_remove(&spool, "a.json"), 0);
	assert_false(handler_state_read(&spool, "a.json", &read));
	memset(&written, 0, sizeof(written));
	assert_memory_equal(&written, &read, sizeof(read));
	spool_close(&spool);
}

TEST(what_is_unreadable_counts_as_absent)
{
	static const char *const texts[] = {"", "{", "[]", "null", "{\"tries\":", "\xff"};
	const char *path = in(*state, "spool");
	struct spool spool;
	struct handler_state read;
	char why[512];

	assert_int_equal(spool_open(&spool, path, true, why, sizeof(why)), 0);
	for (size_t i = 0; i < ROWS(texts); i++) {
		file_write(in(path, "state/a.json"), texts[i], 0640);
		assert_false(handler_state_read(&spool, "a.json", &read));
		assert_int_equal(read.tries, 0);
	}
	file_write(in(path, "state/a.json"),
	    "{\"tries\":-1,\"due_at\":\"soon\",\"reason\":1,\"failed_at\":\"2025-07-24T22:51:05.391Z\"}", 0640);
	assert_true(handler_state_read(&spool, "a.json", &read));
	assert_int_equal(read.tries, 0);
	assert_int_equal(read.due_at, 0);
	assert_int_equal(read.failed_at, 1753397465);
	spool_close(&spool);
}

TEST(text_is_made_fit_for_json)
{
	char text[8];

	text_copy(text, sizeof(text), B("abc"));
	assert_string_equal(text, "abc");
	text_copy(text, sizeof(text), B("abcdefghij"));
	assert_string_equal(text, "abcdefg");
	text_copy(text, sizeof(text), B("a\0b"));
	assert_string_equal(text, "a?b");
	text_copy(text, sizeof(text), B("\xc3\xa9"));
	assert_string_equal(text, "\xc3\xa9");
	text_copy(text, sizeof(text), B("a\xff" "b"));
	assert_string_equal(text, "a?b");
	text_copy(text, sizeof(text), B("abcdef\xc3\xa9")); /* cut in the middle of one */
	assert_string_equal(text, "abcdef?");

	json_t *string = text_json("\xc3\xa9\xc3");
	assert_string_equal(json_string_value(string), "???");
	json_decref(string);
	string = text_json("\xc3\xa9");
	assert_string_equal(json_string_value(string), "\xc3\xa9");
	json_decref(string);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		SANDBOX_TEST(what_was_written_is_read),
		SANDBOX_TEST(the_event_is_known),
		SANDBOX_TEST(ids_of_any_bytes),
		SANDBOX_TEST(no_half_of_a_file_is_an_event),
		SANDBOX_TEST(what_is_no_event_is_odd),
		SANDBOX_TEST(what_is_no_file_is_odd),
		SANDBOX_TEST(a_file_has_the_name_of_its_id),
		cmocka_unit_test(lanes_are_npns_or_types),
		SANDBOX_TEST(a_state_is_read_as_it_was_written),
		SANDBOX_TEST(what_is_unreadable_counts_as_absent),
		cmocka_unit_test(text_is_made_fit_for_json),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
