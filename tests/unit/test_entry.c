/*
 * Owns what entry.h and handler_state.h promise: what the receiver wrote is read back byte
 * for byte, and nothing else is taken for it.
 */
#include "helpers.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/text.h"
#include "store/entry.h"
#include "store/handler_state.h"
#include "store/record.h"

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

/* Open and read a file. ENTRY_OK: the caller frees the entry. */
static enum entry_result
read_file(const char *path, struct entry *entry, const char **why)
{
	int fd = -1;
	enum entry_result result = entry_open(AT_FDCWD, path, &fd, why);

	if (result == ENTRY_OK) {
		assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
		result = entry_read(fd, entry, why);
		close(fd);
	}
	return result;
}

/* Parse a text that is exactly as long, so that a sanitizer sees what reads on. */
static const char *
parse(struct entry *entry, const char *text, size_t length)
{
	char *copy = malloc(length + 1);

	assert_non_null(copy);
	memcpy(copy, text, length);
	return entry_parse(entry, copy, length);
}

TEST(what_was_written_is_read)
{
	static const struct {
		const char *body;
		size_t length;
	} bodies[] = {
		{B("{\"type\":\"x.y\",\"id\":\"i\",\"timestamp\":\"2025-07-24T22:51:05Z\","
		    "\"data\":{\"npn\":\"7\"}}")},
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
		assert_int_equal(read_file(path, &entry, &why), ENTRY_OK);
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
	assert_int_equal(read_file(path, &entry, &why), ENTRY_OK);
	assert_string_equal(entry.event.type, "x.y");
	assert_string_equal(entry.event.npn, "7");
	assert_int_equal(entry_when(&entry), 1753315200500000000);
	entry_free(&entry);
	write_event(path, &evidence, B("{\"type\":\"x.y\",\"timestamp\":\"today\"}"));
	assert_int_equal(read_file(path, &entry, &why), ENTRY_OK);
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
		assert_int_equal(read_file(path, &entry, &why), ENTRY_OK);
		assert_int_equal(strlen(entry.id), ids[i].length);
		assert_memory_equal(entry.id, ids[i].id, ids[i].length);
		entry_free(&entry);
	}
}

/* No prefix of a record is one, neither alone nor with zeros behind it. */
TEST(no_part_of_a_record_is_one)
{
	static const char *const bodies[] = {"{\"type\":\"x\",\"data\":{\"npn\":\"7\"}}", "no JSON"};
	const char *path = in(*state, "event.json");
	struct entry entry;
	size_t length;

	for (size_t b = 0; b < ROWS(bodies); b++) {
		size_t size = write_event(path, &evidence, bodies[b], strlen(bodies[b]));
		char *text = file_read(path, &length), *zeros = calloc(1, size);
		assert_int_equal(size, length);
		for (size_t n = 0; n < size; n++) {
			assert_non_null(parse(&entry, text, n));
			assert_null(entry.id);
			memcpy(zeros, text, n);
			assert_non_null(parse(&entry, zeros, size));
			memset(zeros, 0, size);
		}
		assert_null(parse(&entry, text, size));
		entry_free(&entry);
		entry_free(&entry); /* twice is fine */
		free(zeros);
		free(text);
	}
}

