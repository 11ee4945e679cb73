/*
 * Owns what attempts.h promises: the form of a line, rotation, which lines are
 * left out, and that a log that cannot be written disturbs nobody.
 */
#include "helpers.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <time.h>

#include <jansson.h>

#include "base/clock.h"
#include "receiver/attempts.h"

/* All a test needs: the directory, the log in it, its path. */
struct fixture {
	void *dir;
	int fd;
	struct attempts *attempts;
	const char *path;
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (f == NULL || sandbox_make(&f->dir) != 0)
		return -1;
	f->fd = open(f->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	f->attempts = attempts_open(f->dir);
	f->path = in(f->dir, ATTEMPTS_FILE);
	*state = f;
	return f->attempts != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	attempts_close(f->attempts);
	attempts_close(NULL);
	close(f->fd);
	int result = sandbox_remove(&f->dir);
	free(f);
	return result;
}

#define LOG_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

static struct attempt
attempt_of(const char *outcome)
{
	struct attempt attempt = {.outcome = outcome, .status = 200};

	clock_gettime(CLOCK_REALTIME, &attempt.at);
	return attempt;
}

static void
log_one(struct fixture *f, const char *outcome)
{
	struct attempt attempt = attempt_of(outcome);

	attempts_write(f->attempts, &attempt);
}

static char *
read_log(struct fixture *f)
{
	size_t length;
	char *text = file_read(f->path, &length);

	assert_non_null(text);
	assert_int_equal(strlen(text), length);
	return text;
}

static int
lines_in_log(struct fixture *f)
{
	char *text = read_log(f);
	int n = lines_of(text);

	free(text);
	return n;
}

/* The last line of the log, which ends as a line must. The caller frees it. */
static json_t *
last_line(struct fixture *f)
{
	char *text = read_log(f);
	size_t n = strlen(text);

	assert_true(n > 1 && text[n - 1] == '\n');
	text[n - 1] = '\0';
	const char *before = strrchr(text, '\n');
	json_t *line = json_loads(before != NULL ? before + 1 : text, JSON_REJECT_DUPLICATES, NULL);
	if (line == NULL)
		fail_msg("no JSON: %s", text);
	free(text);
	return line;
}

static const char *
text_of(const json_t *line, const char *key)
{
	return json_string_value(json_object_get(line, key));
}

/* ---- the form of a line ---- */

TEST(a_line_tells_all_that_is_known)
{
	struct attempt attempt = {.at = {1753397465, 391000000},
		.outcome = "accepted",
		.status = 200,
		.webhook_id = "msg_1, msg_1",
		.webhook_id_length = 5,
		.type = "producersync.updates_available",
		.event_id = "12345",
		.remote_addr = "192.0.2.1",
		.bytes = 117,
		.skew_known = true,
		.skew = -2,
		.key = "0123abcd",
		.us = 1250};
	struct fixture *f = *state;

	attempts_write(f->attempts, &attempt);
	char *text = read_log(f);
	assert_string_equal(text,
	    "{\"at\":\"2025-07-24T22:51:05.391Z\",\"outcome\":\"accepted\",\"status\":200,"
	    "\"webhook_id\":\"msg_1\",\"type\":\"producersync.updates_available\","
	    "\"event_id\":\"12345\",\"remote_addr\":\"192.0.2.1\",\"bytes\":117,\"skew_s\":-2,"
	    "\"key\":\"0123abcd\",\"ms\":1.250}\n");
	free(text);
}

TEST(what_is_not_known_is_left_out)
{
	static const char *const absent[] = {"webhook_id", "type", "event_id", "remote_addr", "skew_s",
		"key", "suppressed"};
	struct attempt attempt = attempt_of("rejected");
	struct fixture *f = *state;

	attempt.status = 401;
	attempt.reason = "signature_mismatch";
	attempt.type = attempt.event_id = "";
	attempts_write(f->attempts, &attempt);
	json_t *line = last_line(f);
	assert_string_equal(text_of(line, "outcome"), "rejected");
	assert_string_equal(text_of(line, "reason"), "signature_mismatch");
	assert_int_equal(json_integer_value(json_object_get(line, "status")), 401);
	assert_int_equal(json_integer_value(json_object_get(line, "bytes")), 0);
	assert_non_null(json_object_get(line, "ms"));
	for (size_t i = 0; i < ROWS(absent); i++)
		if (json_object_get(line, absent[i]) != NULL)
			fail_msg("%s is there", absent[i]);
	json_decref(line);
}

TEST(any_bytes_from_outside_stay_on_one_line_of_plain_ascii)
{
	static const struct {
		const char *id, *expected;
	} rows[] = {
		{"a\nb\r\t\x1b[31m\x7f", "a\nb\r\t\x1b[31m\x7f"},
		{"\",\"outcome\":\"accepted", "\",\"outcome\":\"accepted"},
		{"Zo\xc3\xab \xf0\x9f\x9a\x80", "Zo\xc3\xab \xf0\x9f\x9a\x80"},
		{"\xc2\x9b", "\xc2\x9b"},
		{"a\xff\xc3(", "a?" "?("},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct attempt attempt = attempt_of("accepted");
		attempt.webhook_id = rows[i].id;
		attempt.webhook_id_length = strlen(rows[i].id);
		attempt.type = attempt.event_id = attempt.remote_addr = rows[i].id;
		attempts_write(f->attempts, &attempt);
		assert_int_equal(lines_in_log(f), (int)i + 1);
		json_t *line = last_line(f);
		assert_string_equal(text_of(line, "webhook_id"), rows[i].expected);
		assert_string_equal(text_of(line, "type"), rows[i].expected);
		json_decref(line);
	}
	char *text = read_log(f);
	for (const char *p = text; *p != '\0'; p++)
		assert_true(*p == '\n' || (*p >= 0x20 && *p < 0x7f));
	free(text);
}

TEST(however_long_the_texts_are_the_line_is_written_and_bounded)
{
	static const char fills[] = {'x', '\x01', '\xff', '"'};
	struct fixture *f = *state;
	char text[4096];

	for (size_t i = 0; i < ROWS(fills); i++) {
		struct attempt attempt = attempt_of("accepted");
		memset(text, fills[i], sizeof(text) - 1);
		text[sizeof(text) - 1] = '\0';
		attempt.webhook_id = text;
		attempt.webhook_id_length = strlen(text);
		attempt.remote_addr = "2001:db8::1";
		attempt.type = attempt.event_id = text + sizeof(text) - 128; /* as struct event cuts them */
		attempts_write(f->attempts, &attempt);
		assert_int_equal(lines_in_log(f), (int)i + 1);
		json_t *line = last_line(f);
		assert_true(strlen(text_of(line, "webhook_id")) <= 256);
		json_decref(line);
	}
}

TEST(a_line_is_written_whatever_the_server_says_of_the_address)
{
	struct attempt attempt = attempt_of("accepted");
	struct fixture *f = *state;
	char text[1024];

	memset(text, 1, sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	attempt.webhook_id = attempt.remote_addr = text;
	attempt.webhook_id_length = strlen(text);
	attempt.type = attempt.event_id = text + sizeof(text) - 128;
	attempts_write(f->attempts, &attempt);
	assert_int_equal(lines_in_log(f), 1);
	json_decref(last_line(f));
}

TEST(the_log_is_a_file_of_mode_0640_or_stricter)
{
	struct fixture *f = *state;
	struct stat st;

	mode_t mask = umask(0);
	log_one(f, "accepted");
	umask(mask);
	assert_int_equal(stat(f->path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
}

/* ---- rotation ---- */

TEST(a_log_that_was_renamed_or_removed_is_begun_anew)
{
	struct fixture *f = *state;
	const char *old = in(f->dir, "attempts.jsonl.1");
	int before = descriptors();

	log_one(f, "accepted");
	log_one(f, "accepted");
	assert_int_equal(lines_in_log(f), 2);
	assert_int_equal(rename(f->path, old), 0);
	log_one(f, "accepted");
	assert_int_equal(lines_in_log(f), 1);
	assert_int_equal(rename(f->path, old), 0);
	file_write(f->path, "{}\n", 0640); /* logrotate's "create" */
	log_one(f, "accepted");
	assert_int_equal(lines_in_log(f), 2);
	assert_int_equal(unlink(f->path), 0);
	log_one(f, "accepted");
	assert_int_equal(lines_in_log(f), 1);
	assert_int_equal(truncate(f->path, 0), 0); /* "copytruncate" */
	log_one(f, "accepted");
	assert_int_equal(lines_in_log(f), 1);
	assert_int_equal(descriptors(), before + 1);
}

/* ---- what is left out ---- */

/* Until the clock has gone on. */
static void
wait_ms(int64_t milliseconds)
{
	int64_t end = clock_milliseconds() + milliseconds;

	while (clock_milliseconds() < end)
		poll(NULL, 0, (int)(end - clock_milliseconds()) + 1);
}

static void
log_many(struct fixture *f, const char *outcome, int count)
{
	for (int i = 0; i < count; i++)
		log_one(f, outcome);
}

static long long
suppressed_in_last_line(struct fixture *f)
{
	json_t *line = last_line(f);
	long long suppressed = json_integer_value(json_object_get(line, "suppressed"));

	json_decref(line);
	return suppressed;
}

/* The portal's refusals come beside accepted events: they must not be lost for that. */
TEST(a_few_refusals_are_logged_right_after_other_lines)
{
	struct fixture *f = *state;

	for (int i = 0; i < 10; i++) {
		log_one(f, "accepted");
		log_one(f, "rejected");
		assert_int_equal(lines_in_log(f), 2 * i + 2);
	}
}

TEST(ten_at_once_then_ten_a_second_and_the_rest_is_counted)
{
	struct fixture *f = *state;

	/* The log is made first, so that its making does not count as time. */
	log_one(f, "accepted");
	int64_t start = clock_milliseconds();
	log_many(f, "rejected", 50);
	int late = (int)((clock_milliseconds() - start) / 100); /* on a busy machine */
	int lines = lines_in_log(f);
	assert_in_range(lines, 11, 11 + late);
	wait_ms(100);
	log_many(f, "rejected", 5);
	late = (int)((clock_milliseconds() - start) / 100);
	assert_in_range(lines_in_log(f), lines + 1, 11 + late);
	wait_ms(1100);
	lines = lines_in_log(f);
	log_many(f, "rejected", 10);
	assert_int_equal(lines_in_log(f), lines + 10);
}

TEST(the_next_line_counts_what_was_left_out)
{
	struct fixture *f = *state;

	log_many(f, "rejected", 50);
	log_one(f, "accepted");
	assert_in_range(suppressed_in_last_line(f), 1, 50 - 10);
	log_one(f, "accepted");
	assert_int_equal(suppressed_in_last_line(f), 0);
}

TEST(what_is_no_refusal_is_never_left_out)
{
	static const char *const outcomes[] = {"accepted", "duplicate", "held", "error"};
	struct fixture *f = *state;

	for (size_t i = 0; i < 40; i++) {
		struct attempt attempt = attempt_of(outcomes[i % ROWS(outcomes)]);
		attempt.key = "0123abcd";
		attempts_write(f->attempts, &attempt);
		assert_int_equal(lines_in_log(f), (int)i + 1);
	}
}

/* Without a usable secret anyone with three headers is answered no_secret. */
TEST(an_error_before_anything_was_proved_is_left_out_like_a_refusal)
{
	struct fixture *f = *state;

	log_many(f, "error", 200);
	assert_true(lines_in_log(f) < 100);
}

/* "at" is when the request began: of those that are slow, each began before the last was logged. */
TEST(a_slow_request_does_not_get_around_the_limit)
{
	struct fixture *f = *state;
	int lines = 0;

	/* Each as a process of its own, as under CGI. */
	int64_t start = clock_milliseconds();
	for (int i = 0; i < 50; i++) {
		struct attempts *other = attempts_open(f->dir);
		struct attempt attempt = attempt_of("rejected");
		attempt.at.tv_sec -= 5;
		attempt.us = 5000000;
		attempts_write(other, &attempt);
		attempts_close(other);
	}
	lines = lines_in_log(f);
	assert_in_range(lines, 10, 10 + 10 * (clock_milliseconds() - start) / 1000);
}

/* Two receivers on one spool: together they write no more than one. */
TEST(other_processes_count)
{
	struct fixture *f = *state;
	struct attempts *other = attempts_open(f->dir);
	struct attempt attempt = attempt_of("rejected");

	int64_t start = clock_milliseconds();
	log_many(f, "rejected", 10);
	attempts_write(other, &attempt);
	bool soon = clock_milliseconds() - start < 1000; /* else it may have written one more */
	if (soon)
		assert_int_equal(lines_in_log(f), 10);
	wait_ms(1100);
	attempt = attempt_of("rejected");
	attempts_write(other, &attempt);
	if (soon)
		assert_int_equal(suppressed_in_last_line(f), 1);
	attempts_close(other);
}

/* ---- a disk that was full ---- */

TEST(a_torn_last_line_does_not_spoil_the_next)
{
	struct fixture *f = *state;

	file_write(f->path, "{\"at\":\"2025\"}\n{\"at\":\"20", 0640);
	log_one(f, "accepted");
	log_one(f, "accepted");
	char *text = read_log(f);
	assert_int_equal(lines_of(text), 4);
	assert_non_null(strstr(text, "{\"at\":\"20\n{\"at\":"));
	assert_null(strstr(text, "\n\n"));
	free(text);
	json_decref(last_line(f));
}

/* Several receivers share a spool: the one that tore the line may not be the one that goes on. */
TEST(a_line_that_another_process_tore_does_not_spoil_the_next)
{
	struct fixture *f = *state;

	log_one(f, "accepted");
	int fd = open(f->path, O_WRONLY | O_APPEND | O_CLOEXEC);
	assert_int_equal(write(fd, "{\"at\":\"20", 9), 9);
	close(fd);
	log_one(f, "accepted");
	assert_int_equal(lines_in_log(f), 3);
	json_decref(last_line(f));
}

/* The rest of a line, which another process writes when its end is looked at so often. */
static struct {
	const char *path, *rest;
	int looks;
} halves;

ssize_t
pread(int fd, void *data, size_t length, off_t at)
{
	if (halves.rest != NULL && --halves.looks == 0) {
		int other = open(halves.path, O_WRONLY | O_APPEND | O_CLOEXEC);
		assert_int_equal(write(other, halves.rest, strlen(halves.rest)), strlen(halves.rest));
		close(other);
	}
	return (ssize_t)syscall(SYS_pread64, fd, data, length, at);
}

/* The kernel shows a line that crosses a page in two steps. */
TEST(a_line_that_another_process_is_still_writing_is_not_torn)
{
	struct fixture *f = *state;

	for (int looks = 1; looks <= 3; looks++) {
		file_write(f->path, "{\"at\":\"20", 0640);
		halves.path = f->path;
		halves.rest = "25\"}\n";
		halves.looks = looks;
		log_one(f, "accepted");
		halves.rest = NULL;
		char *text = read_log(f);
		assert_int_equal(lines_of(text), 2);
		assert_int_equal(strncmp(text, "{\"at\":\"2025\"}\n{\"at\":", 20), 0);
		free(text);
		assert_int_equal(unlink(f->path), 0);
	}
}

static void
put_in_the_way(struct fixture *f, int how)
{
	switch (how) {
	case 0:
		assert_int_equal(mkdir(f->path, 0700), 0);
		break;
	case 1: /* nobody is led out of the spool */
		assert_int_equal(symlink("elsewhere", f->path), 0);
		break;
	case 2: /* nobody reads it: EAGAIN when full, but never waiting */
		assert_int_equal(symlink("/dev/full", f->path), 0);
		break;
	}
}

TEST(a_log_that_cannot_be_written_is_said_once_and_comes_back)
{
	struct fixture *f = *state;

	for (int how = 0; how < 3; how++) {
		struct capture capture;
		put_in_the_way(f, how);
		capture_begin(&capture);
		for (int i = 0; i < 3; i++)
			log_one(f, "accepted");
		char *logged = capture_end(&capture);
		assert_int_equal(lines_of(logged), 1);
		/* The whole path: with several endpoints it says whose log it is. */
		const char *said = strstr(logged, ": cannot be written: ");
		assert_non_null(said);
		size_t length = strlen(f->path);
		assert_true(said - logged >= (ptrdiff_t)length);
		assert_memory_equal(said - length, f->path, length);
		free(logged);
		assert_false(exists(in(f->dir, "elsewhere")));
		assert_int_equal(remove(f->path), 0);
		log_one(f, "accepted");
		assert_int_equal(lines_in_log(f), 1);
		assert_int_equal(unlink(f->path), 0);
	}
}

TEST(what_was_left_out_is_counted_until_it_can_be_said)
{
	struct fixture *f = *state;
	struct capture capture;

	log_many(f, "rejected", 100);
	assert_int_equal(unlink(f->path), 0);
	put_in_the_way(f, 0);
	capture_begin(&capture);
	log_one(f, "accepted");
	free(capture_end(&capture));
	assert_int_equal(rmdir(f->path), 0);
	log_one(f, "accepted");
	assert_true(suppressed_in_last_line(f) > 50);
}

/* ---- several at once ---- */

static void *
write_many(void *log)
{
	struct attempt attempt = attempt_of("accepted");

	for (int i = 0; i < 200; i++)
		attempts_write(log, &attempt);
	return NULL;
}

TEST(lines_of_several_threads_and_processes_do_not_mix)
{
	struct fixture *f = *state;
	struct attempts *other = attempts_open(f->dir);
	pthread_t threads[8];

	for (int i = 0; i < 8; i++)
		assert_int_equal(
		    pthread_create(&threads[i], NULL, write_many, i % 2 == 0 ? f->attempts : other), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], NULL);
	attempts_close(other);
	char *text = read_log(f), *rest = text;
	int lines = 0;
	for (char *line; (line = strsep(&rest, "\n")) != NULL;) {
		/* A writer that is stopped within a line for long has it taken for a torn one: no harm. */
		if (*line == '\0')
			continue;
		json_t *json = json_loads(line, 0, NULL);
		assert_non_null(json);
		json_decref(json);
		lines++;
	}
	assert_int_equal(lines, 1600);
	free(text);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		LOG_TEST(a_line_tells_all_that_is_known),
		LOG_TEST(what_is_not_known_is_left_out),
		LOG_TEST(any_bytes_from_outside_stay_on_one_line_of_plain_ascii),
		LOG_TEST(however_long_the_texts_are_the_line_is_written_and_bounded),
		LOG_TEST(a_line_is_written_whatever_the_server_says_of_the_address),
		LOG_TEST(the_log_is_a_file_of_mode_0640_or_stricter),
		LOG_TEST(a_log_that_was_renamed_or_removed_is_begun_anew),
		LOG_TEST(a_few_refusals_are_logged_right_after_other_lines),
		LOG_TEST(ten_at_once_then_ten_a_second_and_the_rest_is_counted),
		LOG_TEST(the_next_line_counts_what_was_left_out),
		LOG_TEST(other_processes_count),
		LOG_TEST(what_is_no_refusal_is_never_left_out),
		LOG_TEST(an_error_before_anything_was_proved_is_left_out_like_a_refusal),
		LOG_TEST(a_slow_request_does_not_get_around_the_limit),
		LOG_TEST(a_torn_last_line_does_not_spoil_the_next),
		LOG_TEST(a_line_that_another_process_tore_does_not_spoil_the_next),
		LOG_TEST(a_line_that_another_process_is_still_writing_is_not_torn),
		LOG_TEST(a_log_that_cannot_be_written_is_said_once_and_comes_back),
		LOG_TEST(what_was_left_out_is_counted_until_it_can_be_said),
		LOG_TEST(lines_of_several_threads_and_processes_do_not_mix),
	};

	return cmocka_run_group_tests_name("attempts", tests, NULL, NULL);
}
