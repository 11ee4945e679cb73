/* Owns the spool's table of operations. */
#include "store/backend.h"

#include "store/spool/spool.h"

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
forgotten(void *engine, struct roster *to, struct error *error)
{
	return spool_forgotten(engine, INT64_MAX, to, error);
}

const struct backend spool_backend = {
	.version = PSAPI_VERSION,
	.size = sizeof(struct backend),
	.close = spool_close,
	.describe = spool_describe,
	.probe = spool_probe,
	.find = spool_find,
	.put = spool_put,
	.is_full = spool_is_full,
	.is_empty = spool_is_empty,
	.work_begin = spool_work_begin,
	.work_end = spool_work_end,
	.recover = spool_recover,
	.pending = spool_pending,
	.claim = claim,
	.renew = claim,
	.release = release,
	.load = spool_load,
	.unload = spool_unload,
	.park = spool_park,
	.done = spool_done,
	.later = spool_later,
	.fail = spool_fail,
	.each = spool_items,
	.lookup = spool_lookup,
	.get = spool_get,
	.retry = spool_retry,
	.replay = spool_replay,
	.finish = spool_finish,
	.forget = spool_forget,
	.roster = spool_roster,
	.forgotten = forgotten,
	.count = spool_count,
	.page = spool_page,
	.tally = spool_tally,
};