TEST(what_is_no_record_is_not_taken_for_one)
{
#define HEAD "{\"webhook_id\":\"a\",\"webhook_timestamp\":\"1\",\"webhook_signature\":\"v1,x\","
#define AT "\"received_at\":\"2025-07-24T22:51:05.391Z\""
	static const char *const texts[] = {
		"", "\n", "{}\n", "null\n", "[]\n", "not at all\n",
		"{\"webhook_id\":\"a\",\"event\":\n{}\n}\n",
		HEAD AT ",\"event\":\n{}\n}", HEAD AT ",\"event\":\n{}}\n",
		    HEAD AT ",\"event\":\n{}\n}\n\n",
		HEAD AT ",\"event\":\n{\n}\n", HEAD AT ",\"event\":\n}\n", HEAD AT ",\"event\": \n{}\n}\n",
		" " HEAD AT ",\"event\":\n{}\n}\n", HEAD AT ",\"more\":1,\"event\":\n{}\n}\n",
		HEAD AT "," AT ",\"event\":\n{}\n}\n", HEAD "\"received_at\":\"now\",\"event\":\n{}\n}\n",
		HEAD "\"received_at\":17,\"event\":\n{}\n}\n",
		"{\"webhook_id\":\"\",\"webhook_timestamp\":\"1\",\"webhook_signature\":\"v1,x\"," AT
		    ",\"event\":\n{}\n}\n",
		"{\"webhook_id\":\"a\\u0000b\",\"webhook_timestamp\":\"1\","
		    "\"webhook_signature\":\"v1,x\"," AT ",\"event\":\n{}\n}\n",
		"{\"webhook_id\":null,\"webhook_timestamp\":\"1\",\"webhook_signature\":\"v1,x\"," AT
		    ",\"event\":\n{}\n}\n",
		"{\"webhook_id\":null,\"webhook_id_base64\":\"AA==\",\"webhook_timestamp\":\"1\","
		    "\"webhook_signature\":\"v1,x\"," AT ",\"event\":\n{}\n}\n",
		"{\"webhook_id\":\"a\",\"webhook_id_base64\":\"/w==\",\"webhook_timestamp\":\"1\","
		    "\"webhook_signature\":\"v1,x\"," AT ",\"event\":null,\"body_base64\":\"!\"}\n",
		HEAD AT ",\"event\":null}\n", HEAD AT ",\"event\":{},\"body_base64\":\"\"}\n",
		HEAD AT ",\"event\":null,\"body_base64\":\"YQ\"}\n",
		HEAD AT ",\"event\":null,\"body_base64\":\"YR==\"}\n", /* stray bits */
		HEAD AT ",\"event\":null,\"body_base64\":\"Y Q==\"}\n",
		HEAD AT ",\"event\":null,\"body_base64\":\"YQ==\",\"x\":1}\n",
	};
	static const char whole[] = HEAD AT ",\"event\":\n{}\n}\n",
		encoded[] = HEAD AT ",\"event\":null,\"body_base64\":\"YQ==\"}\n";
	struct entry entry;

	for (size_t i = 0; i < ROWS(texts); i++)
		if (parse(&entry, texts[i], strlen(texts[i])) == NULL)
			fail_msg("taken for a record: %s", texts[i]);
	/* What they were made from is one. */
	assert_null(parse(&entry, whole, sizeof(whole) - 1));
	entry_free(&entry);
	assert_null(parse(&entry, encoded, sizeof(encoded) - 1));
	assert_int_equal(entry.body_length, 1);
	assert_memory_equal(entry.body, "a", 1);
	entry_free(&entry);
}

TEST(what_is_wrong_with_a_record_is_said)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
		{"", "it is empty"},
		{"{}", "it does not begin with an evidence line"},
		{"{}\n", "it does not begin with an evidence line"},
		{HEAD AT ",\"event\":\n{}\n",
		    "it is not laid out as an event: evidence line, event, closing brace"},
		{HEAD AT ",\"event\":\n{]\n}\n", "what follows the evidence line is not JSON"},
	};
	struct entry entry;

	for (size_t i = 0; i < ROWS(rows); i++)
		assert_string_equal(parse(&entry, rows[i].text, strlen(rows[i].text)), rows[i].why);
}

static void
make_socket(const char *path)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

TEST(what_is_no_regular_file_is_no_record)
{
	static const char *const names[] = {"dir", "fifo", "socket", "link", "dangling"};
	int before = descriptors();
	struct entry entry;
	const char *why;

	assert_int_equal(mkdir(in(*state, "dir"), 0755), 0);
	assert_int_equal(mkfifo(in(*state, "fifo"), 0644), 0); /* nobody writes: it must not wait */
	make_socket(in(*state, "socket"));
	write_event(in(*state, "event.json"), &evidence, B("{}"));
	assert_int_equal(symlink("event.json", in(*state, "link")), 0);
	assert_int_equal(symlink("nothing", in(*state, "dangling")), 0);
	for (size_t i = 0; i < ROWS(names); i++) {
		assert_int_equal(read_file(in(*state, names[i]), &entry, &why), ENTRY_INVALID);
		assert_string_equal(why, i < 3 ? "it is no regular file" : "it is a symbolic link");
	}
	assert_int_equal(descriptors(), before);
}

