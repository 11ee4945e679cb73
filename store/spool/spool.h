/*
 * The spool directory, the store that is files: what its modules share. Others see store.h.
 *
 * Invariants (psapi-spool(5) has them as the contract):
 *   I1  a name in new/, failed/ or events/ is a whole file whose data is on the disk
 *   I2  what was put has its file and its name in new/ (or failed/) on the disk
 *   I3  a name in events/ means that the event was queued, durably, before
 *   I4  a name leaves new/ only because a consumer handled it, or moved it to failed/
 */
#ifndef PSAPI_SPOOL_H
#define PSAPI_SPOOL_H

#include <dirent.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

#include "base/filesystem.h"
#include "store/store.h"

enum spool_dir {
	SPOOL_NEW,
	SPOOL_EVENTS,
	SPOOL_FAILED,
	SPOOL_STATE,
	SPOOL_HOLD,
	SPOOL_TMP,
	SPOOL_DIRS /* how many; as an argument: none */
};

/* The directories' names, by enum spool_dir. */
extern const char *const spool_dir_names[SPOOL_DIRS];

/*
 * The format of the spool (psapi-spool(5), "FORMAT", says what would change the number).
 * A spool has it in the first line of a file "format"; without one it is 1.
 */
#define SPOOL_FORMAT "1"

enum {
	SPOOL_SETTLED_SECONDS = 60,   /* age at which a file in new/ has its other name */
	SPOOL_LEFTOVER_SECONDS = 3600 /* age at which what a writer makes first is of a dead one */
};

/* An open spool. Descriptors are all close-on-exec. */
struct spool {
	const char *path; /* absolute; borrowed from the configuration */
	int root;
	int dir[SPOOL_DIRS];
	struct filesystem filesystem;
	bool one_wait;          /* of the file system, unless PSAPI_SYNC says two */
	bool forced;            /* PSAPI_SYNC says two */
	int64_t wait_ms;        /* for the lock, at most */
	int lock;               /* held by the process that moves events; -1: not held */
	uid_t owner;            /* of the spool */
	bool intake;            /* it is the receiver that opens it: remedies are for its user */
	bool must_give;         /* we are root: files that we make are given to the owner */
	bool masked;            /* our umask takes bits from a file's mode */
	bool by_name;           /* there is no /proc: files are linked by name, not by descriptor */
	atomic_bool distrusted; /* a sync failed: nothing more is accepted */
	atomic_llong checked;   /* when the free bytes were last read, seconds of CLOCK_MONOTONIC; */
	atomic_llong available; /* how many there were */
	atomic_uint serial;     /* of names in tmp/ */
};

/* ---- spool.c: the directories ---- */

/* Open the spool at path. Returns STORE_OK, or STORE_FAILED with nothing to close. */
enum store_result spool_open(struct spool *spool, const char *path, bool two_waits, bool create,
    struct error *error);
void spool_close(void *engine);
/* One that is not there: only spool_close() may follow. */
void spool_without(struct spool *spool, const char *path);

/* See store_warnings(). */
void spool_warnings(struct spool *spool, void (*warn)(const struct error *, void *), void *data);

/* place.c: see store_check_place(). */
int spool_check_place(const char *path, struct error *error);

/* See store_describe(). */
void spool_describe(void *engine, char *text, size_t size);

/* How many directories of the spool are yet to be made. */
int spool_missing(const char *path);

/* Remove a spool that is empty. */
void spool_remove(const char *path);

/* A stream of a directory's names, of its own; or NULL with errno. */
DIR *spool_open_stream(const struct spool *spool, enum spool_dir dir);

/*
 * Lock a directory, waiting at most so many milliseconds. flock(2) belongs to the open file: this
 * one excludes other threads, too. Returns the descriptor, which holds the lock; or -1 with errno.
 */
int spool_lock_directory(const struct spool *spool, enum spool_dir dir, int64_t milliseconds);

/*
 * Read a small file, at most size - 1 bytes, and end it with a NUL. directory: a descriptor.
 * Returns the bytes, or -1 with errno. A link or a FIFO of that name stops nobody.
 */
ssize_t spool_read_text(int directory, const char *name, char *text, size_t size);

/*
 * Call visit for each name in dir but those that begin with a dot, in the directory's
 * order, until it returns other than 0, which is returned. visit may remove the name. -1
 * with errno if the directory cannot be read.
 */
int spool_each(struct spool *spool, enum spool_dir dir,
    int (*visit)(struct spool *spool, enum spool_dir dir, const char *name, void *data),
    void *data);

/* Whether dir has the name; true as well if that cannot be found out. */
bool spool_has(struct spool *spool, enum spool_dir dir, const char *name);

/*
 * Sync a directory (SPOOL_DIRS: none), and with file >= 0 that file, whose name in it then is
 * on the disk. The way with one wait syncs only the file. Returns 0, or -1 with errno: then
 * this process trusts no later sync, for the kernel may have dropped the change.
 */
