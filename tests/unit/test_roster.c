/* Owns what store/roster.h promises: which event of a producer counts, in whatever order. */
#include "helpers.h"

#include "base/datetime.h"
#include "store/roster.h"

static const struct roster_mark *
mark_of(const struct roster *roster, const char *npn)
{
	for (size_t i = 0; i < roster->count; i++)
		if (strcmp(roster->marks[i].npn, npn) == 0)
			return &roster->marks[i];
	fail_msg("no %s", npn);
	return NULL;
}

TEST(the_latest_counts_in_any_order)
{
	static const struct {
		int64_t when;
		bool active, counts;
	} orders[][3] = {
		{{1, true, true}, {2, false, true}, {3, true, true}},
		{{3, true, true}, {2, false, false}, {1, true, false}},
		{{2, false, true}, {3, true, true}, {3, false, false}},
		{{3, false, true}, {3, true, true}, {3, true, false}},
		{{INT64_MIN, true, true}, {INT64_MIN, false, false}, {3, true, true}},
		{{INT64_MIN, false, true}, {INT64_MIN, false, false}, {3, true, true}},
	};

	(void)state;
	for (size_t i = 0; i < ROWS(orders); i++) {
		struct roster roster = {0};
		bool changed;
		for (size_t k = 0; k < 3; k++) {
			assert_int_equal(roster_add(&roster, "7", orders[i][k].when, orders[i][k].active,
			                     &changed), 0);
			if (changed != orders[i][k].counts)
				fail_msg("order %zu, event %zu", i, k);
		}
		assert_int_equal(mark_of(&roster, "7")->when, 3);
		assert_true(mark_of(&roster, "7")->active);
		roster_free(&roster);
	}
}

/* Each time is a mark of its own; of a time, activated stays. */
TEST(every_mark_is_kept_in_any_order)
{
	static const struct {
		int64_t when;
		bool active, counts;
	} adds[] = {{2, true, true}, {1, true, true}, {3, false, true}, {1, false, false},
		{3, true, true}, {2, true, false}, {INT64_MIN, false, true}, {INT64_MIN, false, false}};
	static const int64_t times[] = {INT64_MIN, 1, 2, 3};
	struct roster roster = {.every = true};
	bool changed;

	(void)state;
	for (size_t i = 0; i < ROWS(adds); i++) {
		assert_int_equal(roster_add(&roster, "7", adds[i].when, adds[i].active, &changed), 0);
		if (changed != adds[i].counts)
			fail_msg("add %zu", i);
	}
	assert_int_equal(roster.count, ROWS(times));
	roster_sort(&roster);
	for (size_t i = 0; i < ROWS(times); i++) {
		assert_int_equal(roster.marks[i].when, times[i]);
		assert_int_equal(roster.marks[i].active, i > 0);
	}
	roster_free(&roster);
}

TEST(only_npns_of_the_two_types_count)
{
	static const struct {
		const char *type, *npn;
		bool counts, active;
	} rows[] = {
		{ROSTER_ACTIVATED, "7", true, true},
		{ROSTER_DEACTIVATED, "12345678901234567890", true, false},
		{ROSTER_ACTIVATED, "", false, true},
		{ROSTER_ACTIVATED, "123456789012345678901", false, true},
		{ROSTER_ACTIVATED, "7\n", false, true},
		{ROSTER_ACTIVATED ".x", "7", false, false},
		{"producersync.npn", "7", false, false},
		{"", "7", false, false},
	};
	struct event event;
	bool active;

	(void)state;
	for (size_t i = 0; i < ROWS(rows); i++) {
		memset(&event, 0, sizeof(event));
		strcpy(event.type, rows[i].type);
		strcpy(event.npn, rows[i].npn);
		if (roster_counts(&event, &active) != rows[i].counts || active != rows[i].active)
			fail_msg("row %zu", i);
	}
}

TEST(many_are_found_again_and_sorted)
{
	struct roster roster = {0};
	char npn[24];

	(void)state;
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < 20000; i++) {
			snprintf(npn, sizeof(npn), "%d", i * 7919 % 20011);
			assert_int_equal(roster_add(&roster, npn, round, round == 1, NULL), 0);
		}
	assert_int_equal(roster.count, 20000);
	roster_sort(&roster);
	for (size_t i = 0; i < roster.count; i++) {
		assert_true(roster.marks[i].active);
		assert_true(i == 0 || atoi(roster.marks[i - 1].npn) < atoi(roster.marks[i].npn));
	}
	roster_free(&roster);
	roster_sort(&roster);
}

TEST(times_are_written_exactly)
{
	static const int64_t times[] = {0, 1, -1, 1753397465123456789, -NANOSECONDS, 999999999,
		-2 * NANOSECONDS - 1};
	char text[DATETIME_EXACT_SIZE];
	int64_t read;

	(void)state;
	for (size_t i = 0; i < ROWS(times); i++) {
		datetime_exact(times[i], text);
		assert_true(datetime_parse(text, &read));
		assert_int_equal(read, times[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_latest_counts_in_any_order),
		cmocka_unit_test(every_mark_is_kept_in_any_order),
		cmocka_unit_test(only_npns_of_the_two_types_count),
		cmocka_unit_test(many_are_found_again_and_sorted),
		cmocka_unit_test(times_are_written_exactly),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
