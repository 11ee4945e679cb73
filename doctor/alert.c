/*
 * Owns alerts: the note of what was reported, when something is to be reported, the text of a mail.
 * The note is written after sendmail has taken the mail: a crash in between sends a mail twice, and
 * loses none.
 */
#define _GNU_SOURCE
#include "doctor/alert.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <jansson.h>

#include "base/datetime.h"
#include "base/io.h"
#include "base/log.h"
#include "doctor/mail.h"
#include "send/http.h"

enum { HEARTBEAT_MS = 10000, FILE_MODE = 0640 };

#define FALLBACK_FILE "alerts"

/*
 * note: {"reported":{NAME:SINCE,...},"logged":{TOPIC:true,...}}. "reported" has the findings that
 * were reported as bad, "logged" the topics that are logged once.
 */
struct alert_state {
	json_t *note, *reported, *logged; /* the last two are in the first */
	bool changed;
};

/* ---- the note ---- */

/* Its path where there is no store; false: there is none. */
static bool
fallback_path(char path[PATH_MAX])
{
	const char *directory = getenv("RUNTIME_DIRECTORY");

	if (directory == NULL || *directory != '/')
		return false;
	snprintf(path, PATH_MAX, "%s/" FALLBACK_FILE, directory);
	return true;
}

static json_t *
read_fallback(void)
{
	char path[PATH_MAX];

	return fallback_path(path) ? json_load_file(path, 0, NULL) : NULL;
}

/*
 * Without the store that file is all that is known; with it, what became bad meanwhile. A note that
 * is not there is written before there is anything to report: on a full disk it could not be.
 */
static void
read_state(struct store *store, struct alert_state *state)
{
	char *text = store == NULL ? NULL : store_note_read(store, STORE_NOTE_ALERTS);
	json_t *here = text == NULL ? NULL : json_loads(text, 0, NULL), *there = read_fallback();

	free(text);
	*state = (struct alert_state){
	    .note = json_pack("{s:{},s:{}}", "reported", "logged"),
	    .changed = there != NULL || here == NULL};
	state->reported = json_object_get(state->note, "reported");
	state->logged = json_object_get(state->note, "logged");
	json_object_update(state->reported, json_object_get(here, "reported"));
	json_object_update(state->logged, json_object_get(here, "logged"));
	json_object_update(state->reported, json_object_get(there, "reported"));
	json_object_update(state->logged, json_object_get(there, "logged"));
	json_decref(here);
	json_decref(there);
}

static bool
write_fallback(const char *text)
{
	char path[PATH_MAX], draft[PATH_MAX + 8];

	if (!fallback_path(path))
		return false;
	snprintf(draft, sizeof(draft), "%s.new", path);
	int fd = open(draft, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, FILE_MODE);
	if (fd < 0)
		return false;
	bool good = io_write_all(fd, text, strlen(text)) == 0;
	close(fd);
	if (good && rename(draft, path) == 0)
		return true;
	unlink(draft);
	return false;
}

static void
write_state(struct store *store, struct alert_state *state)
{
	char path[PATH_MAX], *text = state->changed ? json_dumps(state->note, JSON_COMPACT) : NULL;
	struct error error;

	if (text == NULL)
		return;
	if (store != NULL && store_note_write(store, STORE_NOTE_ALERTS, text, &error) == STORE_OK) {
		if (fallback_path(path))
			unlink(path);
	} else if (!write_fallback(text) && store != NULL) {
		error_log(&error);
	}
	free(text);
}

/* Log a text of this topic once, until clear_logged(). */
static void
log_once(struct alert_state *state, const char *topic, const char *text)
{
	if (json_object_get(state->logged, topic) != NULL)
		return;
	log_line("%s", text);
	json_object_set_new(state->logged, topic, json_true());
	state->changed = true;
}

static void
clear_logged(struct alert_state *state, const char *topic)
{
	state->changed |= json_object_del(state->logged, topic) == 0;
}

/* ---- the text of a mail ---- */

