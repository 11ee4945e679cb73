/* Owns the checks of what has happened: attempts, backlog, failures, leftovers. */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "receiver/attempts.h"
#include "receiver/hold.h"
#include "store/spool/journal.h"
#include "store/spool/moves.h"
#include "store/spool/handler_state.h"
#include "base/datetime.h"

enum {
	TAIL_BYTES = 128 * 1024, /* of the attempts log: some hundred attempts */
	SKEWS_MAX = 5,           /* so few that three in a row tell: a day may bring one alone */
	SKEW_LIMIT = 60,             /* seconds */
	LEFTOVER_SECONDS = 3600,     /* spool.c: recovery removes them then */
	BACKLOG_SECONDS = 3600,
	UPDATES_SECONDS = 26 * 3600  /* daily, and two hours of grace */
};

static bool
has_spool(struct doctor *d, struct finding *f)
{
	if (!d->spool_opened)
		doctor_found_nothing(f, "the spool cannot be opened");
	return d->spool_opened;
}

/* ---- the clock ---- */

/* Skews of the latest authentic attempts, our own left out: they are of this machine's clock. */
struct skews {
	long long value[SKEWS_MAX]; /* the last ones, in a ring */
	int count;                  /* all of them */
};

static void
add_skew(struct skews *skews, const char *line)
{
	json_t *attempt = json_loads(line, 0, NULL);
	const json_t *skew = json_object_get(attempt, "skew_s");
	bool authentic = json_object_get(attempt, "key") != NULL;

	if (authentic && json_is_integer(skew) && !delivery_is_ours(line))
		skews->value[skews->count++ % SKEWS_MAX] = json_integer_value(skew);
	json_decref(attempt);
}

