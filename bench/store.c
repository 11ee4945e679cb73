/*
 * What the disk alone allows, without HTTP: store THREADS SECONDS DIRECTORY [fdatasync].
 *
 * Threads put events into the store as fast as they can, with all of its system calls; with
 * "fdatasync" each appends to a file of its own and syncs it. Prints one line of JSON.
 */
#include <fcntl.h>
#include <pthread.h>
#include <unistd.h>

#include "bench/put.h"

enum { MOST = 400000 }; /* latencies that one thread notes */

static const char body[] =
    "{\"data\":{\"activatedAt\":\"2025-07-25T15:53:01.579Z\",\"npn\":\"123456789\"},"
    "\"id\":\"whe_123454321\","
    "\"timestamp\":\"2025-07-25T15:53:01.579Z\",\"type\":\"producersync.npn.activated\"}";

struct worker {
	pthread_t thread;
	int number, count;
	float *us;
};

static struct store *store; /* NULL: only fdatasync */
static const char *directory;
static struct event event;
static double deadline;

static double
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static void
append(int fd)
{
	char record[420]; /* an event's file */

	memset(record, 'x', sizeof(record));
	if (write(fd, record, sizeof(record)) != sizeof(record) || fdatasync(fd) != 0)
		abort();
}

static void *
work(void *argument)
{
	struct worker *w = argument;
	char path[512], id[64];
	int fd = -1;

	snprintf(path, sizeof(path), "%s/fdatasync.%d", directory, w->number);
	if (store == NULL && (fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600)) < 0)
		abort();
	double start = now_us();
	while (start < deadline && w->count < MOST) {
		snprintf(id, sizeof(id), "msg_store%010d%012d", w->number, w->count);
		if (store == NULL)
			append(fd);
		else
			put_event(store, id, body, sizeof(body) - 1, &event);
		double end = now_us();
		w->us[w->count++] = (float)(end - start);
		start = end;
	}
	return NULL;
}

static int
compare(const void *a, const void *b)
{
	const float *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

static void
measure(int threads, double seconds)
{
	struct worker *workers = calloc((size_t)threads, sizeof(*workers));
	float *all = calloc((size_t)threads * MOST, sizeof(*all));
	size_t count = 0;
	double start = now_us();

	if (workers == NULL || all == NULL)
		abort();
	deadline = start + seconds * 1e6;
	for (int i = 0; i < threads; i++) {
		workers[i].number = i;
		workers[i].us = all + (size_t)i * MOST;
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	}
	for (int i = 0; i < threads; i++) {
		pthread_join(workers[i].thread, NULL);
		memmove(all + count, workers[i].us, (size_t)workers[i].count * sizeof(*all));
		count += (size_t)workers[i].count;
	}
	double us = now_us() - start;
	qsort(all, count, sizeof(*all), compare);
	printf("{\"requests\":%zu,\"us\":%.0f,\"p50\":%.0f,\"p99\":%.0f}\n", count, us,
	    (double)all[count / 2], (double)all[count * 99 / 100]);
	free(all);
	free(workers);
}

int
main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	directory = argv[3];
	if (argc < 5)
		store = put_open(directory);
	events_read(body, sizeof(body) - 1, &event);
	measure(atoi(argv[1]), atof(argv[2]));
	store_close(store);
	return 0;
}
