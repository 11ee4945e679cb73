/*
 * Owns the look at a whole directory of handlers. What drain would do with an event is asked of
 * handler_find() itself; here is only which types to ask for, and what a file's name means.
 */
#define _GNU_SOURCE
#include "drain/handler_survey.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"
#include "drain/handler_choice.h"
#include "events.h"

enum { KNOWN_MAX = 32 };

/* ---- names ---- */

enum name_kind {
	SELECTED, /* by a known type, or the default */
	POSSIBLE, /* by a type that we do not know */
	NEAR,     /* by none, but it was meant for one */
	NEVER
};

/* How programs end that shells and editors want to recognise. No type ends so. */
static const char *const program_endings[] = {"sh", "bash", "zsh", "ksh", "py", "python", "pl",
	"rb", "php", "js", "mjs", "ts", "lua", "go", "exe", "bin", "bat", "cmd", "ps1", NULL};
/* Copies that editors, packages and people make, and documents. */
static const char *const other_endings[] = {"bak", "old", "orig", "save", "disabled", "off", "dist",
	"tmp", "new", "swp", "example", "sample", "rpmnew", "rpmsave", "rpmorig", "dpkg-old",
	"dpkg-new", "dpkg-dist", "ucf-dist", "txt", "md", "json", "csv", "conf", "ini", "log", "yml",
	"yaml", "html", NULL};

/* The ending of a name after its last dot, if it is one of these; else NULL. */
static char *
ending(char *name, const char *const *endings)
{
	char *dot = strrchr(name, '.');

	for (; dot != NULL && dot != name && *endings != NULL; endings++)
		if (strcasecmp(dot + 1, *endings) == 0)
			return dot;
	return NULL;
}

/* What events of known types select: the default, each type, and its beginnings. */
struct known {
	char name[KNOWN_MAX][NAME_MAX + 1];
	size_t count;
};

static bool
is_known(const struct known *known, const char *name)
{
	for (size_t i = 0; i < known->count; i++)
		if (strcmp(known->name[i], name) == 0)
			return true;
	return false;
}

static void
list_known(struct known *known)
{
	const char *type;
	char name[NAME_MAX + 1];

	known->count = 0;
	strcpy(known->name[known->count++], "default");
	for (size_t i = 0; (type = events_known_type(i)) != NULL; i++) {
		snprintf(name, sizeof(name), "%s", type);
		for (char *dot = name; dot != NULL; *(dot != NULL ? dot : name) = '\0') {
			if (!is_known(known, name) && known->count < KNOWN_MAX)
				strcpy(known->name[known->count++], name);
			dot = strrchr(name, '.');
		}
	}
}

/* In lower case, and with a dot for each separator that people write instead. */
static void
simplify(char *name)
{
	for (; *name != '\0'; name++)
		*name = (char)(strchr("-_ ", *name) != NULL ? '.' : tolower((unsigned char)*name));
}

/* Whether it is the end of a known name: npn.activated without the producersync before it. */
static bool
is_end_of(const char *known, const char *given)
{
	size_t length = strlen(given), whole = strlen(known);

	return length > 0 && length < whole && known[whole - length - 1] == '.' &&
	    strcmp(known + whole - length, given) == 0;
}

/* The known name that was meant, or NULL. */
static const char *
meant(const struct known *known, const char *name)
{
	char given[NAME_MAX + 1], other[NAME_MAX + 1];

	snprintf(given, sizeof(given), "%s", name);
	simplify(given);
	for (size_t i = 0; i < known->count; i++) {
		snprintf(other, sizeof(other), "%s", known->name[i]);
		simplify(other);
		if (text_distance(given, other) <= (strlen(other) < 10 ? 1 : 2) || is_end_of(other, given))
			return known->name[i];
	}
	return NULL;
}

/* ---- files ---- */

/* A file in the directory. */
struct file {
	enum name_kind kind;
	char shown[NAME_MAX * 2]; /* its name; of a directory, with a slash */
	char name[NAME_MAX + 1];  /* POSSIBLE: the type that selects it; NEAR: its right name */
};

