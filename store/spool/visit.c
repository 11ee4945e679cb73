/*
 * Owns visits to many files of a directory in the order of the disk. A directory gives its names
 * in the order of their hashes; files that are read in that order are all over the disk. Sorted
 * by inode, which is the order in which they were made, they are beside each other. Several
 * threads wait for the disk at the same time.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/spool/spool.h"

enum {
	NAMES_MAX = 256 * 1024, /* that are sorted at once */
	TEXT_SIZE = NAMES_MAX * 48,
	STEP = 32 /* names that a thread takes at once */
};

struct name_list {
	struct listed_name {
		ino_t inode;
		size_t name; /* in text */
	} *names;
	char *text;
	size_t count, length;
};

static int
compare(const void *a, const void *b)
{
	const struct listed_name *x = a, *y = b;

	return (x->inode > y->inode) - (x->inode < y->inode);
}

/* Read the next names. Returns 0, or -1 with errno; there are none at the end. */
static int
read_names(DIR *stream, struct name_list *list)
{
	list->count = list->length = 0;
	while (list->count < NAMES_MAX && list->length < TEXT_SIZE - NAME_MAX - 1) {
		errno = 0;
		struct dirent *entry = readdir(stream);
		if (entry == NULL)
			return errno == 0 ? 0 : -1;
		if (entry->d_name[0] == '.')
			continue;
		size_t size = strlen(entry->d_name) + 1;
		list->names[list->count++] = (struct listed_name){entry->d_ino, list->length};
		memcpy(list->text + list->length, entry->d_name, size);
		list->length += size;
	}
	return 0;
}

/* ---- visits, by several threads ---- */

struct visits {
	struct spool *spool;
	enum spool_dir dir;
	const struct name_list *list;
	int (*visit)(struct spool *, enum spool_dir, const char *, void *);
	atomic_size_t next; /* the first name that no thread has taken */
	atomic_int result;  /* of the visit that ended it */
	atomic_int number;  /* errno then */
};

struct visit_thread {
	struct visits *visits;
	pthread_t thread;
	void *data; /* its own */
};

static void *
work(void *argument)
{
	struct visit_thread *own = argument;
	struct visits *visits = own->visits;
	size_t first, count = visits->list->count;
	int result = 0;

	while (atomic_load(&visits->result) == 0 &&
	    (first = atomic_fetch_add(&visits->next, STEP)) < count)
		for (size_t i = first; i < first + STEP && i < count && result == 0; i++) {
			const char *name = visits->list->text + visits->list->names[i].name;
			result = visits->visit(visits->spool, visits->dir, name, own->data);
			if (result == 0)
				continue;
			atomic_store(&visits->number, errno);
			atomic_store(&visits->result, result);
		}
	return NULL;
}

/* Visit all names of the list. A thread that cannot be made leaves its work to the others. */
static int
visit_list(struct visits *visits, void *const *data, size_t threads)
{
	struct visit_thread visit_threads[SPOOL_THREADS];
	size_t made = 1;

	visit_threads[0] = (struct visit_thread){.visits = visits, .data = data[0]};
	for (size_t i = 1; i < threads; i++)
		visit_threads[i] = (struct visit_thread){.visits = visits, .data = data[i]};
	while (made < threads && made * STEP < visits->list->count &&
	    pthread_create(&visit_threads[made].thread, NULL, work, &visit_threads[made]) == 0)
		made++;
	work(&visit_threads[0]);
	for (size_t i = 1; i < made; i++)
		pthread_join(visit_threads[i].thread, NULL);
	errno = atomic_load(&visits->number);
	return atomic_load(&visits->result);
}

static int
visit_all(struct visits *visits, DIR *stream, struct name_list *list, void *const *data,
    size_t threads)
{
	int result = 0;

	do {
		if (read_names(stream, list) != 0)
			return -1;
		qsort(list->names, list->count, sizeof(*list->names), compare);
		atomic_store(&visits->next, 0);
		result = visit_list(visits, data, threads);
	} while (result == 0 && list->count > 0);
	return result;
}

int
spool_each_by_inode(struct spool *spool, enum spool_dir dir,
    int (*visit)(struct spool *, enum spool_dir, const char *, void *), void *const *data,
    size_t threads)
{
	struct name_list list = {.names = calloc(NAMES_MAX, sizeof(*list.names)),
		.text = malloc(TEXT_SIZE)};
	struct visits visits = {.spool = spool, .dir = dir, .list = &list, .visit = visit};
	DIR *stream = list.names == NULL || list.text == NULL ? NULL : spool_open_stream(spool, dir);
	int result = stream == NULL ? -1 : visit_all(&visits, stream, &list, data, threads);
	int saved = errno;

	if (stream != NULL)
		closedir(stream);
	free(list.names);
	free(list.text);
	errno = saved;
	return result;
}