static bool
is_bad(const struct health_finding *f)
{
	return f->status != HEALTH_OK;
}

static bool
is_unreported(const struct alert_state *state, const struct health_finding *f)
{
	return is_bad(f) && json_object_get(state->reported, f->name) == NULL;
}

static void
put_finding(struct mail *mail, const struct health_finding *f)
{
	char line[sizeof(f->text) + 64], since[DATETIME_TEXT_SIZE];

	snprintf(line, sizeof(line), "%s: %s: %s", health_text(f->status), f->name, f->text);
	mail_put(mail, "", line);
	datetime_text(f->since, since);
	snprintf(line, sizeof(line), "since %s", since);
	mail_put(mail, "    ", line);
	mail_put(mail, "    ", *f->remedy != '\0' ? "what mends it:" : "");
	mail_put(mail, "      ", f->remedy);
	mail_put(mail, "", "\n");
}

static void
put_findings(struct mail *mail, const struct health *health, const struct alert_state *state,
    bool unreported)
{
	for (int status = HEALTH_UNKNOWN; status > HEALTH_OK; status--)
		for (int i = 0; i < health->count; i++)
			if ((int)health->finding[i].status == status &&
			    is_unreported(state, &health->finding[i]) == unreported)
				put_finding(mail, &health->finding[i]);
}

/* The names of the bad findings that were not reported yet. */
static void
list_names(const struct health *health, const struct alert_state *state, char *names, size_t size)
{
	size_t n = 0;

	*names = '\0';
	for (int i = 0; i < health->count && n < size; i++)
		if (is_unreported(state, &health->finding[i]))
			n += (size_t)snprintf(names + n, size - n, "%s%s", n > 0 ? ", " : "",
			    health->finding[i].name);
}

static void
write_problems(struct mail *mail, const struct config *config, const struct health *health,
    const struct alert_state *state, const char *host)
{
	char names[128], subject[512];

	list_names(health, state, names, sizeof(names));
	snprintf(subject, sizeof(subject), "psapi on %s (%s): %s: %s", host, config->name,
	    health_text(health->status), names);
	mail_begin(mail, config->alert_mailto, subject);
	put_findings(mail, health, state, true);
	if (json_object_size(state->reported) > 0)
		mail_put(mail, "", "Known before, and still bad:\n\n");
	put_findings(mail, health, state, false);
	mail_put(mail, "",
	    "The next mail comes when something else becomes bad, or all is well again.\n"
	    "psapi check shows this at any time; psapi doctor URL looks at everything.\n");
}

static void
write_recovery(struct mail *mail, const struct config *config, const struct alert_state *state,
    const char *host)
{
	char line[1024], since[DATETIME_TEXT_SIZE];
	const char *name;
	json_t *value;

	snprintf(line, sizeof(line), "psapi on %s (%s): all is well again", host, config->name);
	mail_begin(mail, config->alert_mailto, line);
	mail_put(mail, "", "All is well again. This was bad:\n\n");
	json_object_foreach (state->reported, name, value) {
		datetime_text(json_integer_value(value), since);
		snprintf(line, sizeof(line), "%s, since %s", name, since);
		mail_put(mail, "    ", line);
	}
}

/* ---- changes ---- */

/* Without mail, each change is in the log, once. */
static void
log_change(struct alert_state *state, const struct config *config, const struct health *health)
{
	if (*config->alert_mailto != '\0')
		log_once(state, "sendmail", "there is no sendmail: alerts stand here alone, and nobody is "
		    "told: apt install dma, or set PSAPI_ALERT_MAILTO= (nobody)");
	for (int i = 0; i < health->count; i++)
		if (is_unreported(state, &health->finding[i]))
			log_line("%s: %s: %s: %s", health_text(health->finding[i].status),
			    health->finding[i].name, health->finding[i].text, health->finding[i].remedy);
	if (health->status == HEALTH_OK)
		log_line("all is well again");
}

