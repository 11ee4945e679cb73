/*
 * Owns the order of work. After sorting, each lane is a chain through the tasks, and the first
 * tasks of all free lanes are in a heap: the earliest of them is next, however many lanes there
 * are and however long they are.
 */
#define _GNU_SOURCE
#include "drain/schedule.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>

#define NONE UINT32_MAX

struct schedule {
	struct task *tasks;
	uint32_t count, room;
	char *names; /* each with its NUL */
	size_t length, names_room;
	uint32_t *heap; /* indices of tasks; the earliest at 0 */
	uint32_t heads;
};

/* ---- policy ---- */

int64_t
schedule_backoff(int tries)
{
	static const int64_t seconds[] = {60, 300, 1800, 7200, 18000, 36000};
	int last = sizeof(seconds) / sizeof(seconds[0]);

	return seconds[(tries < 1 ? 1 : tries > last ? last : tries) - 1];
}

int64_t
schedule_due(int64_t tried, int64_t due, int64_t now)
{
	return tried > now ? 0 : due;
}

enum schedule_verdict
schedule_judge(int status, bool timed_out, int tries, long long max_tries)
{
	if (WIFEXITED(status) && !timed_out) {
		if (WEXITSTATUS(status) == 0)
			return SCHEDULE_DONE;
		/* what a shell and env(1) exit with if a program cannot be executed, or is not found */
		if (WEXITSTATUS(status) == 126 || WEXITSTATUS(status) == 127)
			return SCHEDULE_BROKEN;
		if (WEXITSTATUS(status) != EX_TEMPFAIL)
			return SCHEDULE_FAILED;
	}
	return tries >= max_tries ? SCHEDULE_FAILED : SCHEDULE_LATER;
}

/* ---- the events that wait ---- */

struct schedule *
schedule_new(void)
{
	return calloc(1, sizeof(struct schedule));
}

void
schedule_free(struct schedule *schedule)
{
	if (schedule == NULL)
		return;
	free(schedule->tasks);
	free(schedule->names);
	free(schedule->heap);
	free(schedule);
}

static int
make_room(struct schedule *s, size_t size)
{
	if (s->count == s->room) {
		uint32_t room = s->room * 2 + 64;
		struct task *tasks = realloc(s->tasks, room * sizeof(*tasks));
		if (tasks == NULL)
			return -1;
		s->tasks = tasks;
		s->room = room;
	}
	if (s->length + size > s->names_room) {
		size_t room = s->names_room * 2 + 4096;
		char *names = realloc(s->names, room);
		if (names == NULL)
			return -1;
		s->names = names;
		s->names_room = room;
	}
	return 0;
}

int
schedule_add(struct schedule *s, const char *name, int64_t when, int64_t due, uint64_t lane)
{
	size_t size = strlen(name) + 1;

	if (s->length + size > UINT32_MAX || s->count >= NONE / 4) {
		errno = ENOMEM;
		return -1;
	}
	if (make_room(s, size) != 0)
		return -1;
	s->tasks[s->count++] = (struct task){when, due, lane, (uint32_t)s->length, NONE};
	memcpy(s->names + s->length, name, size);
	s->length += size;
	return 0;
}

static int
compare(const void *a, const void *b, void *names)
{
	const struct task *x = a, *y = b;

	if (x->when != y->when)
		return x->when < y->when ? -1 : 1;
	return strcmp((char *)names + x->name, (char *)names + y->name);
}

/* Sift the head at i down to its place. */
static void
heap_down(struct schedule *s, uint32_t i)
{
	for (;;) {
		uint32_t least = i;
		for (uint32_t child = 2 * i + 1; child <= 2 * i + 2 && child < s->heads; child++)
			if (s->heap[child] < s->heap[least])
				least = child;
		if (least == i)
			return;
		uint32_t swap = s->heap[i];
		s->heap[i] = s->heap[least];
		s->heap[least] = swap;
		i = least;
	}
}

static void
heap_push(struct schedule *s, uint32_t task)
{
	uint32_t i = s->heads++;

	for (; i > 0 && s->heap[(i - 1) / 2] > task; i = (i - 1) / 2)
		s->heap[i] = s->heap[(i - 1) / 2];
	s->heap[i] = task;
}

static uint32_t
heap_pop(struct schedule *s)
{
	uint32_t task = s->heap[0];

	s->heap[0] = s->heap[--s->heads];
	heap_down(s, 0);
	return task;
}

/* The place of a lane in a table of first tasks: its own, or a free one. */
static uint32_t *
find_lane(const struct schedule *s, uint32_t *table, uint32_t mask, uint64_t lane)
{
	uint32_t i = (uint32_t)(lane ^ lane >> 32) & mask;

	while (table[i] != NONE && s->tasks[table[i]].lane != lane)
		i = (i + 1) & mask;
	return &table[i];
}

int
schedule_sort(struct schedule *s)
{
	uint32_t mask = 63;

	if (s->count > 0)
		qsort_r(s->tasks, s->count, sizeof(*s->tasks), compare, s->names);
	while (mask < s->count * 2)
		mask = mask * 2 + 1;
	uint32_t *table = malloc((mask + 1) * sizeof(*table));
	s->heap = calloc(s->count + 1, sizeof(*s->heap));
	if (table == NULL || s->heap == NULL) {
		free(table);
		return -1;
	}
	memset(table, 0xff, (mask + 1) * sizeof(*table)); /* NONE */
	/* From the last to the first, so that a lane's entry ends up as its earliest. */
	for (uint32_t i = s->count; i-- > 0;) {
		uint32_t *first = find_lane(s, table, mask, s->tasks[i].lane);
		s->tasks[i].next = *first;
		*first = i;
	}
	for (uint32_t i = 0; i <= mask; i++)
		if (table[i] != NONE)
			heap_push(s, table[i]);
	free(table);
	return 0;
}

size_t
schedule_size(const struct schedule *s)
{
	return s->count;
}

const struct task *
schedule_next(struct schedule *s, int64_t now)
{
	while (s->heads > 0) {
		const struct task *task = &s->tasks[heap_pop(s)];
		if (task->due <= now)
			return task;
	}
	return NULL;
}

void
schedule_release(struct schedule *s, const struct task *task, bool goes_on)
{
	if (goes_on && task->next != NONE)
		heap_push(s, task->next);
}

void
schedule_return(struct schedule *s, const struct task *task)
{
	heap_push(s, (uint32_t)(task - s->tasks));
}

const char *
schedule_name(const struct schedule *s, const struct task *task)
{
	return s->names + task->name;
}
