/*
 * The interposed library: wraps the C library's calls on files and its
 * allocations, counts them, and can make one fail, kill the process at it, write
 * down what it does to the spool, or wait until a driver lets it go on.
 *
 * Everything comes from the environment, so any program can be put under it:
 *   FAULT_AT=n       the call that is meant, counted from 1; 0: none
 *   FAULT_WHAT       "calls" (default) or "allocations"
 *   FAULT_DO         fail=ERRNO, stick=ERRNO, short, kill-before, kill-after
 *   FAULT_ALSO       stick: the names of calls that fail from then on, :openat:linkat:
 *   FAULT_KILL_AT=n  a second fault: killed before the nth call
 *   FAULT_TRACE      file: each call as "n name", leaks at the exit as "leak fd path"
 *   FAULT_LOG        file: what is done below FAULT_ROOT, see oplog.c
 *   FAULT_ROLE       what the process is in that log: "receiver", "drain" ...
 *   FAULT_STEPS=r,w  before each step that others can see: its name to w, a byte from r
 *   FAULT_FAIL=c:d   every call c in directory d fails with the errno FAULT_ERROR
 *   FAULT_WITHOUT    "tmpfile", "proc": what the system does not have
 *   FAULT_WITH       "one_wait": the file system says that it is XFS, where one wait is right
 */
#ifndef SHIM_H
#define SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What becomes of a call. */
enum fate { GO_ON, FAIL, CUT_SHORT };

/* Count a call. With FAIL errno is set. Does not return if it is to be killed before. */
enum fate shim_enter(const char *name);
/* The call was made: kill the process if that is the plan. Preserves errno. */
void shim_leave(void);
bool shim_without(const char *what);
bool shim_with(const char *what);

/* Raw writes, that are neither counted nor logged. */
void shim_say(int fd, const char *text, size_t length);
int shim_open_for_append(const char *path);
extern int shim_trace, shim_log;

/* ---- oplog.c: what was done, for the power cuts ---- */
void oplog_start(void);
void oplog_opened(int fd, const char *path, int flags);
void oplog_written(int fd, off_t offset, const void *data, size_t length);
void oplog_synced(int fd);
void oplog_synced_all(void);
void oplog_linked(int from_dir, const char *from, int to_dir, const char *to);
void oplog_unlinked(int dir, const char *name);
void oplog_renamed(int from_dir, const char *from, int to_dir, const char *to);
void oplog_made(int dir, const char *name);
/*
 * Before a step that others can see, in directory dir or, with -1, the answer: the driver
 * decides who goes on.
 */
void oplog_step(const char *name, int dir);
/* Whether this call in directory dir is the one that FAULT_FAIL forbids; then errno is set. */
bool oplog_forbids(const char *name, int dir);

#endif