static bool
can_be_type(const char *name)
{
	return strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789_.-") == strlen(name);
}

/* Whether a type that is not known may select it. Types are in lower case, and have dots. */
static bool
is_possible(const char *name, const struct stat *st)
{
	return can_be_type(name) && !S_ISDIR(st->st_mode) &&
	    (strchr(name, '.') != NULL || (st->st_mode & 0111) != 0);
}

static void
judge_name(const struct known *known, const char *name, const struct stat *st, struct file *file)
{
	bool is_program = false;
	const char *right;
	char *end;

	snprintf(file->shown, sizeof(file->shown), "%s%s", name, S_ISDIR(st->st_mode) ? "/" : "");
	snprintf(file->name, sizeof(file->name), "%s", name);
	file->kind = is_known(known, name) ? SELECTED : NEVER;
	if (file->kind == SELECTED || ending(file->name, other_endings) != NULL)
		return;
	while ((end = ending(file->name, program_endings)) != NULL) {
		is_program = true;
		*end = '\0';
	}
	if ((right = meant(known, file->name)) != NULL)
		snprintf(file->name, sizeof(file->name), "%s", right);
	if (S_ISDIR(st->st_mode))
		return;
	/* x.y.created.sh was meant for x.y.created; helper.sh is a helper of handlers */
	if (right != NULL || (is_program && strchr(file->name, '.') != NULL && can_be_type(file->name)))
		file->kind = NEAR;
	else if (!is_program && is_possible(name, st))
		file->kind = POSSIBLE;
}

static int
is_visible(const struct dirent *entry)
{
	return entry->d_name[0] != '.';
}

/*
 * The files of the directory, in the order of their names. Returns how many, in *files to be
 * freed; 0 also if it cannot be listed, which drain need not do.
 */
static size_t
list_files(const char *dir, const struct known *known, struct file **files)
{
	struct dirent **entries = NULL;
	int count = scandir(dir, &entries, is_visible, alphasort);
	struct stat st;

	*files = calloc(count > 0 ? (size_t)count : 1, sizeof(**files));
	for (int i = 0; i < count; i++) {
		char path[PATH_MAX];
		snprintf(path, sizeof(path), "%s/%s", dir, entries[i]->d_name);
		memset(&st, 0, sizeof(st));
		(void)stat(path, &st);
		if (*files != NULL)
			judge_name(known, entries[i]->d_name, &st, &(*files)[i]);
		free(entries[i]);
	}
	free(entries);
	return count > 0 && *files != NULL ? (size_t)count : 0;
}

/* ---- findings ---- */

/*
 * Add a text and its remedy. A worse one drops the texts before it, and a better one is dropped:
 * what is wrong must not be lost in what is right.
 */
__attribute__((format(printf, 4, 5))) static void
add(struct handler_survey_finding *f, int result, const char *remedy, const char *format, ...)
{
	va_list ap;

	if (result < (int)f->result)
		return;
	if (result > (int)f->result)
		f->text[0] = f->remedy[0] = '\0';
	f->result = (unsigned)result;
	size_t n = strlen(f->text);
	n += (size_t)snprintf(f->text + n, sizeof(f->text) - n, "%s", n > 0 ? "; " : "");
	va_start(ap, format);
	if (n < sizeof(f->text))
		vsnprintf(f->text + n, sizeof(f->text) - n, format, ap);
	va_end(ap);
	n = strlen(f->remedy);
	snprintf(f->remedy + n, sizeof(f->remedy) - n, "%s%s", n > 0 && *remedy != '\0' ? "\n" : "",
	    remedy);
}

/* Add to a list, but no half of an entry. Returns false if there is no room for it. */
__attribute__((format(printf, 3, 4))) static bool
append(char *list, size_t size, const char *format, ...)
{
	size_t n = strlen(list);
	va_list ap;

	va_start(ap, format);
	int length = vsnprintf(list + n, size - n, format, ap);
	va_end(ap);
	if (length >= 0 && (size_t)length < size - n)
		return true;
	list[n] = '\0';
	return false;
}

