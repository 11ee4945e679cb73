/*
 * Owns what happens to one event: the choice of its handler, the handler's environment and
 * arguments, and the outcome that is written into the store.
 */
#define _GNU_SOURCE
#include "drain/handler_run.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/terminal.h"
#include "base/text.h"
#include "drain/handler_choice.h"

extern char **environ;

/* ---- environment and arguments ---- */

/* Variables that handlers inherit beside PSAPI_*: never HTTP_*, LD_* or others of the caller. */
static const char *const inherited[] = {"PATH=", "HOME=", "LANG=", "TZ="};

#define NOT_REPORTED "not reported: "

enum { EVENT_VARIABLES = 6, RENEW_MS = STORE_RENEW_SECONDS * 1000 };

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

/* What an event says; a batch has it in its lines. */
static const char *const of_event[] = {"PSAPI_WEBHOOK_ID=", "PSAPI_EVENT_TYPE=",
	"PSAPI_EVENT_TIMESTAMP=", "PSAPI_NPN=", "PSAPI_RUN_DATE=", "PSAPI_TRY="};
_Static_assert(sizeof(of_event) / sizeof(of_event[0]) == EVENT_VARIABLES, "EVENT_VARIABLES");

/*
 * Whether we set it ourselves, or it is to be absent. The number of a batch's events is nowhere:
 * "ok all COUNT" proves that all lines were read.
 */
static bool
is_ours(const struct handler_run *run, const char *variable)
{
	for (size_t i = 0; i < EVENT_VARIABLES; i++)
		if (strncmp(variable, of_event[i], strlen(of_event[i])) == 0)
			return true;
	return run->batch && strncmp(variable, "PSAPI_BATCH=", 12) == 0;
}

static void
free_environment(const struct handler_run *run, char **environment)
{
	for (int i = 0; environment != NULL && !run->batch && i < EVENT_VARIABLES; i++)
		free(environment[i]);
	free(environment);
}

/* The event's own variables, in variables[0] and so on. Returns how many; -1 without memory. */
static int
set_event(const struct handler_run *run, char **variables)
{
	const struct event *event = &run->work.entry.event;
	int n = 0;

	int failed = asprintf(&variables[n++], "PSAPI_WEBHOOK_ID=%s", run->work.entry.id) < 0;
	failed |= asprintf(&variables[n++], "PSAPI_EVENT_TYPE=%s", event->type) < 0;
	failed |= asprintf(&variables[n++], "PSAPI_EVENT_TIMESTAMP=%s", event->timestamp) < 0;
	failed |= asprintf(&variables[n++], "PSAPI_NPN=%s", event->npn) < 0;
	failed |= asprintf(&variables[n++], "PSAPI_RUN_DATE=%s", event->run_date) < 0;
	failed |= asprintf(&variables[n++], "PSAPI_TRY=%d", run->work.state.tries + 1) < 0;
	return failed ? -1 : n;
}

/* The event's own variables, always all of them, then the inherited ones. NULL without memory. */
static char **
make_environment(const struct handler_run *run)
{
	int count = 0;

	while (environ[count] != NULL)
		count++;
	char **variables = calloc((size_t)count + EVENT_VARIABLES + 1, sizeof(*variables));
	if (variables == NULL)
		return NULL;
	int n = run->batch ? 0 : set_event(run, variables);
	if (n < 0) {
		/* asprintf(3) leaves what it could not make undefined: nothing of it is freed. */
		free(variables);
		return NULL;
	}
	for (int i = 0; i < count; i++)
		if (is_inherited(environ[i]) && !is_ours(run, environ[i]))
			variables[n++] = environ[i];
	return variables;
}

/*
 * The handler's path, the command's arguments, the event's file. To be freed; NULL without memory.
 */
