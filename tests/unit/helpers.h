/*
 * What several unit tests need: a directory of their own, files, what went to
 * standard error. All inline, for each test is built from one file. Include it
 * first: it asks for the GNU names.
 */
#ifndef PSAPI_TESTS_HELPERS_H
#define PSAPI_TESTS_HELPERS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* A test; state is what the setup function left. */
#define TEST(name) static void name(void **state __attribute__((unused)))
#define ROWS(table) (sizeof(table) / sizeof((table)[0]))

/* ---- a directory of the test's own ---- */

static inline int
remove_entry(const char *path, const struct stat *st, int kind, struct FTW *ftw)
{
	(void)st;
	(void)kind;
	(void)ftw;
	return remove(path);
}

/* cmocka setup and teardown: *state is the path of an empty directory. */
static inline int
sandbox_make(void **state)
{
	const char *parent = getenv("TMPDIR");
	char *path = NULL;

	if (asprintf(&path, "%s/psapi-unit-XXXXXX", parent != NULL ? parent : "/tmp") < 0)
		return -1;
	*state = path;
	return mkdtemp(path) != NULL ? 0 : -1;
}

static inline int
sandbox_remove(void **state)
{
	int result = nftw(*state, remove_entry, 16, FTW_DEPTH | FTW_PHYS);

	free(*state);
	return result;
}

#define SANDBOX_TEST(name) cmocka_unit_test_setup_teardown(name, sandbox_make, sandbox_remove)

/* DIR/NAME. Lives as long as the process: tests are short. */
static inline const char *
in(const char *dir, const char *name)
{
	struct path {
		struct path *next; /* so that no sanitizer calls it lost */
		char text[];
	};
	static struct path *paths;
	size_t size = strlen(dir) + 1 + strlen(name) + 1;
	struct path *path = malloc(sizeof(*path) + size);

	assert_non_null(path);
	path->next = paths;
	paths = path;
	snprintf(path->text, size, "%s/%s", dir, name);
	return path->text;
}

/* ---- files ---- */

static inline void
file_write(const char *path, const char *text, mode_t mode)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
	close(fd);
}

/* The contents and a NUL; NULL if it cannot be read. The caller frees it. */
static inline char *
file_read(const char *path, size_t *length)
{
	FILE *file = fopen(path, "re");
	struct stat st;

	*length = 0;
	if (file == NULL)
		return NULL;
	assert_int_equal(fstat(fileno(file), &st), 0);
	char *text = malloc((size_t)st.st_size + 1);
	assert_non_null(text);
	*length = fread(text, 1, (size_t)st.st_size, file);
	text[*length] = '\0';
	fclose(file);
	return text;
}

static inline bool
exists(const char *path)
{
	struct stat st;

	return lstat(path, &st) == 0;
}

/* How many names there are in a directory, but "." and "..". */
static inline int
names_in(const char *path)
{
	DIR *dir = opendir(path);
	int n = -2;

	assert_non_null(dir);
	while (readdir(dir) != NULL)
		n++;
	closedir(dir);
	return n;
}

/* How many descriptors this process has open. */
static inline int
descriptors(void)
{
	return names_in("/proc/self/fd") - 1; /* the one that looks */
}

/* ---- standard error ---- */

struct capture {
	int saved, memory;
};

/* Keep standard error. Make no assertion before capture_end(): its text would not be seen. */
static inline void
capture_begin(struct capture *capture)
{
	capture->memory = memfd_create("stderr", MFD_CLOEXEC);
	capture->saved = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
	assert_true(capture->memory >= 0 && capture->saved >= 0);
	dup2(capture->memory, STDERR_FILENO);
}

/* What was written meanwhile. The caller frees it. */
static inline char *
capture_end(struct capture *capture)
{
	dup2(capture->saved, STDERR_FILENO);
	close(capture->saved);
	off_t size = lseek(capture->memory, 0, SEEK_END);
	char *text = calloc(1, (size_t)size + 1);
	assert_non_null(text);
	assert_int_equal(pread(capture->memory, text, (size_t)size, 0), size);
	close(capture->memory);
	return text;
}

static inline int
lines_of(const char *text)
{
	int n = 0;

	for (; *text != '\0'; text++)
		n += *text == '\n';
	return n;
}

#endif
