/*
 * Owns the way of a request: one decoded path is looked up in one table; a request for data must
 * come from the page itself or from the user, and an action from the page itself, of a user who
 * signed in. Nothing of a request gets into a header or into HTML.
 */
#define _GNU_SOURCE
#include "web/web.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sysexits.h>

#include "base/clock.h"
#include "metrics/metrics.h"
#include "web/actions.h"
#include "web/answer.h"
#include "web/deliveries.h"
#include "web/event.h"
#include "web/event_list.h"
#include "web/example_sender.h"
#include "web/history.h"
#include "web/overview.h"
#include "web/setup.h"
#include "web/static.h"
#include "web/tally.h"

#define API "/api/1/"

enum { AFTER_PARTS = 12, AFTER_MS = 15 };

int
web_open(struct web *web, const struct config *config, struct error *error)
{
	*web = (struct web){.config = config, .sender = -1};
	pthread_mutex_init(&web->acting, NULL);
	pthread_mutex_init(&web->sending, NULL);
	pthread_mutex_init(&web->measuring, NULL);
	static_init();
	web->store = store_open(config, false, error);
	if (web->store == NULL)
		return -1;
	web->history = history_open(web);
	web->tally = tally_open(web);
	if (web->history != NULL && web->tally != NULL)
		return 0;
	error_set(error, EX_OSERR, NULL, "out of memory");
	return -1;
}

void
web_close(struct web *web)
{
	history_close(web->history);
	tally_close(web->tally);
	store_close(web->store);
	pthread_mutex_destroy(&web->acting);
	pthread_mutex_destroy(&web->sending);
	pthread_mutex_destroy(&web->measuring);
}

/* ---- the table ---- */

static void
answer_session(struct web *web, const struct request *request, const struct web_query *query,
    struct reply *reply)
{
	(void)query;
	setup_answer_session(web, request, reply);
}

static void
answer_overview(struct web *web, const struct request *request, const struct web_query *query,
    struct reply *reply)
{
	(void)query;
	overview_answer(web, request, reply);
}

static void
answer_examples(struct web *web, const struct request *request, const struct web_query *query,
    struct reply *reply)
{
	(void)web;
	(void)query;
	example_sender_answer_examples(request, reply);
}

static void
answer_setup(struct web *web, const struct request *request, const struct web_query *query,
    struct reply *reply)
{
	(void)query;
	setup_answer(web, request, reply);
}

/* GET /metrics: what `psapi metrics` prints. */
static void
answer_metrics(struct web *web, const struct request *request, const struct web_query *query,
    struct reply *reply)
{
	char *text = NULL;
	size_t length = 0;
	FILE *to = open_memstream(&text, &length);
	struct store_counts counts;
	struct error error;

	(void)request;
	(void)query;
	enum store_result counted = tally_counts(web->tally, clock_unix(), &counts, &error);
	pthread_mutex_lock(&web->measuring);
	int written = to == NULL ? -1 : metrics_write(to, web->config, web->store,
	    counted != STORE_FAILED, counted == STORE_OK ? &counts : NULL, &error);
	pthread_mutex_unlock(&web->measuring);
	if ((to != NULL && fclose(to) != 0) || written != 0) {
		free(text);
		text = NULL;
	}
	answer_text(reply, METRICS_CONTENT_TYPE, ANSWER_HEADERS ANSWER_NO_STORE, text, length);
}

/* Data: GET and HEAD. */
static const struct {
	const char *path;
	void (*answer)(struct web *web, const struct request *request, const struct web_query *query,
	    struct reply *reply);
} views[] = {
	{API "session", answer_session},
	{API "overview", answer_overview},
	{API "attempts", deliveries_answer},
	{API "attempts.csv", deliveries_answer_csv},
	{API "events", event_list_answer},
	{API "events.csv", event_list_answer_csv},
	{API "event", event_answer},
	{API "show", event_answer_shown},
	{API "examples", answer_examples},
	{API "setup", answer_setup},
	{"/metrics", answer_metrics},
};

/* Actions: POST. */
static const struct {
	const char *path;
	void (*act)(struct web *web, const struct request *request, const char *body, size_t length,
	    struct reply *reply);
} actions[] = {
	{API "retry", actions_retry},
	{API "replay", actions_replay},
	{API "done", actions_done},
	{API "discard", actions_discard},
	{API "send", actions_send},
};

#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

/* ---- where a request comes from ---- */

/* "https://HOST" or "http://HOST" names the host that was asked. */
static bool
is_own_origin(const struct request *request)
{
	const char *origin = request_variable(request, "HTTP_ORIGIN");
	const char *host = request_variable(request, "HTTP_HOST");
	const char *after = origin == NULL ? NULL : strstr(origin, "://");

	return after != NULL && host != NULL &&
	    (strncmp(origin, "https://", 8) == 0 || strncmp(origin, "http://", 7) == 0) &&
	    strcasecmp(after + 3, host) == 0;
}

