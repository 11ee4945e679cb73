/* Owns what times.h promises: which texts are times and ages, and which are not. */
#include "helpers.h"

#include "base/datetime.h"

TEST(times_are_read)
{
	static const struct {
		const char *text;
		int64_t seconds, nanoseconds;
	} rows[] = {
		{"1970-01-01", 0, 0},
		{"1970-01-01T00:00:01Z", 1, 0},
		{"1969-12-31T23:59:59Z", -1, 0},
		{"2025-07-24", 1753315200, 0},
		{"2025-07-24T22:51", 1753397460, 0},
		{"2025-07-24 22:51:05", 1753397465, 0},
		{"2025-07-24T22:51:05.206Z", 1753397465, 206000000},
		{"2025-07-24T22:51:05.2", 1753397465, 200000000},
		{"2025-07-24T22:51:05.123456789123Z", 1753397465, 123456789},
		{"2025-07-25T00:51:05+02:00", 1753397465, 0},
		{"2025-07-24T17:21:05.5-05:30", 1753397465, 500000000},
		{"2024-02-29", 1709164800, 0},
		{"2025-07-24T23:59:60Z", 1753401600, 0}, /* a leap second is the second after */
		{"2200-12-31T23:59:59.999999999Z", 7289654399, 999999999},
	};
	int64_t ns;

	for (size_t i = 0; i < ROWS(rows); i++) {
		assert_true(datetime_parse(rows[i].text, &ns));
		assert_int_equal(ns, rows[i].seconds * NANOSECONDS + rows[i].nanoseconds);
	}
}

TEST(what_is_no_time_is_refused)
{
	static const char *const texts[] = {
		"", "2025", "2025-07", "2025-7-24", "25-07-24", "2025-07-32", "2025-13-01", "2025-00-01",
		"2025-01-00", "2025-02-29", "2100-02-29", " 2025-07-24", "2025-07-24 ", "2025-07-24T",
		"2025-07-24T22", "2025-07-24T24:00:00", "2025-07-24T22:60:00", "2025-07-24T22:51:61",
		"2025-07-24T22:51:05.", "2025-07-24T22:51:05.Z", "2025-07-24T22:51:05z",
		"2025-07-24T22:51:05+0200", "2025-07-24T22:51:05+24:00", "2025-07-24T22:51:05ZZ",
		"2025-07-24Z", "2025-07-24T-1:00:00", "+025-07-24", "1699-12-31", "2201-01-01",
		"9999-12-31", "now", "yesterday"};
	int64_t ns;

	for (size_t i = 0; i < ROWS(texts); i++)
		assert_false(datetime_parse(texts[i], &ns));
}

TEST(ages_are_read)
{
	static const struct {
		const char *text;
		int64_t seconds;
	} rows[] = {{"0s", 0}, {"0d", 0}, {"1s", 1}, {"30m", 1800}, {"12h", 43200}, {"90d", 7776000},
		{"2w", 1209600}, {"007d", 604800}, {"999999w", 604799395200}};
	static const char *const refused[] = {"", "d", "90", "90D", "-1d", "+1d", " 1d", "1d ", "1.5h",
		"1d12h", "1000000d", "1y", "1M"};
	int64_t seconds;

	for (size_t i = 0; i < ROWS(rows); i++) {
		assert_true(datetime_age_parse(rows[i].text, &seconds));
		assert_int_equal(seconds, rows[i].seconds);
	}
	for (size_t i = 0; i < ROWS(refused); i++)
		assert_false(datetime_age_parse(refused[i], &seconds));
}

TEST(an_argument_is_either)
{
	int64_t ns;

	assert_true(datetime_argument("12h", 100000, &ns));
	assert_int_equal(ns, (100000 - 43200) * NANOSECONDS);
	assert_true(datetime_argument("999999w", 100000, &ns));
	assert_int_equal(ns, 0);
	assert_true(datetime_argument("1970-01-02", 100000, &ns));
	assert_int_equal(ns, 86400 * NANOSECONDS);
	assert_false(datetime_argument("soon", 100000, &ns));
}

TEST(times_are_written)
{
	char text[DATETIME_TEXT_SIZE];
	int64_t ns;

	datetime_text(1753397465, text);
	assert_string_equal(text, "2025-07-24T22:51:05Z");
	assert_true(datetime_parse(text, &ns));
	assert_int_equal(ns, 1753397465 * NANOSECONDS);
	datetime_text(INT64_MAX, text); /* no year that a struct tm holds */
	assert_string_equal(text, "-");
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(times_are_read),
		cmocka_unit_test(what_is_no_time_is_refused),
		cmocka_unit_test(ages_are_read),
		cmocka_unit_test(an_argument_is_either),
		cmocka_unit_test(times_are_written),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
