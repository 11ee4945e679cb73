/* Owns the run over the tables, and what all checks use. */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/datetime.h"
#include "events.h"

void
doctor_found_good(struct finding *f, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	f->mark = MARK_GOOD;
}

void
doctor_found_bad(struct finding *f, const char *remedy, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	f->mark = MARK_BAD;
	if (remedy != NULL)
		snprintf(f->remedy, sizeof(f->remedy), "%s", remedy);
}

void
doctor_found_nothing(struct finding *f, const char *format, ...)
{
	va_list ap;

	va_start(ap, format);
	vsnprintf(f->text, sizeof(f->text), format, ap);
	va_end(ap);
	f->mark = MARK_SKIPPED;
}

static void
copy(const json_t *object, const char *name, char *to, size_t size)
{
	const char *text = json_string_value(json_object_get(object, name));

	snprintf(to, size, "%s", text != NULL ? text : "");
}

/* Whether the words of a reply are of the receiver's table (receive.c). */
static bool
is_ours(const struct answer_seen *seen)
{
	static const char *const words[] = {
		"accepted", "duplicate", "held", "ignored", "rejected", "error"};
	bool known = false;

	for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
		known = known || strcmp(seen->word, words[i]) == 0;
	return known && (seen->status == 200) == (*seen->reason == '\0');
}

void
doctor_answer_read(struct answer_seen *seen, int status, const char *body, size_t length)
{
	json_t *reply = body == NULL ? NULL : json_loadb(body, length, 0, NULL);

	*seen = (struct answer_seen){.status = status};
	copy(reply, "status", seen->word, sizeof(seen->word));
	copy(reply, "reason", seen->reason, sizeof(seen->reason));
	copy(reply, "detail", seen->detail, sizeof(seen->detail));
	json_decref(reply);
	seen->ours = is_ours(seen);
}

char *
doctor_probe_body(const char *id, time_t now, size_t size)
{
	char at[DATETIME_ISO_SIZE], *text = NULL;

	datetime_iso((struct timespec){.tv_sec = now}, at);
	if (asprintf(&text, "{\"data\":{\"fill\":\"%0*d\"},\"id\":\"%s\",\"timestamp\":\"%s\",\"type\":\"%s\"}",
	        size > 0 ? (int)size : 1, 0, id, at, EVENTS_DOCTOR_TYPE) < 0)
		return NULL;
	return text;
}

static void
run_table(struct doctor *d, const struct check *checks)
{
	for (const struct check *c = checks; c->name != NULL; c++) {
		struct finding f = {.name = c->name};
		snprintf(f.remedy, sizeof(f.remedy), "%s", c->remedy);
		c->run(d, &f);
		if (f.mark != MARK_BAD)
			f.remedy[0] = '\0';
		d->bad += f.mark == MARK_BAD ? 1 : 0;
		d->report(&f, d->user);
	}
}

int
doctor_run(struct doctor *d)
{
	struct http_options options = {d->ca_file, false, DOCTOR_TIMEOUT_MS};

	run_table(d, doctor_local_checks);
	run_table(d, doctor_history_checks);
	if (d->url != NULL) {
		d->http = http_open(&options);
		if (d->http != NULL) {
			run_table(d, doctor_url_checks);
			run_table(d, doctor_probe_checks);
		} else {
			d->bad++;
		}
		http_close(d->http);
		free(d->first.body);
	}
	verify_keyring_free(d->keyring);
	if (d->spool_opened)
		spool_close(&d->spool);
	return d->bad;
}
