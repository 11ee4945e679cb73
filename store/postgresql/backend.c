/*
 * Owns the module's table, and the opening and closing of the engine. No connection is made
 * here.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "store/postgresql/postgresql.h"

/* Who has a lease: unique, and for people to read. */
static void
name_owner(struct postgresql *pg)
{
	struct timespec now;

	if (gethostname(pg->computer, sizeof(pg->computer)) != 0)
		strcpy(pg->computer, "unknown");
	pg->computer[sizeof(pg->computer) - 1] = '\0';
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(pg->owner, sizeof(pg->owner), "%s %ld %lld.%09ld", pg->computer, (long)getpid(),
	    (long long)now.tv_sec, now.tv_nsec);
}

static void
close_engine(void *engine)
{
	struct postgresql *pg = engine;

	postgresql_queue_close(pg);
	postgresql_attempts_close(pg);
	for (int i = 0; i < POSTGRESQL_CONNECTIONS; i++)
		PQfinish(pg->connections[i].pg);
	postgresql_resolver_close(pg);
	postgresql_unconfigure(pg);
	pthread_cond_destroy(&pg->changed);
	pthread_condattr_destroy(&pg->monotonic);
	pthread_mutex_destroy(&pg->lock);
	free(pg);
}

static void *
open_engine(const struct config *config, bool receiver, struct error *error)
{
	struct postgresql *pg = calloc(1, sizeof(*pg));

	if (pg == NULL) {
		error_set(error, EX_OSERR, NULL, "out of memory");
		return NULL;
	}
	pg->config = config;
	pg->receiver = receiver;
	pg->last = &pg->first;
	pthread_mutex_init(&pg->lock, NULL);
	pthread_condattr_init(&pg->monotonic);
	pthread_condattr_setclock(&pg->monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&pg->changed, &pg->monotonic);
	name_owner(pg);
	if (postgresql_attempts_open(pg) != 0)
		error_set(error, EX_OSERR, NULL, "out of memory");
	else if (postgresql_configure(pg, error) == 0)
		return pg;
	close_engine(pg);
	return NULL;
}

static const struct backend table = {
	.version = PSAPI_VERSION,
	.size = sizeof(struct backend),
	.open = open_engine,
	.close = close_engine,
	.describe = postgresql_describe,
	.probe = postgresql_probe,
	.find = postgresql_find,
	.put = postgresql_put,
	.is_full = postgresql_is_full,
	.is_empty = postgresql_is_empty,
	.work_begin = postgresql_work_begin,
	.work_end = postgresql_work_end,
	.recover = postgresql_recover,
	.pending = postgresql_pending,
	.claim = postgresql_claim,
	.renew = postgresql_renew,
	.release = postgresql_release,
	.load = postgresql_load,
	.unload = postgresql_unload,
	.claim_many = postgresql_claim_many,
	.renew_many = postgresql_renew_many,
	.release_many = postgresql_release_many,
	.load_many = postgresql_load_many,
	.done_many = postgresql_done_many,
	.done = postgresql_done,
	.later = postgresql_later,
	.fail = postgresql_fail,
	.each = postgresql_each,
	.lookup = postgresql_lookup,
	.get = postgresql_get,
	.retry = postgresql_retry,
	.replay = postgresql_replay,
	.finish = postgresql_finish,
	.forget = postgresql_forget,
	.roster = postgresql_roster,
	.forgotten = postgresql_forgotten,
	.count = postgresql_count,
	.page = postgresql_page,
	.tally = postgresql_tally,
	.init = postgresql_init,
	.status = postgresql_status,
	.check = postgresql_check,
	.import = postgresql_import,
	.import_end = postgresql_import_end,
	.unknown = postgresql_unknown,
	.import_forgotten = postgresql_import_forgotten,
	.attempt = postgresql_attempt,
	.attempts_send = postgresql_attempts_send,
	.attempts = postgresql_attempts,
	.attempts_page = postgresql_attempts_page,
	.network = postgresql_network,
};

const struct backend *
postgresql_backend(void)
{
	return &table;
}
