/*
 * The limit of the disk, without HTTP:
 * store THREADS SECONDS DIRECTORY [fsync | look | fill COUNT].
 *
 * Threads store events through spool.h, with all of its system calls, as fast as they can; or
 * "fsync": each appends to a file of its own and syncs it; "look": and looks whether its name is
 * still that file.
 * Prints one line of JSON. "fill" puts COUNT empty files into events/, and is not measured.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "store/spool/journal.h"
#include "store/spool/spool.h"

enum { MOST = 400000 }; /* latencies that one thread notes */

struct worker {
	pthread_t thread;
	int number, count;
	float *us;
};

static struct spool spool;
static const char *directory;
static bool only_fsync, only_look;
static double deadline;
static char record[420]; /* a file of the spool */
static atomic_bool failed;

static double
now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (double)now.tv_sec * 1e6 + (double)now.tv_nsec / 1e3;
}

static bool
store_one(int thread, int n)
{
	struct iovec piece = {record, sizeof(record)};
	char id[64], name[SPOOL_NAME_SIZE];

	/* Distinct, also from what an earlier process stored there. */
	snprintf(id, sizeof(id), "msg_store%07ld%03d%012d", (long)getpid(), thread, n);
	return spool_name(id, strlen(id), name) == 0 && spool_find(&spool, name) == SPOOL_ABSENT &&
	    spool_store(&spool, name, SPOOL_NEW, &piece, 1) == SPOOL_STORED;
}

static void *
work(void *argument)
{
	struct worker *w = argument;
	char path[512];
	struct stat st;
	int fd = -1;

	snprintf(path, sizeof(path), "%s/fsync.%d", directory, w->number);
	if (only_fsync || only_look)
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0600);
	double start = now_us();
	while (start < deadline && w->count < MOST) {
		bool good = only_look ? stat(path, &st) == 0 : only_fsync ?
		    write(fd, record, sizeof(record)) == sizeof(record) && fsync(fd) == 0 :
		    store_one(w->number, w->count);
		if (!good)
			atomic_store(&failed, true);
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

static int
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
	return atomic_load(&failed) ? 1 : 0;
}

static int
fill(long count)
{
	char name[64];

	for (long n = 0; n < count; n++) {
		snprintf(name, sizeof(name), "msg_fill%019ld.json", n);
		int fd = openat(spool.dir[SPOOL_EVENTS], name, O_WRONLY | O_CREAT, 0640);
		if (fd < 0)
			return 1;
		close(fd);
	}
	return 0;
}

int
main(int argc, char **argv)
{
	char why[512];

	if (argc < 4)
		return 2;
	directory = argv[3];
	only_fsync = argc > 4 && strcmp(argv[4], "fsync") == 0;
	only_look = argc > 4 && strcmp(argv[4], "look") == 0;
	memset(record, 'x', sizeof(record));
	if (!only_fsync && !only_look && spool_open(&spool, directory, true, why, sizeof(why)) != 0) {
		fprintf(stderr, "store: %s\n", why);
		return 1;
	}
	if (!only_fsync && !only_look)
		spool.journal = journal_open(&spool);
	if (argc > 5)
		return fill(atol(argv[5]));
	int status = measure(atoi(argv[1]), atof(argv[2]));
	journal_close(spool.journal);
	return status;
}
