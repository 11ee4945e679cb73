/* Owns the order of the tables, how results are set, and the form of probes and replies. */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/datetime.h"
#include "base/terminal.h"
#include "events.h"

/* ---- results ---- */

static void
set(struct finding *f, enum doctor_result result, const char *format, va_list ap)
{
	vsnprintf(f->text, sizeof(f->text), format, ap);
	f->result = result;
}

void
doctor_ok(struct finding *f, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	set(f, DOCTOR_OK, format, ap);
	va_end(ap);
}

void
doctor_failed(struct finding *f, const char *remedy, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	set(f, DOCTOR_FAILED, format, ap);
	va_end(ap);
	if (remedy != NULL)
		snprintf(f->remedy, sizeof(f->remedy), "%s", remedy);
}

void
doctor_remark(struct finding *f, const char *remedy, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	f->result = DOCTOR_REMARK;
	if (remedy != NULL)
		snprintf(f->remedy, sizeof(f->remedy), "%s", remedy);
}

void
doctor_skipped(struct finding *f, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	set(f, DOCTOR_SKIPPED, format, ap);
	va_end(ap);
}

void
doctor_failed_for(struct finding *f, const struct error *error)
{
	doctor_failed(f, *error->remedy != '\0' ? error->remedy : NULL, "%s", error->text);
}

/* ---- replies and probes ---- */

static void
copy_member(const json_t *object, const char *name, char *to, size_t size)
{
	const char *text = json_string_value(json_object_get(object, name));

	snprintf(to, size, "%s", text != NULL ? text : "");
}

/* Whether it has the form of the replies in receiver/receive.c. */
static bool
is_ours(const struct doctor_reply *reply)
{
	static const char *const words[] = {
	    "accepted", "duplicate", "held", "ignored", "rejected", "error"};
	bool known = false;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		known = known || strcmp(reply->word, words[i]) == 0;
	return known && (reply->status == 200) == (*reply->reason == '\0');
}

void
doctor_reply_read(struct doctor_reply *reply, int status, const char *body, size_t length)
{
	json_t *object = body == NULL ? NULL : json_loadb(body, length, 0, NULL);

	*reply = (struct doctor_reply){.status = status};
	copy_member(object, "status", reply->word, sizeof(reply->word));
	copy_member(object, "reason", reply->reason, sizeof(reply->reason));
	copy_member(object, "detail", reply->detail, sizeof(reply->detail));
	json_decref(object);
	reply->ours = is_ours(reply);
}

char *
doctor_probe_body(const char *id, time_t now, size_t size)
{
	char at[DATETIME_ISO_SIZE], *text = NULL;

	datetime_iso((struct timespec){.tv_sec = now}, at);
	if (asprintf(&text,
	        "{\"data\":{\"fill\":\"%0*d\"},\"id\":\"%s\",\"timestamp\":\"%s\",\"type\":\"%s\"}",
	        size > 0 ? (int)size : 1, 0, id, at, EVENTS_DOCTOR_TYPE) < 0)
		return NULL;
	return text;
}

/* ---- results as JSON ---- */

json_t *
doctor_finding_json(const struct finding *f)
{
	char text[TERMINAL_ESCAPED_SIZE(sizeof(f->text))];
	json_t *ok =
	    f->result == DOCTOR_SKIPPED ? json_null() : json_boolean(f->result != DOCTOR_FAILED);

	return json_pack("{s:s,s:o,s:o*,s:s,s:s*}", "check", f->name, "ok", ok, "remark",
	    f->result == DOCTOR_REMARK ? json_true() : NULL, "text",
	    terminal_escape(text, sizeof(text), f->text, strlen(f->text), false), "remedy",
	    *f->remedy != '\0' ? f->remedy : NULL);
}

