/*
 * Which event comes next: order, lanes (ordering keys: events of one lane are handled strictly
 * one after the other), when a retry is due, what an exit status means. No I/O; the clock is a
 * parameter.
 */
#ifndef PSAPI_SCHEDULE_H
#define PSAPI_SCHEDULE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Seconds from the end of try number tries (from 1) to the next. */
int64_t schedule_backoff(int tries);

/*
 * When a retry is due, all in Unix seconds: tried and due were written down after the last try.
 * If tried is in the future, the clock was set back since, and due may be years away: 0, at once.
 */
int64_t schedule_due(int64_t tried, int64_t due, int64_t now);

enum schedule_verdict {
	SCHEDULE_DONE,
	SCHEDULE_LATER,  /* a retry, schedule_backoff() from now */
	SCHEDULE_BROKEN, /* the same, but the fault is the handler's: the try does not count */
	SCHEDULE_FAILED  /* failed/ */
};

/*
 * What the end of a handler means for its event. tries counts this run; status is wait(2)'s;
 * timed_out: we ended it.
 */
enum schedule_verdict schedule_judge(int status, bool timed_out, int tries, long long max_tries);

/* Events that wait, in order. */
struct schedule;

struct task {
	int64_t when; /* the event's time, nanoseconds: the order */
	int64_t due;  /* not before, Unix seconds */
	uint64_t lane;
	uint32_t name; /* schedule_name() */
	uint32_t next; /* in its lane */
};

/* An empty schedule, or NULL without memory. */
struct schedule *schedule_new(void);
void schedule_free(struct schedule *schedule);

/* Add an event. Returns 0, or -1 without memory. About 40 bytes and its name each. */
int schedule_add(struct schedule *schedule, const char *name, int64_t when, int64_t due,
    uint64_t lane);

/*
 * After all were added: put them in order, by when, then by name. Returns 0, or -1 without memory.
 */
int schedule_sort(struct schedule *schedule);

size_t schedule_size(const struct schedule *schedule);

/*
 * The earliest event whose lane is free and that is due at now (Unix seconds), or NULL. Its lane
 * is taken until schedule_release(). An event that is not due blocks the later ones of its lane.
 */
const struct task *schedule_next(struct schedule *schedule, int64_t now);

/*
 * The task is finished. goes_on: its event is, too (done or failed), and the next one of its lane
 * may follow; otherwise the event waits and blocks its lane.
 */
void schedule_release(struct schedule *schedule, const struct task *task, bool goes_on);

/*
 * The task was not begun after all: it may come again, and its lane is free as before.
 */
void schedule_return(struct schedule *schedule, const struct task *task);

/* The name that was added. Owned by the schedule. */
const char *schedule_name(const struct schedule *schedule, const struct task *task);

#endif