enum { MORE_SIZE = 40 }; /* room for "and N more" */

struct look {
	const struct config *config;
	const char *dir;
	bool drained; /* psapi drain takes handlers from here */
	struct file *files;
	size_t count;
	char renames[400]; /* lines, for the files that are NEAR; "": none is */
	bool told;         /* the renames are a remedy already */
	struct handler_survey_finding *finding;
};

/* The names of files of some kinds (bits), in list: "a, b and 3 more". */
static void
list_names(const struct look *s, unsigned kinds, char *list, size_t size)
{
	size_t left = 0;

	*list = '\0';
	for (size_t i = 0; i < s->count; i++) {
		if ((kinds & 1U << s->files[i].kind) == 0)
			continue;
		const char *comma = *list != '\0' ? ", " : "";
		if (left > 0 || !append(list, size - MORE_SIZE, "%s%s", comma, s->files[i].shown))
			left++;
	}
	if (left > 0)
		append(list, size, " and %zu more", left);
}

/* The remedy for files that are NEAR: a line for each. */
static void
list_renames(struct look *s)
{
	size_t left = 0, size = sizeof(s->renames);

	for (size_t i = 0; i < s->count; i++) {
		const struct file *file = &s->files[i];
		const char *end = *s->renames != '\0' ? "\n" : "";
		if (file->kind == NEAR && (left > 0 || !append(s->renames, size - MORE_SIZE,
		        "%s%s: rename it to %s", end, file->shown, file->name)))
			left++;
	}
	if (left > 0)
		append(s->renames, size, "\nand %zu more files", left);
}

/* What happens to the events of one type. "": a type that nobody knows. */
struct outcome {
	const char *type;
	enum handler_result result;
	struct handler handler;
	struct error error;
	bool told;
};

static void
find_outcome(const struct look *s, const char *type, struct outcome *outcome)
{
	bool batch;

	outcome->type = type;
	outcome->result = handler_choice_find(s->config, type, &outcome->handler, &batch,
	    &outcome->error);
	handler_close(&outcome->handler);
}

static bool
is_same(const struct outcome *a, const struct outcome *b)
{
	return a->result == b->result &&
	    (a->result == HANDLER_NONE || strcmp(a->handler.path, b->handler.path) == 0);
}

/* "an event of type A, B or of an unknown type": all with the outcome of the first. */
static void
name_types(struct outcome *outcomes, size_t count, char *text, size_t size)
{
	size_t n = (size_t)snprintf(text, size, "an event of");
	const char *before = " type";

	for (size_t i = 0; i < count && n < size; i++) {
		if (!is_same(&outcomes[0], &outcomes[i]))
			continue;
		outcomes[i].told = true;
		if (*outcomes[i].type != '\0')
			n += (size_t)snprintf(text + n, size - n, "%s %s", before, outcomes[i].type);
		else
			n += (size_t)snprintf(text + n, size - n, "%s an unknown type",
			    *before == ',' ? " or of" : "");
		before = ",";
	}
}

/* Whether env(1) finds a program where neither cron nor systemd would look. */
static bool
is_found_here_alone(const char *found)
{
	static const char *const usual[] = {"/usr/local/sbin", "/usr/local/bin", "/usr/sbin",
		"/usr/bin", "/sbin", "/bin"};
	const char *slash = strrchr(found, '/');

	for (size_t i = 0; slash != NULL && i < sizeof(usual) / sizeof(usual[0]); i++)
		if (strlen(usual[i]) == (size_t)(slash - found) &&
		    strncmp(found, usual[i], strlen(usual[i])) == 0)
			return false;
	return slash != NULL;
}

