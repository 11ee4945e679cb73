/*
 * Owns alerts: the note of what was reported, when something is to be reported, the text of a mail.
 * The note is written after sendmail has taken the mail: a crash in between sends a mail twice, and
 * loses none.
 */
#define _GNU_SOURCE
#include "doctor/alert.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "base/datetime.h"
#include "base/io.h"
#include "base/log.h"
#include "base/text.h"
#include "doctor/mail.h"
#include "send/http.h"

enum { HEARTBEAT_MS = 10000, FILE_MODE = 0640 };

#define FALLBACK_FILE "psapi-alerts"  /* the directory may be a home */
#define FALLBACK_DIRECTORY "/var/tmp" /* survives a restart, and any user can write there */

/*
 * note: {"reported":{NAME:{"since":SINCE,"status":STATUS},...},"logged":{TOPIC:true,...}}.
 * "reported" has the findings that were reported as bad, "logged" the topics that are logged once.
 */
struct alert_state {
	json_t *note, *reported, *logged; /* the last two are in the first */
	bool changed;
};

/* ---- the note ---- */

/*
 * Its path where there is no store: one for each spool, for endpoints may share the directory.
 * False: there is none, for root becomes the spool's owner as soon as the spool is there, and could
 * not remove its own note from /var/tmp then: the next outage would count as reported.
 */
static bool
fallback_path(const struct config *config, char path[PATH_MAX])
{
	const char *directory = getenv("RUNTIME_DIRECTORY");
	uint64_t hash = text_hash(TEXT_HASH, config->spool, strlen(config->spool));

	if (directory == NULL || *directory != '/')
		directory = geteuid() == 0 ? NULL : FALLBACK_DIRECTORY;
	if (directory == NULL)
		return false;
	snprintf(path, PATH_MAX, "%s/" FALLBACK_FILE "-%u-%016" PRIx64, directory,
	    (unsigned int)geteuid(), hash);
	return true;
}

/* A file of another user is none: anybody can create one in /var/tmp. */
static json_t *
read_fallback(const struct config *config)
{
	char path[PATH_MAX];
	struct stat st;
	json_t *note = NULL;

	if (!fallback_path(config, path))
		return NULL;
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return NULL;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid == geteuid())
		note = json_loadfd(fd, 0, NULL);
	close(fd);
	return note;
}

/*
 * Without the store that file is all that is known; with it, what became bad meanwhile. A note that
 * is not there is written before there is anything to report: on a full disk it could not be.
 */
