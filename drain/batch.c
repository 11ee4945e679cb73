/*
 * Owns what happens to the events of a batch: which ones it has, what each result means, what the
 * end of the process means for the others. Results are recorded as they arrive, so that a crash
 * loses none; the lanes are given back at the end, so that a worse result can still be recorded.
 */
#define _GNU_SOURCE
#include "drain/batch.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "drain/handler_choice.h"

enum {
	CHUNK = 32,       /* events that are claimed and loaded at once */
	ASIDE_MAX = 500,  /* events for other handlers that are looked at for one batch */
	TYPES_MAX = 16    /* types whose handler is remembered while a batch is filled */
};

#define RENEW_MS (STORE_RENEW_SECONDS * 1000)

/* Whether the event in work must run alone, for a batch that it was in has failed. */
static bool
is_alone(const struct store_work *work, long long max_tries)
{
	return work->state.alone || (work->state.tries > 0 && work->state.tries + 1 >= max_tries);
}

/* ---- filling ---- */

/* What is known of the types that were met: whether their events go to this batch's handler. */
struct filling {
	struct batch_run *batch;
	size_t limit;
	bool full;
	const struct task *aside[ASIDE_MAX];
	size_t asides;
	struct {
		char type[sizeof(((struct event *)0)->type)];
		bool ours;
	} types[TYPES_MAX];
	size_t known;
};

static bool
is_ours(struct filling *f, const char *type)
{
	const struct handler_run *run = f->batch->run;
	struct handler handler;
	struct error error;
	bool batch;

	if (f->batch->context->command != NULL)
		return true;
	for (size_t i = 0; i < f->known; i++)
		if (strcmp(f->types[i].type, type) == 0)
			return f->types[i].ours;
	enum handler_result found = handler_choice_find(f->batch->context->config, type, &handler,
	    &batch, &error);
	bool ours = found == HANDLER_FOUND && batch && strcmp(handler.path, run->handler.path) == 0;
	handler_close(&handler);
	if (f->known < TYPES_MAX) {
		strcpy(f->types[f->known].type, type);
		f->types[f->known++].ours = ours;
	}
	return ours;
}

/* Append the event of the next item, which is in work. Returns 0, or -1 without memory. */
static int
append(struct batch_run *batch, const struct task *task)
{
	struct batch_item *item = &batch->items[batch->count];

	if (batch_protocol_write(&batch->input, batch->count + 1, &item->work) != 0)
		return -1;
	item->task = task;
	item->verdict = BATCH_NOTHING;
	item->recorded = item->gone = false;
	store_park(batch->context->store, &item->work);
	batch->count++;
	return 0;
}

/* Whether the event of the next item, which is in work, belongs to this batch. */
static bool
fits(struct filling *f, const struct store_work *work)
{
	size_t length = f->batch->input.length + work->entry.body_length;

	f->full |= length > BATCH_BYTES_MAX;
	return !f->full && !is_alone(work, f->batch->context->config->max_tries) &&
	    is_ours(f, work->entry.event.type);
}

/* Not now: its lane is free again, and the task is given back when the batch is filled. */
static void
put_aside(struct filling *f, const struct task *task)
{
	f->aside[f->asides++] = task;
	f->full |= f->asides == ASIDE_MAX;
}

/* The next tasks whose lanes this drain has claimed. Returns how many; 0 also after a failure. */
static size_t
claim_some(struct filling *f, const struct task *tasks[CHUNK], uint64_t lanes[CHUNK])
{
	struct batch_run *b = f->batch;
	enum store_result results[CHUNK];
	struct error error;
	size_t wanted = 0, count = 0, most = f->limit - b->count;

	most = most > CHUNK ? CHUNK : most;
	most = most > ASIDE_MAX - f->asides ? ASIDE_MAX - f->asides : most;
	while (wanted < most &&
	    (tasks[wanted] = schedule_next(b->schedule, b->context->clock())) != NULL) {
		lanes[wanted] = tasks[wanted]->lane;
		wanted++;
	}
	if (wanted == 0)
		return 0;
	bool claimed = store_claim_many(b->context->store, lanes, wanted, results, &error) == STORE_OK;
	if (!claimed) {
		error_log(&error);
		b->news.stop = handler_run_stop(&error);
	}
	for (size_t i = 0; i < wanted; i++) {
		if (!claimed || results[i] != STORE_OK) {
			schedule_release(b->schedule, tasks[i], false);
			continue;
		}
		tasks[count] = tasks[i];
		lanes[count++] = lanes[i];
	}
	return count;
}

