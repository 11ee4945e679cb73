/*
 * The spool directory: names, the accept protocol, recovery. Only its layout and
 * its promises; what is in a file is events.h.
 *
 * The order of the protocol is what makes the promises: a name in events/ proves
 * that the event was queued, and is on the disk.
 */
#ifndef PSAPI_SPOOL_H
#define PSAPI_SPOOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/uio.h>

enum spool_dir { SPOOL_NEW, SPOOL_EVENTS, SPOOL_FAILED, SPOOL_STATE, SPOOL_HOLD, SPOOL_TMP, SPOOL_DIRS };

/* The directories' names, by enum spool_dir. */
extern const char *const spool_dir_names[SPOOL_DIRS];

/* An open spool. Descriptors are all close-on-exec. May be used by several threads. */
struct spool {
	const char *path; /* borrowed from the caller, for messages */
	int root;
	int dir[SPOOL_DIRS];
	atomic_bool distrusted; /* an fsync of a directory failed: nothing more is accepted */
	atomic_llong looked; /* second (CLOCK_MONOTONIC) in which spool_is_full() looked, and */
	atomic_llong available; /* bytes that it saw */
	atomic_int link_way;    /* how an unnamed file is given a name here, see spool.c */
	atomic_uint serial;     /* of names in tmp/ */
	struct journal *journal; /* journal.h, the opener's to close; NULL: each event is synced by itself */
	atomic_int storing;      /* events on their way into the spool, by this process */
};

/*
 * The format of the spool (psapi-spool(5), "FORMAT", says what would change the number).
 * A spool has it in the first line of a file "format"; without one it is 1.
 */
#define SPOOL_FORMAT "1"

/*
 * Open the spool at path; create makes what is missing, mode 2770. Returns 0, or
 * -1 with errno, one line in why (size bytes) and nothing to close; EPROTONOSUPPORT
 * is a spool of another format.
 */
int spool_open(struct spool *spool, const char *path, bool create, char *why, size_t size);
void spool_close(struct spool *spool);

/* Room for a name: 200 bytes encoded, or "%sha256-" and 64 digits; ".json" and a NUL. */
#define SPOOL_NAME_SIZE (200 + 5 + 1)

/*
 * The file name of a webhook-id: every byte outside [A-Za-z0-9_-] as %XX, and
 * ".json"; "%sha256-HEX.json" if that were over 200 bytes. Distinct ids have
 * distinct names, none of which leaves or hides in a directory. Returns 0, or -1
 * if the hash cannot be computed.
 */
int spool_name(const void *id, size_t length, char name[SPOOL_NAME_SIZE]);

/* Whether name is one that spool_name() can make: names read back are checked as strictly. */
bool spool_name_valid(const char *name);

enum spool_result {
	SPOOL_STORED,
	SPOOL_DUPLICATE, /* it was stored before, or is being stored by a twin */
	SPOOL_ABSENT,    /* spool_find() alone */
	SPOOL_FULL,      /* ENOSPC, EDQUOT */
	SPOOL_ERROR      /* anything else; logged */
};

/* Step 0 of the protocol: SPOOL_DUPLICATE if events/ has the name, else SPOOL_ABSENT. */
enum spool_result spool_find(struct spool *spool, const char *name);

/*
 * Whether fewer than min_free bytes are free for the running user. Looks at most once a
 * second while twice as much is free.
 */
bool spool_is_full(struct spool *spool, long long min_free);

/*
 * Steps 1 to 5: store the pieces as one file of the given name, queued in queue
 * (SPOOL_NEW, SPOOL_FAILED) and recorded in events/; SPOOL_EVENTS records it
 * without queueing; SPOOL_HOLD puts it there alone. SPOOL_STORED means that it is on the disk. After SPOOL_FULL
 * and SPOOL_ERROR nothing of this call is left, but in a journal that a restart of the machine reads; or, if another
 * holds the lock on the file, or it cannot be seen whose it is, under its name: the next delivery finishes it.
 */
enum spool_result spool_store(struct spool *spool, const char *name, enum spool_dir queue,
    const struct iovec *pieces, int count);

/*
 * Go through what storing an event needs, without a trace: write a file, sync it,
 * give it two names, sync a directory. Returns 0, or -1 with errno and the step
 * that failed in *step.
 */
int spool_probe(struct spool *spool, const char **step);

/*
 * Give a file that this process has just made the mode 0640, whatever the umask is, and if root
 * made it in another user's spool, that owner and group. Returns 0, or -1 with errno.
 */
int spool_own(const struct spool *spool, int fd);

/*
 * Replace state/NAME by text, atomically but not synced: what it says can be
 * found out again. Returns 0, or -1 with errno.
 */
int spool_write_state(struct spool *spool, const char *name, const char *text);

/*
 * Call visit for each name in dir but "." and "..", in the directory's order, until
 * it returns other than 0, which is returned. visit may remove the name it is given.
 * -1 with errno if the directory cannot be read.
 */
int spool_each(struct spool *spool, enum spool_dir dir,
    int (*visit)(struct spool *, enum spool_dir, const char *name, void *data), void *data);

/*
 * What a journal recorded is made whole again where it is missing or torn: in events/, and in queue if it waits
 * nowhere. Whole in events/ alone: it was handled; but if the machine has started again since (forgotten), its
 * other name may just as well be lost, and it is queued. Left alone is what another event of that id has put
 * there. Nothing is synced. Returns 1 if anything was made again, 0, or -1 with
 * errno.
 */
int spool_restore(struct spool *spool, const char *name, enum spool_dir queue, const char *text,
    size_t length, bool forgotten);

/* Sync a directory. Returns 0, or -1 with errno (logged): this process trusts no later sync. */
int spool_sync(struct spool *spool, enum spool_dir dir);

/*
 * Recovery: make good what a journal holds; record in events/ each name of new/ and failed/ that it lacks, synced before;
 * remove what is older than an hour from tmp/. Right at any moment, also beside a
 * live receiver, without the lock of what moves events about. Returns the number of names recorded, or -1 with
 * errno (logged).
 */
long spool_recover(struct spool *spool);

#endif