int spool_sync(struct spool *spool, enum spool_dir dir, int file);

/*
 * Explain errno of a step with dir/NAME (SPOOL_DIRS: NAME of the spool itself), with the remedy.
 * errno stays. Returns STORE_FULL if there is no room, else STORE_FAILED.
 */
enum store_result spool_failed(struct spool *spool, const char *step, enum spool_dir dir,
    const char *name, struct error *error);

/* Whether an errno is about one file, so that others can still be worked with. */
bool spool_is_one_file(int number);

/* ---- visit.c: many files in the order of the disk ---- */

/*
 * spool_each() for many files that are read: some hundred thousand names at a time are visited in
 * the order of the disk, by up to so many threads (at most SPOOL_THREADS), each with its own data.
 */
enum { SPOOL_THREADS = 8 };
int spool_each_by_inode(struct spool *spool, enum spool_dir dir,
    int (*visit)(struct spool *spool, enum spool_dir dir, const char *name, void *data),
    void *const *data, size_t threads);

/* ---- file.c: a file that gets names ---- */

struct spool_file {
	int fd;             /* -1: none */
	enum spool_dir dir; /* a name that it has already, */
	char name[STORE_NAME_SIZE]; /* or "" */
	bool temporary;     /* that name is ours to remove, in tmp/ */
	const struct store_identity *parked; /* it is closed, and known by this; NULL: it is open */
};

/*
 * A new file with these contents and no name; its data is on the disk, or with durable
 * false on its way there. With count 0 the caller writes them. Returns 0, or -1 with errno and
 * nothing left.
 */
int spool_file_write(struct spool *spool, struct spool_file *file, const struct iovec *pieces,
    int count, bool durable);

/*
 * Give the file a name, by its descriptor. Returns 0, or -1 with errno (ENOENT: it has lost all
 * its names).
 */
int spool_file_link(struct spool *spool, const struct spool_file *file, enum spool_dir dir,
    const char *name);

/* Give the file a name that another file may have. Returns 0, or -1 with errno. */
int spool_file_replace(struct spool *spool, const struct spool_file *file, enum spool_dir dir,
    const char *name);

/* Whether a file is the one that was parked: no event file is written again. */
bool spool_file_is_parked(const struct store_identity *identity, const struct stat *st);

/* Whether dir/NAME is this file: 1, 0, or -1 with errno if that cannot be found out. */
int spool_file_is(struct spool *spool, const struct spool_file *file, enum spool_dir dir,
    const char *name);

/*
 * Remove dir/NAME, but only while it is this file. That it is gone is fine. Returns 0, or -1 with
 * errno.
 */
int spool_file_unlink(struct spool *spool, const struct spool_file *file, enum spool_dir dir,
    const char *name);

/*
 * Open dir/NAME and read it as the event of that name. ENTRY_OK: the caller closes the file and
 * frees the entry. Else there is nothing to close, and *why says what is wrong.
 */
enum entry_result spool_file_open(struct spool *spool, struct spool_file *file, enum spool_dir dir,
    const char *name, struct entry *entry, const char **why);

/* Close it, and remove its name in tmp/. errno stays. */
void spool_file_close(struct spool *spool, struct spool_file *file);

/* A name in tmp/, of this process alone; and whether a name there is such, of any process. */
#define SPOOL_TEMPORARY_SIZE 64
void spool_file_temporary_name(struct spool *spool, char name[SPOOL_TEMPORARY_SIZE]);
bool spool_file_is_temporary(const char *name);

/*
 * A probe's names: such a one in tmp/, as long as it has others; in the other directories this in
 * front of it. A name that begins with a dot is no event's: spool_each() and *.json leave it out.
 */
#define SPOOL_PROBE ".probe."

/* Give a file that we made its owner and mode by rule, for any running user and umask. */
int spool_file_settle(const struct spool *spool, int fd, mode_t mode);

/* ---- state.c: state/ ---- */

/* Replace state/NAME by text, whole at any moment but not synced. Returns 0, or -1 with errno. */
int spool_state_write(struct spool *spool, const char *name, const char *text);
bool spool_state_read(struct spool *spool, const char *name, struct handler_state *state);
int spool_state_put(struct spool *spool, const char *name, const struct handler_state *state);
/* That there is none, or a directory, is fine. Returns 0, or -1 with errno. */
int spool_state_remove(struct spool *spool, const char *name);
/* When drain last ran, Unix seconds; 0: never. */
int64_t spool_last_run(struct spool *spool);
/* When its events were last imported into a shared store. */
void spool_note_import(struct spool *spool, int64_t now);
int64_t spool_last_import(const struct spool *spool);

/* ---- notes.c: notes of the programs in state/; see store_lock() and those that follow it ---- */