static char **
make_arguments(struct handler_run *run, const struct handler_run_context *context, char *file)
{
	int count = 1, n = 0;

	while (context->command != NULL && context->command[count] != NULL)
		count++;
	char **argv = calloc((size_t)count + 2, sizeof(*argv));
	if (argv == NULL)
		return NULL;
	argv[n++] = run->handler.path;
	while (n < count) {
		argv[n] = context->command[n];
		n++;
	}
	argv[n] = file;
	return argv;
}

/* ---- reports ---- */

void
handler_run_report_failure(const struct store_work *work, const struct handler_state *state)
{
	const struct entry *entry = &work->entry;
	const char *last = state->stderr_end, *end = last + strlen(last);

	/* Of standard error its last line: that one usually names the cause. */
	while (end > last && end[-1] == '\n')
		end--;
	const char *newline = memrchr(last, '\n', (size_t)(end - last));
	if (newline != NULL)
		last = newline + 1;
	log_line("failed: %s (%s): %s%s%.*s; psapi show and psapi retry take its id", entry->id,
	    *entry->event.type != '\0' ? entry->event.type : "no type", state->reason,
	    end > last ? ": " : "", end - last > 200 ? 200 : (int)(end - last), last);
}

void
handler_run_show_stderr(const struct handler_run *run)
{
	char text[TERMINAL_ESCAPED_SIZE(CHILD_TAIL)];
	size_t length;
	const char *tail = child_tail(&run->child, &length);
	bool whole = length == 0 || tail[length - 1] == '\n';

	if (isatty(STDERR_FILENO)) {
		tail = terminal_escape(text, sizeof(text), tail, length, true);
		length = strlen(tail);
	}
	(void)!write(STDERR_FILENO, tail, length);
	(void)!write(STDERR_FILENO, "\n", whole ? 0 : 1);
}

static void
report_verbosely(
    const struct handler_run *run, const struct handler_run_context *context, const char *result)
{
	if (!context->verbose)
		return;
	log_line("%s: %s (%s), try %d, %s, %.3f s", result, run->work.entry.id,
	    run->work.entry.event.type, run->work.state.tries + 1, run->handler.path,
	    (double)(clock_milliseconds() - run->started) / 1e3);
}

/* ---- outcomes ---- */

enum handler_run_result
handler_run_stop(const struct error *error)
{
	return error->status == EX_TEMPFAIL ? RUN_AWAY : RUN_STOP;
}

/*
 * The result of a run whose outcome the store was to record. STORE_ABSENT: another program has
 * handled the event meanwhile.
 */
static enum handler_run_result
recorded(enum store_result stored, enum handler_run_result wanted, const struct error *error)
{
	if (stored == STORE_OK)
		return wanted;
	if (stored == STORE_ABSENT)
		return RUN_GONE;
	if (stored == STORE_BUSY)
		return RUN_AGAIN;
	error_log(error);
	return handler_run_stop(error);
}

static enum handler_run_result
finish_done(struct handler_run *run, const struct handler_run_context *context)
{
	struct error error;
	enum store_result stored = store_done(context->store, &run->work, &error);

	if (stored == STORE_OK)
		report_verbosely(run, context, "done");
	return recorded(stored, RUN_DONE, &error);
}

static enum handler_run_result
finish_later(
    struct handler_run *run, const struct handler_run_context *context, struct handler_state *state)
{
	struct error error;

	state->due_at = context->clock() + schedule_backoff(state->tries);
	enum store_result stored = store_later(context->store, &run->work, state, &error);
	if (stored == STORE_OK)
		report_verbosely(run, context, "later");
	return recorded(stored, RUN_LATER, &error);
}

static enum handler_run_result
finish_failed(
    struct handler_run *run, const struct handler_run_context *context, struct handler_state *state)
{
	struct error error;

	state->failed_at = context->clock();
	enum store_result stored = store_fail(context->store, &run->work, state, &error);
	if (stored == STORE_OK)
		handler_run_report_failure(&run->work, state);
	return recorded(stored, RUN_FAILED, &error);
}

