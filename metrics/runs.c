/* Owns the form of the note of handler runs. */
#define _GNU_SOURCE
#include "metrics/runs.h"

#include <stdlib.h>
#include <string.h>

#include <jansson.h>

static int64_t
number(const json_t *object, const char *name)
{
	return json_integer_value(json_object_get(object, name));
}

bool
runs_read(struct store *store, struct runs *runs)
{
	char *text = store_note_read(store, STORE_NOTE_RUNS);
	json_t *note = text == NULL ? NULL : json_loads(text, 0, NULL);

	*runs = (struct runs){.done = number(note, "done"), .later = number(note, "later"),
	    .failed = number(note, "failed"), .ended = number(note, "ended"),
	    .status = (int)number(note, "status"), .chosen = number(note, "chosen")};
	bool known = note != NULL;
	json_decref(note);
	free(text);
	return known;
}

bool
runs_are_good(const struct runs *runs)
{
	return runs->ended != 0 && (runs->status == 0 || runs->status == 1);
}

static int
write_note(struct store *store, const struct runs *runs)
{
	struct error ignored;
	json_t *note = json_pack("{s:I,s:I,s:I,s:I,s:i,s:I}", "done", (json_int_t)runs->done, "later",
	    (json_int_t)runs->later, "failed", (json_int_t)runs->failed, "ended",
	    (json_int_t)runs->ended, "status", runs->status, "chosen",
	    (json_int_t)runs->chosen);
	char *text = note == NULL ? NULL : json_dumps(note, JSON_COMPACT);

	json_decref(note);
	int result = text == NULL ||
	    store_note_write(store, STORE_NOTE_RUNS, text, &ignored) != STORE_OK ? -1 : 0;
	free(text);
	return result;
}

int
runs_add(struct store *store, const struct runs *more, int status, int64_t now)
{
	bool nothing = more->done == 0 && more->later == 0 && more->failed == 0;
	struct error ignored;
	struct runs all;

	if (nothing && status == RUNS_GO_ON)
		return 0;
	int lock = store_lock(store, STORE_LOCK_NOTES, &ignored);
	if (lock < 0)
		return -1;
	runs_read(store, &all);
	all.done += more->done;
	all.later += more->later;
	all.failed += more->failed;
	if (status != RUNS_GO_ON) {
		all.ended = now;
		all.status = status;
		all.chosen = more->chosen != 0 ? more->chosen : all.chosen;
	}
	int result = write_note(store, &all);
	store_unlock(store, lock);
	return result;
}
