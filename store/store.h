/*
 * The store: where events are kept. Code outside store/ includes only this header. Its functions
 * are verbs of the domain; whether a spool directory is behind them, or a database that several
 * hosts share, does not show.
 *
 *   intake       a receiver puts events in, each once
 *   held         requests that arrived before the first secret
 *   work queue   a drain takes them out, in order
 *   operator     an administrator looks, and moves them
 *
 * An event's name is its key everywhere: store_name() makes it of the webhook-id. A call
 * that returns STORE_FAILED has filled in *error, with an exit status of sysexits(3).
 */
#ifndef PSAPI_STORE_H
#define PSAPI_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <jansson.h>

#include "base/config.h"
#include "base/error.h"
#include "events.h"
#include "store/entry.h"
#include "store/handler_state.h"
#include "store/record.h"
#include "store/roster.h"

struct store;

enum store_result {
	STORE_OK,
	STORE_DUPLICATE, /* the event was put before */
	STORE_ABSENT,    /* there is none of that name (any more) */
	STORE_BUSY,      /* another process works on the store */
	STORE_FULL,      /* no room */
	STORE_INVALID,   /* the call does not fit the event: *error says why */
	STORE_FAILED     /* the store did not do it: *error says why */
};

/* ---- names ---- */

/* Room for a name: 200 bytes encoded, or "%sha256-" and 64 digits; ".json" and a NUL. */
#define STORE_NAME_SIZE (200 + 5 + 1)
/* Room for the path of a record: PATH_MAX of Linux for the spool, and a name. */
#define STORE_PATH_SIZE (4096 + STORE_NAME_SIZE)

/*
 * The name of a webhook-id: every byte outside [A-Za-z0-9_-] as %XX, and ".json";
 * "%sha256-HEX.json" if that were over 200 bytes. Distinct ids have distinct names, and
 * none leaves a directory or is hidden in it. Returns 0, or -1 if the hash cannot be
 * computed.
 */
int store_name(const void *id, size_t length, char name[STORE_NAME_SIZE]);

/* Whether name is one that store_name() makes: names that are read back are checked as strictly. */
bool store_name_valid(const char *name);

/* ---- open ---- */

/*
 * Open the store that the configuration names. create: make what is missing in the spool;
 * it is the receiver that opens it. Returns NULL with *error if it cannot be used. May be
 * used by several threads. A shared store connects at its first operation; where it cannot
 * be reached, that operation fails with EX_TEMPFAIL.
 */
struct store *store_open(const struct config *config, bool create, struct error *error);
/*
 * The same, but a local spool that is yet to be made is no error beside a shared store: then only
 * store_probe(), store_check(), store_describe(), store_count(), store_init() and store_status()
 * may follow.
 */
struct store *store_open_shared(const struct config *config, struct error *error);
void store_close(struct store *store);

/*
 * Whether PSAPI_STORE names it: then several hosts may use it, and the local spool keeps what
 * is held.
 */
bool store_is_shared(const struct store *store);

/*
 * What `psapi-fcgi -t` does with the local spool: open it, go the way of an event, and leave
 * nothing behind; where it is missing, as it would be made at the start. Returns NULL with
 * *error, or the spool as a store, to be closed, and one line about it in text (size bytes).
 */
struct store *store_try(const struct config *config, char *text, size_t size, struct error *error);

/* Whether none of the local spool's directories is there yet. */
bool store_is_new(const struct config *config);

/*
 * Whether the local spool is a directory of its own and closed to other users, or is yet to be
 * made. Returns 0, or -1 with *error, which has the remedy: EX_CONFIG, or the status 0 where others
 * can only see names.
 */
int store_check_place(const struct config *config, struct error *error);

/* One line about it for people: what it is, and how data reaches the disk. */
void store_describe(struct store *store, char *text, size_t size);

/*
 * Calls warn, with the remedy, for each promise that no program can keep where the spool is
 * (a file system without a journal, ...; warning->status is 0), and for each fault that does
 * not keep it from working now (directories of different owners).
 */
void store_warnings(struct store *store, void (*warn)(const struct error *warning, void *data),
    void *data);