static void
add_found(const struct look *s, const struct outcome *outcome, const char *types)
{
	const char *path = outcome->handler.path, *found = outcome->handler.program.found;

	add(s->finding, HANDLER_SURVEY_OK, "", "%s would run %s", types, path);
	if (is_found_here_alone(found))
		add(s->finding, HANDLER_SURVEY_REMARK, "cron and systemd have another PATH: write the "
		    "whole path into the first line, or set PATH where psapi drain is started",
		    "%s: env finds %s, by the PATH of this shell", path, found);
}

#define DEFAULT "write a handler default (the line #!/bin/true is enough), or "

/* No event of a known type finds a handler: what drain would do with them. */
static void
add_no_handler(struct look *s, const char *types)
{
	char names[200];

	list_names(s, ~0U, names, sizeof(names));
	if (s->count == 0 && !s->drained)
		add(s->finding, HANDLER_SURVEY_NONE, "",
		    "%s has no handler: psapi drain would move every event to failed/", s->dir);
	else if (s->count == 0)
		add(s->finding, HANDLER_SURVEY_FAILED, DEFAULT "end psapi drain (crontab, "
		    "psapi-drain.path and .timer), if a script of your own reads new/",
		    "%s has no handler, and psapi drain runs: it moves every event to failed/", s->dir);
	else
		add(s->finding, HANDLER_SURVEY_FAILED, *s->renames != '\0' ? s->renames : DEFAULT
		    "name one after a type: psapi-handlers(7)",
		    "%s finds no handler, and no default, in %s: psapi drain would move it to failed/; no "
		    "known type selects %s", types, s->dir, names);
	s->told = true;
}

static void
add_none(struct look *s, const struct outcome *outcome, const char *types)
{
	/* A handler for one type alone may be meant; one that no event finds is not. */
	bool failed = *s->renames != '\0' && *outcome->type != '\0';

	s->told |= failed;
	add(s->finding, failed ? HANDLER_SURVEY_FAILED : HANDLER_SURVEY_REMARK,
	    failed ? s->renames : DEFAULT "do not subscribe to these types",
	    "%s finds no handler, and no default, in %s: psapi drain would move it to failed/", types,
	    s->dir);
}

/* All types, grouped by what happens to their events. none: to no known type's. */
static void
add_outcomes(struct look *s, struct outcome *outcomes, size_t count, bool none)
{
	char types[400];

	for (size_t i = 0; i < count; i++) {
		struct outcome *outcome = &outcomes[i];
		if (outcome->told)
			continue;
		name_types(outcome, count - i, types, sizeof(types));
		if (outcome->result == HANDLER_FOUND)
			add_found(s, outcome, types);
		else if (outcome->result == HANDLER_NONE && none)
			add_no_handler(s, types);
		else if (outcome->result == HANDLER_NONE)
			add_none(s, outcome, types);
		else
			add(s->finding, HANDLER_SURVEY_FAILED, outcome->error.remedy, "%s",
			    outcome->error.text);
	}
}

static void
add_types(struct look *s)
{
	struct outcome *outcomes;
	const char *type;
	size_t count = 0, known = 0;
	bool none = true;

	while (events_known_type(known) != NULL)
		known++;
	outcomes = calloc(known + s->count + 1, sizeof(*outcomes));
	if (outcomes == NULL)
		return;
	for (size_t i = 0; (type = events_known_type(i)) != NULL; i++) {
		find_outcome(s, type, &outcomes[count++]);
		none = none && outcomes[count - 1].result == HANDLER_NONE;
	}
	for (size_t i = 0; i < s->count; i++)
		if (s->files[i].kind == POSSIBLE)
			find_outcome(s, s->files[i].name, &outcomes[count++]);
	find_outcome(s, "", &outcomes[count++]);
	add_outcomes(s, outcomes, count, none);
	free(outcomes);
}

