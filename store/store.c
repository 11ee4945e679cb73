/*
 * Owns the choice of the engine behind store.h: the spool directory, or the one in the module
 * for PSAPI_STORE. The module is loaded here, and only for that. The local spool is open in any
 * case: held requests belong to this host.
 */
#define _GNU_SOURCE
#include "store/store.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/path.h"
#include "base/user.h"
#include "store/backend.h"
#include "store/spool/spool.h"
#include "store/unimported.h"

#ifndef PSAPI_MODULEDIR
#define PSAPI_MODULEDIR "/usr/local/lib/psapi-fcgi"
#endif

struct store {
	struct spool local;
	const struct backend *backend;
	void *engine; /* the local spool, or the module's */
	void *module; /* NULL: none is loaded */
};

void
store_add_result(enum store_result *result, struct error *error, enum store_result one,
    const struct error *own)
{
	if (*result == STORE_OK || (*result == STORE_INVALID && one != STORE_INVALID)) {
		*error = *own;
		*result = one;
	} else if (one != STORE_INVALID) {
		error_log(own);
	}
}

/* ---- the module ---- */

#ifdef PSAPI_STATIC
static const struct backend *
load_module(struct store *store, struct error *error)
{
	(void)store;
	error_set(error, EX_CONFIG, "use the dynamic programs",
	    "PSAPI_STORE: a static program can load no module");
	return NULL;
}
#else
/*
 * For the module of a build tree. As with LD_LIBRARY_PATH, not in a process with others' rights
 * (set-user-ID).
 */
static void
module_path(char *path, size_t size)
{
	const char *directory = secure_getenv("PSAPI_MODULE_DIR");

	snprintf(path, size, "%s/" BACKEND_MODULE,
	    directory != NULL && *directory == '/' ? directory : PSAPI_MODULEDIR);
}

/* The table of a loaded module, which must be of this very build. */
static const struct backend *
table_of(void *module, const char *path, struct error *error)
{
	const struct backend *(*entry)(void);
	void *symbol = dlsym(module, BACKEND_ENTRY);

	memcpy(&entry, &symbol, sizeof(entry)); /* ISO C has no cast from an object to a function */
	const struct backend *table = symbol != NULL ? entry() : NULL;
	if (table != NULL && table->size == sizeof(*table) && strcmp(table->version,
	    PSAPI_VERSION) == 0)
		return table;
	error_set(error, EX_CONFIG, "install psapi-fcgi and psapi-fcgi-postgresql of one version",
	    "PSAPI_STORE: %s is of another version than " PSAPI_VERSION, path);
	return NULL;
}

static const struct backend *
load_module(struct store *store, struct error *error)
{
	char path[PATH_MAX];

	module_path(path, sizeof(path));
	store->module = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (store->module != NULL)
		return table_of(store->module, path, error);
	if (access(path, F_OK) != 0)
		error_set(error, EX_CONFIG, "install psapi-fcgi-postgresql",
		    "PSAPI_STORE: %s: %s", path, strerror(errno));
	else
		error_set(error, EX_CONFIG,
		    "install psapi-fcgi-postgresql of this version, and libpq 14 or later",
		    "PSAPI_STORE: cannot be loaded: %s", dlerror());
	return NULL;
}
#endif

/* ---- open ---- */

static bool
is_shared(const struct config *config)
{
	return config->store != NULL && *config->store != '\0';
}

/* Whether the local spool, or a directory in it, is yet to be made. */
static bool
is_missing(const struct config *config)
{
	return spool_missing(config->spool) > 0;
}

/* A host that only drains a shared store has no receiver that would make its spool. */
static bool
may_make_directories(const struct config *config)
{
	struct stat st;

	return is_shared(config) && stat(config->spool, &st) == 0 && st.st_uid == geteuid();
}

/* Returns 0, or -1 with *error. */
static int
open_engine(struct store *store, const struct config *config, bool receiver, struct error *error)
{
	store->backend = &spool_backend;
	store->engine = &store->local;
	if (!is_shared(config))
		return 0;
	const struct backend *backend = load_module(store, error);
	void *engine = backend == NULL ? NULL : backend->open(config, receiver, error);
	if (engine == NULL)
		return -1;
	store->backend = backend;
	store->engine = engine;
	return 0;
}

