/*
 * A line on standard error that says how far a command is, where that is a terminal: drawn from the
 * first 0.2 s on, five times a second at most, and replaced by the next one.
 */
#ifndef PSAPI_PROGRESS_H
#define PSAPI_PROGRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
	bool wanted;          /* standard error is a terminal */
	int64_t begun, shown; /* clock_milliseconds(); shown 0: no line is there */
};

void progress_begin(struct progress *progress);
/* Say "COUNT of TOTAL WHAT", with total 0 "COUNT WHAT", if it is time. */
void progress_show(struct progress *progress, size_t count, size_t total, const char *what);
/* Remove the line. */
void progress_end(struct progress *progress);

#endif
