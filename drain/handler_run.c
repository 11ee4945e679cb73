/*
 * Owns what happens to one event: the environment of its handler, and what each
 * outcome does in the spool. state/ is written before what depends on it.
 */
#define _GNU_SOURCE
#include "drain/handler_run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drain/handler.h"
#include "base/clock.h"
#include "base/log.h"
#include "store/spool/moves.h"
#include "base/terminal.h"
#include "base/text.h"

extern char **environ;

/* ---- environment ---- */

/* What handlers inherit. Never HTTP_*, LD_* or what else the caller happens to have. */
static const char *const inherited[] = {"PATH=", "HOME=", "LANG=", "TZ="};

enum { EVENT_VARIABLES = 6 };

static bool
is_inherited(const char *variable)
{
	if (strncmp(variable, "PSAPI_", 6) == 0)
		return true;
	for (size_t i = 0; i < sizeof(inherited) / sizeof(inherited[0]); i++)
		if (strncmp(variable, inherited[i], strlen(inherited[i])) == 0)
			return true;
	return false;
}

/* Whether one of the first n variables has the same name. */
static bool
is_set(char *const *variables, int n, const char *variable)
{
	size_t length = strcspn(variable, "=") + 1;

	for (int i = 0; i < n; i++)
		if (strncmp(variables[i], variable, length) == 0)
			return true;
	return false;
}

static void
free_environment(char **environment)
{
	for (int i = 0; environment != NULL && i < EVENT_VARIABLES; i++)
		free(environment[i]);
	free(environment);
}

/* The event's own variables, always all of them, then what is inherited. NULL without memory. */
static char **
make_environment(const struct handler_run *job)
{
	const struct event *event = &job->entry.event;
	int count = 0, n = 0;

	while (environ[count] != NULL)
		count++;
	char **variables = calloc((size_t)count + EVENT_VARIABLES + 1, sizeof(*variables));
	if (variables == NULL)
		return NULL;
	int failed = asprintf(&variables[n++], "PSAPI_WEBHOOK_ID=%s", job->entry.id) < 0;
	failed |= asprintf(&variables[n++], "PSAPI_EVENT_TYPE=%s", event->type) < 0;
	failed |= asprintf(&variables[n++], "PSAPI_EVENT_TIMESTAMP=%s", event->timestamp) < 0;
	failed |= asprintf(&variables[n++], "PSAPI_NPN=%s", event->npn) < 0;
	failed |= asprintf(&variables[n++], "PSAPI_RUN_DATE=%s", event->run_date) < 0;
	failed |= asprintf(&variables[n++], "PSAPI_TRY=%d", job->state.tries + 1) < 0;
	if (failed) {
		/* asprintf(3) leaves what it could not make undefined: nothing of it is freed. */
		free(variables);
		return NULL;
	}
	for (int i = 0; i < count; i++)
		if (is_inherited(environ[i]) && !is_set(variables, EVENT_VARIABLES, environ[i]))
			variables[n++] = environ[i];
	return variables;
}

/* ---- reports ---- */

static void
report_failure(const struct handler_run *job, const struct handler_state *state)
{
	const char *last = state->said, *end = last + strlen(last);

	/* The last line says most. */
	while (end > last && end[-1] == '\n')
		end--;
	const char *newline = memrchr(last, '\n', (size_t)(end - last));
	if (newline != NULL)
		last = newline + 1;
	log_line("failed: %s (%s): %s%s%.*s; psapi show and psapi retry take its id", job->entry.id,
	    *job->entry.event.type != '\0' ? job->entry.event.type : "no type", state->reason,
	    end > last ? ": " : "", end - last > 200 ? 200 : (int)(end - last), last);
}

/* What it wrote to standard error, as whole lines; escaped where it could steer a terminal. */
static void
show_stderr(const struct handler_run *job)
{
	char text[TERMINAL_ESCAPED_SIZE(CHILD_TAIL)];
	size_t length;
	const char *tail = child_tail(&job->child, &length);
	bool whole = length == 0 || tail[length - 1] == '\n';

	if (isatty(STDERR_FILENO)) {
		tail = terminal_escape(text, sizeof(text), tail, length, true);
		length = strlen(tail);
	}
	(void)!write(STDERR_FILENO, tail, length);
	(void)!write(STDERR_FILENO, "\n", whole ? 0 : 1);
}

