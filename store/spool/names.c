/*
 * Owns visits to many files of a directory in the order of the disk. A directory gives its names
 * in the order of their hashes; files that are read in that order are all over the disk. Sorted
 * by inode, which is the order in which they were made, a million of them takes seconds.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "store/spool/spool.h"

enum { NAMES_MAX = 256 * 1024, TEXT_SIZE = NAMES_MAX * 48 }; /* that are sorted at once */

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

static int
visit_all(struct spool *spool, enum spool_dir dir, DIR *stream, struct name_list *list,
    int (*visit)(struct spool *, enum spool_dir, const char *, void *), void *data)
{
	int result = 0;

	do {
		if (read_names(stream, list) != 0)
			return -1;
		qsort(list->names, list->count, sizeof(*list->names), compare);
		for (size_t i = 0; i < list->count && result == 0; i++)
			result = visit(spool, dir, list->text + list->names[i].name, data);
	} while (result == 0 && list->count > 0);
	return result;
}

int
spool_each_by_inode(struct spool *spool, enum spool_dir dir,
    int (*visit)(struct spool *, enum spool_dir, const char *, void *), void *data)
{
	struct name_list list = {.names = calloc(NAMES_MAX, sizeof(*list.names)),
		.text = malloc(TEXT_SIZE)};
	int fd = list.names == NULL || list.text == NULL ? -1 : spool_open_directory(spool, dir);
	DIR *stream = fd < 0 ? NULL : fdopendir(fd);
	int result = stream == NULL ? -1 : visit_all(spool, dir, stream, &list, visit, data);
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
