/*
 * Owns the list of waiting events: which files of new/ are events, when each is due, in which
 * lane it is; and the refusal to begin if an outcome could not be written down.
 */
#define _GNU_SOURCE
#include "drain/backlog.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "store/entry.h"
#include "base/log.h"
#include "store/spool/moves.h"
#include "store/spool/handler_state.h"

/* If no outcome can be written down, no handler may run: it would run again and again. */
static int
check_writable(struct backlog *b)
{
	static const enum spool_dir dirs[] = {SPOOL_NEW, SPOOL_FAILED, SPOOL_STATE, SPOOL_TMP};
	char why[1024];

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		if (faccessat(b->spool->dir[dirs[i]], ".", W_OK | X_OK, AT_EACCESS) == 0)
			continue;
		int status = errno == EACCES ? EX_NOPERM : EX_IOERR;
		moves_explain(b->spool, dirs[i], ".", why, sizeof(why));
		log_line("%s", why);
		return status;
	}
	return EX_OK;
}

/*
 * The kernel may refuse hard links to another user's files (protected_hardlinks). That must show
 * before the first handler runs, not after it.
 */
static int
check_owner(struct backlog *b, const char *name, const struct stat *st)
{
	char name_in_tmp[64], why[1024];

	if (b->owner_checked || st->st_uid == geteuid())
		return EX_OK;
	b->owner_checked = true;
	snprintf(name_in_tmp, sizeof(name_in_tmp), "link.%ld", (long)getpid());
	if (linkat(b->spool->dir[SPOOL_NEW], name, b->spool->dir[SPOOL_TMP], name_in_tmp, 0) == 0) {
		unlinkat(b->spool->dir[SPOOL_TMP], name_in_tmp, 0);
		return EX_OK;
	}
	if (errno == ENOENT)
		return EX_OK;
	int status = errno == EPERM || errno == EACCES ? EX_NOPERM : EX_IOERR;
	moves_explain(b->spool, SPOOL_NEW, name, why, sizeof(why));
	log_line("%s", why);
	return status;
}

static int64_t
due_at(struct backlog *b, const char *name, const struct entry *entry)
{
	struct handler_state state;
	struct stat committed;
	bool same = fstatat(b->spool->dir[SPOOL_EVENTS], name, &committed, AT_SYMLINK_NOFOLLOW) == 0 &&
	    committed.st_ino == entry->st.st_ino && committed.st_dev == entry->st.st_dev;

	if (!schedule_accepted(same, entry->st.st_mtime, b->clock())) {
		b->arriving = true;
		return INT64_MAX;
	}
	if (!handler_state_read(b->spool, name, &state))
		return 0;
	return schedule_due(state.tried_at, state.due_at, b->clock());
}

static int
add(struct backlog *b, const char *name, const struct entry *entry)
{
	int status = check_owner(b, name, &entry->st);

	if (status == EX_OK && schedule_add(b->schedule, name, entry_when(entry),
	        due_at(b, name, entry), entry_lane(&entry->event)) != 0) {
		log_line("out of memory for the list of events");
		status = EX_OSERR;
	}
	return status;
}

/* spool_each() for new/. Returns an exit status: other than EX_OK ends the list. */
static int
add_file(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct backlog *b = data;
	struct entry entry;
	const char *why;
	int status = EX_OK;

	switch (entry_read_named(spool, dir, name, &entry, &why)) {
	case ENTRY_OK:
		status = add(b, name, &entry);
		entry_free(&entry);
		break;
	case ENTRY_ABSENT:
		break;
	case ENTRY_ODD:
		if (unrecognised_report(b->unrecognised, name))
			log_line("new/%s: not an event: %s; left alone", name, why);
		break;
	case ENTRY_ERROR:
		/* Its lane is not known, so any event that is handled now might overtake it. */
		log_line(
		    "new/%s: cannot be read: %s; no event is handled until it can be read, or psapi done "
		    "has removed it",
		    name, why);
		status = EX_IOERR;
		break;
	}
	return status == EX_OK && b->is_interrupted() ? EX_TEMPFAIL : status;
}

static int
recover(struct backlog *b)
{
	if (spool_recover(b->spool) >= 0)
		return EX_OK;
	if (errno != EPERM && errno != EACCES)
		return EX_IOERR;
	log_line("run it as the user that owns the spool: sudo -u USER psapi drain");
	return EX_NOPERM;
}

int
backlog_read(struct backlog *b)
{
	int status;

	b->arriving = false;
	schedule_free(b->schedule);
	if ((b->schedule = schedule_new()) == NULL)
		return EX_OSERR;
	if ((status = check_writable(b)) != EX_OK || (status = recover(b)) != EX_OK)
		return status;
	status = spool_each(b->spool, SPOOL_NEW, add_file, b);
	if (status < 0) {
		log_line("%s/new: %s", b->spool->path, strerror(errno));
		return EX_IOERR;
	}
	if (status != EX_OK || schedule_size(b->schedule) == 0)
		return status;
	if (schedule_sort(b->schedule) != 0)
		return EX_OSERR;
	return spool_sync(b->spool, SPOOL_EVENTS) == 0 ? EX_OK : EX_IOERR;
}

int
backlog_open(struct backlog *b, struct spool *spool, int64_t (*clock)(void),
    bool (*is_interrupted)(void))
{
	*b = (struct backlog){.spool = spool, .clock = clock, .is_interrupted = is_interrupted};
	b->unrecognised = unrecognised_open(spool);
	return b->unrecognised != NULL ? 0 : -1;
}

void
backlog_close(struct backlog *b)
{
	unrecognised_close(b->unrecognised);
	schedule_free(b->schedule);
}
