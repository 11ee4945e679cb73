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

struct name_reader {
	struct visits *walk;
	pthread_t thread;
	void *data; /* its own */
};

static void *
work(void *argument)
{
	struct name_reader *w = argument;
	struct visits *walk = w->walk;
	size_t first, count = walk->list->count;
	int result = 0;

	while (atomic_load(&walk->result) == 0 &&
	    (first = atomic_fetch_add(&walk->next, STEP)) < count)
		for (size_t i = first; i < first + STEP && i < count && result == 0; i++) {
			const char *name = walk->list->text + walk->list->names[i].name;
			result = walk->visit(walk->spool, walk->dir, name, w->data);
			if (result == 0)
				continue;
			atomic_store(&walk->number, errno);
			atomic_store(&walk->result, result);
		}
	return NULL;
}

/* Visit all names of the list. A thread that cannot be made leaves its work to the others. */
static int
visit_list(struct visits *walk, void *const *data, size_t threads)
{
	struct name_reader walkers[SPOOL_READERS];
	size_t made = 1;

	walkers[0] = (struct name_reader){.walk = walk, .data = data[0]};
	for (size_t i = 1; i < threads; i++)
		walkers[i] = (struct name_reader){.walk = walk, .data = data[i]};
	while (made < threads && made * STEP < walk->list->count &&
	    pthread_create(&walkers[made].thread, NULL, work, &walkers[made]) == 0)
		made++;
	work(&walkers[0]);
	for (size_t i = 1; i < made; i++)
		pthread_join(walkers[i].thread, NULL);
	errno = atomic_load(&walk->number);
	return atomic_load(&walk->result);
}

static int
visit_all(struct visits *walk, DIR *stream, struct name_list *list, void *const *data,
    size_t threads)
{
	int result = 0;

	do {
		if (read_names(stream, list) != 0)
			return -1;
		qsort(list->names, list->count, sizeof(*list->names), compare);
		atomic_store(&walk->next, 0);
		result = visit_list(walk, data, threads);
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
	struct visits walk = {.spool = spool, .dir = dir, .list = &list, .visit = visit};
	int fd = list.names == NULL || list.text == NULL ? -1 : spool_open_directory(spool, dir);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	int result = stream == NULL ? -1 : visit_all(&walk, stream, &list, data, threads);
	int saved = errno;

	if (stream != NULL)
		closedir(stream);
	else if (fd >= 0)
		close(fd);
	free(list.names);
	free(list.text);
	errno = saved;
	return result;
}