static void
read_state(const struct config *config, struct store *store, struct alert_state *state)
{
	char *text = store == NULL ? NULL : store_note_read(store, STORE_NOTE_ALERTS);
	json_t *here = text == NULL ? NULL : json_loads(text, 0, NULL);
	json_t *there = read_fallback(config);

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
write_fallback(const struct config *config, const char *text)
{
	char path[PATH_MAX], draft[PATH_MAX + 8];

	if (!fallback_path(config, path))
		return false;
	snprintf(draft, sizeof(draft), "%s.new", path);
	unlink(draft);
	int fd = open(draft, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
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
write_state(const struct config *config, struct store *store, struct alert_state *state)
{
	char path[PATH_MAX], *text = state->changed ? json_dumps(state->note, JSON_COMPACT) : NULL;
	struct error error;

	if (text == NULL)
		return;
	if (store != NULL && store_note_write(store, STORE_NOTE_ALERTS, text, &error) == STORE_OK) {
		if (fallback_path(config, path))
			unlink(path);
	} else if (!write_fallback(config, text) && store != NULL) {
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

/* As which it was reported; HEALTH_OK: it was not. */
static enum health_status
reported_status(const struct alert_state *state, const char *name)
{
	const json_t *reported = json_object_get(state->reported, name);

	return (enum health_status)json_integer_value(json_object_get(reported, "status"));
}

/* Since when it is bad: what was reported survives a check that could not judge it. */
static int64_t
since(const struct alert_state *state, const struct health_finding *f)
{
	const json_t *reported = json_object_get(state->reported, f->name);
	int64_t before = json_integer_value(json_object_get(reported, "since"));

	return before > 0 && before < f->since ? before : f->since;
}

/* It is worse than what was reported. */
static bool
is_news(const struct alert_state *state, const struct health_finding *f)
{
	return f->status > reported_status(state, f->name);
}

static bool
is_known(const struct alert_state *state, const struct health_finding *f)
{
	return is_bad(f) && !is_news(state, f);
}

static void
put_finding(struct mail *mail, const struct alert_state *state, const struct health_finding *f)
{
	char line[sizeof(f->text) + 64], at[DATETIME_TEXT_SIZE];

	snprintf(line, sizeof(line), "%s: %s: %s", health_text(f->status), f->name, f->text);
	mail_put(mail, "", line);
	datetime_text(since(state, f), at);
	snprintf(line, sizeof(line), "since %s", at);
	mail_put(mail, "    ", line);
	mail_put(mail, "    ", *f->remedy != '\0' ? "remedy:" : "");
	mail_put(mail, "      ", f->remedy);
	mail_put(mail, "", "\n");
}

/* Those for which the function says yes, the worst first. */
static void
put_findings(struct mail *mail, const struct health *health, const struct alert_state *state,
    bool (*wanted)(const struct alert_state *, const struct health_finding *))
{
	for (int status = HEALTH_UNKNOWN; status > HEALTH_OK; status--)
		for (int i = 0; i < health->count; i++)
			if ((int)health->finding[i].status == status && wanted(state, &health->finding[i]))
				put_finding(mail, state, &health->finding[i]);
}

static void
put_reported(struct mail *mail, const char *name, const json_t *reported)
{
	char line[1024], at[DATETIME_TEXT_SIZE];

	datetime_text(json_integer_value(json_object_get(reported, "since")), at);
	snprintf(line, sizeof(line), "%s, since %s", name, at);
	mail_put(mail, "    ", line);
}

/* Of a partial check: what was reported, and was not judged now. */
static void
put_unjudged(struct mail *mail, const struct health *health, const struct alert_state *state)
{
	const char *name;
	json_t *value;
	int count = 0;

	json_object_foreach (state->reported, name, value) {
		if (!health->partial || health_find(health, name) != NULL)
			continue;
		if (count++ == 0)
			mail_put(mail, "", "Known before, and not judged now:\n\n");
		put_reported(mail, name, value);
	}
	if (count > 0)
		mail_put(mail, "", "\n");
}

/* The names of the bad findings that were not reported yet. */
static void
list_names(const struct health *health, const struct alert_state *state, char *names, size_t size)
{
	size_t n = 0;

	*names = '\0';
	for (int i = 0; i < health->count && n < size; i++)
		if (is_news(state, &health->finding[i]))
			n += (size_t)snprintf(names + n, size - n, "%s%s", n > 0 ? ", " : "",
			    health->finding[i].name);
}

static bool
has_known(const struct health *health, const struct alert_state *state)
{
	for (int i = 0; i < health->count; i++)
		if (is_known(state, &health->finding[i]))
			return true;
	return false;
}

static void
put_end(struct mail *mail, const struct config *config)
{
	bool has_url = *config->endpoint_url != '\0';

	mail_put(mail, "",
	    "The next mail comes when something else becomes bad, this becomes worse,\n"
	    "or all is well again.\n");
	mail_put(mail, "", has_url ?
	    "psapi check shows this at any time; psapi doctor looks at everything, also\n"
	    "from outside, at\n" :
	    "psapi check shows this at any time; psapi doctor URL looks at everything.\n");
	mail_put(mail, "", config->endpoint_url);
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
	put_findings(mail, health, state, is_news);
	if (has_known(health, state))
		mail_put(mail, "", "Known before, and still bad:\n\n");
	put_findings(mail, health, state, is_known);
	put_unjudged(mail, health, state);
	put_end(mail, config);
}

static void
write_recovery(struct mail *mail, const struct config *config, const struct alert_state *state,
    const char *host)
{
	char subject[512];
	const char *name;
	json_t *value;

	snprintf(subject, sizeof(subject), "psapi on %s (%s): all is well again", host, config->name);
	mail_begin(mail, config->alert_mailto, subject);
	mail_put(mail, "", "All is well again. This was bad:\n\n");
	json_object_foreach (state->reported, name, value) {
		put_reported(mail, name, value);
	}
}

/* ---- changes ---- */

/* A change that cannot be mailed is logged once. */
static void
log_change(struct alert_state *state, const struct config *config, const struct health *health)
{
	if (*config->alert_mailto != '\0')
		log_once(state, "sendmail", "there is no sendmail: alerts are only logged here; no mail is "
		    "sent: apt install dma, or set PSAPI_ALERT_MAILTO= (nobody)");
	for (int i = 0; i < health->count; i++)
		if (is_news(state, &health->finding[i]))
			log_line("%s: %s: %s: %s", health_text(health->finding[i].status),
			    health->finding[i].name, health->finding[i].text, health->finding[i].remedy);
	if (health->status == HEALTH_OK)
		log_line("all is well again");
}

/* The worst of that name; NULL: none is bad. */
static const struct health_finding *
worst_of(const struct health *health, const char *name)
{
	const struct health_finding *worst = NULL;

	for (int i = 0; i < health->count; i++) {
		const struct health_finding *f = &health->finding[i];
		if (is_bad(f) && strcmp(f->name, name) == 0 && (worst == NULL || f->status > worst->status))
			worst = f;
	}
	return worst;
}

static void
mark(struct alert_state *state, const struct health_finding *f)
{
	json_object_set_new(state->reported, f->name, json_pack("{s:I,s:i}", "since",
	    (json_int_t)since(state, f), "status", (int)f->status));
	state->changed = true;
}

/*
 * What is good again while others are still bad is removed, and what is better now is noted as
 * that: if it becomes worse again, that is reported again. A partial check changes nothing: what it
 * does not mention may be bad.
 */
static void
remove_mended(struct alert_state *state, const struct health *health)
{
	const char *name;
	json_t *value;
	void *next;

	if (health->partial)
		return;
	json_object_foreach_safe (state->reported, next, name, value) {
		const struct health_finding *f = worst_of(health, name);
		if (f != NULL && f->status < reported_status(state, name)) {
			mark(state, f);
		} else if (f == NULL) {
			json_object_del(state->reported, name);
			state->changed = true;
		}
	}
}

/* All that is bad now was reported. */
static void
mark_reported(struct alert_state *state, const struct health *health)
{
	remove_mended(state, health);
	for (int i = 0; i < health->count; i++) {
		const struct health_finding *worst = worst_of(health, health->finding[i].name);
		if (worst != NULL && is_news(state, worst))
			mark(state, worst);
	}
}

static bool
is_well_again(const struct alert_state *state, const struct health *health)
{
	return health->status == HEALTH_OK && !health->partial &&
	    json_object_size(state->reported) > 0;
}

static bool
must_report(const struct alert_state *state, const struct health *health)
{
	for (int i = 0; i < health->count; i++)
		if (is_news(state, &health->finding[i]))
			return true;
	return is_well_again(state, health);
}

static void
report(struct alert_state *state, const struct config *config, const struct health *health)
{
	struct mail mail;
	struct error error;
	char host[256] = "", line[sizeof(error.text) + sizeof(error.remedy) + 2];

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
		log_once(state, "mail", error_line(&error, line, sizeof(line)));
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
	read_state(config, store, &state);
	report(&state, config, health);
	write_state(config, store, &state);
	state.changed = false;
	if (*config->heartbeat_url != '\0')
		send_heartbeat(&state, config, health);
	write_state(config, store, &state);
	json_decref(state.note);
	if (store != NULL)
		store_unlock(store, lock);
}
