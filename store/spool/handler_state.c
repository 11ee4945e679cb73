/* Owns the JSON of state/NAME. A key that is not there is zero or "". */
#define _GNU_SOURCE
#include "store/spool/handler_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/text.h"
#include "base/datetime.h"

/* A state is a few hundred bytes and 4 KiB of standard error, each byte at most \u00XX. */
enum { FILE_SIZE_MAX = 64 * 1024 };

static json_t *
load(struct spool *spool, const char *name)
{
	char *text = malloc(FILE_SIZE_MAX);
	int fd = openat(spool->dir[SPOOL_STATE], name,
	    O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = fd < 0 || text == NULL ? -1 : read(fd, text, FILE_SIZE_MAX);
	json_t *object = n <= 0 ? NULL : json_loadb(text, (size_t)n, 0, NULL);

	if (fd >= 0)
		close(fd);
	free(text);
	return object;
}

static void
get_text(const json_t *object, const char *key, char *to, size_t size)
{
	const json_t *value = json_object_get(object, key);

	if (json_is_string(value))
		text_copy(to, size, json_string_value(value), json_string_length(value));
}

static int64_t
get_time(const json_t *object, const char *key)
{
	const char *text = json_string_value(json_object_get(object, key));
	int64_t nanoseconds;

	return text != NULL && datetime_parse(text, &nanoseconds) ? nanoseconds / NANOSECONDS : 0;
}

bool
handler_state_read(struct spool *spool, const char *name, struct handler_state *state)
{
	memset(state, 0, sizeof(*state));
	/* Almost no event has one: ask before memory is taken for it. */
	if (faccessat(spool->dir[SPOOL_STATE], name, F_OK, AT_SYMLINK_NOFOLLOW) != 0)
		return false;
	json_t *object = load(spool, name);
	if (!json_is_object(object)) {
		json_decref(object);
		return false;
	}
	json_int_t tries = json_integer_value(json_object_get(object, "tries"));
	state->tries = tries < 0 || tries > 1000000 ? 0 : (int)tries;
	state->tried_at = get_time(object, "tried_at");
	state->due_at = get_time(object, "due_at");
	state->failed_at = get_time(object, "failed_at");
	get_text(object, "handler", state->handler, sizeof(state->handler));
	get_text(object, "reason", state->reason, sizeof(state->reason));
	get_text(object, "stderr", state->said, sizeof(state->said));
	json_decref(object);
	return true;
}

static void
set_text(json_t *object, const char *key, const char *text)
{
	if (*text != '\0')
		json_object_set_new(object, key, text_json(text));
}

static void
set_time(json_t *object, const char *key, int64_t seconds)
{
	char text[DATETIME_TEXT_SIZE];

	datetime_text(seconds, text);
	if (seconds != 0)
		set_text(object, key, text);
}

int
handler_state_write(struct spool *spool, const char *name, const struct handler_state *state)
{
	json_t *object = json_object();

	json_object_set_new(object, "tries", json_integer(state->tries));
	set_time(object, "tried_at", state->tried_at);
	set_time(object, "due_at", state->due_at);
	set_time(object, "failed_at", state->failed_at);
	set_text(object, "handler", state->handler);
	set_text(object, "reason", state->reason);
	set_text(object, "stderr", state->said);
	char *text = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(object);
	if (text == NULL) {
		errno = ENOMEM;
		return -1;
	}
	int result = spool_write_state(spool, name, text);
	free(text);
	return result;
}

int
handler_state_remove(struct spool *spool, const char *name)
{
	if (unlinkat(spool->dir[SPOOL_STATE], name, 0) == 0)
		return 0;
	return errno == ENOENT || errno == EISDIR ? 0 : -1; /* a directory is none of ours */
}
