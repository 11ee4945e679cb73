/* The clocks of this machine. Code that decides by the time takes it as a parameter. */
#ifndef PSAPI_CLOCK_H
#define PSAPI_CLOCK_H

#include <stdint.h>

/*
 * Milliseconds of CLOCK_MONOTONIC: for deadlines and pauses; steps of the wall clock do not count.
 */
int64_t clock_milliseconds(void);

/* The same in microseconds: for how long something took. */
int64_t clock_microseconds(void);

/* Unix seconds of CLOCK_REALTIME. */
int64_t clock_unix(void);

/* Seconds since the machine was booted, with those in which it slept. */
int64_t clock_since_boot(void);

#endif