static void
report_verbosely(const struct handler_run *job, const struct handler_run_context *context, const char *result)
{
	if (!context->verbose)
		return;
	log_line("%s: %s (%s), try %d, %s, %.3f s", result, job->entry.id, job->entry.event.type,
	    job->state.tries + 1, job->handler, (double)(clock_milliseconds() - job->started) / 1e3);
}

/* The spool does not do what it must. */
static enum handler_run_result
stop(const struct handler_run_context *context, enum spool_dir dir, const char *name)
{
	char why[1024];

	moves_explain(context->spool, dir, name, why, sizeof(why));
	log_line("%s", why);
	return RUN_STOP;
}

/* ---- outcomes ---- */

static enum handler_run_result
finish_done(struct handler_run *job, const struct handler_run_context *context)
{
	if (moves_done(context->spool, job->name) != 0)
		return stop(context, SPOOL_NEW, job->name);
	report_verbosely(job, context, "done");
	return RUN_DONE;
}

static enum handler_run_result
finish_later(struct handler_run *job, const struct handler_run_context *context, struct handler_state *state)
{
	state->due_at = context->clock() + schedule_backoff(state->tries);
	if (handler_state_write(context->spool, job->name, state) != 0)
		return stop(context, SPOOL_STATE, job->name);
	report_verbosely(job, context, "later");
	return RUN_LATER;
}

/* The move to failed/ did not work: the spool's fault, or a script of the user's was quicker. */
static enum handler_run_result
finish_unmoved(struct handler_run *job, const struct handler_run_context *context)
{
	int error = errno;
	bool gone = !moves_has(context->spool, SPOOL_NEW, job->name);

	errno = error;
	if (!gone || moves_done(context->spool, job->name) != 0)
		return stop(context, SPOOL_NEW, job->name);
	return RUN_GONE;
}

static enum handler_run_result
finish_failed(struct handler_run *job, const struct handler_run_context *context, struct handler_state *state)
{
	state->failed_at = context->clock();
	if (handler_state_write(context->spool, job->name, state) != 0)
		return stop(context, SPOOL_STATE, job->name);
	if (moves_whole(context->spool, SPOOL_NEW, SPOOL_FAILED, job->name) != 0)
		return finish_unmoved(job, context);
	report_failure(job, state);
	return RUN_FAILED;
}

/* Why a run was no success, in words. */
static void
describe(const struct handler_run *job, const struct handler_run_context *context, int status, char *text,
    size_t size)
{
	int n;

	if (job->hurried)
		n = snprintf(text, size, "ended because drain was asked twice to end");
	else if (job->child.timed_out)
		n = snprintf(text, size, "no end within %lld s", context->config->handler_timeout);
	else if (WIFSIGNALED(status))
		n = snprintf(text, size, "ended by signal %d (%s)", WTERMSIG(status),
		    strsignal(WTERMSIG(status)));
	else
		n = snprintf(text, size, "exit status %d", WEXITSTATUS(status));
	snprintf(text + n, size - (size_t)n, ", try %d of at most %lld", job->state.tries + 1,
	    context->config->max_tries);
}

/* The end of standard error as text. Cut off, it may begin within a character: that one goes. */
static void
copy_stderr(const struct handler_run *job, struct handler_state *state)
{
	size_t length;
	const char *tail = child_tail(&job->child, &length);

	for (int i = 0; length > 0 && i < 3 && ((unsigned char)*tail & 0xc0) == 0x80; i++) {
		tail++;
		length--;
	}
	text_copy(state->said, sizeof(state->said), tail, length);
}

static enum handler_run_result
settle(struct handler_run *job, const struct handler_run_context *context, int status)
{
	struct handler_state state = {.tries = job->state.tries + 1, .tried_at = context->clock()};
	enum schedule_verdict verdict = schedule_judge(status, job->child.timed_out, state.tries,
	    context->config->max_tries);

	if (context->verbose)
		show_stderr(job);
	if (verdict == SCHEDULE_DONE)
		return finish_done(job, context);
	/* A script of the user's own has removed it while its handler ran: it is done. */
	if (!moves_has(context->spool, SPOOL_NEW, job->name))
		return finish_done(job, context);
	text_copy(state.handler, sizeof(state.handler), job->handler, strlen(job->handler));
	copy_stderr(job, &state);
	describe(job, context, status, state.reason, sizeof(state.reason));
	return verdict == SCHEDULE_LATER ? finish_later(job, context, &state) :
	                                  finish_failed(job, context, &state);
}

