/* Owns the checks of `psapi-fcgi -t` and what it prints. */
#define _GNU_SOURCE
#include "check.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "listener.h"
#include "secrets.h"
#include "spool.h"

/* Print one finding. Returns 1 for an error, so that findings can be added up. */
static int __attribute__((format(printf, 2, 3)))
finding(bool ok, const char *format, ...)
{
	va_list ap;

	fputs(ok ? "ok: " : "error: ", stdout);
	va_start(ap, format);
	vprintf(format, ap);
	va_end(ap);
	putchar('\n');
	return ok ? 0 : 1;
}

/* A directory that is missing is made at the start, if its parent may be written. */
static int
check_missing(const char *path)
{
	char copy[4096];

	snprintf(copy, sizeof(copy), "%s", path);
	const char *parent = dirname(copy);
	if (faccessat(AT_FDCWD, parent, W_OK | X_OK, AT_EACCESS) == 0)
		return finding(true, "spool %s: will be made at the start", path);
	return finding(false, "spool %s: is missing, and %s: %s: make it, owned by the running user",
	    path, parent, strerror(errno));
}

static bool
subdirectory_missing(const char *path)
{
	char subdirectory[4200];

	for (int i = 0; i < SPOOL_DIRS; i++) {
		snprintf(subdirectory, sizeof(subdirectory), "%s/%s", path, spool_dir_names[i]);
		if (access(subdirectory, F_OK) != 0 && errno == ENOENT)
			return true;
	}
	return false;
}

static int
check_spool(const struct config *config)
{
	const char *path = config->spool, *step;
	struct spool spool;
	char why[512];
	int errors;

	if (access(path, F_OK) != 0 && errno == ENOENT)
		return check_missing(path);
	if (subdirectory_missing(path)) {
		if (faccessat(AT_FDCWD, path, W_OK | X_OK, AT_EACCESS) == 0)
			return finding(true, "spool %s: its directories will be made at the start", path);
		return finding(false, "spool %s: %s: it must belong to the running user", path,
		    strerror(errno));
	}
	if (spool_open(&spool, path, false, why, sizeof(why)) != 0)
		return finding(false, "spool %s", why);
	if (spool_probe(&spool, &step) != 0)
		errors = finding(false, "spool %s: cannot %s: %s: it needs a local file system with "
		    "hard links, writable by the running user", path, step, strerror(errno));
	else if (spool_is_full(&spool, config->min_free))
		errors = finding(false, "spool %s: fewer than PSAPI_MIN_FREE=%lld bytes are free", path,
		    config->min_free);
	else
		errors = finding(true, "spool %s: writable, with hard links", path);
	spool_close(&spool);
	return errors;
}

static int
check_secret(const struct config *config)
{
	char why[512];
	struct keyring *keyring = secrets_read(config->secret_file, why, sizeof(why));

	if (keyring == NULL)
		return finding(false, "secret %s", why);
	finding(true, "secret %s: %zu usable", config->secret_file, keyring_size(keyring));
	keyring_free(keyring);
	return 0;
}

static int
check_socket(const struct config *config)
{
	char why[512];

	if (*config->listen == '\0')
		return finding(true, "socket: none of its own (PSAPI_LISTEN): descriptor 0 or classic CGI");
	bool ok = listener_check(config->listen, config->listen_group, why, sizeof(why)) == 0;
	return finding(ok, "socket %s", why);
}

int
check_run(const struct config *config)
{
	return check_spool(config) + check_secret(config) + check_socket(config);
}
