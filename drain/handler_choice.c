/* Owns the rule between the two directories of handlers. */
#define _GNU_SOURCE
#include "drain/handler_choice.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

/* Whether PSAPI_BATCH_HANDLERS is to be looked at: its default need not exist. */
static bool
has_batch_handlers(const struct config *config)
{
	return access(config->batch_handlers, F_OK) == 0 || errno != ENOENT ||
	    strcmp(config_source(config, "PSAPI_BATCH_HANDLERS"), "default") != 0;
}

static void
set_conflict(const struct config *config, const char *name, struct error *error)
{
	error_set(error, EX_CONFIG, "remove one of them, or give it a more specific name",
	    "%s: is in %s and in %s", name, config->handlers, config->batch_handlers);
}

/* A look into one directory. */
struct choice {
	enum handler_result result;
	struct handler handler;
	struct error error;
};

static void
look(const char *path, const char *setting, const char *type, struct choice *choice)
{
	const struct handler_directory dir = {path, setting};

	choice->result = handler_find(&dir, type, &choice->handler, &choice->error);
}

/* Of a directory that is refused nobody knows what it has. */
static bool
is_unknown(const struct choice *choice)
{
	return choice->result == HANDLER_REFUSED && *choice->handler.path == '\0';
}

/* The one that counts; NULL: both have a handler of this name. */
static struct choice *
better(struct choice *one, struct choice *many)
{
	if (is_unknown(one) || many->result == HANDLER_NONE)
		return one;
	if (is_unknown(many) || one->result == HANDLER_NONE)
		return many;
	if (one->handler.specificity == many->handler.specificity)
		return NULL;
	return one->handler.specificity > many->handler.specificity ? one : many;
}

enum handler_result
handler_choice_find(const struct config *config, const char *type, struct handler *handler,
    bool *batch, struct error *error)
{
	struct choice one, many = {.result = HANDLER_NONE, .handler.directory = -1};

	look(config->handlers, "PSAPI_HANDLERS", type, &one);
	if (has_batch_handlers(config))
		look(config->batch_handlers, "PSAPI_BATCH_HANDLERS", type, &many);
	struct choice *chosen = better(&one, &many);
	*batch = chosen == &many;
	if (chosen != &one)
		handler_close(&one.handler);
	if (chosen != &many)
		handler_close(&many.handler);
	if (chosen == NULL) {
		*handler = one.handler;
		set_conflict(config, strrchr(one.handler.path, '/') + 1, error);
		return HANDLER_REFUSED;
	}
	*handler = chosen->handler;
	*error = chosen->error;
	return chosen->result;
}

bool
handler_choice_conflict(const struct config *config, const char *name, struct error *error)
{
	const char *const dirs[] = {config->handlers, config->batch_handlers};
	char path[PATH_MAX];

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++)
		if (snprintf(path, sizeof(path), "%s/%s", dirs[i], name) >= (int)sizeof(path) ||
		    faccessat(AT_FDCWD, path, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
			return false;
	set_conflict(config, name, error);
	return true;
}