int spool_notes_lock(struct spool *spool, enum store_lock what, struct error *error);
char *spool_note_read(struct spool *spool, enum store_note note);
enum store_result spool_note_write(struct spool *spool, enum store_note note, const char *text,
    struct error *error);

/* ---- listing.c: names in the order of arrival ---- */

struct spool_listing {
	struct spool_listed {
		int64_t time; /* of arrival, nanoseconds since 1970 */
		size_t name;  /* in names */
		enum spool_dir dir;
	} *items; /* the oldest first */
	size_t count, room;
	char *names;
	size_t length, names_room;
	enum spool_dir unless; /* names that this directory has are left out */
	int64_t since;
	size_t most, seen;
};

/*
 * List the events whose directory and time match the filter. STORE_OK; STORE_INVALID: a directory
 * has more than most names (SIZE_MAX: any number is fine); or STORE_FAILED. Whatever it returns,
 * the listing has what was listed by then, and the caller frees it.
 */
enum store_result spool_list(struct spool *spool, const struct store_filter *filter, size_t most,
    struct spool_listing *listing, struct error *error);
void spool_listing_free(struct spool_listing *listing);

/* ---- the functions of backend.h, by module; the engine is a struct spool ---- */

/* publish.c */
enum store_result spool_find(void *engine, const char *name, struct error *error);
enum store_result spool_put(void *engine, const struct store_intake *intake,
    struct error *error);
bool spool_is_full(void *engine, long long min_free);
bool spool_is_empty(void *engine);
enum store_result spool_probe(void *engine, struct error *error);

/*
 * recovery.c: spool_recover() logs the first file that it cannot use; spool_commit() is for drain,
 * which names each by itself.
 */
enum store_result spool_commit(struct spool *spool, struct error *error);
enum store_result spool_recover(void *engine, long *committed, struct error *error);

/* held.c */
enum store_result spool_hold(struct spool *spool, const struct record *record,
    struct timespec arrival, struct error *error);
int spool_held(struct spool *spool, char ***names, struct error *error);
enum store_result spool_held_read(struct spool *spool, const char *name, struct entry *entry,
    struct error *error);
enum store_result spool_held_remove(struct spool *spool, const char *name, struct error *error);

/* queue.c */
enum store_result spool_work_begin(void *engine, bool wait, struct error *error);
void spool_work_end(void *engine);
void spool_note_run(struct spool *spool, int64_t now);
enum store_result spool_pending(void *engine, struct store_pending *pending,
    struct error *error);
enum store_result spool_load(void *engine, const char *name, struct store_work *work,
    struct error *error);
void spool_unload(void *engine, struct store_work *work);
void spool_park(void *engine, struct store_work *work);
enum store_result spool_done(void *engine, struct store_work *work, struct error *error);
enum store_result spool_later(void *engine, struct store_work *work,
    const struct handler_state *state, struct error *error);
enum store_result spool_fail(void *engine, struct store_work *work,
    const struct handler_state *state, struct error *error);

/* operator.c */
enum store_result spool_items(void *engine, const struct store_filter *filter,
    int (*visit)(const struct store_item *item, void *data), void *data, struct error *error);
enum store_result spool_lookup(void *engine, const char *id, char name[STORE_NAME_SIZE],
    struct error *error);
enum store_result spool_get(void *engine, const char *name, struct store_item *item,
    struct error *error);
enum store_result spool_retry(void *engine, const char *const *names, size_t count,
    size_t *moved, struct error *error);
enum store_result spool_replay(void *engine, const char *const *names, size_t count,
    size_t *moved, struct error *error);
enum store_result spool_finish(void *engine, const char *name, struct error *error);

/* count.c */
enum store_result spool_count(void *engine, int64_t now, struct store_counts *counts,
    struct error *error);

/* forget.c */
enum store_result spool_forget(void *engine, struct store_forgetting *forgetting,
    struct error *error);

/* forgotten.c */
enum store_result spool_roster(void *engine, int64_t at, struct roster *roster,
    struct error *error);
/* What state/roster has until then; that there is none is fine. */
enum store_result spool_forgotten(struct spool *spool, int64_t at, struct roster *roster,
    struct error *error);
/*
 * Add what events/NAME says of a producer, if its time is not after at; *changed becomes true if
 * that changes the roster. Returns 0, or -1 with errno and *error: it could not be read.
 */
int spool_roster_add(struct spool *spool, const char *name, int64_t at, struct roster *roster,
    bool *changed, struct error *error);
/* Replace state/roster by every mark of a roster, durable when it returns. */
enum store_result spool_forgotten_write(struct spool *spool, const struct roster *roster,
    struct error *error);

/* page.c */
enum store_result spool_page(void *engine, struct store_page *page, struct error *error);
enum store_result spool_tally(void *engine, int64_t now, int budget_ms,
    struct store_tally *tally, struct error *error);

#endif
