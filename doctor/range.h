/*
 * Ranges of numbers as Nagios plugins have them (Monitoring Plugins Development Guidelines,
 * "Threshold and Ranges"): "10" is 0 to 10, "10:" at least 10, "~:10" at most 10, "-5:5"; what is
 * outside raises the alarm. With "@" before it, what is inside.
 */
#ifndef PSAPI_RANGE_H
#define PSAPI_RANGE_H

#include <stdbool.h>
#include <stddef.h>

struct range {
	double start, end; /* both are in it; infinite where it is open */
	bool inside;       /* "@" */
	bool set;          /* else nothing raises the alarm */
	char text[48];     /* as it was written; "" if it is not set */
};

/* Read one. "" is the range that is not set. Returns false, and leaves it, if text is no range. */
bool range_parse(struct range *range, const char *text, size_t length);

/* Whether the value raises the alarm. */
bool range_alarms(const struct range *range, double value);

#endif