void
handler_run_describe(const struct handler_run *run, const struct handler_run_context *context,
    int status, struct handler_state *state)
{
	char *text = state->reason;
	size_t size = sizeof(state->reason);
	int n = run->batch ? snprintf(text, size, NOT_REPORTED) : 0;

	text += n;
	size -= (size_t)n;
	if (run->aborted && run->child.timed_out)
		n = snprintf(text, size, "ended because drain was asked twice to end");
	else if (run->child.timed_out)
		n = snprintf(text, size, run->batch ? "no result within %lld s" : "no end within %lld s",
		    context->config->handler_timeout);
	else if (WIFSIGNALED(status))
		n = snprintf(
		    text, size, "ended by signal %d (%s)", WTERMSIG(status), strsignal(WTERMSIG(status)));
	else
		n = snprintf(text, size, "exit status %d", WEXITSTATUS(status));
	snprintf(text + n, size - (size_t)n, ", try %d of at most %lld", state->tries,
	    context->config->max_tries);
}

/* It may begin within a character of UTF-8: that one is dropped. */
void
handler_run_copy_stderr(const struct handler_run *run, struct handler_state *state)
{
	size_t length;
	const char *tail = child_tail(&run->child, &length);

	for (int i = 0; length > 0 && i < 3 && ((unsigned char)*tail & 0xc0) == 0x80; i++) {
		tail++;
		length--;
	}
	text_copy(state->stderr_end, sizeof(state->stderr_end), tail, length);
}

/*
 * Its handler, or a program that it calls, did not start: not the event's fault, and the next
 * events would end alike.
 */
static enum handler_run_result
finish_broken(struct handler_run *run, const struct handler_run_context *context, int status,
    struct handler_state *state)
{
	state->tries--; /* the one that does not count */
	error_set(&run->refusal, EX_CONFIG, handler_broken(WEXITSTATUS(status)),
	    "%s: exit status %d", run->handler.path, WEXITSTATUS(status));
	snprintf(state->reason, sizeof(state->reason), "exit status %d: %s", WEXITSTATUS(status),
	    handler_broken(WEXITSTATUS(status)));
	enum handler_run_result result = finish_later(run, context, state);
	return result == RUN_LATER ? RUN_BROKEN : result;
}

static enum handler_run_result
record_outcome(struct handler_run *run, const struct handler_run_context *context, int status)
{
	struct handler_state state = {.tries = run->work.state.tries + 1, .tried_at = context->clock()};
	enum schedule_verdict verdict = schedule_judge(status, run->child.timed_out, state.tries,
	    context->config->max_tries);

	if (context->verbose)
		handler_run_show_stderr(run);
	if (verdict == SCHEDULE_DONE)
		return finish_done(run, context);
	const char *path = run->handler.path;
	text_copy(state.handler, sizeof(state.handler), path, strlen(path));
	handler_run_copy_stderr(run, &state);
	handler_run_describe(run, context, status, &state);
	if (verdict == SCHEDULE_BROKEN)
		return finish_broken(run, context, status, &state);
	return verdict == SCHEDULE_LATER ? finish_later(run, context, &state) :
	                                  finish_failed(run, context, &state);
}

enum handler_run_result
handler_run_finish(struct handler_run *run, const struct handler_run_context *context, int status)
{
	enum handler_run_result result = run->lost ? RUN_GONE : record_outcome(run, context, status);

	store_unload(context->store, &run->work);
	store_release(context->store, run->task->lane);
	return result;
}

void
handler_run_renew(struct handler_run *run, const struct handler_run_context *context, int64_t now)
{
	struct error error;

	if (run->lost || now < run->renewal)
		return;
	run->renewal = now + RENEW_MS;
	switch (store_renew(context->store, run->task->lane, &error)) {
	case STORE_OK:
		break;
	case STORE_ABSENT:
		log_line("%s: another drain has taken its lane over, for this one was too slow to renew "
		         "it: its handler is ended, and its result does not count", run->work.entry.id);
		run->lost = true;
		run->child.deadline = now;
		break;
	default:
		/* it is tried again; the outcome is recorded only if the lane is still ours */
		error_log(&error);
	}
}

