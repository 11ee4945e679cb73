/*
 * Owns the check for events that an import would still bring: the names in new/ and failed/, asked
 * for in batches. An import removes nothing from the spool, so names alone prove nothing.
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
	int result = search(s, local);
	if (result != 0) {
		check.result = STORE_CHECK_REMARK;
		snprintf(check.text, sizeof(check.text), "not known: %.380s", error.text);
		snprintf(check.remedy, sizeof(check.remedy), "%.390s", error.remedy);
	} else if (s->found > 0) {
		check.result = STORE_CHECK_FAILED;
		snprintf(check.text, sizeof(check.text),
		    "%zu event(s) in new/ and failed/ of this host's spool are not in the shared store: "
		    "nobody handles them", s->found);
		snprintf(check.remedy, sizeof(check.remedy), "psapi store import");
	} else {
		snprintf(check.text, sizeof(check.text),
		    "no event in this host's spool waits for its import");
	}
	visit(&check, data);
	free(s);
}
