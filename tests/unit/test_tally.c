/*
 * What the page knows of a large backlog, and for how long: a count that takes a time, over a clock
 * of this test's own.
 */
#include "helpers.h"

#include <errno.h>
#include <pthread.h>

#include "base/clock.h"
#include "store/store.h"
#include "web/context.h"
#include "web/tally.h"

enum { EVENTS = 10001 }; /* more than are counted within a request */

/* ---- the clock ---- */

static struct {
	int64_t ms, tick; /* it goes on by a tick with each reading */
	int readings;
	void (*hook)(void); /* called with the second reading */
} times;

int64_t
clock_milliseconds(void)
{
	if (++times.readings == 2 && times.hook != NULL)
		times.hook();
	return times.ms += times.tick;
}

int64_t
clock_microseconds(void)
{
	return clock_milliseconds() * 1000;
}

int64_t
clock_unix(void)
{
	return 1753400000;
}

int64_t
clock_since_boot(void)
{
	return times.ms / 1000;
}

/* ---- the page's process ---- */

static struct web web;
static struct error error;
static const char *directory;

static const char *
event_path(int n)
{
	static char path[300];

	snprintf(path, sizeof(path), "%s/new/e%d.json", directory, n);
	return path;
}

static void
open_web(void **state)
{
	static struct config config;
	FILE *file;

	directory = *state;
	config = (struct config){.spool = (char *)(uintptr_t)directory,
	    .sync = (char *)(uintptr_t)"auto"};
	memset(&times, 0, sizeof(times));
	times.ms = 1000000;
	web = (struct web){.config = &config, .store = store_open(&config, true, &error)};
	assert_non_null(web.store);
	web.tally = tally_open(&web);
	char *first = strdup(event_path(0));
	file = fopen(first, "w");
	assert_non_null(file);
	fclose(file);
	for (int i = 1; i < EVENTS; i++)
		assert_int_equal(link(first, event_path(i)), 0);
	free(first);
}

static void
close_web(void)
{
	tally_close(web.tally);
	store_close(web.store);
}

/* All events are handled, but one. */
static void
handle(void)
{
	for (int i = 1; i < EVENTS; i++)
		assert_int_equal(unlink(event_path(i)), 0);
}

/* A request misses the whole count; then it is made, and takes 20 s at least. hook: at its end. */
static void
count(void (*hook)(void))
{
	struct store_counts counts;

	times.tick = 20000;
	assert_int_equal(tally_counts(web.tally, 0, &counts, &error), STORE_ABSENT);
	times.readings = 0;
	times.hook = hook;
	tally_after(web.tally, 0);
	times.tick = 0;
}

static int64_t
waiting(void)
{
	struct store_tally tally;

	assert_int_equal(tally_lately(web.tally, 0, &tally, &error), STORE_OK);
	return tally.waiting;
}

/* ---- tests ---- */

/* For metrics: no series vanishes between two counts. */
TEST(counts_are_known_while_they_are_not_counted_anew)
{
	struct store_counts counts;

	open_web(state);
	count(NULL);
	int64_t counted = times.ms;
	times.ms = counted + 399 * 1000; /* fresh for 20 times 20 s */
	assert_int_equal(tally_counts(web.tally, 0, &counts, &error), STORE_OK);
	assert_int_equal(counts.waiting, EVENTS);
	times.ms = counted + 699 * 1000;
	times.tick = 100; /* a request cannot count all */
	assert_int_equal(tally_counts(web.tally, 0, &counts, &error), STORE_OK);
	times.ms = counted + 701 * 1000;
	assert_int_equal(tally_counts(web.tally, 0, &counts, &error), STORE_ABSENT);
	close_web();
}

TEST(an_action_makes_the_numbers_old)
{
	open_web(state);
	count(NULL);
	handle();
	assert_int_equal(waiting(), EVENTS);
	tally_forget(web.tally);
	assert_int_equal(waiting(), 1);
	close_web();
}

/* Where a request cannot count all, it says what it has seen, not what was there before. */
TEST(an_action_makes_the_numbers_old_until_all_is_counted)
{
	struct store_counts counts;

	open_web(state);
	count(NULL);
	tally_forget(web.tally);
	times.tick = 100;
	assert_true(waiting() < EVENTS);
	assert_int_equal(tally_counts(web.tally, 0, &counts, &error), STORE_OK);
	tally_after(web.tally, 0);
	times.tick = 0;
	assert_int_equal(waiting(), EVENTS);
	close_web();
}

static void
forget(void)
{
	times.hook = NULL;
	tally_forget(web.tally);
}

TEST(a_count_during_an_action_does_not_count)
{
	open_web(state);
	count(forget);
	handle();
	assert_int_equal(waiting(), 1);
	close_web();
}

/* Its numbers of before the action are answered once, and not kept. */
TEST(a_short_count_during_an_action_is_not_kept)
{
	open_web(state);
	handle();
	times.tick = 1;
	times.readings = 0;
	times.hook = forget;
	assert_int_equal(waiting(), 1);
	assert_int_equal(unlink(event_path(0)), 0);
	times.tick = 0;
	assert_int_equal(waiting(), 0);
	close_web();
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		SANDBOX_TEST(counts_are_known_while_they_are_not_counted_anew),
		SANDBOX_TEST(an_action_makes_the_numbers_old),
		SANDBOX_TEST(an_action_makes_the_numbers_old_until_all_is_counted),
		SANDBOX_TEST(a_count_during_an_action_does_not_count),
		SANDBOX_TEST(a_short_count_during_an_action_is_not_kept),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