TEST(what_cannot_be_read_is_an_error_and_what_is_not_there_is_absent)
{
	const char *path = in(*state, "event.json"), *why;
	struct entry entry;

	assert_int_equal(read_file(in(*state, "nothing"), &entry, &why), ENTRY_ABSENT);
	write_event(path, &evidence, B("{}"));
	assert_int_equal(read_file(in(path, "x"), &entry, &why), ENTRY_ERROR);
	assert_int_equal(errno, ENOTDIR);
	assert_string_equal(why, strerror(ENOTDIR));
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	assert_int_equal(entry_read(fd, &entry, &why), ENTRY_ERROR);
	assert_int_equal(errno, EBADF);
	close(fd);
	assert_int_equal(entry_read(fd, &entry, &why), ENTRY_ERROR);
}

/* PSAPI_MAX_BODY is at most 1 GiB: memory for more is not asked for. */
TEST(what_is_larger_than_any_event_is_none)
{
	const char *path = in(*state, "event.json"), *why;
	struct entry entry;

	file_write(path, "", 0640);
	if (truncate(path, (3LL << 29) + 1) != 0) {
		print_message("no large file here\n");
		skip();
	}
	assert_int_equal(read_file(path, &entry, &why), ENTRY_INVALID);
	assert_string_equal(why, "it is larger than any event");
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
	/* A shared store keeps them: each version must have the same. FNV-1a. */
	assert_true(entry_lane(&a) == 0x3541e182d5dfb19cU);
}

/* ---- state ---- */

TEST(a_state_is_parsed_as_it_was_formatted)
{
	struct handler_state written = {.tries = 3, .tried_at = 1000, .due_at = 2000,
	    .failed_at = 3000, .alone = true},
		empty = {0}, parsed;

	strcpy(written.handler, "/etc/psapi/handlers.d/default");
	strcpy(written.reason, "exit status 75 \"quoted\"");
	memset(written.stderr_end, '\x1b',
	    HANDLER_STATE_STDERR_MAX); /* the longest there is: \u001b each */
	char *text = handler_state_format(&written);
	assert_null(strchr(text, '\n'));
	assert_true(handler_state_parse(text, strlen(text), &parsed));
	assert_memory_equal(&written, &parsed, sizeof(parsed));
	free(text);
	text = handler_state_format(&empty);
	assert_true(handler_state_parse(text, strlen(text), &parsed));
	assert_memory_equal(&empty, &parsed, sizeof(parsed));
	free(text);
}

TEST(what_is_no_state_is_not_taken_for_one)
{
	static const char *const texts[] = {"", "{", "[]", "null", "{\"tries\":", "\xff"};
	struct handler_state state_read;

	for (size_t i = 0; i < ROWS(texts); i++) {
		memset(&state_read, 1, sizeof(state_read));
		assert_false(handler_state_parse(texts[i], strlen(texts[i]), &state_read));
		assert_int_equal(state_read.tries, 0);
		assert_int_equal(state_read.due_at, 0);
	}
	/* Of a key that is nonsense the others stay. */
	assert_true(handler_state_parse(
	    B("{\"tries\":-1,\"due_at\":\"soon\",\"reason\":1,"
	      "\"failed_at\":\"2025-07-24T22:51:05.391Z\"}"),
	    &state_read));
	assert_int_equal(state_read.tries, 0);
	assert_int_equal(state_read.due_at, 0);
	assert_string_equal(state_read.reason, "");
	assert_int_equal(state_read.failed_at, 1753397465);
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
		SANDBOX_TEST(no_part_of_a_record_is_one),
		cmocka_unit_test(what_is_no_record_is_not_taken_for_one),
		cmocka_unit_test(what_is_wrong_with_a_record_is_said),
		SANDBOX_TEST(what_is_no_regular_file_is_no_record),
		SANDBOX_TEST(what_cannot_be_read_is_an_error_and_what_is_not_there_is_absent),
		SANDBOX_TEST(what_is_larger_than_any_event_is_none),
		cmocka_unit_test(lanes_are_npns_or_types),
		cmocka_unit_test(a_state_is_parsed_as_it_was_formatted),
		cmocka_unit_test(what_is_no_state_is_not_taken_for_one),
		cmocka_unit_test(text_is_made_fit_for_json),
	};

	return cmocka_run_group_tests_name("entry", tests, NULL, NULL);
}