/*
 * Go exactly the way that an event, a dead letter, a state and a held request take, and
 * leave nothing behind. STORE_OK or STORE_FAILED.
 */
enum store_result store_probe(struct store *store, struct error *error);

/* ---- intake ---- */

enum store_destination {
	STORE_QUEUE,       /* to be handled */
	STORE_DEAD_LETTER, /* authentic, but an administrator must look at it */
	STORE_ARCHIVE      /* stored and known from now on, never queued: the probe of doctor */
};

struct store_intake {
	const char *name;
	enum store_destination destination;
	const char *reason; /* of a dead letter */
	struct timespec now;
	const struct event *event;
	const struct record *record;
};

/*
 * Whether the event was put before: STORE_DUPLICATE, STORE_ABSENT, STORE_FAILED. A hint:
 * STORE_ABSENT also where store_put() finds it out just as well.
 */
enum store_result store_find(struct store *store, const char *name, struct error *error);

/*
 * Put an event. STORE_OK: it is durable and queued; STORE_DUPLICATE: it was before, or
 * another process puts it at this moment. STORE_FULL, STORE_FAILED: the sender must
 * send it again, and nothing that is there by then is in its way.
 */
enum store_result store_put(struct store *store, const struct store_intake *intake,
    struct error *error);

/*
 * Whether fewer than min_free bytes are free where events go. While twice as much is free, it is
 * checked at most once a second. The disk of a shared store is not seen: false.
 */
bool store_is_full(struct store *store, long long min_free);

/* Whether nothing was ever put. In doubt false: 503 makes the sender try again, a 200 does not. */
bool store_is_empty(struct store *store);

/* ---- held requests: not verified yet, kept on this host ---- */

/* How much may be held, all processes together: anyone can send it. */
#define STORE_HELD_MAX 64
#define STORE_HELD_BYTES_MAX (1024 * 1024)

/* store_is_full(), of the place that held requests go to. */
bool store_held_is_full(struct store *store, long long min_free);

/* Hold a request that arrived at that time. STORE_FULL also if no more may be held. */
enum store_result store_hold(struct store *store, const struct record *record,
    struct timespec arrival, struct error *error);

/*
 * Names of held requests in the order of arrival, an array that ends with NULL and is freed
 * with store_held_free(). Returns how many, or -1 with *error.
 */
int store_held(struct store *store, char ***names, struct error *error);
void store_held_free(char **names);

/* Read one. STORE_OK: the caller frees the entry; STORE_ABSENT: it is gone; else *error. */
enum store_result store_held_read(struct store *store, const char *name, struct entry *entry,
    struct error *error);

/* Remove one; that it is gone already is fine. */
enum store_result store_held_remove(struct store *store, const char *name, struct error *error);

/* ---- work queue ---- */

/*
 * Begin to move events. STORE_BUSY: another process does, with wait after 10 minutes still;
 * *error says so. Lasts until store_work_end() or the end of the process. A shared store is
 * never busy: drains on several hosts share the work by lanes.
 */
enum store_result store_work_begin(struct store *store, bool wait, struct error *error);
void store_work_end(struct store *store);

/*
 * Note that handlers are run at the time now, Unix seconds, for store_count(). That it cannot
 * be noted is fine.
 */
void store_note_run(struct store *store, int64_t now);

/*
 * Commit what a crash or a power cut left uncommitted. It repairs nothing: what is there is
 * whole. It may run at any moment, beside receivers. *committed: how many events.
 */
enum store_result store_recover(struct store *store, long *committed, struct error *error);

/* An event that waits. */
struct store_waiting {
	const char *name;
	int64_t when;  /* when it was generated, nanoseconds since 1970: the order */
	int64_t tried; /* when it was last tried, Unix seconds; 0: never */
	int64_t due;   /* not before, Unix seconds; 0: now; INT64_MAX: it is no work yet */
	uint64_t lane; /* ordering key: events of one lane are handled in order */
};

