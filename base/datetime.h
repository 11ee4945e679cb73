/*
 * Times as texts: ISO 8601 in events and on command lines, and ages like 90d.
 * All are UTC; the clock is a parameter.
 */
#ifndef PSAPI_TIMES_H
#define PSAPI_TIMES_H

#include <stdbool.h>
#include <stdint.h>

/* Nanoseconds since 1970 hold the years 1678 to 2261; others are refused. */
#define NANOSECONDS 1000000000LL

/*
 * Read YYYY-MM-DD, or with Thh:mm[:ss[.fraction]] (a blank instead of the T is
 * fine) and an optional zone, Z or +hh:mm; without one it is UTC. Returns false if
 * text is anything else or no such day or time exists.
 */
bool time_parse(const char *text, int64_t *nanoseconds);

/* Read an age, a whole number and one of s, m, h, d, w ("90d"), as seconds. */
bool age_parse(const char *text, int64_t *seconds);

/*
 * Read a TIME argument: what time_parse() reads, or an age before now (Unix
 * seconds). The result is in nanoseconds.
 */
bool time_argument(const char *text, int64_t now, int64_t *nanoseconds);

/* Room for "2025-07-24T22:51:05Z" and a NUL, whatever the year. */
#define TIME_TEXT_SIZE 32
/* Unix seconds as ISO 8601, to the second. */
void time_text(int64_t seconds, char text[TIME_TEXT_SIZE]);

#endif
