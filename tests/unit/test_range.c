/* Owns what range.h promises: which texts are ranges, and which values raise the alarm. */
#include "helpers.h"

#include "doctor/range.h"

TEST(values_that_raise_the_alarm)
{
	static const struct {
		const char *text;
		double alarms, fine;
	} rows[] = {
		{"10", 10.5, 10}, {"10", -1, 0}, {"10:", 9.9, 10}, {"~:10", 11, -1000000},
		{"10:20", 9, 10}, {"10:20", 21, 20}, {"@10:20", 10, 9}, {"@10:20", 20, 21},
		{"-60:60", -61, -60}, {"-60:60", 61, 60}, {"0", 1, 0}, {"~:-5", 0, -5}, {"@5", 0, 6},
		{"1.5:2.5", 1.4, 1.5}, {"+3:4", 2, 3}, {":7", 8, 7},
	};
	struct range range;

	for (size_t i = 0; i < ROWS(rows); i++) {
		assert_true(range_parse(&range, rows[i].text, strlen(rows[i].text)));
		assert_string_equal(range.text, rows[i].text);
		if (!range_alarms(&range, rows[i].alarms) || range_alarms(&range, rows[i].fine))
			fail_msg("%s: %g, %g", rows[i].text, rows[i].alarms, rows[i].fine);
	}
}

TEST(an_empty_range_raises_none)
{
	struct range range;

	assert_true(range_parse(&range, "", 0));
	assert_false(range.set || range_alarms(&range, 1e300) || range_alarms(&range, -1));
}

TEST(what_is_no_range_is_refused_and_changes_nothing)
{
	static const char *const wrong[] = {"x", "1x", "~", "@", "2:1", "1:2:3", "1e3", "nan", "inf",
		"0x10", " 1", "1 ", "--1", "1-", "@@1", "~:~", "1:@2",
		"1234567890123456789012345678901234567890123456789"};
	struct range range;

	assert_true(range_parse(&range, "5:6", 3));
	for (size_t i = 0; i < ROWS(wrong); i++) {
		if (range_parse(&range, wrong[i], strlen(wrong[i])))
			fail_msg("%s", wrong[i]);
		assert_string_equal(range.text, "5:6");
	}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(values_that_raise_the_alarm),
		cmocka_unit_test(an_empty_range_raises_none),
		cmocka_unit_test(what_is_no_range_is_refused_and_changes_nothing),
	};

	return cmocka_run_group_tests_name("range", tests, NULL, NULL);
}