struct store_pending {
	int64_t now; /* Unix seconds */
	/* Called for each event that waits, in no order. A result other than 0 ends it: stopped. */
	int (*visit)(const struct store_waiting *waiting, void *data);
	void *data;
	int stopped;
	int refused;   /* out: EX_OK, or the exit status of files that cannot be read or moved */
	bool arriving; /* out: an event is being accepted, and is no work yet */
};

/*
 * Commit, then visit all that waits; afterwards each event visited may be finished. A file
 * of another user that cannot be read or moved is logged once, and keeps only its lane waiting
 * (one that cannot be read: nothing else).
 * Called between store_work_begin() and store_work_end(). STORE_OK, STORE_FAILED.
 */
enum store_result store_pending(struct store *store, struct store_pending *pending,
    struct error *error);

/*
 * A lane is worked on by one drain at a time: claim it before an event of it is loaded, renew
 * it each STORE_RENEW_SECONDS while a handler runs, release it after the outcome is recorded.
 * The spool, which has one drain, does nothing. Claim: STORE_BUSY: another drain has it. Renew:
 * STORE_ABSENT: another drain has taken it over; the handler's result counts no more.
 */
#define STORE_RENEW_SECONDS 10
enum store_result store_claim(struct store *store, uint64_t lane, struct error *error);
enum store_result store_renew(struct store *store, uint64_t lane, struct error *error);
void store_release(struct store *store, uint64_t lane);

/* An event in work. */
struct store_work {
	char name[STORE_NAME_SIZE];
	struct entry entry;
	struct handler_state state;           /* of the tries before this one */
	char path[STORE_PATH_SIZE]; /* a file with its record, for a handler */
	int file;                             /* the store's own, and the rest, too */
	bool parked;
	struct store_identity {
		uint64_t device, inode, size;
		struct timespec written;
	} identity; /* of its file while that is closed */
};

/*
 * Take an event of a claimed lane into work. After STORE_OK the caller calls store_unload().
 * STORE_ABSENT: another program has handled it. STORE_BUSY: it is not its turn, for another drain
 * has changed the lane since store_pending(). STORE_INVALID: what is stored is no event, and only
 * its lane waits.
 */
enum store_result store_load(struct store *store, const char *name, struct store_work *work,
    struct error *error);
void store_unload(struct store *store, struct store_work *work);

/*
 * Give back the record's text and what else an event in work holds open, for many are in work
 * at once. Its outcome can be recorded as before, and store_unload() is still due.
 */
void store_park(struct store *store, struct store_work *work);

/*
 * Its handler succeeded: it leaves the queue. STORE_ABSENT: the lane is lost, and the event is
 * another drain's.
 */
enum store_result store_done(struct store *store, struct store_work *work, struct error *error);

/* It waits for its retry at state->due_at. STORE_ABSENT: another program has handled it. */
enum store_result store_later(struct store *store, struct store_work *work,
    const struct handler_state *state, struct error *error);

/* It becomes a dead letter; the state says why. STORE_ABSENT: another program has handled it. */
enum store_result store_fail(struct store *store, struct store_work *work,
    const struct handler_state *state, struct error *error);

/*
 * The same for many, in as few steps as the store has for that: results[i] is what the call for
 * one would return, without an error. STORE_OK; or STORE_FAILED: some may be done, and results are
 * not filled in, and nothing is loaded. The lanes are all different.
 */
enum store_result store_claim_many(struct store *store, const uint64_t *lanes, size_t count,
    enum store_result *results, struct error *error);
enum store_result store_renew_many(struct store *store, const uint64_t *lanes, size_t count,
    enum store_result *results, struct error *error);
void store_release_many(struct store *store, const uint64_t *lanes, size_t count);
enum store_result store_load_many(struct store *store, const char *const *names,
    struct store_work *const *works, size_t count, enum store_result *results,
    struct error *error);
enum store_result store_done_many(struct store *store, struct store_work *const *works,
    size_t count, enum store_result *results, struct error *error);

/* ---- operator ---- */

enum store_status { STORE_NEW, STORE_WAITING, STORE_DEAD, STORE_HANDLED };
/* "new", "waiting" (for a retry), "failed", "handled" */
const char *store_status_text(enum store_status status);

