/*
 * Owns the part of drain.h that takes hours: a run over real time-outs of the
 * back-off, with a clock of the test's own.
 */
#include "helpers.h"

#include <sysexits.h>
#include <time.h>

#include "drain/drain.h"
#include "events.h"
#include "base/log.h"
#include "store/store.h"

static int64_t now;

static int64_t
test_clock(void)
{
	return now;
}

struct place {
	struct store *store;
	struct config config;
	const char *path;
};

static void
place_open(struct place *place, const char *sandbox)
{
	struct error error;

	memset(place, 0, sizeof(*place));
	place->path = in(sandbox, "spool");
	place->config.handler_timeout = 60;
	place->config.max_tries = 10;
	place->config.spool = strdup(place->path);
	place->config.sync = strdup("auto");
	place->store = store_open(&place->config, true, &error);
	assert_non_null(place->store);
	now = time(NULL);
}

static void
place_close(struct place *place)
{
	store_close(place->store);
	config_free(&place->config);
}

/* Store an event as the receiver does. */
static void
deliver(struct place *place, const char *id, const char *body)
{
	struct evidence evidence = {.id = id, .id_length = strlen(id), .timestamp = "1",
		.timestamp_length = 1, .signature = "v1,x", .signature_length = 4, .received_at = {1, 0}};
	struct record record;
	struct event event;
	char name[STORE_NAME_SIZE];
	struct store_intake intake = {.name = name, .event = &event, .record = &record};
	struct error error;

	events_read(body, strlen(body), &event);
	assert_int_equal(store_name(id, strlen(id), name), 0);
	assert_int_equal(record_make(&record, &evidence, body, strlen(body), true), 0);
	assert_int_equal(store_put(place->store, &intake, &error), STORE_OK);
	record_free(&record);
}

/* One run with `sh -c script` for all events; its exit status. */
static int
drain(struct place *place, const char *script)
{
	char sh[] = "/bin/sh", c[] = "-c", name[] = "sh", *text = strdup(script);
	char *const command[] = {sh, c, text, name, NULL};
	struct drain_options options = {.jobs = 1, .command = command};

	assert_int_equal(setenv("PSAPI_PLACE", place->path, 1), 0);
	int status = drain_run(&place->config, place->store, &options, test_clock);
	free(text);
	return status;
}

#define COUNT "echo $PSAPI_TRY >>$PSAPI_PLACE/tries; "

/* How many handler runs there were. */
static int
runs(struct place *place)
{
	size_t length;
	char *text = file_read(in(place->path, "tries"), &length);
	int n = text == NULL ? 0 : lines_of(text);

	free(text);
	return n;
}

TEST(each_retry_comes_when_it_is_due_and_not_before)
{
	static const int64_t minutes[] = {1, 5, 30, 120, 300, 600, 600, 600, 600};
	struct capture capture;
	struct place place;

	place_open(&place, *state);
	deliver(&place, "a", "{\"type\":\"x\",\"data\":{}}");
	for (int try = 1; try <= 9; try++) {
		assert_int_equal(drain(&place, COUNT "exit 75"), EX_OK);
		assert_int_equal(runs(&place), try);
		assert_true(exists(in(place.path, "new/a.json")));
		now += minutes[try - 1] * 60 - 1;
		assert_int_equal(drain(&place, COUNT "exit 75"), EX_OK);
		assert_int_equal(runs(&place), try);
		now += 1;
	}
	capture_begin(&capture);
	int status = drain(&place, COUNT "exit 75"); /* the tenth is the last */
	char *said = capture_end(&capture);
	assert_int_equal(status, 1);
	assert_non_null(strstr(said, "try 10 of at most 10"));
	free(said);
	assert_int_equal(runs(&place), 10);
	assert_false(exists(in(place.path, "new/a.json")));
	assert_true(exists(in(place.path, "failed/a.json")));
	place_close(&place);
}

TEST(the_lane_waits_for_all_of_that_time)
{
	struct place place;

	place_open(&place, *state);
	deliver(&place, "a",
	    "{\"type\":\"x\",\"timestamp\":\"2025-07-24T00:00:00Z\",\"data\":{\"npn\":\"1\"}}");
	deliver(&place, "b",
	    "{\"type\":\"y\",\"timestamp\":\"2025-07-24T00:00:01Z\",\"data\":{\"npn\":\"1\"}}");
	assert_int_equal(drain(&place, COUNT "exit 75"), EX_OK);
	now += 59;
	assert_int_equal(drain(&place, COUNT), EX_OK);
	assert_int_equal(runs(&place), 1);
	now += 1;
	assert_int_equal(drain(&place, COUNT), EX_OK);
	assert_int_equal(runs(&place), 3);
	assert_int_equal(names_in(in(place.path, "new")), 0);
	/* its last run, and the results of the handlers with their spare file */
	assert_int_equal(names_in(in(place.path, "state")), 3);
	place_close(&place);
}

TEST(a_clock_that_is_set_back_stops_nobody)
{
	struct place place;

	place_open(&place, *state);
	now += 365 * 86400; /* wrong by a year */
	deliver(&place, "a", "{\"type\":\"x\",\"data\":{}}");
	assert_int_equal(drain(&place, COUNT "exit 75"), EX_OK);
	now -= 365 * 86400;
	assert_int_equal(drain(&place, COUNT "exit 75"), EX_OK);
	assert_int_equal(runs(&place), 2);
	now += 299; /* and from here on it is right */
	assert_int_equal(drain(&place, COUNT "exit 75"), EX_OK);
	assert_int_equal(runs(&place), 2);
	now += 1;
	assert_int_equal(drain(&place, COUNT), EX_OK);
	assert_int_equal(runs(&place), 3);
	assert_int_equal(names_in(in(place.path, "new")), 0);
	place_close(&place);
}

TEST(nothing_is_left_open)
{
	struct place place;

	place_open(&place, *state);
	deliver(&place, "a", "{\"type\":\"x\",\"data\":{}}");
	deliver(&place, "b", "{\"type\":\"x\",\"data\":{}}");
	int before = descriptors();
	assert_int_equal(drain(&place, "exit 75"), EX_OK);
	now += 60;
	assert_int_equal(drain(&place, ":"), EX_OK);
	assert_int_equal(descriptors(), before);
	place_close(&place);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		SANDBOX_TEST(each_retry_comes_when_it_is_due_and_not_before),
		SANDBOX_TEST(the_lane_waits_for_all_of_that_time),
		SANDBOX_TEST(a_clock_that_is_set_back_stops_nobody),
		SANDBOX_TEST(nothing_is_left_open),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
