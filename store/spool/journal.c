/*
 * Owns the journal's files: how batches of events get there, when they are emptied, and
 * what is read back from them.
 *
 *   block 0      header: which boot of the machine, which generation
 *   block 1...   batches: header, records; each begins a block
 *
 * A batch counts if it has the file's generation, follows the one before it, and its SHA-256 is right: the first that
 * does not is where the power went. Emptying is a header of the next generation.
 *
 * Who writes: the thread that is first in a batch. It waits until the batch before is written, and meanwhile others join;
 * then they wait for it, and the next batch gathers. Who empties: the keeper, a thread, when a file is three quarters
 * full or a second old. It has the files change places at a moment when no event is half stored (the lock `stores`),
 * so that all that is recorded in the other has its names; then syncfs(2) puts files and names on the disk.
 */
#define _GNU_SOURCE
#include "store/spool/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include "base/crypto.h"
#include "base/log.h"
#include "verify.h"

/* The tests of power cuts make them smaller, for they keep every state of them. */
#ifndef JOURNAL_FILE_SIZE
#define JOURNAL_FILE_SIZE (8 << 20)
#define JOURNAL_BATCH_SIZE (128 << 10)
#endif

#define MAGIC "psapi journal 1"
#define PREFIX "journal."

enum {
	BLOCK = 4096,
	FILE_SIZE = JOURNAL_FILE_SIZE,
	FULL_ENOUGH = FILE_SIZE / 4 * 3,
	BATCH_SIZE = JOURNAL_BATCH_SIZE,
	BOOT_SIZE = 40, /* a UUID, proc_sys_kernel(5) */
	DIGEST_SIZE = 65,
	FILES = 2,
	LOCK_WAIT_MS = 10000, /* for another recovery */
	LOCK_NAP_MS = 10,
	KEEP_SECONDS = 1 /* a record is in the journal alone for about as long */
};

struct file_header {
	char magic[16];
	char boot[BOOT_SIZE];
	uint64_t generation;
	char digest[DIGEST_SIZE]; /* of all above */
};

struct batch_header {
	uint64_t generation;
	uint64_t number; /* in the file, from 0 */
	uint64_t length; /* of the records */
	char digest[DIGEST_SIZE]; /* of the records */
};

/* Followed by the name, without NUL, and the contents. */
struct record_header {
	uint32_t length;
	uint16_t name_length;
	uint16_t queue; /* enum spool_dir */
};

enum { RECORDS_AT = (sizeof(struct batch_header) + 7) / 8 * 8 };

/* A batch on its way: room for its header, and records. */
struct batch {
	char *text;
	size_t length; /* of the records */
};

struct journal_file {
	int fd;
	off_t end;       /* where the next batch goes */
	uint64_t number; /* of the next batch */
	uint64_t generation;
	bool recorded; /* it holds what was not yet synced for good */
};

enum keeper { KEEPER_NONE, KEEPER_RUNS, KEEPER_ENDED };

struct journal {
	struct spool *spool;
	char prefix[64]; /* of the files' names */
	char boot[BOOT_SIZE];
	pthread_rwlock_t stores; /* held for reading while an event is stored, for writing to change files */

	pthread_mutex_t lock; /* all below */
	pthread_cond_t written[2]; /* an even batch is, an odd one: who is in the next is not woken for nothing */
	pthread_cond_t next;       /* may be written: its first, and nobody else, waits for that */
	pthread_cond_t to_do;     /* for the keeper */
	pthread_cond_t done;      /* the keeper has ended */
	struct journal_file files[FILES];
	int current;
	struct batch gathering, writing;
	uint64_t gathered, durable; /* numbers of batches: of the gathering one; the last on the disk */
	bool is_writing, usable, full, ending;
	bool doubted; /* a sync failed, and a later one that does not says nothing: recovery looks at the disk */
	enum keeper keeper;
	uint64_t broken; /* the first batch that could not be written, 0: none */
	pthread_t thread;
};

/* ---- where there can be one ---- */

/* Whether syncfs(2) tells that data did not get to the disk: since Linux 5.8, says its manual page. */
static bool
sync_tells(void)
{
	struct utsname name;
	int major = 0, minor = 0;

	return uname(&name) == 0 && sscanf(name.release, "%d.%d", &major, &minor) == 2 &&
	    (major > 5 || (major == 5 && minor >= 8));
}

