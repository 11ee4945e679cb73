/* Owns the checks of `psapi-fcgi -t` and what it prints. */
#define _GNU_SOURCE
#include "server/config_test.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "server/listener.h"
#include "secrets/secrets.h"
#include "store/spool/spool.h"

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

static int
finding_error(const char *what, const struct error *error)
{
	char line[1600];

	return finding(false, "%s %s", what, error_line(error, line, sizeof(line)));
}

/* Try in directory all that storing an event needs. then is what a good result says. */
static int
probe(int directory, const struct config *config, const char *then)
{
	struct spool spool = {.path = config->spool, .root = directory};
	const char *step;

	for (int i = 0; i < SPOOL_DIRS; i++)
		spool.dir[i] = directory;
	if (spool_probe(&spool, &step) != 0)
		return finding(false, "spool %s: cannot %s: %s: it needs a local file system with hard "
		    "links, writable by the running user", config->spool, step, strerror(errno));
	if (spool_is_full(&spool, config->min_free))
		return finding(false, "spool %s: fewer than PSAPI_MIN_FREE=%lld bytes are free",
		    config->spool, config->min_free);
	return finding(true, "spool %s: %s", config->spool, then);
}

/* The spool is missing, and made at the start: try in the directory that it will be made in. */
static int
check_missing(const struct config *config, const char *parent)
{
	int fd = open(parent, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return finding(false,
		    "spool %s: is missing, and %s: %s: make it, owned by the running user", config->spool,
		    parent, strerror(errno));
	int errors = probe(fd, config, "will be made at the start, with hard links");
	close(fd);
	return errors;
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

/* The probe is in tmp/ alone; the other directories may belong to another user. */
static int
check_directories(const struct spool *spool)
{
	for (int i = 0; i < SPOOL_DIRS; i++)
		if (faccessat(spool->dir[i], ".", W_OK | X_OK, AT_EACCESS) != 0)
			return finding(false, "spool %s/%s: %s: it must be writable by the running user",
			    spool->path, spool_dir_names[i], strerror(errno));
	return 0;
}

static int
check_spool(const struct config *config)
{
	const char *path = config->spool;
	char why[512], copy[4096];
	struct spool spool;

	snprintf(copy, sizeof(copy), "%s", path);
	if (access(path, F_OK) != 0 && errno == ENOENT)
		return check_missing(config, dirname(copy));
	if (subdirectory_missing(path))
		return check_missing(config, path);
	if (spool_open(&spool, path, false, why, sizeof(why)) != 0)
		return finding(false, "spool %s", why);
	int errors = check_directories(&spool);
	if (errors == 0)
		errors = probe(spool.dir[SPOOL_TMP], config, "writable, with hard links");
	spool_close(&spool);
	return errors;
}

static int
check_secret(const struct config *config)
{
	struct error error;
	struct keyring *keyring = secrets_read(config->secret_file, &error);

	if (keyring == NULL)
		return finding_error("secret", &error);
	finding(true, "secret %s: %zu usable", config->secret_file, verify_keyring_size(keyring));
	verify_keyring_free(keyring);
	return 0;
}

static int
check_socket(const struct config *config)
{
	const char *found, *where = config->listen;
	struct error error;
	gid_t group;

	if (*where == '\0')
		return finding(true, "socket: none of its own (PSAPI_LISTEN): descriptor 0 or classic CGI");
	if (listener_group(config->listen_group, &group, &error) != 0)
		return finding(false, "socket PSAPI_LISTEN_GROUP=\"%s\": %s: %s", config->listen_group,
		    error.text, error.remedy);
	if (listener_check(where, group, &found, &error) != 0)
		return finding_error("socket", &error);
	return finding(true, "socket %s: %s", where, found);
}

int
config_test_run(const struct config *config)
{
	return check_spool(config) + check_secret(config) + check_socket(config);
}
