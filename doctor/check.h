/*
 * The quick part of doctor, for a monitoring system and for alerts: no test delivery is sent, and
 * the time does not grow with the archive. Its result is a struct health.
 */
#ifndef PSAPI_CHECK_H
#define PSAPI_CHECK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include "base/config.h"
#include "doctor/range.h"
#include "metrics/health.h"

/* The numbers that have ranges, and are performance data. check.c has their names. */
enum check_number {
	CHECK_WAITING,
	CHECK_RETRYING,
	CHECK_DEAD,
	CHECK_HELD,
	CHECK_OLDEST,
	CHECK_DAILY,
	CHECK_DRAIN,
	CHECK_FREE,
	CHECK_SKEW,
	CHECK_SECRETS,
	CHECK_NUMBERS
};

struct check_limits {
	struct range warning[CHECK_NUMBERS], critical[CHECK_NUMBERS];
};

/* The limits that hold without -w and -c. */
void check_limits_default(struct check_limits *limits);

/*
 * Read an argument of -w or -c: "NAME=RANGE,NAME=RANGE", or a RANGE alone, which is that of
 * waiting events. Returns NULL, or what is wrong with it.
 */
const char *check_limits_parse(struct range ranges[CHECK_NUMBERS], const char *text);

struct check_report {
	struct health health;
	struct {
		bool known;
		double value;
	} number[CHECK_NUMBERS];
};

/*
 * Run the checks. A finding that is not OK has the time since which it has not been, from the last
 * verdict; this one is noted as the last.
 */
void check_run(const struct config *config, const struct check_limits *limits, time_t now,
    struct check_report *report);

/*
 * Print the one line of a plugin: "PSAPI CRITICAL - text | waiting=3;10;;0 ...". What comes from
 * outside has no '|', no line break and nothing that is not ASCII.
 */
void check_print(FILE *stream, const struct check_report *report,
    const struct check_limits *limits);

#endif