/* ---- start ---- */

static enum handler_run_result
fail_without_handler(struct handler_run *run, const struct handler_run_context *context)
{
	struct handler_state state = {.tries = run->work.state.tries};

	snprintf(state.reason, sizeof(state.reason),
	    "no handler for type \"%.80s\", and no default, in %s", run->work.entry.event.type,
	    context->config->handlers);
	return finish_failed(run, context, &state);
}

/* Choose the handler. RUN_STARTED: its path is in run->handler. */
static enum handler_run_result
choose_handler(struct handler_run *run, const struct handler_run_context *context)
{
	if (context->command != NULL) {
		run->batch = context->batch > 0;
		run->handler = (struct handler){.directory = -1};
		snprintf(run->handler.path, sizeof(run->handler.path), "%s", context->command[0]);
		return RUN_STARTED;
	}
	switch (handler_choice_find(context->config, run->work.entry.event.type, &run->handler,
	    &run->batch, &run->refusal)) {
	case HANDLER_FOUND:
		return RUN_STARTED;
	case HANDLER_NONE:
		return fail_without_handler(run, context);
	case HANDLER_REFUSED:
		break;
	}
	return RUN_WAITS;
}

/* execve(2) refused the handler, with errno. That is not the event's fault: no try is counted. */
static enum handler_run_result
refuse_execution(struct handler_run *run)
{
	program_explain(run->handler.path, errno, &run->refusal);
	return RUN_WAITS;
}

enum handler_run_result
handler_run_execute(struct handler_run *run, const struct handler_run_context *context, int input,
    char *file)
{
	bool executed = false;
	int result = -1;

	char **argv = make_arguments(run, context, file), **envp = make_environment(run);
	run->started = clock_milliseconds();
	if (argv != NULL && envp != NULL)
		result = child_start(&run->child, run->handler.directory, argv, envp, input,
		    context->config->handler_timeout * 1000, &executed);
	free(argv);
	int saved = errno;
	free_environment(run, envp);
	handler_close(&run->handler);
	errno = saved;
	if (result == 0)
		return RUN_STARTED;
	if (executed)
		return refuse_execution(run);
	log_line("cannot start a process: %s", strerror(errno));
	return RUN_STOP;
}

static enum handler_run_result
choose_and_start(struct handler_run *run, const struct handler_run_context *context)
{
	enum handler_run_result result = choose_handler(run, context);

	if (result != RUN_STARTED)
		return result;
	if (run->batch)
		return RUN_BATCH;
	int input = child_input(run->work.entry.body, run->work.entry.body_length);
	if (input < 0) {
		log_line("cannot prepare a handler's input: %s", strerror(errno));
		handler_close(&run->handler);
		return RUN_STOP;
	}
	result = handler_run_execute(run, context, input, run->work.path);
	close(input);
	return result;
}

enum handler_run_result
handler_run_start(
    struct handler_run *run, const struct handler_run_context *context, const char *name)
{
	struct error error;

	run->aborted = run->lost = false;
	run->renewal = clock_milliseconds() + RENEW_MS;
	enum store_result claimed = store_claim(context->store, run->task->lane, &error);
	if (claimed != STORE_OK)
		return claimed == STORE_BUSY ? RUN_BUSY : recorded(claimed, RUN_BUSY, &error);
	enum store_result loaded = store_load(context->store, name, &run->work, &run->refusal);
	enum handler_run_result result = loaded == STORE_OK ? choose_and_start(run, context) :
	    loaded == STORE_INVALID ? RUN_DAMAGED : recorded(loaded, RUN_STARTED, &run->refusal);
	if (result == RUN_STARTED || result == RUN_BATCH)
		return result;
	if (loaded == STORE_OK)
		store_unload(context->store, &run->work);
	store_release(context->store, run->task->lane);
	return result;
}