/* Which events to visit. */
struct store_filter {
	unsigned statuses; /* bits 1 << enum store_status; 0: all */
	const char *type;  /* or the beginning of one, up to a dot; NULL: any */
	const char *npn;   /* NULL: any */
	int64_t since;     /* received at or after, nanoseconds since 1970; 0: ever */
	bool invalid;      /* with statuses: also files that are no events */
};

struct store_item;
/* Whether an event matches. */
bool store_filter_matches(const struct store_filter *filter, const struct store_item *item);

/* An event as an administrator sees it. */
struct store_item {
	const char *name;
	enum store_status status;
	struct handler_state state; /* all zero where there is none */
	struct entry entry;
	char path[STORE_PATH_SIZE]; /* of its record; "" if it is in no file */
	const char *invalid; /* why it is no event after all, and entry is empty; else NULL */
};

/*
 * Visit the events that match the filter, in the order of their arrival. A visit that returns
 * other than 0 ends it. Files that are no events are visited only if the filter is all zero, or
 * asks for them.
 * STORE_OK; or STORE_FAILED, also if single events could not be read: the others were visited.
 */
enum store_result store_each(struct store *store, const struct store_filter *filter,
    int (*visit)(const struct store_item *item, void *data), void *data, struct error *error);

/*
 * Find an event by its webhook-id, its name, or a path that ends with its name. STORE_OK with its
 * name, STORE_ABSENT or STORE_FAILED.
 */
enum store_result store_lookup(struct store *store, const char *id, char name[STORE_NAME_SIZE],
    struct error *error);

/*
 * Read one event. After STORE_OK the caller frees item->entry; item->name is name. STORE_INVALID:
 * it is no event.
 */
enum store_result store_get(struct store *store, const char *name, struct store_item *item,
    struct error *error);

/* ---- pages: newest first, and never a visit to everything ---- */

/* Room for a cursor and a NUL. */
#define STORE_CURSOR_SIZE (STORE_NAME_SIZE + 32)

struct store_page {
	struct store_filter filter;
	int64_t until; /* received before, nanoseconds; 0: ever */
	long limit;    /* so many events are visited at most */
	int64_t deadline; /* clock_milliseconds() at which a page of the spool ends; 0: none */
	/*
	 * In: "" for the newest, or where an earlier page ended. Out: where this one ended, which may
	 * be before the limit, for only so much is looked at in one call; "": there is no more.
	 */
	char cursor[STORE_CURSOR_SIZE];
	int64_t reached; /* out: when the last one that was looked at was received; 0: none was */
	void (*visit)(const struct store_item *item, void *data);
	void *data;
};

/*
 * Visit the next events that match, the newest first. STORE_INVALID: this store does not know
 * their order without a look at all of them: handled events of the spool, and of a spool in
 * which more than 10,000 wait. The attempts log knows it. A cursor of another store, or one that
 * was changed, is STORE_INVALID, too.
 */
enum store_result store_page(struct store *store, struct store_page *page, struct error *error);

/* How much waits. */
struct store_tally {
	long waiting, failed, held;
	bool more_waiting, more_failed; /* these are not all: the time was over */
	int64_t oldest; /* Unix seconds when the oldest that waits was queued; 0: none, or not known */
};

/*
 * Count names, and look at no more than 10,000 events. budget_ms: the spool gives up to so many
 * milliseconds to the events that wait, and to those that failed; 0: all the time that it takes.
 */
enum store_result store_tally(struct store *store, int64_t now, int budget_ms,
    struct store_tally *tally, struct error *error);

/*
 * The JSON of an event, which the caller frees: a row of `psapi list --json`; and what `psapi show
 * --json` prints, but for its member "event", which is the body as it was signed.
 */
json_t *store_json_row(const struct store_item *item);
json_t *store_json_details(const struct store_item *item);

/*
 * Of many moves one did not go well, which does not stop the others: keep the worst result and the
 * first error that gave it, and log other failures. *error is written if *result was STORE_OK.
 */
void store_add_result(enum store_result *result, struct error *error, enum store_result one,
    const struct error *own);