struct store *
store_open(const struct config *config, bool create, struct error *error)
{
	struct store *store = calloc(1, sizeof(*store));

	if (store == NULL) {
		error_set(error, EX_OSERR, NULL, "out of memory");
		return NULL;
	}
	if (spool_open(&store->local, config->spool, strcmp(config->sync, "two") == 0,
	        create || may_make_directories(config), error) != STORE_OK) {
		free(store);
		return NULL;
	}
	if (open_engine(store, config, create, error) == 0)
		return store;
	store_close(store);
	return NULL;
}

struct store *
store_open_shared(const struct config *config, struct error *error)
{
	if (!is_shared(config) || !is_missing(config))
		return store_open(config, false, error);
	struct store *store = calloc(1, sizeof(*store));
	if (store == NULL) {
		error_set(error, EX_OSERR, NULL, "out of memory");
		return NULL;
	}
	spool_without(&store->local, config->spool);
	if (open_engine(store, config, false, error) == 0)
		return store;
	store_close(store);
	return NULL;
}

static bool
has_spool(const struct store *store)
{
	return store->local.root >= 0;
}

bool
store_is_shared(const struct store *store)
{
	return store->engine != &store->local;
}

void
store_close(struct store *store)
{
	if (store == NULL)
		return;
	if (store_is_shared(store))
		store->backend->close(store->engine);
	spool_close(&store->local);
#ifndef PSAPI_STATIC
	if (store->module != NULL)
		dlclose(store->module);
#endif
	free(store);
}

/* Why no directory could be made in the spool, or beside it where it is missing. */
static void
explain_try(const char *spool, int number, struct error *error)
{
	char closed[PATH_REMEDY_SIZE], owner[USER_NAME_SIZE], user[USER_NAME_SIZE], remedy[512];
	struct stat st;

	if (number != EACCES || stat(spool, &st) != 0) {
		error_set(error, EX_CANTCREAT, number == EACCES ? path_remedy(spool,
		    "make it, owned by the running user", closed) : "make it, owned by the running user",
		    "%s: is missing, and cannot be made: %s", spool, strerror(number));
		return;
	}
	user_name(geteuid(), user);
	user_name(st.st_uid, owner);
	if (st.st_uid == 0)
		snprintf(remedy, sizeof(remedy), "as root: chown %s %.200s; chmod 2770 %.200s", user, spool,
		    spool);
	else
		snprintf(remedy, sizeof(remedy), "run it as root, or as user %s", owner);
	error_set(error, EX_CANTCREAT, remedy,
	    "%s: of user %s, mode %04o: the running user %s cannot make directories in it", spool,
	    owner, (unsigned)st.st_mode & 07777, user);
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
	trial.store = (char *)(uintptr_t)"";
	trial.spool = mkdtemp(path);
	if (trial.spool == NULL) {
		explain_try(config->spool, errno, error);
		return NULL;
	}
	struct store *store = store_open(&trial, true, error);
	enum store_result result = store == NULL ? STORE_FAILED : store_probe(store, error);
	spool_remove(path);
	if (result == STORE_OK) {
		store_describe(store, text, size);
		store->local.path = config->spool;
		snprintf(text + strlen(text), size - strlen(text), "; will be made at the start");
		return store;
	}
	store_close(store);
	return NULL;
}

bool
store_is_new(const struct config *config)
{
	return spool_missing(config->spool) == SPOOL_DIRS;
}

struct store *
store_try(const struct config *config, char *text, size_t size, struct error *error)
{
	struct config local = *config;

	local.store = (char *)(uintptr_t)"";
	if (is_missing(config))
		return try_beside(config, text, size, error);
	struct store *store = store_open(&local, true, error); /* as the receiver will */
	if (store != NULL && store_probe(store, error) == STORE_OK) {
		store_describe(store, text, size);
		return store;
	}
	store_close(store);
	return NULL;
}

const char *
store_status_text(enum store_status status)
{
	static const char *const texts[] = {"new", "waiting", "failed", "handled"};

	return texts[status];
}

/* ---- held requests: of the local spool ---- */

bool
store_held_is_full(struct store *store, long long min_free)
{
	return spool_is_full(&store->local, min_free);
}