/* That it cannot be noted is fine: a user who may only read. */
static void
note_results(const struct doctor *d)
{
	struct error ignored;
	json_t *note = json_pack("{s:I,s:O}", "at", (json_int_t)d->now, "rows", d->rows);
	char *text = note == NULL ? NULL : json_dumps(note, JSON_COMPACT | JSON_ENSURE_ASCII);
	int lock = text == NULL ? -1 : store_lock(d->store, STORE_LOCK_NOTES, &ignored);

	if (lock >= 0)
		store_note_write(d->store, STORE_NOTE_DOCTOR, text, &ignored);
	store_unlock(d->store, lock);
	free(text);
	json_decref(note);
}

json_t *
doctor_last(struct store *store)
{
	char *text = store_note_read(store, STORE_NOTE_DOCTOR);
	json_t *note = text == NULL ? NULL : json_loads(text, 0, NULL);

	free(text);
	if (json_is_integer(json_object_get(note, "at")) &&
	    json_is_array(json_object_get(note, "rows")))
		return note;
	json_decref(note);
	return NULL;
}

/* ---- the run ---- */

static void
report(struct doctor *d, struct finding *f)
{
	if (f->result != DOCTOR_FAILED && f->result != DOCTOR_REMARK)
		f->remedy[0] = '\0';
	d->failed += f->result == DOCTOR_FAILED ? 1 : 0;
	d->report(f, d->user);
}

void
doctor_run_table(struct doctor *d, const struct doctor_check *checks, const char *name)
{
	for (const struct doctor_check *c = checks; c->name != NULL; c++) {
		struct finding f = {.name = c->name};
		if (name != NULL && strcmp(name, c->name) != 0)
			continue;
		snprintf(f.remedy, sizeof(f.remedy), "%s", c->remedy);
		c->run(d, &f);
		report(d, &f);
	}
}

void
doctor_report_store(const struct store_check *check, void *data)
{
	struct finding f = {.name = check->name};
	struct doctor *d = data;

	d->store_failed |= check->result == STORE_CHECK_FAILED &&
	    (strcmp(check->name, "database") == 0 || strcmp(check->name, "schema") == 0);
	if (check->result == STORE_CHECK_OK)
		doctor_ok(&f, "%s", check->text);
	else if (check->result == STORE_CHECK_FAILED)
		doctor_failed(&f, check->remedy, "%s", check->text);
	else
		doctor_remark(&f, check->remedy, "%s", check->text);
	report(d, &f);
}

static void
check_from_outside(struct doctor *d)
{
	struct http_options options = {d->ca_file, false, DOCTOR_TIMEOUT_MS};
	struct finding f = {.name = "url"};

	d->http = http_open(&options);
	if (d->http == NULL) {
		doctor_failed(&f, "reinstall libcurl", "libcurl cannot be used");
		report(d, &f);
		return;
	}
	doctor_run_table(d, doctor_url_checks, NULL);
	doctor_run_table(d, doctor_probe_checks, NULL);
	http_close(d->http);
	free(d->first.body);
}

/* Also before the first start, when the local spool is yet to be made. */
static void
check_database(struct doctor *d)
{
	struct store *store = d->store;
	struct error ignored; /* a check has failed for it, too */

	if (store == NULL && *d->config->store != '\0')
		store = store_open_shared(d->config, &ignored);
	if (store == NULL)
		return;
	d->unreadable = store_check(store, doctor_report_store, d, &ignored) != STORE_OK;
	if (store != d->store)
		store_close(store);
}

int
doctor_run(struct doctor *d)
{
	doctor_run_table(d, doctor_local_checks, NULL);
	check_database(d);
	doctor_run_table(d, doctor_receiver_checks, NULL);
	doctor_run_table(d, doctor_log_checks, NULL);
	doctor_run_table(d, doctor_history_checks, NULL);
	if (d->url != NULL)
		check_from_outside(d);
	if (d->rows != NULL && d->store != NULL)
		note_results(d);
	verify_keyring_free(d->keyring);
	store_close(d->store);
	return d->failed;
}
