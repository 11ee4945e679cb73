/*
 * The accept statement of the PostgreSQL store, without HTTP and without the store:
 * postgresql CONNINFO THREADS SECONDS, the statement on standard input.
 *
 * Each thread has a connection of its own and inserts events of 700 bytes, one after the other,
 * each in a transaction. Prints one line of JSON.
 */
#define _GNU_SOURCE
#include <libpq-fe.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { THREADS_MAX = 256, RECORD_SIZE = 700, PARAMETERS = 10 };

static const char *conninfo;
static char statement[4096];
static atomic_int ended, failed;
static pthread_barrier_t begin;
static atomic_long requests;

static PGconn *
connect_and_prepare(void)
{
	PGconn *pg = PQconnectdb(conninfo);
	PGresult *result = PQprepare(pg, "accept", statement, 0, NULL);

	if (PQresultStatus(result) != PGRES_COMMAND_OK) {
		fprintf(stderr, "%s", PQerrorMessage(pg));
		failed = 1;
	}
	PQclear(result);
	return pg;
}

static int
insert(PGconn *pg, int thread, long n)
{
	char name[64], lane[24], when[24], record[RECORD_SIZE + 1];
	const char *values[PARAMETERS] = {name, when, "producersync.npn.activated", "123456789", "t",
	    lane, when,
		record, "f", ""};
	int lengths[PARAMETERS] = {[7] = RECORD_SIZE}, formats[PARAMETERS] = {[7] = 1};

	snprintf(name, sizeof(name), "msg_%06d%03d%018ld.json", (int)getpid() % 1000000, thread, n);
	snprintf(lane, sizeof(lane), "%ld", n % 9000);
	snprintf(when, sizeof(when), "%ld", n);
	memset(record, 'x', RECORD_SIZE);
	PGresult *result = PQexecPrepared(pg, "accept", PARAMETERS, values, lengths, formats, 1);
	int good = PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1;
	if (!good)
		fprintf(stderr, "%s", PQerrorMessage(pg));
	PQclear(result);
	return good;
}

static void *
run(void *number)
{
	PGconn *pg = connect_and_prepare();

	pthread_barrier_wait(&begin);
	for (long n = 0; !ended && !failed; n++) {
		if (insert(pg, (int)(long)number, n))
			requests++;
		else
			failed = 1;
	}
	PQfinish(pg);
	return NULL;
}

int
main(int argc, char **argv)
{
	pthread_t threads[THREADS_MAX];
	struct timespec from, to;

	if (argc < 4 || atoi(argv[2]) < 1 || atoi(argv[2]) > THREADS_MAX)
		return 64;
	conninfo = argv[1];
	if (fread(statement, 1, sizeof(statement) - 1, stdin) == 0)
		return 66;
	long count = atol(argv[2]);
	pthread_barrier_init(&begin, NULL, (unsigned)count + 1);
	for (long i = 0; i < count; i++)
		pthread_create(&threads[i], NULL, run, (void *)i);
	pthread_barrier_wait(&begin);
	clock_gettime(CLOCK_MONOTONIC, &from);
	sleep((unsigned)atoi(argv[3]));
	ended = 1;
	for (long i = 0; i < count; i++)
		pthread_join(threads[i], NULL);
	clock_gettime(CLOCK_MONOTONIC, &to);
	printf("{\"requests\":%ld,\"us\":%lld}\n", atomic_load(&requests),
	    (to.tv_sec - from.tv_sec) * 1000000LL + (to.tv_nsec - from.tv_nsec) / 1000);
	return failed;
}