/* Hard links keep all that counts on the file system of tmp/. */
static int
sync_all(const struct spool *spool)
{
	return syncfs(spool->dir[SPOOL_TMP]);
}


/* Where /proc does not say (systemd's ProcSubset=pid), it is empty, and no boot is this one. */
static void
read_boot(char boot[BOOT_SIZE])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);

	memset(boot, 0, BOOT_SIZE);
	if (fd >= 0 && read(fd, boot, BOOT_SIZE - 1) < 0)
		*boot = '\0';
	if (fd >= 0)
		close(fd);
}

/* ---- a file ---- */

static void
file_name(const struct journal *journal, char *name, size_t size, int number)
{
	snprintf(name, size, "%s.%d", journal->prefix, number);
}

static int
write_at(int fd, const void *data, size_t length, off_t at)
{
	const char *text = data;

	while (length > 0) {
		ssize_t n = pwrite(fd, text, length, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		text += n;
		length -= (size_t)n;
		at += n;
	}
	return 0;
}

static int
sync_data(int fd)
{
	int result;

	do
		result = fdatasync(fd);
	while (result != 0 && errno == EINTR);
	return result;
}

/* The file is empty, of the next generation, and the disk knows it. */
static int
empty_file(struct journal *journal, struct journal_file *file)
{
	char block[BLOCK] = "";
	struct file_header header = {.magic = MAGIC, .generation = file->generation + 1};

	memcpy(header.boot, journal->boot, BOOT_SIZE);
	if (crypto_sha256_hex(&header, offsetof(struct file_header, digest), header.digest) != 0) {
		errno = ENOMEM;
		return -1;
	}
	memcpy(block, &header, sizeof(header));
	if (write_at(file->fd, block, BLOCK, 0) != 0 || sync_data(file->fd) != 0)
		return -1;
	file->generation++;
	file->number = 0;
	file->end = BLOCK;
	file->recorded = false;
	return 0;
}

/*
 * A new file that is locked (LOCK_SH; recovery takes LOCK_EX): while we live it is ours. A recovery that
 * meets it before it is locked takes it for a dead process's and removes it; then there is another.
 */
static int
make_locked(int tmp, const char *name)
{
	for (;;) {
		int fd = openat(tmp, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
		struct stat st;
		int result;
		if (fd < 0)
			return -1;
		do
			result = flock(fd, LOCK_SH);
		while (result != 0 && errno == EINTR);
		result = result == 0 ? fstat(fd, &st) : result;
		if (result == 0 && st.st_nlink > 0)
			return fd;
		int saved = errno;
		close(fd);
		if (result != 0) {
			unlinkat(tmp, name, 0);
			errno = saved;
			return -1;
		}
	}
}

/* Its blocks are there before it is used: writing one later changes no metadata, which is what makes it quick. */
static int
make_file(struct journal *journal, int number)
{
	struct journal_file *file = &journal->files[number];
	char name[80];
	static const char zeros[1 << 16]; /* of which FILE_SIZE is a multiple */
	int result = 0;

	file_name(journal, name, sizeof(name), number);
	file->fd = make_locked(journal->spool->dir[SPOOL_TMP], name);
	if (file->fd < 0)
		return -1;
	for (off_t at = 0; result == 0 && at < FILE_SIZE; at += (off_t)sizeof(zeros))
		result = write_at(file->fd, zeros, sizeof(zeros), at);
	return result == 0 ? empty_file(journal, file) : -1;
}

static void
remove_files(struct journal *journal)
{
	int saved = errno;
	char name[80];

	for (int i = 0; i < FILES; i++) {
		if (journal->files[i].fd < 0)
			continue;
		file_name(journal, name, sizeof(name), i);
		unlinkat(journal->spool->dir[SPOOL_TMP], name, 0);
		close(journal->files[i].fd);
		journal->files[i].fd = -1;
	}
	fsync(journal->spool->dir[SPOOL_TMP]); /* or they come back after a power cut */
	errno = saved;
}

/* Four times what the files take: a disk that is nearly full is not to be filled by them. */
static bool
has_room(const struct spool *spool)
{
	struct statvfs st;

	if (fstatvfs(spool->dir[SPOOL_TMP], &st) != 0 ||
	    st.f_bavail * st.f_frsize >= (unsigned long long)4 * FILES * FILE_SIZE)
		return true;
	errno = ENOSPC;
	return false;
}

int
journal_prepare(struct journal *journal)
{
	int result = has_room(journal->spool) ? 0 : -1;

	for (int i = 0; i < FILES && result == 0; i++)
		result = make_file(journal, i);
	if (result == 0)
		result = spool_sync(journal->spool, SPOOL_TMP); /* their names */
	if (result == 0 && (journal->gathering.text = malloc(BATCH_SIZE)) != NULL &&
	    (journal->writing.text = malloc(BATCH_SIZE)) != NULL) {
		pthread_mutex_lock(&journal->lock);
		journal->usable = true;
		pthread_mutex_unlock(&journal->lock);
		return 0;
	}
	remove_files(journal);
	return -1;
}

/* ---- the keeper ---- */

static void
journal_broke(const struct journal *journal, int error)
{
	log_line("%s/tmp: journal: %s: each event is synced by itself", journal->spool->path, strerror(error));
}

void
journal_turn(struct journal *journal)
{
	pthread_rwlock_wrlock(&journal->stores); /* no event is half stored */
	pthread_mutex_lock(&journal->lock);
	struct journal_file *file = &journal->files[journal->current];
	journal->current = (journal->current + 1) % FILES;
	journal->full = false;
	pthread_mutex_unlock(&journal->lock);
	pthread_rwlock_unlock(&journal->stores);
	bool synced = sync_all(journal->spool) == 0;
	if (synced && empty_file(journal, file) == 0)
		return;
	journal_broke(journal, errno);
	pthread_mutex_lock(&journal->lock);
	journal->doubted = !synced;
	journal->usable = false;
	pthread_mutex_unlock(&journal->lock);
}

/* The end of the journal: what it has recorded is synced for good, or left to recovery. */
static void
finish(struct journal *journal)
{
	bool recorded = false;

	pthread_rwlock_wrlock(&journal->stores);
	pthread_rwlock_unlock(&journal->stores);
	for (int i = 0; i < FILES; i++)
		recorded = recorded || journal->files[i].recorded;
	if (!recorded || (!journal->doubted && sync_all(journal->spool) == 0))
		remove_files(journal);
}

static void *
keep(void *data)
{
	struct journal *journal = data;
	struct timespec until;

	if (journal_prepare(journal) != 0)
		journal_broke(journal, errno);
	pthread_mutex_lock(&journal->lock);
	while (journal->usable && !journal->ending) {
		if (!journal->files[journal->current].recorded) {
			pthread_cond_wait(&journal->to_do, &journal->lock);
			continue;
		}
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += KEEP_SECONDS;
		while (journal->usable && !journal->ending && !journal->full &&
		    pthread_cond_timedwait(&journal->to_do, &journal->lock, &until) == 0)
			;
		if (!journal->usable || journal->ending)
			break; /* finish() syncs, too, and there is nothing to be emptied for */
		pthread_mutex_unlock(&journal->lock);
		journal_turn(journal);
		pthread_mutex_lock(&journal->lock);
	}
	journal->usable = false;
	pthread_mutex_unlock(&journal->lock);
	finish(journal);
	pthread_mutex_lock(&journal->lock);
	journal->keeper = KEEPER_ENDED;
	pthread_cond_signal(&journal->done);
	pthread_mutex_unlock(&journal->lock);
	return NULL;
}

/* ---- recording ---- */

struct journal *
journal_open(struct spool *spool)
{
	struct journal *journal = calloc(1, sizeof(*journal));
	pthread_rwlockattr_t writer_first;
	pthread_condattr_t monotonic;
	struct timespec now;

	if (journal == NULL || !sync_tells()) {
		free(journal);
		return NULL;
	}
	read_boot(journal->boot);
	clock_gettime(CLOCK_REALTIME, &now);
	snprintf(journal->prefix, sizeof(journal->prefix), PREFIX "%lld.%09ld.%ld", (long long)now.tv_sec,
	    now.tv_nsec, (long)getpid());
	journal->spool = spool;
	journal->gathered = 1;
	for (int i = 0; i < FILES; i++)
		journal->files[i].fd = -1;
	pthread_rwlockattr_init(&writer_first);
	/* Else a crowd would keep the keeper out for good. */
	pthread_rwlockattr_setkind_np(&writer_first, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&journal->stores, &writer_first);
	pthread_rwlockattr_destroy(&writer_first);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_mutex_init(&journal->lock, NULL);
	for (int i = 0; i < 2; i++)
		pthread_cond_init(&journal->written[i], NULL);
	pthread_cond_init(&journal->next, NULL);
	pthread_cond_init(&journal->to_do, &monotonic);
	pthread_cond_init(&journal->done, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return journal;
}

bool
journal_begin(struct journal *journal)
{
	pthread_mutex_lock(&journal->lock);
	if (journal->keeper == KEEPER_NONE && journal->files[0].fd < 0 &&
	    pthread_create(&journal->thread, NULL, keep, journal) == 0)
		journal->keeper = KEEPER_RUNS;
	bool usable = journal->usable && journal->files[journal->current].end < FULL_ENOUGH;
	pthread_mutex_unlock(&journal->lock);
	/* Not while the files change places, or wait to: who is slow with an event would hold up all. */
	return usable && pthread_rwlock_tryrdlock(&journal->stores) == 0;
}

void
journal_end(struct journal *journal)
{
	pthread_rwlock_unlock(&journal->stores);
}

/* Writes what has gathered. The lock is held, and given up. Returns whether it is on the disk. */
static bool
write_batch(struct journal *journal)
{
	struct journal_file *file = &journal->files[journal->current];
	struct batch batch = journal->gathering;
	uint64_t mine = journal->gathered++;

	journal->gathering = journal->writing;
	journal->gathering.length = 0;
	journal->writing = batch;
	journal->is_writing = true;
	pthread_mutex_unlock(&journal->lock);
	/* Only who holds `is_writing` changes the file, and the keeper, when nobody stores. */
	struct batch_header header = {.generation = file->generation, .number = file->number,
	    .length = batch.length};
	size_t length = (RECORDS_AT + batch.length + BLOCK - 1) / BLOCK * BLOCK;
	int hashed = crypto_sha256_hex(batch.text + RECORDS_AT, batch.length, header.digest);
	memcpy(batch.text, &header, sizeof(header));
	memset(batch.text + RECORDS_AT + batch.length, 0, length - RECORDS_AT - batch.length);
	bool good = hashed == 0 && write_at(file->fd, batch.text, length, file->end) == 0 &&
	    sync_data(file->fd) == 0;
	if (!good)
		journal_broke(journal, hashed == 0 ? errno : ENOMEM);
	pthread_mutex_lock(&journal->lock);
	file->end += (off_t)length;
	file->number++;
	journal->is_writing = false;
	if (good) {
		journal->durable = mine;
	} else {
		/* What is written behind it would not be found. */
		journal->broken = mine;
		journal->usable = false;
	}
	if (!good || !file->recorded || file->end >= FULL_ENOUGH) {
		file->recorded = true;
		journal->full = file->end >= FULL_ENOUGH;
		pthread_cond_signal(&journal->to_do);
	}
	pthread_mutex_unlock(&journal->lock);
	/* Without the lock, which is the first thing that they take. */
	pthread_cond_broadcast(&journal->written[mine % 2]);
	pthread_cond_broadcast(&journal->next);
	if (!good)
		pthread_cond_broadcast(&journal->written[(mine + 1) % 2]);
	return good;
}

static size_t
put_record(char *at, const char *name, enum spool_dir queue, const struct iovec *pieces, int count)
{
	struct record_header header = {.name_length = (uint16_t)strlen(name), .queue = (uint16_t)queue};
	char *text = at + sizeof(header) + header.name_length;

	for (int i = 0; i < count; i++) {
		memcpy(text, pieces[i].iov_base, pieces[i].iov_len);
		text += pieces[i].iov_len;
		header.length += (uint32_t)pieces[i].iov_len;
	}
	memcpy(at, &header, sizeof(header));
	memcpy(at + sizeof(header), name, header.name_length);
	return sizeof(header) + header.name_length + header.length;
}

bool
journal_record(struct journal *journal, const char *name, enum spool_dir queue,
    const struct iovec *pieces, int count)
{
	size_t length = sizeof(struct record_header) + strlen(name);

	for (int i = 0; i < count; i++)
		length += pieces[i].iov_len;
	pthread_mutex_lock(&journal->lock);
	/* There must be room for the batch that is being written, and for this one. */
	if (!journal->usable || length > BATCH_SIZE - BLOCK - RECORDS_AT - journal->gathering.length ||
	    journal->files[journal->current].end > FILE_SIZE - 2 * BATCH_SIZE) {
		pthread_mutex_unlock(&journal->lock);
		return false;
	}
	bool first = journal->gathering.length == 0;
	journal->gathering.length += put_record(journal->gathering.text + RECORDS_AT +
	    journal->gathering.length, name, queue, pieces, count);
	uint64_t mine = journal->gathered;
	while (first && journal->is_writing)
		pthread_cond_wait(&journal->next, &journal->lock);
	if (first && journal->broken == 0)
		return write_batch(journal);
	while (journal->durable < mine && journal->broken == 0)
		pthread_cond_wait(&journal->written[mine % 2], &journal->lock);
	bool good = journal->broken == 0 || mine < journal->broken;
	pthread_mutex_unlock(&journal->lock);
	return good;
}

bool
journal_close(struct journal *journal)
{
	struct timespec until;
	int waited = 0;

	if (journal == NULL)
		return true;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += JOURNAL_CLOSE_MS * 1000000L;
	until.tv_sec += until.tv_nsec / 1000000000L;
	until.tv_nsec %= 1000000000L;
	pthread_mutex_lock(&journal->lock);
	journal->ending = true;
	pthread_cond_signal(&journal->to_do);
	while (journal->keeper == KEEPER_RUNS && waited == 0)
		waited = pthread_cond_timedwait(&journal->done, &journal->lock, &until);
	enum keeper keeper = journal->keeper;
	pthread_mutex_unlock(&journal->lock);
	if (keeper == KEEPER_RUNS)
		return false;
	if (keeper == KEEPER_ENDED)
		pthread_join(journal->thread, NULL);
	else
		finish(journal);
	for (int i = 0; i < FILES; i++)
		if (journal->files[i].fd >= 0)
			close(journal->files[i].fd);
	pthread_rwlock_destroy(&journal->stores);
	pthread_mutex_destroy(&journal->lock);
	for (int i = 0; i < 2; i++)
		pthread_cond_destroy(&journal->written[i]);
	pthread_cond_destroy(&journal->next);
	pthread_cond_destroy(&journal->to_do);
	pthread_cond_destroy(&journal->done);
	free(journal->gathering.text);
	free(journal->writing.text);
	free(journal);
	return true;
}

/* ---- reading back ---- */

/* A journal's file as it was found. */
struct remains {
	const char *text; /* all of it, FILE_SIZE bytes */
	struct file_header header;
	bool forgotten; /* the machine has started again since */
};

static bool
is_digest_of(const char *digest, const void *data, size_t length)
{
	char found[DIGEST_SIZE];

	return crypto_sha256_hex(data, length, found) == 0 && memcmp(found, digest, DIGEST_SIZE) == 0;
}

/* Make the events of a batch whole again. Returns how many were not, or -1 with errno. */
static long
replay_batch(struct spool *spool, const char *text, size_t length, bool forgotten)
{
	char name[SPOOL_NAME_SIZE];
	struct record_header header;
	long restored = 0;

	for (const char *end = text + length; (size_t)(end - text) >= sizeof(header);) {
		memcpy(&header, text, sizeof(header));
		text += sizeof(header);
		if (header.name_length >= sizeof(name) ||
		    header.name_length + (size_t)header.length > (size_t)(end - text)) {
			errno = EBADMSG;
			return -1;
		}
		memcpy(name, text, header.name_length);
		name[header.name_length] = '\0';
		text += header.name_length;
		int result = spool_restore(spool, name, (enum spool_dir)header.queue, text, header.length,
		    forgotten);
		if (result < 0)
			return -1;
		restored += result;
		text += header.length;
	}
	return restored;
}

/* Whether there is a batch of that number at that place, whole. */
static bool
read_batch(const struct remains *remains, const char *at, uint64_t number, struct batch_header *header)
{
	size_t left = (size_t)(remains->text + FILE_SIZE - at);

	memcpy(header, at, sizeof(*header));
	return header->generation == remains->header.generation && header->number == number &&
	    header->length <= left - RECORDS_AT &&
	    is_digest_of(header->digest, at + RECORDS_AT, header->length);
}

/* Returns how many events were made again, or -1 with errno. */
static long
replay(struct spool *spool, const struct remains *remains)
{
	const char *at = remains->text + BLOCK, *end = remains->text + FILE_SIZE;
	struct batch_header header;
	long restored = 0;

	for (uint64_t number = 0; at < end && read_batch(remains, at, number, &header); number++) {
		long result = replay_batch(spool, at + RECORDS_AT, header.length, remains->forgotten);
		if (result < 0)
			return -1;
		restored += result;
		at += (RECORDS_AT + header.length + BLOCK - 1) / BLOCK * BLOCK;
	}
	/* Also what was whole: it may be so in the kernel's memory alone. */
	return sync_all(spool) == 0 ? restored : -1;
}

static bool
is_of_this_boot(const struct file_header *header)
{
	char boot[BOOT_SIZE];

	read_boot(boot);
	return *boot != '\0' && memcmp(boot, header->boot, BOOT_SIZE) == 0;
}

/* Returns how many of FILE_SIZE bytes there are, or -1 with errno. */
static ssize_t
read_whole(int fd, char *text)
{
	size_t length = 0;

	while (length < FILE_SIZE) {
		ssize_t n = pread(fd, text + length, FILE_SIZE - length, (off_t)length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n < 0 ? -1 : (ssize_t)length;
		length += (size_t)n;
	}
	return FILE_SIZE;
}

/* A journal that nobody has any more. Returns how many events were made again, or -1 with errno. */
static long
recover_file(struct spool *spool, int fd)
{
	char *text = malloc(FILE_SIZE);
	struct remains remains = {.text = text};
	struct batch_header first;
	long result = -1;

	if (text == NULL)
		return -1;
	ssize_t n = read_whole(fd, text);
	memcpy(&remains.header, text, sizeof(remains.header));
	if (n >= 0 && (n < FILE_SIZE || strcmp(remains.header.magic, MAGIC) != 0 ||
	        !is_digest_of(remains.header.digest, &remains.header, offsetof(struct file_header, digest)) ||
	        !read_batch(&remains, text + BLOCK, 0, &first)))
		result = 0; /* it was never used, or is empty */
	else if (n >= 0 && sync_data(fd) == 0) {
		/* Synced: what is made again now may get lost once more, and must be found again. */
		remains.forgotten = !is_of_this_boot(&remains.header);
		result = replay(spool, &remains);
	}
	free(text);
	return result;
}

/*
 * Take what no live process has. Of two recoveries at once the second waits until the first is done, for it
 * goes on with what the first makes whole. Returns 1 if it is ours, 0 if somebody lives, or -1 with errno.
 */
static int
lock_remains(int fd)
{
	for (int waited = 0; waited < LOCK_WAIT_MS; waited += LOCK_NAP_MS) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return 1;
		if (errno == EWOULDBLOCK && flock(fd, LOCK_SH | LOCK_NB) == 0)
			return 0; /* its owner has LOCK_SH, too */
		if (errno != EWOULDBLOCK && errno != EINTR)
			return -1;
		poll(NULL, 0, LOCK_NAP_MS);
	}
	errno = EWOULDBLOCK;
	return -1;
}

struct recovery {
	long restored;
	bool removed; /* any */
	int error; /* errno of the first that failed, 0: none */
};

static int
recover_if_journal(struct spool *spool, enum spool_dir dir, const char *name, void *data)
{
	struct recovery *recovery = data;
	struct stat st;
	long result = 0;

	if (!journal_is_name(name))
		return 0;
	int fd = openat(spool->dir[dir], name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENXIO))
		return 0; /* gone, or no file of ours */
	int locked = fd < 0 ? -1 : lock_remains(fd);
	if (locked < 0)
		result = -1;
	else if (locked > 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_nlink > 0) {
		result = recover_file(spool, fd);
		if (result >= 0)
			unlinkat(spool->dir[dir], name, 0);
	}
	if (result < 0) {
		recovery->error = recovery->error != 0 ? recovery->error : errno;
		log_line("%s/tmp/%s: recovery of a journal: %s", spool->path, name, strerror(errno));
	} else {
		recovery->restored += result;
		recovery->removed = recovery->removed || locked > 0;
	}
	if (fd >= 0)
		close(fd);
	return 0; /* the next may fare better */
}

bool
journal_is_name(const char *name)
{
	return strncmp(name, PREFIX, strlen(PREFIX)) == 0;
}

long
journal_recover(struct spool *spool)
{
	struct recovery recovery = {0};

	if (spool_each(spool, SPOOL_TMP, recover_if_journal, &recovery) != 0) {
		log_line("%s/%s: recovery: %s", spool->path, spool_dir_names[SPOOL_TMP], strerror(errno));
		return -1;
	}
	if (recovery.removed)
		fsync(spool->dir[SPOOL_TMP]); /* or they come back after a power cut */
	errno = recovery.error;
	return recovery.error == 0 ? recovery.restored : -1;
}
