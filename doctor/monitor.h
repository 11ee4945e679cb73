/*
 * The quick part of doctor, for a monitoring system and for alerts: no test delivery is sent, and
 * the time does not grow with the archive. Its result is a struct health.
 */
#ifndef PSAPI_MONITOR_H
#define PSAPI_MONITOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <time.h>

#include "base/config.h"
#include "doctor/range.h"
#include "metrics/health.h"

/* The numbers that have ranges, and are performance data. monitor.c has their names. */
enum monitor_number {
	MONITOR_WAITING,
	MONITOR_RETRYING,
	MONITOR_FAILED,
	MONITOR_HELD,
	MONITOR_OLDEST,
	MONITOR_DAILY,
	MONITOR_DRAIN,
	MONITOR_FREE,
	MONITOR_SKEW,
	MONITOR_SECRETS,
	MONITOR_NUMBERS
};

/* Since the last drain: the limit that holds without -c. */
#define MONITOR_DRAIN_LATE_SECONDS 600

/* A time so far ahead was noted under a wrong clock: its age would be 0 for long, and no alarm. */
#define MONITOR_AHEAD_SECONDS 60
#define MONITOR_AHEAD_REMEDY \
	"was the clock wrong then, or is it now? The next psapi drain notes its time anew"

struct monitor_limits {
	struct range warning[MONITOR_NUMBERS], critical[MONITOR_NUMBERS];
};

/* The limits that hold without -w and -c. */
void monitor_limits_default(struct monitor_limits *limits);

/*
 * Read an argument of -w or -c: "NAME=RANGE,NAME=RANGE", or a RANGE alone, which is that of
 * waiting events. Returns NULL, or what is wrong with it.
 */
const char *monitor_limits_parse(struct range ranges[MONITOR_NUMBERS], const char *text);

struct monitor_report {
	struct health health;
	struct {
		bool known;
		double value;
	} number[MONITOR_NUMBERS];
};

/*
 * Run the checks. A finding that is not OK has the time since which it has not been, from the last
 * verdict. This one is noted as the last, but one that does not mail (check --mail) is not noted
 * within an hour after one that did: a monitoring system may have limits of its own.
 */
void monitor_run(const struct config *config, const struct monitor_limits *limits, bool mails,
    time_t now, struct monitor_report *report);

/*
 * Print the one line of a plugin: "PSAPI CRITICAL - text | waiting=3;10;;0 ...". What comes from
 * outside has no '|', no line break and nothing that is not ASCII.
 */
void monitor_print(FILE *stream, const struct monitor_report *report,
    const struct monitor_limits *limits);

#endif
