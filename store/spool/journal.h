/*
 * The journal: what events that arrive together share, so that they do not wait for the disk
 * one by one. A record in it is on the disk; the files and names in the spool may follow later,
 * and after a power cut recovery makes them again from it. Consumers of the spool never see it.
 *
 * Two files in tmp/, "journal.TIME.PID.0" and "….1", take turns: while one is written to, what
 * the other has recorded is synced for good, and it is emptied. They are there from the first
 * crowd on, 8 MiB each, until the process ends, or writing them fails; at rest both are empty.
 */
#ifndef PSAPI_JOURNAL_H
#define PSAPI_JOURNAL_H

#include <stdbool.h>
#include <sys/uio.h>

#include "store/spool/spool.h"

struct journal;

/*
 * A journal of this process for the spool, which must outlive it. Makes no file yet, but reads what
 * names this boot of the machine: to be called before /proc is out of reach. NULL without memory, or
 * before Linux 5.8, where syncfs(2) does not tell of errors: events are then synced one by one.
 */
struct journal *journal_open(struct spool *spool);

/*
 * Make the files. Done by a thread of the journal's own when the first crowd comes; here for tests. Returns 0,
 * or -1 with errno: no room, and the journal is not used.
 */
int journal_prepare(struct journal *journal);

/*
 * Begin to store an event with the journal's help. false: it cannot help now (not yet prepared, full, broken),
 * and nothing needs to be ended. Else journal_end() must follow once the event has its names, or will
 * never have them: until then the record stays.
 */
bool journal_begin(struct journal *journal);

/*
 * Record the event, which must not be in a queue before; returns when it is on the disk, together with those that
 * others record meanwhile. false: no room, too long, or it cannot be written (logged): the caller must sync the
 * event itself.
 */
bool journal_record(struct journal *journal, const char *name, enum spool_dir queue,
    const struct iovec *pieces, int count);

void journal_end(struct journal *journal);

/*
 * The files change places: what the one has recorded is synced for good, and it is emptied. The keeper, a thread, does
 * it when a file is three quarters full or a second old; here for tests.
 */
void journal_turn(struct journal *journal);

/*
 * Sync for good what is recorded, remove the files, free the journal; nobody may use it any more. NULL is fine.
 * false if the disk takes longer than JOURNAL_CLOSE_MS: the keeper is still at it, so the process must
 * end by _exit(2), and the next recovery does the rest.
 */
bool journal_close(struct journal *journal);

enum { JOURNAL_CLOSE_MS = 400 }; /* the receiver has 5 s to end in, of which requests may take 4.5 */

/* Whether a file in tmp/ of that name is a journal's. */
bool journal_is_name(const char *name);

/*
 * What dead processes left in their journals is made good, see spool_restore(), and synced; then the journals
 * go. Returns how many events were made again, or -1 with errno (logged): the journal stays
 * for the next time.
 */
long journal_recover(struct spool *spool);

#endif