/*
 * The administrator's moves, between store_work_begin() and store_work_end(), durable when they
 * return. retry: a dead letter goes back to the queue, and an event that waits for its retry is due
 * at once; both as if they had never been tried. replay: a handled event goes back to the
 * queue. finish: an event that waits or failed counts as handled. Names whose event has another
 * status, or is still arriving, are left out, and by retry one whose lane another process works
 * on: then the result is STORE_INVALID; STORE_FAILED if one could not be moved. *error is about the
 * first that gave the result; other failures are logged. *moved: how many were moved.
 */
enum store_result store_retry(struct store *store, const char *const *names, size_t count,
    size_t *moved, struct error *error);
enum store_result store_replay(struct store *store, const char *const *names, size_t count,
    size_t *moved, struct error *error);
enum store_result store_finish(struct store *store, const char *name, struct error *error);

struct store_forgetting {
	int64_t before; /* received before, Unix seconds */
	int64_t now;
	bool dry_run;
	void (*visit)(const char *name, int64_t received, void *data); /* each that goes; or NULL */
	void *data;
	size_t forgotten, kept; /* out */
};

/*
 * Forget handled events that are old. What they say of producers stays: it is durable before an
 * event is removed, and a call that was cut short can be repeated.
 */
enum store_result store_forget(struct store *store, struct store_forgetting *forgetting,
    struct error *error);

/*
 * Add to an empty roster what the events that were generated until then say (at, nanoseconds;
 * INT64_MAX: all), also the forgotten ones. It needs no memory for events, only for producers.
 * STORE_OK or STORE_FAILED, also if a single event could not be read.
 */
enum store_result store_roster(struct store *store, int64_t at, struct roster *roster,
    struct error *error);

/*
 * Add to an empty roster what forgotten events said (all of it, if it is one of every mark), and
 * until when they were received.
 */
enum store_result store_forgotten(struct store *store, struct roster *roster, struct error *error);

/* How many events, requests and files there are. Times are Unix seconds; 0: none, never. */
struct store_counts {
	long waiting;        /* events that are not handled yet */
	long overdue;        /* of these: due, and arrived over an hour ago */
	long retrying;       /* of these: wait for a retry */
	int64_t oldest;      /* when the oldest overdue one arrived */
	int64_t oldest_waiting; /* when the oldest of all that wait arrived */
	long failed, held;
	long leftovers;      /* files of writers that died over an hour ago */
	int64_t drained;     /* when handlers were last run */
	long unrecognised;   /* files in new/ that are no events, and are not counted as waiting */
	char unrecognised_name[256]; /* of the first, untrusted */
	const char *unrecognised_why; /* static */
	long standbys;       /* synchronous ones of a shared store; -1: there is none, or not known */
};

/* Count. It takes no longer for many handled events. */
enum store_result store_count(struct store *store, int64_t now, struct store_counts *counts,
    struct error *error);

/* ---- notes: small texts that this host keeps for the programs themselves ---- */

enum store_note {
	STORE_NOTE_METRICS, /* totals of the attempts log */
	STORE_NOTE_RUNS,    /* totals of handler runs */
	STORE_NOTE_CHECK,   /* the last verdict of psapi check */
	STORE_NOTE_ALERTS,  /* what psapi check has sent */
	STORE_NOTE_DOCTOR,  /* the last results of psapi doctor */
	STORE_NOTE_LEFT_OUT /* which files in new/ and failed/ the last import left out, a line each */
};
#define STORE_NOTE_SIZE (64 * 1024)

/*
 * Exclude other processes: that change notes, for a moment, and it waits for at most 5 s; or that
 * send alerts, and it does not wait. Returns a number for store_unlock(), or -1 with *error.
 */
enum store_lock { STORE_LOCK_NOTES, STORE_LOCK_ALERTS };
int store_lock(struct store *store, enum store_lock what, struct error *error);
void store_unlock(struct store *store, int lock);

/*
 * A note as text of less than STORE_NOTE_SIZE bytes, which the caller frees; NULL if there is none,
 * or it cannot be read.
 */
char *store_note_read(struct store *store, enum store_note note);