enum store_result
store_hold(struct store *store, const struct record *record, struct timespec arrival,
    struct error *error)
{
	return spool_hold(&store->local, record, arrival, error);
}

int
store_held(struct store *store, char ***names, struct error *error)
{
	return spool_held(&store->local, names, error);
}

void
store_held_free(char **names)
{
	for (char **name = names; name != NULL && *name != NULL; name++)
		free(*name);
	free(names);
}

enum store_result
store_held_read(struct store *store, const char *name, struct entry *entry, struct error *error)
{
	return spool_held_read(&store->local, name, entry, error);
}

enum store_result
store_held_remove(struct store *store, const char *name, struct error *error)
{
	return spool_held_remove(&store->local, name, error);
}

/* ---- what concerns both ---- */

int
store_check_place(const struct config *config, struct error *error)
{
	return spool_check_place(config->spool, error);
}

void
store_warnings(struct store *store, void (*warn)(const struct error *, void *), void *data)
{
	spool_warnings(&store->local, warn, data);
}

enum store_result
store_probe(struct store *store, struct error *error)
{
	enum store_result result = has_spool(store) ? spool_probe(&store->local, error) : STORE_OK;

	return result == STORE_OK && store_is_shared(store) ? store->backend->probe(store->engine,
	    error) :
	                                                      result;
}

/* psapi-drain.path watches new/: so it also starts a drain for an event that is in PostgreSQL. */
static void
wake_drain(struct store *store)
{
	if (store_is_shared(store))
		futimens(store->local.dir[SPOOL_NEW], NULL);
}

enum store_result
store_put(struct store *store, const struct store_intake *intake, struct error *error)
{
	enum store_result result = store->backend->put(store->engine, intake, error);

	if (result == STORE_OK && intake->destination == STORE_QUEUE)
		wake_drain(store);
	return result;
}

enum store_result
store_count(struct store *store, int64_t now, struct store_counts *counts, struct error *error)
{
	struct store_counts local = {0};
	enum store_result result =
	    has_spool(store) ? spool_count(&store->local, now, &local, error) : STORE_OK;

	if (result == STORE_OK && store_is_shared(store))
		result = store->backend->count(store->engine, now, counts, error);
	else
		*counts = local;
	counts->held = local.held;
	counts->leftovers = local.leftovers;
	counts->drained = local.drained;
	return result;
}

/* ---- notes ---- */

int
store_lock(struct store *store, enum store_lock what, struct error *error)
{
	return spool_notes_lock(&store->local, what, error);
}

void
store_unlock(struct store *store, int lock)
{
	(void)store;
	if (lock >= 0)
		close(lock);
}

char *
store_note_read(struct store *store, enum store_note note)
{
	return spool_note_read(&store->local, note);
}

enum store_result
store_note_write(struct store *store, enum store_note note, const char *text, struct error *error)
{
	return spool_note_write(&store->local, note, text, error);
}

/* ---- the rest is the engine's ---- */

void
store_describe(struct store *store, char *text, size_t size)
{
	store->backend->describe(store->engine, text, size);
}

enum store_result
store_find(struct store *store, const char *name, struct error *error)
{
	return store->backend->find(store->engine, name, error);
}

bool
store_is_full(struct store *store, long long min_free)
{
	return store->backend->is_full(store->engine, min_free);
}

bool
store_is_empty(struct store *store)
{
	return store->backend->is_empty(store->engine);
}

enum store_result
store_work_begin(struct store *store, bool wait, struct error *error)
{
	return store->backend->work_begin(store->engine, wait, error);
}

void
store_work_end(struct store *store)
{
	store->backend->work_end(store->engine);
}

enum store_result
store_recover(struct store *store, long *committed, struct error *error)
{
	return store->backend->recover(store->engine, committed, error);
}

void
store_note_run(struct store *store, int64_t now)
{
	spool_note_run(&store->local, now); /* each host has handlers of its own */
}

enum store_result
store_pending(struct store *store, struct store_pending *pending, struct error *error)
{
	return store->backend->pending(store->engine, pending, error);
}

enum store_result
store_claim(struct store *store, uint64_t lane, struct error *error)
{
	return store->backend->claim(store->engine, lane, error);
}

