/*
 * Owns one question to the attempts log. Lines are looked at as text, for there
 * may be millions: what a sender wrote is escaped in them, so that "key":" with
 * its plain quotes is only ever our own member.
 */
#define _GNU_SOURCE
#include "receiver/last_match.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/datetime.h"
#include "receiver/attempts.h"
#include "send/delivery.h"

/* The string that follows mark in line; false if there is none of this length. */
static bool
member(const char *line, const char *mark, char *value, size_t length)
{
	const char *from = strstr(line, mark);

	if (from == NULL)
		return false;
	from += strlen(mark);
	if (strnlen(from, length + 1) <= length || from[length] != '"')
		return false;
	memcpy(value, from, length);
	value[length] = '\0';
	return true;
}

static void
look(const char *line, struct last_match *matches, int count)
{
	char key[FINGERPRINT_SIZE], at[DATETIME_ISO_SIZE];

	if (delivery_is_ours(line) || !member(line, "\"key\":\"", key, sizeof(key) - 1) ||
	    !member(line, "\"at\":\"", at, sizeof(at) - 1))
		return;
	for (int i = 0; i < count; i++)
		if (strcmp(matches[i].fingerprint, key) == 0 && strcmp(at, matches[i].at) > 0)
			memcpy(matches[i].at, at, sizeof(at));
}

static void
look_through(int dir, const char *name, struct last_match *matches, int count)
{
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	FILE *file = fd < 0 ? NULL : fdopen(fd, "r");
	char *line = NULL;
	size_t room = 0;

	if (file == NULL) {
		if (fd >= 0)
			close(fd);
		return;
	}
	while (getline(&line, &room, file) >= 0)
		look(line, matches, count);
	free(line);
	fclose(file);
}

void
last_match_find(int dir, struct last_match *matches, int count)
{
	for (int i = 0; i < count; i++)
		matches[i].at[0] = '\0';
	look_through(dir, ATTEMPTS_FILE ".1", matches, count);
	look_through(dir, ATTEMPTS_FILE, matches, count);
}
