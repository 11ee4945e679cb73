/* Owns the choice of the engine behind store.h. There is one: the spool directory. */
#define _GNU_SOURCE
#include "store/store.h"

#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "store/spool/spool.h"

struct store {
	struct spool spool;
};

struct store *
store_open(const struct config *config, bool create, struct error *error)
{
	struct store *store = calloc(1, sizeof(*store));

	if (store == NULL) {
		error_set(error, EX_OSERR, NULL, "out of memory");
		return NULL;
	}
	if (spool_open(&store->spool, config->spool, strcmp(config->sync, "two") == 0, create, error) ==
	    STORE_OK)
		return store;
	free(store);
	return NULL;
}

void
store_close(struct store *store)
{
	if (store == NULL)
		return;
	spool_close(&store->spool);
	free(store);
}

/* Try a spool of its own, which is removed again, in the place where one is missing. */
static struct store *
try_beside(const struct config *config, char *text, size_t size, struct error *error)
{
	struct config trial = *config;
	char path[PATH_MAX], *copy = strdup(config->spool);

	snprintf(path, sizeof(path), "%s/.psapi-probe.XXXXXX",
	    copy == NULL ? "" : access(copy, F_OK) == 0 ? copy : dirname(copy));
	free(copy);
	trial.spool = mkdtemp(path);
	if (trial.spool == NULL) {
		error_set(error, EX_CANTCREAT, "make it, owned by the running user",
		    "%s: is missing, and cannot be made: %s", config->spool, strerror(errno));
		return NULL;
	}
	struct store *store = store_open(&trial, true, error);
	enum store_result result = store == NULL ? STORE_FAILED : store_probe(store, error);
	spool_remove(path);
	if (result == STORE_OK) {
		store_describe(store, text, size);
		store->spool.path = config->spool;
		snprintf(text + strlen(text), size - strlen(text), "; will be made at the start");
		return store;
	}
	store_close(store);
	return NULL;
}

struct store *
store_try(const struct config *config, char *text, size_t size, struct error *error)
{
	if (spool_is_missing(config->spool))
		return try_beside(config, text, size, error);
	struct store *store = store_open(config, false, error);
	if (store != NULL && store_probe(store, error) == STORE_OK) {
		store_describe(store, text, size);
		return store;
	}
	store_close(store);
	return NULL;
}

void
store_describe(struct store *store, char *text, size_t size)
{
	const struct spool *spool = &store->spool;

	if (spool->one_wait)
		snprintf(text, size, "%s, one wait for the disk", spool->filesystem.type);
	else
		snprintf(text, size, "%s, two waits for the disk (%s)", spool->filesystem.type,
		    spool->forced ? "PSAPI_SYNC=two" : spool->filesystem.why_two);
}

void
store_warnings(struct store *store, void (*warn)(const struct error *, void *), void *data)
{
	spool_warnings(&store->spool, warn, data);
}

const char *
store_status_text(enum store_status status)
{
	static const char *const texts[] = {"new", "waiting", "failed", "handled"};

	return texts[status];
}

void
store_held_free(char **names)
{
	for (char **name = names; name != NULL && *name != NULL; name++)
		free(*name);
	free(names);
}

/* ---- calls that the engine serves ---- */

enum store_result
store_find(struct store *store, const char *name, struct error *error)
{
	return spool_find(&store->spool, name, error);
}

enum store_result
store_put(struct store *store, const struct store_intake *intake, struct error *error)
{
	return spool_put(&store->spool, intake, error);
}

bool
store_is_full(struct store *store, long long min_free)
{
	return spool_is_full(&store->spool, min_free);
}

bool
store_is_empty(struct store *store)
{
	return spool_is_empty(&store->spool);
}

enum store_result
store_probe(struct store *store, struct error *error)
{
	return spool_probe(&store->spool, error);
}

enum store_result
store_recover(struct store *store, long *committed, struct error *error)
{
	return spool_recover(&store->spool, committed, error);
}

enum store_result
store_hold(struct store *store, const struct record *record, struct timespec arrival,
    struct error *error)
{
	return spool_hold(&store->spool, record, arrival, error);
}

int
store_held(struct store *store, char ***names, struct error *error)
{
	return spool_held(&store->spool, names, error);
}

enum store_result
store_held_read(struct store *store, const char *name, struct entry *entry, struct error *error)
{
	return spool_held_read(&store->spool, name, entry, error);
}

enum store_result
store_held_remove(struct store *store, const char *name, struct error *error)
{
	return spool_held_remove(&store->spool, name, error);
}

enum store_result
store_work_begin(struct store *store, bool wait, struct error *error)
{
	return spool_work_begin(&store->spool, wait, error);
}

void
store_work_end(struct store *store)
{
	spool_work_end(&store->spool);
}

void
store_note_run(struct store *store, int64_t now)
{
	spool_note_run(&store->spool, now);
}

enum store_result
store_pending(struct store *store, struct store_pending *pending, struct error *error)
{
	return spool_pending(&store->spool, pending, error);
}

enum store_result
store_load(struct store *store, const char *name, struct store_work *work, struct error *error)
{
	return spool_load(&store->spool, name, work, error);
}

void
store_unload(struct store *store, struct store_work *work)
{
	spool_unload(&store->spool, work);
}

enum store_result
store_done(struct store *store, struct store_work *work, struct error *error)
{
	return spool_done(&store->spool, work, error);
}

enum store_result
store_later(struct store *store, struct store_work *work, const struct handler_state *state,
    struct error *error)
{
	return spool_later(&store->spool, work, state, error);
}

enum store_result
store_fail(struct store *store, struct store_work *work, const struct handler_state *state,
    struct error *error)
{
	return spool_fail(&store->spool, work, state, error);
}

enum store_result
store_each(struct store *store, const struct store_filter *filter,
    int (*visit)(const struct store_item *item, void *data), void *data, struct error *error)
{
	return spool_items(&store->spool, filter, visit, data, error);
}

enum store_result
store_lookup(struct store *store, const char *id, char name[STORE_NAME_SIZE], struct error *error)
{
	return spool_lookup(&store->spool, id, name, error);
}

enum store_result
store_get(struct store *store, const char *name, struct store_item *item, struct error *error)
{
	return spool_get(&store->spool, name, item, error);
}

enum store_result
store_retry(struct store *store, const char *const *names, size_t count, size_t *moved,
    struct error *error)
{
	return spool_retry(&store->spool, names, count, moved, error);
}

enum store_result
store_replay(struct store *store, const char *const *names, size_t count, size_t *moved,
    struct error *error)
{
	return spool_replay(&store->spool, names, count, moved, error);
}

enum store_result
store_finish(struct store *store, const char *name, struct error *error)
{
	return spool_finish(&store->spool, name, error);
}

enum store_result
store_forget(struct store *store, struct store_forgetting *forgetting, struct error *error)
{
	return spool_forget(&store->spool, forgetting, error);
}

enum store_result
store_count(struct store *store, int64_t now, struct store_counts *counts, struct error *error)
{
	return spool_count(&store->spool, now, counts, error);
}