enum store_result
store_renew(struct store *store, uint64_t lane, struct error *error)
{
	return store->backend->renew(store->engine, lane, error);
}

void
store_release(struct store *store, uint64_t lane)
{
	store->backend->release(store->engine, lane);
}

enum store_result
store_load(struct store *store, const char *name, struct store_work *work, struct error *error)
{
	return store->backend->load(store->engine, name, work, error);
}

void
store_unload(struct store *store, struct store_work *work)
{
	store->backend->unload(store->engine, work);
}

enum store_result
store_done(struct store *store, struct store_work *work, struct error *error)
{
	return store->backend->done(store->engine, work, error);
}

enum store_result
store_later(struct store *store, struct store_work *work, const struct handler_state *state,
    struct error *error)
{
	return store->backend->later(store->engine, work, state, error);
}

enum store_result
store_fail(struct store *store, struct store_work *work, const struct handler_state *state,
    struct error *error)
{
	return store->backend->fail(store->engine, work, state, error);
}

void
store_park(struct store *store, struct store_work *work)
{
	if (store->backend->park != NULL)
		store->backend->park(store->engine, work);
	entry_drop_text(&work->entry);
}

/* ---- many at once, or one by one ---- */

enum store_result
store_claim_many(struct store *store, const uint64_t *lanes, size_t count,
    enum store_result *results, struct error *error)
{
	const struct backend *backend = store->backend;

	if (backend->claim_many != NULL)
		return backend->claim_many(store->engine, lanes, count, results, error);
	for (size_t i = 0; i < count; i++)
		if ((results[i] = backend->claim(store->engine, lanes[i], error)) == STORE_FAILED)
			return STORE_FAILED;
	return STORE_OK;
}

enum store_result
store_renew_many(struct store *store, const uint64_t *lanes, size_t count,
    enum store_result *results, struct error *error)
{
	const struct backend *backend = store->backend;

	if (backend->renew_many != NULL)
		return backend->renew_many(store->engine, lanes, count, results, error);
	for (size_t i = 0; i < count; i++)
		if ((results[i] = backend->renew(store->engine, lanes[i], error)) == STORE_FAILED)
			return STORE_FAILED;
	return STORE_OK;
}

void
store_release_many(struct store *store, const uint64_t *lanes, size_t count)
{
	if (store->backend->release_many != NULL)
		store->backend->release_many(store->engine, lanes, count);
	for (size_t i = 0; i < count && store->backend->release_many == NULL; i++)
		store->backend->release(store->engine, lanes[i]);
}

enum store_result
store_load_many(struct store *store, const char *const *names, struct store_work *const *works,
    size_t count, enum store_result *results, struct error *error)
{
	const struct backend *backend = store->backend;

	if (backend->load_many != NULL)
		return backend->load_many(store->engine, names, works, count, results, error);
	for (size_t i = 0; i < count; i++) {
		results[i] = backend->load(store->engine, names[i], works[i], error);
		if (results[i] != STORE_FAILED)
			continue;
		while (i-- > 0)
			if (results[i] == STORE_OK)
				backend->unload(store->engine, works[i]);
		return STORE_FAILED;
	}
	return STORE_OK;
}

enum store_result
store_done_many(struct store *store, struct store_work *const *works, size_t count,
    enum store_result *results, struct error *error)
{
	const struct backend *backend = store->backend;

	if (backend->done_many != NULL)
		return backend->done_many(store->engine, works, count, results, error);
	for (size_t i = 0; i < count; i++)
		if ((results[i] = backend->done(store->engine, works[i], error)) == STORE_FAILED)
			return STORE_FAILED;
	return STORE_OK;
}

enum store_result
store_each(struct store *store, const struct store_filter *filter,
    int (*visit)(const struct store_item *item, void *data), void *data, struct error *error)
{
	return store->backend->each(store->engine, filter, visit, data, error);
}

enum store_result
store_lookup(struct store *store, const char *id, char name[STORE_NAME_SIZE], struct error *error)
{
	return store->backend->lookup(store->engine, id, name, error);
}

enum store_result
store_get(struct store *store, const char *name, struct store_item *item, struct error *error)
{
	return store->backend->get(store->engine, name, item, error);
}

