/* Owns what schedule.h promises: back-off, verdicts, order, lanes. */
#include "helpers.h"

#include <signal.h>

#include "drain/schedule.h"

/* wait(2)'s statuses, as Linux makes them. */
#define EXITED(status) ((status) << 8)
#define KILLED(signal) (signal)

TEST(retries_come_later_and_later)
{
	static const int64_t minutes[] = {1, 5, 30, 120, 300, 600, 600, 600, 600};

	for (int try = 1; try <= (int)ROWS(minutes); try++)
		assert_int_equal(schedule_backoff(try), minutes[try - 1] * 60);
	assert_int_equal(schedule_backoff(1000000), 600 * 60);
	assert_int_equal(schedule_backoff(0), 60);
}

TEST(a_retry_is_due_when_it_was_written_down)
{
	assert_int_equal(schedule_due(1000, 1060, 1000), 1060);
	assert_int_equal(schedule_due(1000, 1060, 9999), 1060);
	assert_int_equal(schedule_due(0, 1060, 1000), 1060); /* by hand, without the try */
	assert_int_equal(schedule_due(1000, 0, 1000), 0);
	assert_int_equal(schedule_due(1000, 1060, 999), 0); /* a clock that was set back */
}

TEST(an_exit_status_decides)
{
	static const struct {
		int status;
		bool timed_out;
		int tries;
		enum schedule_verdict verdict;
	} rows[] = {
		{EXITED(0), false, 1, SCHEDULE_DONE},
		{EXITED(0), false, 10, SCHEDULE_DONE},
		{EXITED(0), true, 1, SCHEDULE_LATER}, /* late is late */
		{EXITED(1), false, 1, SCHEDULE_FAILED},
		{EXITED(74), false, 1, SCHEDULE_FAILED},
		{EXITED(75), false, 1, SCHEDULE_LATER},
		{EXITED(75), false, 9, SCHEDULE_LATER},
		{EXITED(75), false, 10, SCHEDULE_FAILED},
		{EXITED(75), false, 11, SCHEDULE_FAILED},
		{EXITED(76), false, 1, SCHEDULE_FAILED},
		{EXITED(125), false, 1, SCHEDULE_FAILED},
		{EXITED(126), false, 1, SCHEDULE_BROKEN},
		{EXITED(127), false, 1, SCHEDULE_BROKEN},
		{EXITED(127), false, 100, SCHEDULE_BROKEN},
		{EXITED(127), true, 10, SCHEDULE_FAILED}, /* late */
		{EXITED(128), false, 1, SCHEDULE_FAILED},
		{EXITED(255), false, 1, SCHEDULE_FAILED},
		{KILLED(SIGKILL), false, 1, SCHEDULE_LATER},
		{KILLED(SIGSEGV) | 0x80, false, 1, SCHEDULE_LATER}, /* with a core */
		{KILLED(SIGTERM), true, 1, SCHEDULE_LATER},
		{KILLED(SIGTERM), true, 10, SCHEDULE_FAILED},
		{EXITED(1), true, 1, SCHEDULE_LATER},
	};

	for (size_t i = 0; i < ROWS(rows); i++)
		assert_int_equal(
		    schedule_judge(rows[i].status, rows[i].timed_out, rows[i].tries, 10), rows[i].verdict);
}

/* Add an event; its name says its lane and its place in it. */
static void
add(struct schedule *s, const char *name, int64_t when, int64_t due, uint64_t lane)
{
	assert_int_equal(schedule_add(s, name, when, due, lane), 0);
}

/* The names of all that come, one after the other, each with a blank; goes_on is for all. */
static const char *
run_through(struct schedule *s, int64_t now, bool goes_on)
{
	static char names[256];
	const struct task *task;

	*names = '\0';
	while ((task = schedule_next(s, now)) != NULL) {
		strcat(strcat(names, schedule_name(s, task)), " ");
		schedule_release(s, task, goes_on);
	}
	return names;
}

TEST(the_order_is_time_then_name)
{
	struct schedule *s = schedule_new();

	add(s, "c", 2, 0, 1);
	add(s, "b", 2, 0, 2);
	add(s, "d", -5, 0, 1);
	add(s, "a", INT64_MAX, 0, 3);
	assert_int_equal(schedule_sort(s), 0);
	assert_int_equal(schedule_size(s), 4);
	assert_string_equal(run_through(s, 0, true), "d b c a ");
	schedule_free(s);
}

TEST(a_lane_waits_as_a_whole)
{
	struct schedule *s = schedule_new();

	add(s, "a1", 1, 0, 7);
	add(s, "a2", 2, 101, 7); /* not due */
	add(s, "a3", 3, 0, 7);
	add(s, "b1", 4, 100, 8);
	assert_int_equal(schedule_sort(s), 0);
	assert_string_equal(run_through(s, 100, true), "a1 b1 ");
	schedule_free(s);
}

