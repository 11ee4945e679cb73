/*
 * What an engine of store.h is: a table of functions, one for each operation, with the
 * contracts of store.h. The spool's table is part of the programs; PostgreSQL's is in a
 * module of its own (store/postgresql/), which is loaded only when PSAPI_STORE names it.
 *
 * Held requests and the attempts log are of this host: they are in the local spool, whatever
 * the engine is.
 */
#ifndef PSAPI_BACKEND_H
#define PSAPI_BACKEND_H

#include "store/store.h"

/* Of the function that a module exports: it returns the module's table. */
#define BACKEND_ENTRY "postgresql_backend"
#define BACKEND_MODULE "psapi-fcgi-postgresql.so"

struct backend {
	const char *version; /* PSAPI_VERSION: a module of another build is refused */
	size_t size;         /* of this struct */

	/*
	 * receiver: accept events, with a deadline under the sender's; what the sandbox will
	 * forbid is done now. Returns the engine, or NULL with *error. No connection is made yet.
	 */
	void *(*open)(const struct config *config, bool receiver, struct error *error);
	void (*close)(void *engine);
	void (*describe)(void *engine, char *text, size_t size);
	enum store_result (*probe)(void *engine, struct error *error);

	enum store_result (*find)(void *engine, const char *name, struct error *error);
	enum store_result (*put)(void *engine, const struct store_intake *intake, struct error *error);
	bool (*is_full)(void *engine, long long min_free);
	bool (*is_empty)(void *engine);

	enum store_result (*work_begin)(void *engine, bool wait, struct error *error);
	void (*work_end)(void *engine);
	enum store_result (*recover)(void *engine, long *committed, struct error *error);
	enum store_result (*pending)(void *engine, struct store_pending *pending, struct error *error);
	enum store_result (*claim)(void *engine, uint64_t lane, struct error *error);
	enum store_result (*renew)(void *engine, uint64_t lane, struct error *error);
	void (*release)(void *engine, uint64_t lane);
	enum store_result (*load)(void *engine, const char *name, struct store_work *work,
	    struct error *error);
	void (*unload)(void *engine, struct store_work *work);
	enum store_result (*done)(void *engine, struct store_work *work, struct error *error);
	enum store_result (*later)(void *engine, struct store_work *work,
	    const struct handler_state *state, struct error *error);
	enum store_result (*fail)(void *engine, struct store_work *work,
	    const struct handler_state *state, struct error *error);

	void (*park)(void *engine, struct store_work *work); /* NULL: nothing is held open */
	/* NULL, all of them: one by one is as good. */
	enum store_result (*claim_many)(void *engine, const uint64_t *lanes, size_t count,
	    enum store_result *results, struct error *error);
	enum store_result (*renew_many)(void *engine, const uint64_t *lanes, size_t count,
	    enum store_result *results, struct error *error);
	void (*release_many)(void *engine, const uint64_t *lanes, size_t count);
	enum store_result (*load_many)(void *engine, const char *const *names,
	    struct store_work *const *works, size_t count, enum store_result *results,
	    struct error *error);
	enum store_result (*done_many)(void *engine, struct store_work *const *works, size_t count,
	    enum store_result *results, struct error *error);

	enum store_result (*each)(void *engine, const struct store_filter *filter,
	    int (*visit)(const struct store_item *item, void *data), void *data, struct error *error);
	enum store_result (*lookup)(void *engine, const char *id, char name[STORE_NAME_SIZE],
	    struct error *error);
	enum store_result (*get)(void *engine, const char *name, struct store_item *item,
	    struct error *error);
	enum store_result (*retry)(void *engine, const char *const *names, size_t count, size_t *moved,
	    struct error *error);
	enum store_result (*replay)(void *engine, const char *const *names, size_t count,
	    size_t *moved, struct error *error);
	enum store_result (*finish)(void *engine, const char *name, struct error *error);
	enum store_result (*forget)(void *engine, struct store_forgetting *forgetting,
	    struct error *error);
	enum store_result (*roster)(void *engine, int64_t at, struct roster *roster,
	    struct error *error);
	enum store_result (*forgotten)(void *engine, struct roster *roster, struct error *error);
	enum store_result (*count)(void *engine, int64_t now, struct store_counts *counts,
	    struct error *error);

	enum store_result (*page)(void *engine, struct store_page *page, struct error *error);
	enum store_result (*tally)(void *engine, int64_t now, int budget_ms,
	    struct store_tally *tally, struct error *error);

	/* Of a shared store alone; NULL in the spool's table. */
	enum store_result (*init)(void *engine, bool *made, struct error *error);
	char *(*status)(void *engine, struct error *error);
	enum store_result (*check)(void *engine, void (*visit)(const struct store_check *, void *),
	    void *data, struct error *error);
	enum store_result (*import)(void *engine, const struct store_item *item, struct error *error);
	enum store_result (*import_end)(void *engine, size_t *imported, struct error *error);
	/* *unknown: how many of the names it does not have. */
	enum store_result (*unknown)(void *engine, const char *const *names, size_t count,
	    size_t *unknown, struct error *error);
	enum store_result (*import_forgotten)(void *engine, const struct roster *roster,
	    struct error *error);
	void (*attempt)(void *engine, int64_t at, const char *line, size_t length);
	void (*attempts_send)(void *engine);
	enum store_result (*attempts)(void *engine, struct store_attempts *query, struct error *error);
	enum store_result (*attempts_page)(void *engine, struct store_attempts_page *page,
	    struct error *error);
	void (*network)(void *engine, struct store_network *network);
};

/* The spool's table; its engine is a struct spool. */
extern const struct backend spool_backend;

#endif
