/*
 * A file of the spool read back, whatever is in it: refused with a reason, or what record_make()
 * writes of it reads as the same event again. The same bytes as a state are harmless.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "store/entry.h"
#include "events.h"
#include "oracle.h"
#include "store/record.h"
#include "store/spool/spool.h"
#include "store/spool/handler_state.h"
#include "base/datetime.h"

static char directory[] = "/dev/shm/psapi-fuzz-XXXXXX";
static const char name[] = "msg_1.json";
static struct spool spool;

static void
clean_up(void)
{
	for (int i = 0; i < SPOOL_DIRS; i++) {
		unlinkat(spool.dir[i], name, 0);
		unlinkat(spool.root, spool_dir_names[i], AT_REMOVEDIR);
	}
	rmdir(directory);
}

static void
start(void)
{
	char why[512];

	MUST(mkdtemp(directory) != NULL && spool_open(&spool, directory, true, why, sizeof(why)) == 0);
	atexit(clean_up);
}

static void
put(enum spool_dir dir, const uint8_t *data, size_t size)
{
	int fd = openat(spool.dir[dir], name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);

	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	close(fd);
}

static void
put_record(const struct entry *entry)
{
	int64_t seconds = entry->received / NANOSECONDS - (entry->received % NANOSECONDS < 0);
	struct evidence evidence = {
		.id = entry->id,
		.id_length = strlen(entry->id),
		.timestamp = entry->timestamp,
		.timestamp_length = strlen(entry->timestamp),
		.signature = entry->signature,
		.signature_length = strlen(entry->signature),
		.received_at = {seconds, entry->received - seconds * NANOSECONDS},
	};
	struct record record;
	int fd = openat(spool.dir[SPOOL_NEW], name, O_WRONLY | O_TRUNC | O_CLOEXEC);

	MUST(record_make(&record, &evidence, entry->body, entry->body_length,
	         entry->decoded == NULL) == 0);
	MUST(fd >= 0 && writev(fd, record.iov, record.count) > 0);
	close(fd);
	record_free(&record);
}

static void
check_again(const struct entry *entry)
{
	struct entry again;
	const char *why;

	put_record(entry);
	MUST(entry_read(spool.dir[SPOOL_NEW], name, &again, &why) == ENTRY_OK);
	MUST(strcmp(again.id, entry->id) == 0 && strcmp(again.timestamp, entry->timestamp) == 0);
	MUST(strcmp(again.signature, entry->signature) == 0);
	MUST(again.body_length == entry->body_length &&
	    memcmp(again.body, entry->body, entry->body_length) == 0);
	/* Written to the millisecond. */
	MUST(again.received <= entry->received && entry->received - again.received < 1000000);
	MUST(entry_lane(&again.event) == entry_lane(&entry->event));
	entry_free(&again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct entry entry;
	struct handler_state state;
	const char *why = NULL;

	if (spool.root == 0)
		start();
	put(SPOOL_NEW, data, size);
	put(SPOOL_STATE, data, size);
	switch (entry_read(spool.dir[SPOOL_NEW], name, &entry, &why)) {
	case ENTRY_OK:
		check_again(&entry);
		entry_free(&entry);
		break;
	case ENTRY_ODD:
		MUST(why != NULL && *why != '\0');
		break;
	case ENTRY_ABSENT:
	case ENTRY_ERROR:
		MUST(false);
	}
	if (handler_state_read(&spool, name, &state))
		MUST(strlen(state.stderr_end) <= HANDLER_STATE_STDERR_MAX && state.tries >= 0);
	return 0;
}