/* One that was claimed and was to be loaded: append it, or give it back. Returns whether it did. */
static bool
take_one(struct filling *f, const struct task *task, struct store_work *work,
    enum store_result loaded)
{
	struct batch_run *b = f->batch;

	if (loaded == STORE_OK && fits(f, work)) {
		if (&b->items[b->count].work != work)
			b->items[b->count].work = *work;
		if (append(b, task) == 0)
			return true;
		log_line("out of memory for a batch of events");
		b->news.stop = RUN_STOP;
	}
	if (loaded == STORE_OK) {
		store_unload(b->context->store, work);
		put_aside(f, task);
	} else {
		/* STORE_INVALID: it is the first of the next pass, and handler_run_start() reports it. */
		b->news.again |= loaded == STORE_BUSY;
		schedule_release(b->schedule, task, loaded == STORE_ABSENT);
	}
	return false;
}

/* Take some more tasks. Returns false when there are no more. */
static bool
fill_some(struct filling *f)
{
	struct batch_run *b = f->batch;
	const struct task *tasks[CHUNK];
	uint64_t lanes[CHUNK];
	const char *names[CHUNK];
	struct store_work *works[CHUNK];
	enum store_result results[CHUNK];
	struct error error;
	size_t count = claim_some(f, tasks, lanes), first = b->count, given = 0;

	for (size_t i = 0; i < count; i++) {
		names[i] = schedule_name(b->schedule, tasks[i]);
		works[i] = &b->items[first + i].work;
	}
	if (count > 0 && store_load_many(b->context->store, names, works, count, results,
	    &error) != STORE_OK) {
		error_log(&error);
		b->news.stop = handler_run_stop(&error);
		store_release_many(b->context->store, lanes, count);
		for (size_t i = 0; i < count; i++)
			schedule_release(b->schedule, tasks[i], false);
		return false;
	}
	for (size_t i = 0; i < count; i++)
		if (!take_one(f, tasks[i], works[i], results[i]))
			lanes[given++] = lanes[i];
	if (given > 0)
		store_release_many(b->context->store, lanes, given);
	return count > 0 && b->news.stop == 0;
}

/* The first event is in; now others, as long as there are some. */
static void
fill(struct batch_run *b, size_t limit)
{
	struct filling *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return; /* a batch of one is one, too */
	f->batch = b;
	f->limit = limit;
	while (b->count < limit && !f->full && fill_some(f))
		continue;
	while (f->asides > 0)
		schedule_return(b->schedule, f->aside[--f->asides]);
	free(f);
}

/* ---- results ---- */

static size_t
index_of(const struct batch_run *b, const struct batch_item *item)
{
	return (size_t)(item - b->items);
}

/* The store does not record any more: end the handler. */
static void
give_up(struct batch_run *b, const struct error *error)
{
	if (!b->broken) {
		error_log(error);
		b->news.stop = handler_run_stop(error);
	}
	b->broken = true;
	b->run->aborted = true;
	b->run->child.deadline = clock_milliseconds();
}

/* Record all that was reported as ok. */
static void
flush(struct batch_run *b)
{
	size_t count = b->ok_count;
	struct error error;

	b->ok_count = 0;
	if (count == 0 || b->broken)
		return;
	struct store_work **works = calloc(count, sizeof(struct store_work *));
	enum store_result *results = calloc(count, sizeof(enum store_result));
	for (size_t i = 0; works != NULL && i < count; i++)
		works[i] = &b->items[b->ok[i]].work;
	error_set(&error, EX_OSERR, NULL, "out of memory");
	bool stored = works != NULL && results != NULL &&
	    store_done_many(b->context->store, works, count, results, &error) == STORE_OK;
	if (!stored)
		give_up(b, &error);
	for (size_t i = 0; stored && i < count; i++) {
		struct batch_item *item = &b->items[b->ok[i]];
		item->recorded = true;
		item->gone |= results[i] != STORE_OK;
		b->news.done += results[i] == STORE_OK;
	}
	free(works);
	free(results);
}

/* An event that counts as done is to have a worse result: it comes back into the queue first. */
static void
undo(struct batch_run *b, struct batch_item *item)
{
	const char *name = item->work.name;
	struct error error;
	size_t moved = 0;

	flush(b);
	if (b->broken || item->gone)
		return;
	if (store_replay(b->context->store, &name, 1, &moved, &error) == STORE_FAILED)
		give_up(b, &error);
	b->news.done -= (ptrdiff_t)moved;
	/* Another program has replayed or forgotten it since: the first result stands. */
	item->gone = moved == 0;
}