/* All that is bad now was reported. */
static void
mark_reported(struct alert_state *state, const struct health *health)
{
	json_object_clear(state->reported);
	for (int i = 0; i < health->count; i++)
		if (is_bad(&health->finding[i]))
			json_object_set_new(state->reported, health->finding[i].name,
			    json_integer(health->finding[i].since));
	state->changed = true;
}

static bool
must_report(const struct alert_state *state, const struct health *health)
{
	for (int i = 0; i < health->count; i++)
		if (is_unreported(state, &health->finding[i]))
			return true;
	return health->status == HEALTH_OK && json_object_size(state->reported) > 0;
}

/*
 * Remove what is good again while others are still bad: if it becomes bad again, that is reported
 * again.
 */
static void
remove_mended(struct alert_state *state, const struct health *health)
{
	const char *name;
	json_t *value;
	void *next;

	if (health->status == HEALTH_OK)
		return;
	json_object_foreach_safe (state->reported, next, name, value) {
		const struct health_finding *f = health_find(health, name);
		if (f != NULL && is_bad(f))
			continue;
		json_object_del(state->reported, name);
		state->changed = true;
	}
}

static void
report(struct alert_state *state, const struct config *config, const struct health *health)
{
	struct mail mail;
	struct error error;
	char host[256] = "";

	if (!must_report(state, health)) {
		remove_mended(state, health);
		return;
	}
	if (*config->alert_mailto == '\0' || !mail_is_possible()) {
		log_change(state, config, health);
		mark_reported(state, health);
		return;
	}
	gethostname(host, sizeof(host) - 1);
	if (health->status == HEALTH_OK)
		write_recovery(&mail, config, state, host);
	else
		write_problems(&mail, config, health, state, host);
	if (mail_send(&mail, &error) == 0) {
		mark_reported(state, health);
		clear_logged(state, "mail");
		clear_logged(state, "sendmail");
	} else {
		log_once(state, "mail", error.text);
	}
	mail_free(&mail);
}

/* ---- the heartbeat ---- */

/* URL/fail, before a query. */
static void
failing_url(const char *url, char *to, size_t size)
{
	size_t length = strcspn(url, "?#"), path = length;

	while (path > 0 && url[path - 1] == '/')
		path--;
	snprintf(to, size, "%.*s/fail%s", (int)path, url, url + length);
}

static void
send_heartbeat(struct alert_state *state, const struct config *config, const struct health *health)
{
	struct http_options options = {.timeout_ms = HEARTBEAT_MS};
	static const char *const headers[] = {NULL};
	char url[4096], text[600];
	struct http_answer answer = {.status = 0};
	struct http *http = http_open(&options);

	if (http == NULL)
		return;
	failing_url(config->heartbeat_url, url, sizeof(url));
	struct http_request request = {.url = health->status == HEALTH_OK ? config->heartbeat_url : url,
	    .method = "GET", .headers = headers};
	http_exchange(http, &request, &answer);
	if (answer.failure != HTTP_ANSWERED)
		snprintf(text, sizeof(text), "PSAPI_HEARTBEAT_URL cannot be requested: %s", answer.error);
	else
		snprintf(text, sizeof(text), "PSAPI_HEARTBEAT_URL is answered with status %d",
		    answer.status);
	if (answer.failure == HTTP_ANSWERED && answer.status / 100 == 2)
		clear_logged(state, "heartbeat");
	else
		log_once(state, "heartbeat", text);
	free(answer.body);
	http_close(http);
}

void
alert_run(const struct config *config, struct store *store, const struct health *health)
{
	struct error error;
	struct alert_state state;
	int lock = store == NULL ? -1 : store_lock(store, STORE_LOCK_ALERTS, &error);

	if (store != NULL && lock < 0)
		return;
	read_state(store, &state);
	report(&state, config, health);
	write_state(store, &state);
	state.changed = false;
	if (*config->heartbeat_url != '\0')
		send_heartbeat(&state, config, health);
	write_state(store, &state);
	json_decref(state.note);
	if (store != NULL)
		store_unlock(store, lock);
}