enum handler_run_result
handler_run_finish(struct handler_run *job, const struct handler_run_context *context, int status)
{
	enum handler_run_result result = settle(job, context, status);

	entry_free(&job->entry);
	return result;
}

/* ---- start ---- */

static enum handler_run_result
fail_without_handler(struct handler_run *job, const struct handler_run_context *context)
{
	struct handler_state state = {.tries = job->state.tries};

	snprintf(state.reason, sizeof(state.reason), "no handler for type \"%.80s\", and no default, in %s",
	    job->entry.event.type, context->config->handlers);
	return finish_failed(job, context, &state);
}

/* Choose what is run. RUN_STARTED: it is in job->handler. */
static enum handler_run_result
choose(struct handler_run *job, const struct handler_run_context *context)
{
	if (context->command != NULL) {
		snprintf(job->handler, sizeof(job->handler), "%s", context->command[0]);
		return RUN_STARTED;
	}
	switch (handler_find(context->config->handlers, job->entry.event.type, job->handler,
	    sizeof(job->handler), job->why, sizeof(job->why))) {
	case HANDLER_FOUND:
		return RUN_STARTED;
	case HANDLER_NONE:
		return fail_without_handler(job, context);
	case HANDLER_REFUSED:
		break;
	}
	return RUN_WAITS;
}

/* The handler's path, the command's arguments, the event's file. To be freed; NULL without memory. */
static char **
make_arguments(struct handler_run *job, const struct handler_run_context *context, char *file)
{
	int count = 1, n = 0;

	while (context->command != NULL && context->command[count] != NULL)
		count++;
	char **argv = calloc((size_t)count + 2, sizeof(*argv));
	if (argv == NULL)
		return NULL;
	argv[n++] = job->handler;
	while (n < count) {
		argv[n] = context->command[n];
		n++;
	}
	argv[n] = file;
	return argv;
}

/* fork, exec. A handler that cannot be started is not the event's fault: no try is counted. */
static enum handler_run_result
run(struct handler_run *job, const struct handler_run_context *context, char *const envp[], int input)
{
	char path[PATH_MAX + SPOOL_NAME_SIZE];
	bool executed = false;
	int result = -1;

	snprintf(path, sizeof(path), "%s/new/%s", context->spool_path, job->name);
	char **argv = make_arguments(job, context, path);
	job->started = clock_milliseconds();
	if (argv != NULL)
		result = child_start(&job->child, argv, envp, input,
		    context->config->handler_timeout * 1000, &executed);
	free(argv);
	if (result == 0)
		return RUN_STARTED;
	if (!executed) {
		log_line("cannot start a process: %s", strerror(errno));
		return RUN_STOP;
	}
	snprintf(job->why, sizeof(job->why), "%s: cannot be started: %s%s", job->handler,
	    strerror(errno),
	    errno == ENOEXEC ? ": a script begins with #!/bin/sh or the like" :
	    errno == ENOENT  ? ": it, or the interpreter that its first line names, is missing" :
	                       "");
	return RUN_WAITS;
}

static enum handler_run_result
launch(struct handler_run *job, const struct handler_run_context *context)
{
	enum handler_run_result result = choose(job, context);

	if (result != RUN_STARTED)
		return result;
	char **environment = make_environment(job);
	int input = environment == NULL ? -1 : child_input(job->entry.body, job->entry.body_length);
	if (input >= 0) {
		result = run(job, context, environment, input);
		close(input);
	} else {
		log_line("cannot prepare a handler's input: %s", strerror(errno));
		result = RUN_STOP;
	}
	free_environment(environment);
	return result;
}

enum handler_run_result
handler_run_start(struct handler_run *job, const struct handler_run_context *context, const char *name)
{
	const char *why;

	snprintf(job->name, sizeof(job->name), "%s", name);
	job->hurried = false;
	switch (entry_read_named(context->spool, SPOOL_NEW, name, &job->entry, &why)) {
	case ENTRY_OK:
		break;
	case ENTRY_ABSENT:
	case ENTRY_ODD: /* replaced since it was listed: the next run reports it */
		return RUN_GONE;
	case ENTRY_ERROR:
		return stop(context, SPOOL_NEW, name);
	}
	/* What failed and is in new/ again was put there to be tried afresh. */
	if (handler_state_read(context->spool, name, &job->state) && job->state.failed_at != 0)
		memset(&job->state, 0, sizeof(job->state));
	enum handler_run_result result = launch(job, context);
	if (result != RUN_STARTED)
		entry_free(&job->entry);
	return result;
}