/* The store has recorded an outcome, or not. */
static void
note_recorded(struct batch_run *b, struct batch_item *item, enum store_result stored,
    const struct error *error)
{
	item->recorded = stored == STORE_OK;
	item->gone |= stored == STORE_ABSENT;
	if (stored != STORE_OK && stored != STORE_ABSENT)
		give_up(b, error);
}

static void
record_failed(struct batch_run *b, struct batch_item *item, struct handler_state *state)
{
	struct error error;
	bool was_later = item->verdict == BATCH_LATER;

	item->verdict = BATCH_FAILED;
	state->failed_at = b->context->clock();
	enum store_result stored = store_fail(b->context->store, &item->work, state, &error);
	note_recorded(b, item, stored, &error);
	if (stored != STORE_OK)
		return;
	b->news.later -= was_later;
	b->news.failed++;
	handler_run_report_failure(&item->work, state);
}

static void
record_later(struct batch_run *b, struct batch_item *item, struct handler_state *state)
{
	struct error error;

	item->verdict = BATCH_LATER;
	state->due_at = b->context->clock() + schedule_backoff(state->tries);
	enum store_result stored = store_later(b->context->store, &item->work, state, &error);
	note_recorded(b, item, stored, &error);
	b->news.later += stored == STORE_OK;
}

/* The state after this run; its reason is still to be written. */
static struct handler_state
begin_state(const struct batch_run *b, const struct batch_item *item)
{
	struct handler_state state = {.tries = item->work.state.tries + 1,
		.tried_at = b->context->clock()};
	const char *path = b->run->handler.path;

	text_copy(state.handler, sizeof(state.handler), path, strlen(path));
	return state;
}

/* What the handler says of an event, or what is wrong with that. The worse result counts. */
static void
judge(struct batch_run *b, struct batch_item *item, enum batch_verdict verdict, const char *text,
    size_t length)
{
	char why[192];

	if (b->broken || item->gone || verdict <= item->verdict)
		return;
	b->heard = true;
	if (verdict == BATCH_OK) {
		item->verdict = BATCH_OK;
		b->ok[b->ok_count++] = index_of(b, item);
		return;
	}
	if (item->verdict == BATCH_OK)
		undo(b, item);
	if (b->broken || item->gone)
		return;
	struct handler_state state = begin_state(b, item);
	text_copy(why, sizeof(why), text, length);
	if (length == 0)
		handler_run_copy_stderr(b->run, &state);
	snprintf(state.reason, sizeof(state.reason), "%s%s%s, try %d of at most %lld",
	    verdict == BATCH_LATER ? "reported as later" : "reported as failed",
	    *why != '\0' ? ": " : "", why, state.tries, b->context->config->max_tries);
	if (verdict == BATCH_FAILED || state.tries >= b->context->config->max_tries)
		record_failed(b, item, &state);
	else
		record_later(b, item, &state);
}

/* The handler broke the protocol: logged once in a batch. */
static void
complain(struct batch_run *b, const char *what, const char *line, size_t length)
{
	if (b->complained)
		return;
	b->complained = b->news.wrong = true;
	error_set(&b->news.error, EX_CONFIG, "psapi-handlers(7) has the protocol of batches",
	    "%s: %s: \"%.*s\"", b->run->handler.path, what, length > 100 ? 100 : (int)length, line);
}

static void
take_all(struct batch_run *b)
{
	for (size_t i = 0; i < b->count; i++)
		if (b->items[i].verdict == BATCH_NOTHING)
			judge(b, &b->items[i], BATCH_OK, "", 0);
}

/* Of struct batch_reader. */
static void
on_result(void *data, const struct batch_result *result, const char *line, size_t length)
{
	struct batch_run *b = data;
	static const char malformed[] = "malformed result";
	struct batch_item *item = result->n > 0 && result->n <= b->count ? &b->items[result->n - 1] :
	                                                                   NULL;

	if (result->line == BATCH_ALL && result->n == b->count)
		take_all(b);
	else if (result->line == BATCH_ALL)
		complain(b, "result for all with a wrong count", line, length);
	else if (item == NULL && result->n > 0)
		complain(b, "result of an event that is not in the batch", line, length);
	else if (result->line == BATCH_MALFORMED)
		complain(b, malformed, line, length);
	if (item != NULL && result->line == BATCH_MALFORMED)
		judge(b, item, BATCH_LATER, malformed, strlen(malformed));
	else if (item != NULL && result->line == BATCH_RESULT)
		judge(b, item, result->verdict, result->text, result->length);
}

static void
on_output(void *data, const char *bytes, size_t length)
{
	(void)data;
	io_write_all(STDOUT_FILENO, bytes, length);
}