static void
read_tail(struct doctor *d, struct skews *skews)
{
	int fd = openat(d->spool.root, ATTEMPTS_FILE, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	char *line = NULL;
	size_t room = 0;

	if (file == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	if (fseek(file, -TAIL_BYTES, SEEK_END) == 0 && getline(&line, &room, file) < 0)
		rewind(file); /* what is left of a line that was cut */
	while (getline(&line, &room, file) >= 0)
		add_skew(skews, line);
	free(line);
	fclose(file);
}

static int
compare(const void *a, const void *b)
{
	long long one = *(const long long *)a, two = *(const long long *)b;

	return one < two ? -1 : one > two;
}

static void
check_clock(struct doctor *d, struct finding *f)
{
	struct skews skews = {0};

	if (!has_spool(d, f))
		return;
	read_tail(d, &skews);
	int count = skews.count < SKEWS_MAX ? skews.count : SKEWS_MAX;
	if (count == 0) {
		doctor_found_nothing(f, "no authentic attempt yet to compare with");
		return;
	}
	qsort(skews.value, (size_t)count, sizeof(skews.value[0]), compare);
	long long median = skews.value[count / 2];
	if (median > SKEW_LIMIT || median < -SKEW_LIMIT)
		doctor_found_bad(f, NULL, "%lld s %s the sender's, in the median of %d attempts; %lld s are tolerated",
		    median < 0 ? -median : median, median < 0 ? "behind" : "ahead of", count,
		    d->config->tolerance);
	else
		doctor_found_good(f, "%lld s off the sender's, in the median of %d attempts", median, count);
}

/* ---- files ---- */

/* What is looked for in a directory. */
struct census {
	time_t now;
	time_t older_than; /* seconds; counted in old */
	bool queue;        /* age is since it came there, and what waits for a retry is not old */
	long count, old;
	time_t oldest;     /* age of the oldest one that counts, seconds */
};

static int
look_at(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct census *c = data;
	struct handler_state state;
	struct stat st;

	if (fstatat(spool->dir[dir], name, &st, AT_SYMLINK_NOFOLLOW) != 0 ||
	    (dir == SPOOL_TMP && journal_is_name(name))) /* of one that lives, or recovery's business */
		return 0;
	/* A replay gives an old file a new name, which is a change of its status. */
	time_t age = c->now - (c->queue ? st.st_ctime : st.st_mtime);
	c->count++;
	if (age <= c->older_than ||
	    (c->queue && handler_state_read(spool, name, &state) && state.due_at > c->now))
		return 0;
	c->old++;
	if (age > c->oldest)
		c->oldest = age;
	return 0;
}

static void
check_leftovers(struct doctor *d, struct finding *f)
{
	struct census c = {.now = d->now, .older_than = LEFTOVER_SECONDS};

	if (!has_spool(d, f))
		return;
	if (spool_each(&d->spool, SPOOL_TMP, look_at, &c) != 0)
		doctor_found_bad(f, NULL, "tmp/: %s", strerror(errno));
	else if (c.old > 0)
		doctor_found_bad(f, NULL, "%ld file(s) in tmp/ that nobody has touched for over an hour", c.old);
	else
		doctor_found_good(f, "none");
}

static void
check_backlog(struct doctor *d, struct finding *f)
{
	struct census c = {.now = d->now, .older_than = BACKLOG_SECONDS, .queue = true};

	if (!has_spool(d, f))
		return;
	if (spool_each(&d->spool, SPOOL_NEW, look_at, &c) != 0)
		doctor_found_bad(f, NULL, "new/: %s", strerror(errno));
	else if (c.old > 0)
		doctor_found_bad(f, NULL, "%ld of %ld event(s) in new/ wait for over an hour, the oldest for %.1f h", c.old,
		    c.count, (double)c.oldest / 3600);
	else
		doctor_found_good(f, "%ld event(s) in new/", c.count);
}

static void
check_failed(struct doctor *d, struct finding *f)
{
	struct census c = {.now = d->now, .older_than = -1};

	if (!has_spool(d, f))
		return;
	if (spool_each(&d->spool, SPOOL_FAILED, look_at, &c) != 0)
		doctor_found_bad(f, NULL, "failed/: %s", strerror(errno));
	else if (c.count > 0)
		doctor_found_bad(f, NULL, "%ld event(s) in failed/", c.count);
	else
		doctor_found_good(f, "none");
}

static void
check_hold(struct doctor *d, struct finding *f)
{
	char **names;

	if (!has_spool(d, f))
		return;
	int count = hold_names(&d->spool, &names);
	hold_names_free(names);
	if (count < 0)
		doctor_found_bad(f, NULL, "hold/: %s", strerror(errno));
	else if (count > 0)
		doctor_found_bad(f, NULL, "%d request(s) from before the secret wait in hold/, unproven", count);
	else
		doctor_found_good(f, "nothing is held");
}

/* ---- the daily event ---- */

/* What the attempts log says of it, over all of the log. */
struct daily {
	int64_t first, last; /* nanoseconds: the log's first line; the event's last one. 0: none */
};

static void
read_log(int dir, const char *name, struct daily *daily)
{
	/* The type is only logged of what was proven, so nobody else can have written it. */
	static const char mark[] = "\"type\":\"producersync.updates_available\"";
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	char *line = NULL;
	size_t room = 0;

	if (file == NULL && fd >= 0)
		close(fd);
	while (file != NULL && getline(&line, &room, file) >= 0) {
		bool wanted = strstr(line, mark) != NULL && !delivery_is_ours(line);
		char at[25] = "";
		int64_t when;
		if ((daily->first != 0 && !wanted) || sscanf(line, "{\"at\":\"%24[0-9TZ:.-]", at) != 1 ||
		    !datetime_parse(at, &when))
			continue;
		daily->first = daily->first == 0 ? when : daily->first;
		daily->last = wanted && when > daily->last ? when : daily->last;
	}
	free(line);
	if (file != NULL)
		fclose(file);
}

static void
check_daily(struct doctor *d, struct finding *f)
{
	struct daily daily = {0};
	int64_t limit = ((int64_t)d->now - UPDATES_SECONDS) * NANOSECONDS;

	if (!has_spool(d, f))
		return;
	read_log(d->spool.root, ATTEMPTS_FILE ".1", &daily);
	read_log(d->spool.root, ATTEMPTS_FILE, &daily);
	int64_t seconds = d->now - (daily.last != 0 ? daily.last : daily.first) / NANOSECONDS;
	double hours = (double)seconds / 3600;
	if (daily.last >= limit && daily.last != 0)
		doctor_found_good(f, "the last producersync.updates_available came %.1f h ago", hours);
	else if (daily.last != 0)
		doctor_found_bad(f, NULL, "the last producersync.updates_available came %.1f h ago; it is sent once a day",
		    hours);
	else if (daily.first != 0 && daily.first < limit)
		doctor_found_bad(f, NULL, "no producersync.updates_available in the %.1f h that the attempts log covers",
		    hours);
	else
		doctor_found_nothing(f, "no producersync.updates_available yet; it is sent once a day");
}

const struct check doctor_history_checks[] = {
	{"clock", check_clock, "let the clock be kept by NTP: apt install chrony, or timedatectl set-ntp true"},
	{"leftovers", check_leftovers,
	    "writers died: see the receiver's log. psapi drain and the receiver's start remove them"},
	{"backlog", check_backlog,
	    "does cron run psapi drain, or your script? psapi drain -v by hand shows what it meets"},
	{"failed", check_failed,
	    "psapi list --failed says why; mend the handler, then psapi retry --all, or psapi done ID"},
	{"hold", check_hold,
	    "add the endpoint's secret (psapi secret add), then psapi adopt; what no secret proves is removed\n"
	    "with psapi adopt --discard"},
	{"daily", check_daily,
	    "look at the endpoint in the portal: is it enabled (after 5 days of failures it is not), is it\n"
	    "subscribed to producersync, what do its Message Attempts say?"},
	{0},
};
