/* Owns how times are read from and written as text. */
#define _GNU_SOURCE
#include "base/datetime.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* Read exactly n digits; the text goes on behind them. */
static bool
take_digits(const char **text, int n, int *value)
{
	*value = 0;
	for (; n > 0; n--, (*text)++) {
		if (**text < '0' || **text > '9')
			return false;
		*value = *value * 10 + (**text - '0');
	}
	return true;
}

static bool
take(const char **text, char c)
{
	if (**text != c)
		return false;
	(*text)++;
	return true;
}

/* ".fraction" as nanoseconds; digits beyond them are dropped. */
static bool
take_fraction(const char **text, int64_t *nanoseconds)
{
	int64_t unit = NANOSECONDS;

	if (!take(text, '.'))
		return true;
	if (**text < '0' || **text > '9')
		return false;
	for (; **text >= '0' && **text <= '9'; (*text)++) {
		unit /= 10;
		*nanoseconds += (**text - '0') * unit;
	}
	return true;
}

/* "", "Z", "+hh:mm" or "-hh:mm", as seconds east of UTC. */
static bool
take_zone(const char **text, int64_t *east)
{
	int sign = **text == '-' ? -1 : 1, hours, minutes;

	*east = 0;
	if (**text == '\0' || take(text, 'Z'))
		return true;
	if (**text != '+' && **text != '-')
		return false;
	(*text)++;
	if (!take_digits(text, 2, &hours) || !take(text, ':') || !take_digits(text, 2, &minutes) ||
	    hours > 23 || minutes > 59)
		return false;
	*east = sign * (hours * 3600 + minutes * 60);
	return true;
}

static bool
take_clock(const char **text, struct tm *tm, int64_t *fraction)
{
	if (!take_digits(text, 2, &tm->tm_hour) || !take(text, ':') ||
	    !take_digits(text, 2, &tm->tm_min))
		return false;
	if (take(text, ':') &&
	    (!take_digits(text, 2, &tm->tm_sec) || !take_fraction(text, fraction)))
		return false;
	/* 60 is a leap second, which Unix time does not have: the second after. */
	return tm->tm_hour <= 23 && tm->tm_min <= 59 && tm->tm_sec <= 60;
}

bool
datetime_parse(const char *text, int64_t *nanoseconds)
{
	int year, month, day;
	int64_t fraction = 0, east = 0;
	struct tm tm = {0};

	if (!take_digits(&text, 4, &year) || !take(&text, '-') || !take_digits(&text, 2, &month) ||
	    !take(&text, '-') || !take_digits(&text, 2, &day))
		return false;
	if ((take(&text, 'T') || take(&text, ' ')) &&
	    (!take_clock(&text, &tm, &fraction) || !take_zone(&text, &east)))
		return false;
	if (*text != '\0' || year < 1700 || year > 2200)
		return false;
	tm.tm_year = year - 1900;
	tm.tm_mon = month - 1;
	tm.tm_mday = day;
	struct tm normal = tm;
	normal.tm_hour = normal.tm_min = normal.tm_sec = 0;
	timegm(&normal);
	if (normal.tm_mon != month - 1 || normal.tm_mday != day)
		return false;
	*nanoseconds = (timegm(&tm) - east) * NANOSECONDS + fraction;
	return true;
}

bool
datetime_is_date(const char *text)
{
	int64_t nanoseconds;

	return strlen(text) == 10 && datetime_parse(text, &nanoseconds);
}

bool
datetime_is_utc(const char *text)
{
	int64_t nanoseconds;

	if (!datetime_parse(text, &nanoseconds) || strlen(text) < 20 || text[10] != 'T' ||
	    text[16] != ':')
		return false;
	const char *zone = text + strcspn(text + 11, "Z+-") + 11;
	return strcmp(zone, "Z") == 0 || strcmp(zone, "+00:00") == 0;
}

bool
datetime_age_parse(const char *text, int64_t *seconds)
{
	static const struct {
		char unit;
		int64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};
	size_t digits = strspn(text, "0123456789");
	int64_t number = 0;

	if (digits < 1 || digits > 6 || strlen(text) != digits + 1)
		return false;
	for (size_t i = 0; i < digits; i++)
		number = number * 10 + (text[i] - '0');
	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
		if (units[i].unit != text[digits])
			continue;
		*seconds = number * units[i].seconds;
		return true;
	}
	return false;
}

bool
datetime_argument(const char *text, int64_t now, int64_t *nanoseconds)
{
	int64_t age;

	if (!datetime_age_parse(text, &age))
		return datetime_parse(text, nanoseconds);
	if (age > now)
		age = now; /* before 1970 there was nothing */
	*nanoseconds = (now - age) * NANOSECONDS;
	return true;
}

void
datetime_text(int64_t seconds, char text[DATETIME_TEXT_SIZE])
{
	time_t time = seconds;
	struct tm tm;

	if (gmtime_r(&time, &tm) == NULL ||
	    strftime(text, DATETIME_TEXT_SIZE, "%Y-%m-%dT%H:%M:%SZ", &tm) == 0)
		snprintf(text, DATETIME_TEXT_SIZE, "-");
}

void
datetime_exact(int64_t nanoseconds, char text[DATETIME_EXACT_SIZE])
{
	int64_t fraction = nanoseconds % NANOSECONDS;
	char whole[DATETIME_TEXT_SIZE];

	fraction += fraction < 0 ? NANOSECONDS : 0;
	datetime_text((nanoseconds - fraction) / NANOSECONDS, whole);
	whole[strcspn(whole, "Z")] = '\0';
	snprintf(text, DATETIME_EXACT_SIZE, "%s.%09dZ", whole, (int)fraction);
}

static void
put_digits(char *text, int digits, int number)
{
	for (; digits > 0; number /= 10)
		text[--digits] = (char)('0' + number % 10);
}

void
datetime_iso(struct timespec time, char text[DATETIME_ISO_SIZE])
{
	/* Each event has two of them, nearly always of the same second. */
	static _Thread_local struct {
		time_t second;
		char text[DATETIME_ISO_SIZE];
	} last = {0, "1970-01-01T00:00:00.000Z"};
	struct tm tm;

	if (time.tv_sec != last.second) {
		gmtime_r(&time.tv_sec, &tm);
		put_digits(last.text, 4, tm.tm_year + 1900);
		put_digits(last.text + 5, 2, tm.tm_mon + 1);
		put_digits(last.text + 8, 2, tm.tm_mday);
		put_digits(last.text + 11, 2, tm.tm_hour);
		put_digits(last.text + 14, 2, tm.tm_min);
		put_digits(last.text + 17, 2, tm.tm_sec);
		last.second = time.tv_sec;
	}
	memcpy(text, last.text, DATETIME_ISO_SIZE);
	put_digits(text + 20, 3, (int)(time.tv_nsec / 1000000));
}