/* Of struct child: what the handler writes. */
static void
on_bytes(void *data, const char *bytes, size_t length)
{
	struct batch_run *b = data;

	batch_protocol_read(&b->reader, bytes, length);
	flush(b);
	if (b->heard && !b->run->child.timed_out && !b->run->aborted)
		b->run->child.deadline = clock_milliseconds() +
		    b->context->config->handler_timeout * 1000;
	b->heard = false;
}

/* ---- lanes ---- */

/* Of all items, *count in number; to be freed. NULL: no memory. */
static uint64_t *
lanes_of(const struct batch_run *b, size_t *count)
{
	uint64_t *lanes = calloc(b->count + 1, sizeof(*lanes));

	*count = 0;
	for (size_t i = 0; lanes != NULL && i < b->count; i++)
		lanes[(*count)++] = b->items[i].task->lane;
	return lanes;
}

static void
lose(struct batch_run *b, const enum store_result *results)
{
	size_t lost = 0;

	for (size_t i = 0; i < b->count; i++) {
		if (results[i] != STORE_ABSENT || b->items[i].gone)
			continue;
		b->items[i].gone = true;
		if (lost++ == 0)
			log_line("%s: another drain has taken its lane over, for this one was too slow to "
			         "renew it: its result does not count", b->items[i].work.entry.id);
	}
	if (lost > 1)
		log_line("%zu more lanes were lost", lost - 1);
}

void
batch_renew(struct batch_run *b, int64_t now)
{
	struct error error;
	size_t count;

	if (now < b->run->renewal)
		return;
	b->run->renewal = now + RENEW_MS;
	uint64_t *lanes = lanes_of(b, &count);
	enum store_result *results = calloc(b->count + 1, sizeof(*results));
	error_set(&error, EX_OSERR, NULL, "out of memory");
	/* if not: it is tried again; an outcome is recorded only if the lane is still ours */
	if (lanes == NULL || results == NULL ||
	    store_renew_many(b->context->store, lanes, count, results, &error) != STORE_OK)
		error_log(&error);
	else
		lose(b, results);
	free(lanes);
	free(results);
}

/* Give everything back. */
static void
release(struct batch_run *b)
{
	size_t count;
	uint64_t *lanes = lanes_of(b, &count);

	for (size_t i = 0; i < b->count; i++)
		store_unload(b->context->store, &b->items[i].work);
	if (lanes != NULL)
		store_release_many(b->context->store, lanes, count);
	for (size_t i = 0; i < b->count; i++) {
		const struct batch_item *item = &b->items[i];
		bool over = item->recorded && (item->verdict == BATCH_OK || item->verdict == BATCH_FAILED);
		schedule_release(b->schedule, item->task, item->gone || over);
	}
	free(lanes);
	free(b->input.text);
	b->input = (struct batch_input){0};
	b->count = 0;
	b->run->task = NULL;
}

/* ---- end ---- */

/* What the end of the process means for an event that it did not report. */
static void
settle(struct batch_run *b, struct batch_item *item, int status, const struct handler_state *common)
{
	struct handler_state state = *common;
	enum schedule_verdict verdict = schedule_judge(status, b->run->child.timed_out, 1, 2);

	state.tries = item->work.state.tries + 1;
	handler_run_describe(b->run, b->context, status, &state);
	if (verdict == SCHEDULE_BROKEN) {
		state.tries--; /* the one that does not count */
		record_later(b, item, &state);
		return;
	}
	state.alone = verdict == SCHEDULE_FAILED && b->count > 1;
	size_t n = strlen(state.reason);
	if (state.alone)
		snprintf(state.reason + n, sizeof(state.reason) - n, "; alone next time");
	bool last = state.tries >= b->context->config->max_tries;
	if (b->count == 1 && (verdict == SCHEDULE_FAILED || last))
		record_failed(b, item, &state);
	else
		record_later(b, item, &state);
}

/* All events that it did not report. Returns how many there were. */
static size_t
settle_all(struct batch_run *b, int status)
{
	struct handler_state common = {.tried_at = b->context->clock()};
	size_t silent = 0;
	const char *path = b->run->handler.path;

	text_copy(common.handler, sizeof(common.handler), path, strlen(path));
	handler_run_copy_stderr(b->run, &common);
	for (size_t i = 0; i < b->count && !b->broken; i++) {
		if (b->items[i].verdict != BATCH_NOTHING || b->items[i].gone)
			continue;
		settle(b, &b->items[i], status, &common);
		silent++;
		batch_renew(b, clock_milliseconds());
	}
	return silent;
}

