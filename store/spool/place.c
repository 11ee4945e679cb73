/*
 * Owns the question whether the spool is a directory of its own, closed to other users. /tmp or a
 * home directory is neither; chmod, which closes a spool, would break those for everybody else.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "store/spool/spool.h"

/* What we make there, and what belongs to a file system or to an administrator's tools. */
static bool
is_expected(const char *name)
{
	static const char *const names[] = {"format", "lock", "lost+found"};

	for (int i = 0; i < SPOOL_DIRS; i++)
		if (strcmp(name, spool_dir_names[i]) == 0)
			return true;
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return name[0] == '.' || strncmp(name, "attempts.jsonl", 14) == 0;
}

/* The first name that is not expected, or "". */
static void
find_other(const char *path, char name[NAME_MAX + 1])
{
	DIR *stream = opendir(path);

	*name = '\0';
	for (struct dirent *entry; stream != NULL && (entry = readdir(stream)) != NULL;)
		if (!is_expected(entry->d_name)) {
			snprintf(name, NAME_MAX + 1, "%s", entry->d_name);
			break;
		}
	if (stream != NULL)
		closedir(stream);
}

int
spool_check_place(const char *path, struct error *error)
{
	char other[NAME_MAX + 1], remedy[512];
	struct stat st;

	if (stat(path, &st) != 0 || (st.st_mode & S_IRWXO) == 0)
		return 0;
	find_other(path, other);
	unsigned mode = (unsigned)st.st_mode & 07777;
	if (*other != '\0' || (st.st_mode & S_ISVTX) != 0) {
		error_set(error, EX_CONFIG,
		    "name a directory of its own with PSAPI_SPOOL: install -d -o psapi -g psapi -m 2770 "
		    "DIRECTORY", "%s: is open to every user, mode %04o, and not for the spool alone%s%s",
		    path, mode, *other != '\0' ? ": it has " : "", other);
	} else if ((st.st_mode & S_IWOTH) == 0) {
		/* Its directories have a mode of their own, 2770: nothing in them can be seen. */
		snprintf(remedy, sizeof(remedy), "chmod 2770 %.300s", path);
		error_set(error, 0, remedy, "%s: mode %04o lets every user see the names of its files",
		    path, mode);
	} else {
		snprintf(remedy, sizeof(remedy),
		    "chmod 2770 %.300s: other users could read ids, and add files of their own", path);
		error_set(error, EX_CONFIG, remedy, "%s: mode %04o is open to every user", path, mode);
	}
	return -1;
}