TEST(who_is_put_off_holds_up_its_lane)
{
	struct schedule *s = schedule_new();

	add(s, "a1", 1, 0, 7);
	add(s, "b1", 2, 0, 8);
	add(s, "a2", 3, 0, 7);
	assert_int_equal(schedule_sort(s), 0);
	assert_string_equal(run_through(s, 100, false), "a1 b1 ");
	schedule_free(s);
}

TEST(a_lane_is_taken_until_it_is_released)
{
	struct schedule *s = schedule_new();

	add(s, "a1", 1, 0, 7);
	add(s, "a2", 2, 0, 7);
	add(s, "b1", 3, 0, 8);
	assert_int_equal(schedule_sort(s), 0);
	const struct task *a1 = schedule_next(s, 0), *b1 = schedule_next(s, 0);
	assert_string_equal(schedule_name(s, a1), "a1");
	assert_string_equal(schedule_name(s, b1), "b1");
	assert_null(schedule_next(s, 0));
	schedule_release(s, a1, true);
	assert_string_equal(schedule_name(s, schedule_next(s, 0)), "a2");
	assert_null(schedule_next(s, 0));
	schedule_release(s, b1, true);
	assert_null(schedule_next(s, 0));
	schedule_free(s);
}

TEST(a_task_that_is_returned_comes_again_in_its_order)
{
	struct schedule *s = schedule_new();

	add(s, "a1", 1, 0, 7);
	add(s, "b1", 2, 0, 8);
	add(s, "a2", 3, 0, 7);
	add(s, "c1", 4, 0, 9);
	assert_int_equal(schedule_sort(s), 0);
	const struct task *a1 = schedule_next(s, 0), *b1 = schedule_next(s, 0);
	schedule_return(s, b1);
	schedule_return(s, a1);
	assert_ptr_equal(schedule_next(s, 0), a1);
	schedule_release(s, a1, true);
	assert_ptr_equal(schedule_next(s, 0), b1);
	assert_string_equal(schedule_name(s, schedule_next(s, 0)), "a2");
	assert_string_equal(schedule_name(s, schedule_next(s, 0)), "c1");
	schedule_free(s);
}

TEST(nothing_is_nothing)
{
	struct schedule *s = schedule_new();

	assert_int_equal(schedule_sort(s), 0);
	assert_null(schedule_next(s, 0));
	schedule_free(s);
	schedule_free(NULL);
}

/* Against a model: many events, several at a time, ends in any order. */
TEST(many_lanes_at_random)
{
	enum { EVENTS = 5000, LANES = 300, PLACES = 7 };
	static int64_t last[LANES];
	const struct task *running[PLACES] = {0};
	struct schedule *s = schedule_new();
	int seen = 0, lane_taken[LANES] = {0};
	char name[16];

	srand(42);
	memset(last, 0xff, sizeof(last)); /* -1 */
	for (int i = 0; i < EVENTS; i++) {
		snprintf(name, sizeof(name), "%d", i);
		add(s, name, rand() % 1000, 0, (uint64_t)(rand() % LANES) << 32);
	}
	assert_int_equal(schedule_sort(s), 0);
	for (;;) {
		int i = rand() % PLACES, busy = 0;
		if (running[i] != NULL) {
			lane_taken[running[i]->lane >> 32] = 0;
			schedule_release(s, running[i], true);
		}
		running[i] = schedule_next(s, 0);
		if (running[i] != NULL) {
			size_t lane = running[i]->lane >> 32;
			assert_int_equal(lane_taken[lane]++, 0);
			assert_true(running[i]->when >= last[lane]);
			last[lane] = running[i]->when;
			seen++;
		}
		for (int k = 0; k < PLACES; k++)
			busy += running[k] != NULL;
		if (busy == 0)
			break;
	}
	assert_int_equal(seen, EVENTS);
	schedule_free(s);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(retries_come_later_and_later),
		cmocka_unit_test(a_retry_is_due_when_it_was_written_down),
		cmocka_unit_test(an_exit_status_decides),
		cmocka_unit_test(the_order_is_time_then_name),
		cmocka_unit_test(a_lane_waits_as_a_whole),
		cmocka_unit_test(who_is_put_off_holds_up_its_lane),
		cmocka_unit_test(a_lane_is_taken_until_it_is_released),
		cmocka_unit_test(a_task_that_is_returned_comes_again_in_its_order),
		cmocka_unit_test(nothing_is_nothing),
		cmocka_unit_test(many_lanes_at_random),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