/*
 * Replace a note, also on a full disk if it needs no more blocks than before. Readers see the old
 * or the new one; it is not synced. STORE_OK, or STORE_FAILED.
 */
enum store_result store_note_write(struct store *store, enum store_note note, const char *text,
    struct error *error);

/* ---- a shared store alone: on the spool these are STORE_INVALID, or do nothing ---- */

/* Make its tables; that they are there is fine. *made: they were not. */
enum store_result store_init(struct store *store, bool *made, struct error *error);

/* Its nodes, sizes and backlog: a JSON object as text, which the caller frees; NULL with *error. */
char *store_status(struct store *store, struct error *error);

/* What doctor and `psapi-fcgi -t` look at: one visit for each thing. */
struct store_check {
	const char *name;
	enum { STORE_CHECK_OK, STORE_CHECK_FAILED, STORE_CHECK_REMARK } result;
	char text[400];
	char remedy[400]; /* lines; "" of STORE_CHECK_OK */
};
/*
 * STORE_OK, whatever the visits said; or STORE_FAILED: it was not reached, and another operation
 * would wait for the same.
 */
enum store_result store_check(struct store *store,
    void (*visit)(const struct store_check *check, void *data), void *data, struct error *error);

/*
 * Import an event of another store, with its status and state; one that is there already stays
 * as it is. Handled events are committed in batches, the others by store_import_end() all
 * at once: no drain sees a lane without its earlier events. *imported: how many were new.
 */
enum store_result store_import(struct store *store, const struct store_item *item,
    struct error *error);
enum store_result store_import_end(struct store *store, size_t *imported, struct error *error);
/* Note in the spool that all events that were in it at that time (Unix seconds) are imported. */
void store_note_import(struct store *store, int64_t at);

/* Import what another store's store_forgotten() said, to a roster of every mark. */
enum store_result store_import_forgotten(struct store *store, const struct roster *roster,
    struct error *error);

/* Keep a copy of a line of the attempts log (at: nanoseconds). Never waits: it may be lost. */
void store_attempt(struct store *store, int64_t at, const char *line, size_t length);
/* Send the copies, where that delays no answer. */
void store_attempts_send(struct store *store);

/*
 * Where a reader of new copies stands; all zero at first. Copies have serial numbers, but become
 * visible in another order: a number that is missing is looked for again for a minute.
 */
#define STORE_ATTEMPTS_GAPS 4096
struct store_attempts_follow {
	int64_t after; /* the highest number that was seen; 0: there was none */
	size_t gaps;   /* lower ones that were not seen */
	struct {
		int64_t serial, until; /* clock_milliseconds() */
	} gap[STORE_ATTEMPTS_GAPS];
};

struct store_attempts {
	int64_t since; /* nanoseconds; 0: ever */
	long last;     /* the last so many; negative: all */
	const char *outcome; /* NULL: any */
	/* NULL, or visit only what is new since the last call with it, whatever last says. */
	struct store_attempts_follow *follow;
	long first; /* of what is new, so many at most, those with the lowest numbers; 0: all */
	/* In the order of time; what is new, in the order of the copies. Returns 0. */
	int (*visit)(const char *host, const char *line, void *data);
	void *data;
};
enum store_result store_attempts(struct store *store, struct store_attempts *query,
    struct error *error);

/* A page of what all hosts logged, the newest first. */
struct store_attempts_page {
	int64_t at, serial; /* in: only what is before both, 0 and 0: the newest; out: the last one */
	long count;         /* lines at most; out: how many there were */
	int (*visit)(const char *host, const char *line, int64_t at, int64_t serial, void *data);
	void *data;
};
enum store_result store_attempts_page(struct store *store, struct store_attempts_page *page,
    struct error *error);

/* What the sandbox must leave to it. */
struct store_network {
	bool wanted;              /* sockets */
	bool names;               /* the resolver: its files, and DNS */
	unsigned short ports[16]; /* TCP; 0: no more */
	char files[8][STORE_PATH_SIZE];  /* to be read, with their directories; "": no more */
};
void store_network(struct store *store, struct store_network *network);

#endif
