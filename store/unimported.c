/*
 * Owns the check for events that an import would still bring: the names in new/ and failed/, asked
 * for in batches. An import removes nothing from the spool, so names alone prove nothing. And the
 * check for files that the last import left out, and that are no events yet.
 */
#define _GNU_SOURCE
#include "store/unimported.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BATCH = 500 };

struct search {
	const struct backend *backend;
	void *engine;
	int64_t imported; /* Unix seconds */
	size_t gathered, found;
	struct error *error;
	const char *pointers[BATCH];
	char names[BATCH][STORE_NAME_SIZE];
};

/* Ask for what was gathered. Returns 0, or 1 with *error. */
static int
ask(struct search *s)
{
	size_t unknown = 0;

	if (s->gathered > 0 && s->backend->unknown(s->engine, s->pointers, s->gathered, &unknown,
	    s->error) != STORE_OK)
		return 1;
	s->found += unknown;
	s->gathered = 0;
	return 0;
}

/* spool_each()'s visit. An unrecognised file, or one that has just gone, is no event. */
static int
gather(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct search *s = data;
	struct stat st;

	if (strlen(name) >= STORE_NAME_SIZE || !store_name_valid(name) ||
	    fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode) ||
	    st.st_ctim.tv_sec < s->imported)
		return 0;
	s->pointers[s->gathered] = strcpy(s->names[s->gathered], name);
	return ++s->gathered < BATCH ? 0 : ask(s);
}

/* Returns 0, or other than 0: it could not be found out. */
static int
search(struct search *s, struct spool *local)
{
	int result = spool_each(local, SPOOL_NEW, gather, s);

	if (result == 0)
		result = spool_each(local, SPOOL_FAILED, gather, s);
	return result == 0 ? ask(s) : result;
}

/* What an import left out, and would again. first: a line about the first one. Returns how many. */
static size_t
count_left_out(struct spool *local, char *first, size_t size)
{
	char *names = spool_note_read(local, STORE_NOTE_LEFT_OUT), *rest = names;
	struct store_item item;
	struct error error;
	size_t count = 0;

	for (char *name; (name = strsep(&rest, "\n")) != NULL;) {
		if (!store_name_valid(name))
			continue;
		enum store_result result = spool_get(local, name, &item, &error);
		if (result == STORE_OK)
			entry_free(&item.entry);
		if (result == STORE_INVALID && item.status != STORE_HANDLED && count++ == 0)
			snprintf(first, size, "%.*s", (int)size - 1, error.text);
	}
	free(names);
	return count;
}

/* Returns whether there is something to say. */
static bool
check_left_out(struct spool *local, struct store_check *check)
{
	char first[300] = "";
	size_t count = count_left_out(local, first, sizeof(first));

	if (count == 0)
		return false;
	check->result = STORE_CHECK_FAILED;
	snprintf(check->text, sizeof(check->text),
	    "the import left out %zu file(s), which nobody handles: %s%s", count, first,
	    count > 1 ? "; and others" : "");
	snprintf(check->remedy, sizeof(check->remedy),
	    "put back a copy from a backup, and psapi store import; or move the file away");
	return true;
}

static void
check_unknown(const struct search *s, struct store_check *check)
{
	if (s->found == 0) {
		snprintf(check->text, sizeof(check->text),
		    "no event in this host's spool waits for its import");
		return;
	}
	check->result = STORE_CHECK_FAILED;
	snprintf(check->text, sizeof(check->text),
	    "%zu event(s) in new/ and failed/ of this host's spool are not in the shared store: "
	    "nobody handles them", s->found);
	snprintf(check->remedy, sizeof(check->remedy), "psapi store import");
}

void
unimported_check(struct spool *local, const struct backend *backend, void *engine,
    void (*visit)(const struct store_check *, void *), void *data)
{
	struct store_check check = {.name = "import", .result = STORE_CHECK_OK};
	struct error error = {.text = "cannot be read"};
	struct search *s = calloc(1, sizeof(*s));

	if (s == NULL)
		return;
	*s = (struct search){.backend = backend, .engine = engine, .error = &error,
		.imported = spool_last_import(local)};
	if (search(s, local) != 0) {
		check.result = STORE_CHECK_REMARK;
		snprintf(check.text, sizeof(check.text), "not known: %.380s", error.text);
		snprintf(check.remedy, sizeof(check.remedy), "%.390s", error.remedy);
	} else if (s->found > 0 || !check_left_out(local, &check)) {
		check_unknown(s, &check);
	}
	visit(&check, data);
	free(s);
}
