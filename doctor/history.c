/*
 * Owns the checks of past events: those that wait or failed, held requests and leftovers, and
 * whether drain runs.
 */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <dirent.h>

#include "base/datetime.h"
#include "base/terminal.h"
#include "doctor/monitor.h"
#include "events.h"

enum { OVERDUE_SECONDS = 3600 }; /* since the last drain, while an event waits for over an hour */

static bool
has_store(struct doctor *d, struct finding *f)
{
	if (d->store == NULL)
		doctor_skipped(f, "the spool cannot be opened");
	return d->store != NULL;
}

/* ---- events, by their status ---- */

/* Once: what cannot be read now is a fault of the store, and no check that comes later tries it. */
static void
count_once(struct doctor *d, struct finding *f)
{
	struct error error;

	if (d->counted || d->unreadable)
		return;
	d->counted = store_count(d->store, d->now, &d->counts, &error) == STORE_OK;
	d->unreadable = !d->counted;
	if (d->unreadable && !d->store_failed)
		doctor_failed_for(f, &error);
}

/* False: it is not known, and the finding says why. */
static bool
count(struct doctor *d, struct finding *f, struct store_counts *counts)
{
	if (!has_store(d, f))
		return false;
	count_once(d, f);
	*counts = d->counts;
	if (!d->counted && f->result != DOCTOR_FAILED)
		doctor_skipped(f, "the store cannot be read");
	return d->counted;
}

static void
check_leftovers(struct doctor *d, struct finding *f)
{
	struct store_counts c;

	if (!count(d, f, &c))
		return;
	if (c.leftovers > 0)
		doctor_failed(f, NULL,
		    "%ld file(s) in tmp/ that were not written to for over an hour", c.leftovers);
	else
		doctor_ok(f, "none");
}

static void
check_unrecognised(struct doctor *d, struct finding *f)
{
	struct store_counts c;

	if (!count(d, f, &c))
		return;
	if (c.unrecognised > 0)
		doctor_remark(f,
		    "drain leaves them alone: move them away; psapi replay queues an event again",
		    "%ld file(s) in new/ are no events: %s: %s", c.unrecognised, c.unrecognised_name,
		    c.unrecognised_why);
	else
		doctor_ok(f, "all files in new/ are events");
}

static void
check_backlog(struct doctor *d, struct finding *f)
{
	struct store_counts c;

	if (!count(d, f, &c))
		return;
	if (c.overdue > 0)
		doctor_failed(f, NULL,
		    "%ld of %ld event(s) in new/ wait for over an hour, the oldest for %.1f h", c.overdue,
		    c.waiting, (double)(d->now - c.oldest) / 3600);
	else if (c.waiting > 0)
		doctor_ok(f, "%ld event(s) in new/, the oldest for %.1f h", c.waiting,
		    (double)(d->now - c.oldest_waiting) / 3600);
	else
		doctor_ok(f, "0 event(s) in new/");
}

static void
check_failed(struct doctor *d, struct finding *f)
{
	struct store_counts c;

	if (!count(d, f, &c))
		return;
	if (c.failed > 0)
		doctor_failed(f, NULL, "%ld event(s) in failed/", c.failed);
	else
		doctor_ok(f, "none");
}

static void
check_hold(struct doctor *d, struct finding *f)
{
	struct store_counts c;

	if (!count(d, f, &c))
		return;
	if (c.held > 0)
		doctor_failed(f, NULL,
		    "%ld request(s) that arrived before the secret was added wait in hold/", c.held);
	else
		doctor_ok(f, "nothing is held");
}

/* ---- drain ---- */

/* Whether there are any. The check "handlers" judges them. */
static bool
has_files(const char *path)
{
	DIR *stream = opendir(path);
	bool found = false;

	for (const struct dirent *entry;
	     !found && stream != NULL && (entry = readdir(stream)) != NULL;)
		found = entry->d_name[0] != '.';
	if (stream != NULL)
		closedir(stream);
	return found;
}

bool
doctor_has_handlers(const struct config *config)
{
	return has_files(config->handlers) || has_files(config->batch_handlers);
}

static void
check_drain(struct doctor *d, struct finding *f)
{
	char at[TERMINAL_TIME_SIZE];
	struct store_counts c;

	if (!count(d, f, &c))
		return;
	if (!doctor_has_handlers(d->config)) {
		doctor_skipped(f, "there are no handlers for it");
		return;
	}
	int64_t age = d->now - c.drained;
	terminal_time(c.drained, at);
	if (c.drained == 0 && c.waiting == 0)
		doctor_skipped(f, "psapi drain has not run yet; no event waits for it");
	else if (c.drained == 0 && c.overdue == 0)
		doctor_remark(f, NULL, "psapi drain has never run; %ld event(s) in new/", c.waiting);
	else if (c.drained == 0)
		doctor_failed(f, NULL, "psapi drain has never run; %ld event(s) in new/", c.waiting);
	else if (age < -MONITOR_AHEAD_SECONDS)
		doctor_failed(f, MONITOR_AHEAD_REMEDY, "psapi drain last ran at %s, in the future", at);
	else if (age > EVENTS_DAILY_LATE_SECONDS || (c.overdue > 0 && age > OVERDUE_SECONDS))
		doctor_failed(f, NULL, "psapi drain last ran at %s, %.1f h ago", at, (double)age / 3600);
	else if (age > MONITOR_DRAIN_LATE_SECONDS)
		doctor_remark(f, NULL, "psapi drain last ran at %s, %.1f min ago: psapi check calls that "
		    "critical by default", at, (double)age / 60);
	else
		doctor_ok(f, "psapi drain last ran at %s", at);
}

const struct doctor_check doctor_history_checks[] = {
	{"leftovers", check_leftovers,
	    "a receiver was killed while it wrote: see its log. psapi drain and the receiver's start "
	    "remove them"},
	{"unrecognised", check_unrecognised, ""},
	{"backlog", check_backlog,
	    "does cron run psapi drain, or your script? psapi drain -v shows what happens"},
	{"failed", check_failed,
	    "psapi list --failed says why; fix the handler, then psapi retry --all, or psapi done ID"},
	{"hold", check_hold,
	    "add the endpoint's secret (psapi secret add), then psapi adopt; psapi adopt --discard "
	    "removes the requests\n"
	    "that match no secret"},
	{"drain", check_drain,
	    "systemctl enable --now psapi-drain.path psapi-drain.timer; or, with cron, "
	    "examples/cron/psapi.cron as /etc/cron.d/psapi"},
	{0},
};