/*
 * A program that ends well and reports too little was not written for batches, perhaps: it would
 * get its events again and again, and nobody would be told why. Once in a run.
 */
static void
report_silence(struct batch_run *b, int status, size_t silent)
{
	if (silent == 0 || status != 0 || b->run->child.timed_out || b->complained ||
	    b->silence_told)
		return;
	b->silence_told = true;
	log_line("%s: exit status 0, but %zu of %zu events not reported; they are tried again: "
	         "psapi-handlers(7) has the protocol of batches", b->run->handler.path, silent,
	    b->count);
}

static void
report_verbosely(const struct batch_run *b)
{
	size_t counts[BATCH_FAILED + 1] = {0};

	for (size_t i = 0; i < b->count; i++)
		counts[b->items[i].verdict]++;
	log_line("batch of %zu: %zu done, %zu later, %zu failed, %s, %.3f s", b->count,
	    counts[BATCH_OK], counts[BATCH_LATER], counts[BATCH_FAILED], b->run->handler.path,
	    (double)(clock_milliseconds() - b->run->started) / 1e3);
}

/*
 * Whether all that the handler wanted to write was read. Not if it was ended, nor after another
 * exit status than 0, which a shell also has when its own child was ended.
 */
static bool
is_output_complete(const struct batch_run *b, int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 && !b->run->child.timed_out &&
	    b->run->child.all_read;
}

void
batch_finish(struct batch_run *b, int status)
{
	batch_protocol_end(&b->reader, is_output_complete(b, status));
	flush(b);
	report_silence(b, status, settle_all(b, status));
	if (WIFEXITED(status) && !b->run->child.timed_out &&
	    handler_broken(WEXITSTATUS(status)) != NULL && !b->news.wrong) {
		b->news.wrong = b->news.unfit = true;
		error_set(&b->news.error, EX_CONFIG, handler_broken(WEXITSTATUS(status)),
		    "%s: exit status %d", b->run->handler.path, WEXITSTATUS(status));
	}
	if (b->context->verbose) {
		handler_run_show_stderr(b->run);
		report_verbosely(b);
	}
	release(b);
}

/* ---- start ---- */

/* Room for so many. Returns 0, or -1. */
static int
make_room(struct batch_run *b, size_t room)
{
	if (b->room >= room)
		return 0;
	batch_free(b);
	b->items = calloc(room, sizeof(*b->items));
	b->ok = calloc(room, sizeof(*b->ok));
	if (b->items == NULL || b->ok == NULL)
		return -1;
	b->room = room;
	return 0;
}

/* The process, with what was collected as its standard input. */
static enum handler_run_result
start_process(struct batch_run *b)
{
	int input = child_input(b->input.text, b->input.length);

	if (input < 0) {
		log_line("cannot prepare a handler's input: %s", strerror(errno));
		return RUN_STOP;
	}
	enum handler_run_result result = handler_run_execute(b->run, b->context, input, NULL);
	close(input);
	if (result != RUN_STARTED)
		return result;
	b->run->child.take = on_bytes;
	b->run->child.taker = b;
	return result;
}

enum handler_run_result
batch_start(struct batch_run *b, struct handler_run *run, const struct handler_run_context *context,
    struct schedule *schedule)
{
	size_t limit = context->command != NULL ? context->batch : (size_t)context->config->batch;
	bool alone = is_alone(&run->work, context->config->max_tries);

	b->context = context;
	b->schedule = schedule;
	b->run = run;
	b->count = b->ok_count = 0;
	b->heard = b->broken = b->complained = false;
	b->reader = (struct batch_reader){.result = on_result, .output = on_output, .data = b};
	int made = make_room(b, alone ? 1 : limit);
	if (made == 0) {
		b->items[0].work = run->work;
		made = append(b, run->task);
	}
	if (made != 0) {
		log_line("out of memory for a batch of events");
		store_unload(context->store, &run->work);
		store_release(context->store, run->task->lane);
		schedule_release(schedule, run->task, false);
		run->task = NULL;
		return RUN_STOP;
	}
	if (!alone)
		fill(b, limit);
	enum handler_run_result result = b->news.stop != 0 ? b->news.stop : start_process(b);
	handler_close(&run->handler);
	free(b->input.text);
	b->input = (struct batch_input){0};
	if (result != RUN_STARTED)
		release(b);
	return result;
}

void
batch_free(struct batch_run *b)
{
	free(b->items);
	free(b->ok);
	b->items = NULL;
	b->ok = NULL;
	b->room = 0;
}
