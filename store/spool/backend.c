/* Owns the spool's table of operations: its functions, with the engine as the type that it is. */
#include "store/backend.h"

#include "store/spool/spool.h"

static void
close_spool(void *engine)
{
	spool_close(engine);
}

static void
describe(void *engine, char *text, size_t size)
{
	spool_describe(engine, text, size);
}

static enum store_result
probe(void *engine, struct error *error)
{
	return spool_probe(engine, error);
}

static enum store_result
find(void *engine, const char *name, struct error *error)
{
	return spool_find(engine, name, error);
}

static enum store_result
put(void *engine, const struct store_intake *intake, struct error *error)
{
	return spool_put(engine, intake, error);
}

static bool
is_full(void *engine, long long min_free)
{
	return spool_is_full(engine, min_free);
}

static bool
is_empty(void *engine)
{
	return spool_is_empty(engine);
}

static enum store_result
work_begin(void *engine, bool wait, struct error *error)
{
	return spool_work_begin(engine, wait, error);
}

static void
work_end(void *engine)
{
	spool_work_end(engine);
}

static enum store_result
recover(void *engine, long *committed, struct error *error)
{
	return spool_recover(engine, committed, error);
}

static enum store_result
pending(void *engine, struct store_pending *list, struct error *error)
{
	return spool_pending(engine, list, error);
}

/* One drain has the whole spool, by its lock: each lane is its own. */
static enum store_result
claim(void *engine, uint64_t lane, struct error *error)
{
	(void)engine;
	(void)lane;
	(void)error;
	return STORE_OK;
}

static void
release(void *engine, uint64_t lane)
{
	(void)engine;
	(void)lane;
}

static enum store_result
load(void *engine, const char *name, struct store_work *work, struct error *error)
{
	return spool_load(engine, name, work, error);
}

static void
unload(void *engine, struct store_work *work)
{
	spool_unload(engine, work);
}

static void
park(void *engine, struct store_work *work)
{
	spool_park(engine, work);
}

static enum store_result
done(void *engine, struct store_work *work, struct error *error)
{
	return spool_done(engine, work, error);
}

static enum store_result
later(void *engine, struct store_work *work, const struct handler_state *state, struct error *error)
{
	return spool_later(engine, work, state, error);
}

static enum store_result
fail(void *engine, struct store_work *work, const struct handler_state *state, struct error *error)
{
	return spool_fail(engine, work, state, error);
}

static enum store_result
each(void *engine, const struct store_filter *filter,
    int (*visit)(const struct store_item *item, void *data), void *data, struct error *error)
{
	return spool_items(engine, filter, visit, data, error);
}

static enum store_result
lookup(void *engine, const char *id, char name[STORE_NAME_SIZE], struct error *error)
{
	return spool_lookup(engine, id, name, error);
}

static enum store_result
get(void *engine, const char *name, struct store_item *item, struct error *error)
{
	return spool_get(engine, name, item, error);
}

static enum store_result
retry(void *engine, const char *const *names, size_t count, size_t *moved, struct error *error)
{
	return spool_retry(engine, names, count, moved, error);
}

static enum store_result
replay(void *engine, const char *const *names, size_t count, size_t *moved, struct error *error)
{
	return spool_replay(engine, names, count, moved, error);
}

static enum store_result
finish(void *engine, const char *name, struct error *error)
{
	return spool_finish(engine, name, error);
}

static enum store_result
forget(void *engine, struct store_forgetting *forgetting, struct error *error)
{
	return spool_forget(engine, forgetting, error);
}

static enum store_result
roster(void *engine, int64_t at, struct roster *to, struct error *error)
{
	return spool_roster(engine, at, to, error);
}

static enum store_result
forgotten(void *engine, struct roster *to, struct error *error)
{
	return spool_forgotten(engine, INT64_MAX, to, error);
}

static enum store_result
count(void *engine, int64_t now, struct store_counts *counts, struct error *error)
{
	return spool_count(engine, now, counts, error);
}

static enum store_result
page(void *engine, struct store_page *wanted, struct error *error)
{
	return spool_page(engine, wanted, error);
}

static enum store_result
tally(void *engine, int64_t now, int budget_ms, struct store_tally *counts, struct error *error)
{
	(void)now;
	return spool_tally(engine, budget_ms, counts, error);
}

const struct backend spool_backend = {
	.version = PSAPI_VERSION,
	.size = sizeof(struct backend),
	.close = close_spool,
	.describe = describe,
	.probe = probe,
	.find = find,
	.put = put,
	.is_full = is_full,
	.is_empty = is_empty,
	.work_begin = work_begin,
	.work_end = work_end,
	.recover = recover,
	.pending = pending,
	.claim = claim,
	.renew = claim,
	.release = release,
	.load = load,
	.unload = unload,
	.park = park,
	.done = done,
	.later = later,
	.fail = fail,
	.each = each,
	.lookup = lookup,
	.get = get,
	.retry = retry,
	.replay = replay,
	.finish = finish,
	.forget = forget,
	.roster = roster,
	.forgotten = forgotten,
	.count = count,
	.page = page,
	.tally = tally,
};
