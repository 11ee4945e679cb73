/*
 * Events on their way between the spool's directories, for everyone but the
 * receiver; and the lock that those take who move them. A crash at any moment leaves
 * an event where it was, where it goes to, or in both; new/ wins.
 */
#ifndef PSAPI_MOVES_H
#define PSAPI_MOVES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "store/spool/spool.h"

#define LOCK_FILE "lock"

/*
 * Take the lock. wait: until it is free. Returns a close-on-exec descriptor that
 * holds it until it is closed, or -1 with errno; EWOULDBLOCK: another has it.
 */
int moves_lock(struct spool *spool, bool wait);

/* Log errno of moves_lock(), and as whom to run it. Returns EX_NOPERM or EX_CANTCREAT. */
int moves_lock_failed(struct spool *spool);

/* Whether directory dir has the name; true as well if that cannot be found out. */
bool moves_has(struct spool *spool, enum spool_dir dir, const char *name);

/*
 * The first half of a move, or all of a replay: give the file the same name in
 * another directory. That it is there is fine. Returns 0, or -1 with errno. The
 * target is to be synced (spool_sync()) before moves_drop().
 */
int moves_link(struct spool *spool, enum spool_dir from, enum spool_dir to, const char *name);

/* The second half: remove the name. That it is gone is fine. Returns 0, or -1 with errno. */
int moves_drop(struct spool *spool, enum spool_dir dir, const char *name);

/* Both, with the sync in between. */
int moves_whole(struct spool *spool, enum spool_dir from, enum spool_dir to, const char *name);

/*
 * The event is handled: out of state/, failed/ (a retry that a crash cut short),
 * and then new/. events/ must have been synced since its name was there. Returns 0,
 * or -1 with errno.
 */
int moves_done(struct spool *spool, const char *name);

/*
 * Explain errno of a call above in one line: what could not be done to which file,
 * and the remedy; for another user's file, as whom to run it.
 */
void moves_explain(struct spool *spool, enum spool_dir dir, const char *name, char *why,
    size_t size);

/* Explain that error was for want of being the owner of what: as whom to run it, in one line. */
void moves_owner_explain(const struct stat *st, const char *what, int error, char *why, size_t size);

#endif
