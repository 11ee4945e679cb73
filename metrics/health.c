/* Owns the form of the note of a verdict. */
#define _GNU_SOURCE
#include "metrics/health.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "base/text.h"

const char *
health_text(enum health_status status)
{
	static const char *const texts[] = {"OK", "WARNING", "CRITICAL", "UNKNOWN"};

	return texts[status];
}

static enum health_status
status_of(const json_t *object)
{
	json_int_t status = json_integer_value(json_object_get(object, "status"));

	return status >= HEALTH_OK && status < HEALTH_UNKNOWN ? (enum health_status)status :
	                                                          HEALTH_UNKNOWN;
}

static void
copy(char *to, size_t size, const json_t *object, const char *name)
{
	const char *text = json_string_value(json_object_get(object, name));

	snprintf(to, size, "%s", text != NULL ? text : "");
}

static void
read_findings(const json_t *array, struct health *v)
{
	const json_t *one;
	size_t i;

	json_array_foreach (array, i, one) {
		if (v->count == HEALTH_FINDINGS_MAX)
			return;
		struct health_finding *f = &v->finding[v->count++];
		f->status = status_of(one);
		f->since = json_integer_value(json_object_get(one, "since"));
		copy(f->name, sizeof(f->name), one, "name");
		copy(f->text, sizeof(f->text), one, "text");
		copy(f->remedy, sizeof(f->remedy), one, "remedy");
	}
}

bool
health_read(struct store *store, struct health *health)
{
	char *text = store_note_read(store, STORE_NOTE_CHECK);
	json_t *note = text == NULL ? NULL : json_loads(text, 0, NULL);

	memset(health, 0, sizeof(*health));
	health->at = json_integer_value(json_object_get(note, "at"));
	health->status = status_of(note);
	health->mails = json_is_true(json_object_get(note, "mail"));
	read_findings(json_object_get(note, "findings"), health);
	bool known = health->at > 0;
	json_decref(note);
	free(text);
	return known;
}

void
health_write(struct store *store, const struct health *v)
{
	json_t *findings = json_array();
	struct error ignored;

	for (int i = 0; i < v->count; i++) {
		const struct health_finding *f = &v->finding[i];
		json_t *one = json_pack("{s:s,s:i,s:o,s:o,s:I}", "name", f->name, "status", (int)f->status,
		    "text", text_json(f->text), "remedy", text_json(f->remedy), "since",
		    (json_int_t)f->since);
		json_array_append_new(findings, one);
	}
	json_t *note = json_pack("{s:I,s:i,s:b,s:o}", "at", (json_int_t)v->at, "status", (int)v->status,
	    "mail", v->mails, "findings", findings);
	char *text = note == NULL ? NULL : json_dumps(note, JSON_COMPACT | JSON_ENSURE_ASCII);
	json_decref(note);
	int lock = text == NULL ? -1 : store_lock(store, STORE_LOCK_NOTES, &ignored);
	if (lock >= 0)
		store_note_write(store, STORE_NOTE_CHECK, text, &ignored);
	store_unlock(store, lock);
	free(text);
}

const struct health_finding *
health_find(const struct health *health, const char *name)
{
	for (int i = 0; i < health->count; i++)
		if (strcmp(health->finding[i].name, name) == 0)
			return &health->finding[i];
	return NULL;
}

json_t *
health_json(const struct health *health)
{
	json_t *findings = json_array();

	for (int i = 0; i < health->count; i++) {
		const struct health_finding *f = &health->finding[i];
		json_t *one = json_pack("{s:s,s:s,s:o}", "check", f->name, "status",
		    health_text(f->status), "text", text_json(f->text));
		if (f->status != HEALTH_OK)
			json_object_set_new(one, "remedy", text_json(f->remedy));
		if (f->status != HEALTH_OK)
			json_object_set_new(one, "since", json_integer(f->since));
		json_array_append_new(findings, one);
	}
	return json_pack("{s:s,s:I,s:o}", "status", health_text(health->status), "at",
	    (json_int_t)health->at, "findings", findings);
}