/* The files that no event selects: the near misses, with their right names, then the others. */
static void
add_unused(const struct look *s, struct handler_survey_finding *f)
{
	char never[400];

	for (size_t i = 0; i < s->count; i++)
		if (s->files[i].kind == NEAR)
			add(f, HANDLER_SURVEY_REMARK, "", "%s: no event selects it", s->files[i].shown);
	snprintf(f->remedy, sizeof(f->remedy), "%s", s->told && *s->renames != '\0' ?
	    "rename it, as the check of handlers says" : s->renames);
	list_names(s, 1U << NEVER, never, sizeof(never));
	if (*never != '\0')
		add(f, HANDLER_SURVEY_REMARK,
		    "drain leaves files alone that are no handlers; nothing needs to be done",
		    "never used: %s", never);
}

/* Of the batch handlers: "batch.d/default.sh". */
static void
name_directory(struct file *file, const char *dir)
{
	const char *name = strrchr(dir, '/');
	char shown[sizeof(file->shown)];

	snprintf(shown, sizeof(shown), "%s", file->shown);
	snprintf(file->shown, sizeof(file->shown), "%.200s/%.*s", name != NULL ? name + 1 : dir,
	    NAME_MAX + 1, shown);
}

/*
 * A near miss whose right name is there, in one of the directories, is a copy or a draft: renamed,
 * it would replace that handler, or be in conflict with it.
 */
static void
pass_over_copies(struct look *s)
{
	for (size_t i = 0; i < s->count; i++)
		for (size_t j = 0; s->files[i].kind == NEAR && j < s->count; j++)
			if ((s->files[j].kind == SELECTED || s->files[j].kind == POSSIBLE) &&
			    strcmp(s->files[i].name, s->files[j].name) == 0)
				s->files[i].kind = NEVER;
}

/* The files of both directories. */
static void
look_at_files(struct look *s)
{
	struct known known;
	struct file *more;

	list_known(&known);
	s->count = list_files(s->dir, &known, &s->files);
	size_t count = list_files(s->config->batch_handlers, &known, &more);
	for (size_t i = 0; i < count; i++)
		name_directory(&more[i], s->config->batch_handlers);
	struct file *all = count == 0 ? NULL : reallocarray(s->files, s->count + count, sizeof(*all));
	if (all != NULL) {
		memcpy(all + s->count, more, count * sizeof(*all));
		s->files = all;
		s->count += count;
	}
	free(more);
	pass_over_copies(s);
	list_renames(s);
}

/*
 * Names that both directories have, if an event may select them, unless it was told as what happens
 * to some type.
 */
static void
add_conflicts(const struct look *s)
{
	struct error error;

	for (size_t i = 0; i < s->count; i++) {
		const struct file *file = &s->files[i];
		if ((file->kind == SELECTED || file->kind == POSSIBLE) &&
		    handler_choice_conflict(s->config, file->name, &error) &&
		    strstr(s->finding->text, error.text) == NULL)
			add(s->finding, HANDLER_SURVEY_FAILED, error.remedy, "%s", error.text);
	}
}

void
handler_survey(const struct config *config, bool drained, struct handler_survey *survey)
{
	const char *dir = config->handlers;
	const struct handler_directory directory = {dir, "PSAPI_HANDLERS"};
	struct look s = {
	    .config = config, .dir = dir, .drained = drained, .finding = &survey->handlers};
	struct error error;

	*survey = (struct handler_survey){0};
	if (handler_check_directory(&directory, &error) == 0) {
		look_at_files(&s);
		add_types(&s);
		add_conflicts(&s);
		add(&survey->unused, HANDLER_SURVEY_OK, "", "%s has no other file", dir);
		add_unused(&s, &survey->unused);
		free(s.files);
	} else if (errno == ENOENT && !drained && access(config->batch_handlers, F_OK) != 0) {
		add(&survey->handlers, HANDLER_SURVEY_NONE, "",
		    "%s does not exist: right if a script of your own reads new/", dir);
	} else {
		add(&survey->handlers, HANDLER_SURVEY_FAILED, error.remedy, "%s", error.text);
	}
	add(&survey->unused, HANDLER_SURVEY_NONE, "", "%s cannot be looked at", dir);
}