enum store_result
store_retry(struct store *store, const char *const *names, size_t count, size_t *moved,
    struct error *error)
{
	return store->backend->retry(store->engine, names, count, moved, error);
}

enum store_result
store_replay(struct store *store, const char *const *names, size_t count, size_t *moved,
    struct error *error)
{
	return store->backend->replay(store->engine, names, count, moved, error);
}

enum store_result
store_finish(struct store *store, const char *name, struct error *error)
{
	return store->backend->finish(store->engine, name, error);
}

enum store_result
store_forget(struct store *store, struct store_forgetting *forgetting, struct error *error)
{
	return store->backend->forget(store->engine, forgetting, error);
}

enum store_result
store_roster(struct store *store, int64_t at, struct roster *roster, struct error *error)
{
	return store->backend->roster(store->engine, at, roster, error);
}

enum store_result
store_forgotten(struct store *store, struct roster *roster, struct error *error)
{
	return store->backend->forgotten(store->engine, roster, error);
}

/* ---- a shared store alone ---- */

static enum store_result
not_shared(struct error *error)
{
	error_set(error, EX_USAGE, "set PSAPI_STORE", "there is no shared store");
	return STORE_INVALID;
}

enum store_result
store_init(struct store *store, bool *made, struct error *error)
{
	return store_is_shared(store) ? store->backend->init(store->engine, made, error) :
	    not_shared(error);
}

char *
store_status(struct store *store, struct error *error)
{
	if (store_is_shared(store))
		return store->backend->status(store->engine, error);
	not_shared(error);
	return NULL;
}

enum store_result
store_check(struct store *store, void (*visit)(const struct store_check *, void *), void *data,
    struct error *error)
{
	if (!store_is_shared(store))
		return STORE_OK;
	enum store_result result = store->backend->check(store->engine, visit, data, error);
	if (result == STORE_OK && has_spool(store))
		unimported_check(&store->local, store->backend, store->engine, visit, data);
	return result;
}

enum store_result
store_import(struct store *store, const struct store_item *item, struct error *error)
{
	return store_is_shared(store) ? store->backend->import(store->engine, item, error) :
	    not_shared(error);
}

enum store_result
store_import_end(struct store *store, size_t *imported, struct error *error)
{
	return store_is_shared(store) ? store->backend->import_end(store->engine, imported, error) :
	                                not_shared(error);
}

enum store_result
store_import_forgotten(struct store *store, const struct roster *roster, struct error *error)
{
	return store_is_shared(store) ?
	    store->backend->import_forgotten(store->engine, roster, error) : not_shared(error);
}

void
store_note_import(struct store *store, int64_t at)
{
	spool_note_import(&store->local, at);
}

void
store_attempt(struct store *store, int64_t at, const char *line, size_t length)
{
	if (store_is_shared(store))
		store->backend->attempt(store->engine, at, line, length);
}

void
store_attempts_send(struct store *store)
{
	if (store_is_shared(store))
		store->backend->attempts_send(store->engine);
}

enum store_result
store_attempts(struct store *store, struct store_attempts *query, struct error *error)
{
	return store_is_shared(store) ? store->backend->attempts(store->engine, query, error) :
	                                not_shared(error);
}

void
store_network(struct store *store, struct store_network *network)
{
	*network = (struct store_network){0};
	if (store_is_shared(store))
		store->backend->network(store->engine, network);
}

/* ---- pages ---- */

enum store_result
store_page(struct store *store, struct store_page *page, struct error *error)
{
	return store->backend->page(store->engine, page, error);
}

enum store_result
store_tally(struct store *store, int64_t now, int budget_ms, struct store_tally *tally,
    struct error *error)
{
	struct store_tally local;
	enum store_result result =
	    store->backend->tally(store->engine, now, budget_ms, tally, error);

	/* What is held is of this host. */
	if (result == STORE_OK && store_is_shared(store)) {
		result = spool_tally(&store->local, now, budget_ms, &local, error);
		tally->held = local.held;
	}
	return result;
}

enum store_result
store_attempts_page(struct store *store, struct store_attempts_page *page, struct error *error)
{
	return store_is_shared(store) ? store->backend->attempts_page(store->engine, page, error) :
	                                not_shared(error);
}
