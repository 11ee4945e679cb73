/*
 * Times as texts: ISO 8601 in events and on command lines, and ages like 90d.
 * All are UTC; the clock is a parameter.
 */
#ifndef PSAPI_DATETIME_H
#define PSAPI_DATETIME_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

/* Nanoseconds since 1970 hold the years 1678 to 2261; others are refused. */
#define NANOSECONDS 1000000000LL

/*
 * Read YYYY-MM-DD, or with Thh:mm[:ss[.fraction]] (a blank instead of the T is
 * fine) and an optional zone, Z or +hh:mm; without one it is UTC. Returns false if
 * text is anything else or no such day or time exists.
 */
bool datetime_parse(const char *text, int64_t *nanoseconds);

/* Whether text is a calendar date, YYYY-MM-DD, and nothing else. */
bool datetime_is_date(const char *text);

/* Whether text is an ISO 8601 time in UTC to the second or finer, "2025-07-25T15:53:01.579Z". */
bool datetime_is_utc(const char *text);

/* Read an age, a whole number and one of s, m, h, d, w ("90d"), as seconds. */
bool datetime_age_parse(const char *text, int64_t *seconds);

/*
 * Read a TIME argument: what datetime_parse() reads, or an age before now (Unix
 * seconds). The result is in nanoseconds.
 */
bool datetime_argument(const char *text, int64_t now, int64_t *nanoseconds);

/* Room for "2025-07-24T22:51:05Z" and a NUL, whatever the year. */
#define DATETIME_TEXT_SIZE 32
/* Unix seconds as ISO 8601, to the second. */
void datetime_text(int64_t seconds, char text[DATETIME_TEXT_SIZE]);

/* Room for "2025-07-24T22:51:05.391000000Z" and a NUL, whatever the year. */
#define DATETIME_EXACT_SIZE 48
/* Nanoseconds since 1970 as ISO 8601, with all of their digits: datetime_parse() gives the same. */
void datetime_exact(int64_t nanoseconds, char text[DATETIME_EXACT_SIZE]);

/* Room for "2025-07-24T22:51:05.391Z" and a NUL. */
#define DATETIME_ISO_SIZE 25
/* UTC time with milliseconds, RFC 3339. */
void datetime_iso(struct timespec time, char text[DATETIME_ISO_SIZE]);

#endif