/* An action: from the page itself. A browser that says nothing of the site says the origin. */
static bool
is_from_page(const struct request *request)
{
	const char *site = request_variable(request, "HTTP_SEC_FETCH_SITE");

	return site != NULL ? strcmp(site, "same-origin") == 0 : is_own_origin(request);
}

/* Data: also for a user who typed the address, and for programs that are no browser. */
static bool
is_from_elsewhere(const struct request *request)
{
	const char *site = request_variable(request, "HTTP_SEC_FETCH_SITE");

	return site != NULL && strcmp(site, "same-origin") != 0 && strcmp(site, "none") != 0;
}

/* "application/json", with parameters or without. */
static bool
is_json(const struct request *request)
{
	static const char json[] = "application/json";
	const char *type = request_variable(request, "CONTENT_TYPE");

	return type != NULL && strncasecmp(type, json, sizeof(json) - 1) == 0 &&
	    strchr("; \t", type[sizeof(json) - 1]) != NULL;
}

/* ---- the two ways ---- */

static void
answer_view(struct web *web, size_t i, const struct request *request, struct reply *reply)
{
	struct web_query query;

	if (is_from_elsewhere(request)) {
		answer_error(reply, 403, "another site asked for this: open the page itself");
		return;
	}
	const char *wrong = query_parse(&query, request_variable(request, "QUERY_STRING"),
	    clock_unix());
	if (wrong != NULL)
		answer_error(reply, 400, wrong);
	else
		views[i].answer(web, request, &query, reply);
}

/* Read the body, which the caller frees. NULL: it is answered. */
static char *
read_body(const struct request *request, size_t *length, struct reply *reply)
{
	char *body = malloc(ACTIONS_BODY_MAX + 1);
	ssize_t n = 1;

	*length = 0;
	while (body != NULL && n > 0 && *length <= ACTIONS_BODY_MAX) {
		n = request->read(request->stream, body + *length, ACTIONS_BODY_MAX + 1 - *length);
		*length += n > 0 ? (size_t)n : 0;
	}
	if (body != NULL && n >= 0 && *length <= ACTIONS_BODY_MAX)
		return body;
	answer_error(reply, body == NULL ? 503 : n < 0 ? 400 : 413, body == NULL ? "out of memory" :
	        n < 0 ? "the body broke off" : "a body has at most 64 KiB");
	free(body);
	return NULL;
}

static void
answer_action(struct web *web, size_t i, const struct request *request, struct reply *reply)
{
	size_t length;
	char *body;

	if (!is_from_page(request))
		answer_error(reply, 403, "this did not come from the page itself");
	else if (!is_json(request))
		answer_error(reply, 415, "the body must be application/json");
	else if (!actions_enabled(web))
		answer_error(reply, 403, "this page is read-only: PSAPI_WEB_ACTIONS=yes allows actions");
	else if (context_user(request) == NULL)
		answer_error(reply, 403, "nobody has signed in: the web server passes no REMOTE_USER");
	else if ((body = read_body(request, &length, reply)) != NULL) {
		actions[i].act(web, request, body, length, reply);
		free(body);
	}
}

static void
route(struct web *web, const struct request *request, bool reads, bool posts, struct reply *reply)
{
	/* Below the page's own path, as the web server decoded it. */
	const char *path = request_variable(request, "PATH_INFO");

	/* The browser would look for the page's files beside it. */
	if (path == NULL || *path == '\0') {
		answer_error(reply, 404, "add / to the address: the page is below it");
		return;
	}
	for (size_t i = 0; i < ROWS(views); i++)
		if (strcmp(views[i].path, path) == 0) {
			if (reads)
				answer_view(web, i, request, reply);
			else
				answer_method(reply, "GET, HEAD");
			return;
		}
	for (size_t i = 0; i < ROWS(actions); i++)
		if (strcmp(actions[i].path, path) == 0) {
			if (posts)
				answer_action(web, i, request, reply);
			else
				answer_method(reply, "POST");
			return;
		}
	if (!reads || !static_answer(path, request, reply)) {
		if (reads)
			answer_error(reply, 404, "there is no such page");
		else
			answer_method(reply, "GET, HEAD");
	}
}

void
web_handle(void *context, const struct request *request, struct reply *reply)
{
	const char *method = request_variable(request, "REQUEST_METHOD");
	bool head = method != NULL && strcmp(method, "HEAD") == 0;
	bool reads = head || (method != NULL && strcmp(method, "GET") == 0);
	bool posts = method != NULL && strcmp(method, "POST") == 0;
	struct web *web = context;

	if (web->store == NULL || web->history == NULL || web->tally == NULL)
		answer_error(reply, 503, "the page cannot read the events; its log says why");
	else
		route(web, request, reads, posts, reply);
	reply->bodiless = head;
}

void
web_after(void *context)
{
	struct web *web = context;

	if (web->history == NULL || web->tally == NULL)
		return;
	tally_after(web->tally, clock_unix());
	/* In parts: an answer waits for no more than one of them. */
	for (int i = 0; i < AFTER_PARTS && history_count(web->history, clock_unix(), AFTER_MS); i++)
		poll(NULL, 0, 1);
}
