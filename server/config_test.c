/* Owns the checks of `psapi-fcgi -t` and what it prints. */
#define _GNU_SOURCE
#include "server/config_test.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/terminal.h"
#include "base/user.h"
#include "receiver/attempts.h"
#include "server/listener.h"
#include "server/responder.h"
#include "secrets/secrets.h"
#include "store/store.h"

/* A warning of what works nevertheless. The names of files in it may be anybody's. */
static void
warning(const char *what, const struct error *error)
{
	char line[1600], text[TERMINAL_ESCAPED_SIZE(sizeof(line))];

	error_line(error, line, sizeof(line));
	printf("warning: %s %s\n", what,
	    terminal_escape(text, sizeof(text), line, strlen(line), false));
}

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
	char line[1600], text[TERMINAL_ESCAPED_SIZE(sizeof(line))];

	error_line(error, line, sizeof(line));
	return finding(false, "%s %s", what,
	    terminal_escape(text, sizeof(text), line, strlen(line), false));
}

static void
print_warning(const struct error *found, void *data)
{
	(void)data;
	warning("spool", found);
}

static void
print_setting(const struct error *found, void *data)
{
	(void)data;
	warning("setting", found);
}

static int
check_spool(const struct config *config)
{
	struct error error;
	char text[512];
	struct store *store = store_try(config, text, sizeof(text), &error);

	if (store == NULL)
		return finding_error("spool", &error);
	if (store_check_place(config, &error) != 0)
		print_warning(&error, NULL);
	bool full = store_is_full(store, config->min_free);
	store_warnings(store, print_warning, NULL);
	store_close(store);
	if (full)
		return finding(false, "spool %s: fewer than PSAPI_MIN_FREE=%lld bytes are free",
		    config->spool, config->min_free);
	return finding(true, "spool %s: %s", config->spool, text);
}

/* store_check()'s visit. Whether events can be stored all the same, store_probe() finds out. */
static void
print_check(const struct store_check *check, void *data)
{
	char what[64], text[TERMINAL_ESCAPED_SIZE(sizeof(check->text))];
	struct error error;

	(void)data;
	snprintf(what, sizeof(what), "store, %s:", check->name);
	if (check->result == STORE_CHECK_OK) {
		finding(true, "%s %s", what,
		    terminal_escape(text, sizeof(text), check->text, strlen(check->text), false));
	} else {
		error_set(&error, EX_CONFIG, check->remedy, "%s", check->text);
		warning(what, &error);
	}
}

/* How much waits, and since when. */
static void
print_backlog(struct store *store)
{
	struct store_counts counts;
	struct error error;
	int64_t now = clock_unix();

	if (store_count(store, now, &counts, &error) != STORE_OK)
		warning("store, backlog:", &error);
	else if (counts.waiting == 0)
		finding(true, "store, backlog: no event waits");
	else
		finding(true, "store, backlog: %ld event(s) wait, the oldest for %.1f h", counts.waiting,
		    (double)(now - counts.oldest_waiting) / 3600);
}

static int
check_store(const struct config *config)
{
	struct error error;
	char text[512];

	if (*config->store == '\0')
		return 0;
	struct store *store = store_open_shared(config, &error);
	if (store != NULL && store_check(store, print_check, NULL, &error) != STORE_OK) {
		store_close(store);
		return finding(false, "store: no host of PSAPI_STORE can be used: see above");
	}
	if (store == NULL || store_probe(store, &error) != STORE_OK) {
		store_close(store);
		return finding_error("store", &error);
	}
	print_backlog(store);
	store_describe(store, text, sizeof(text));
	store_close(store);
	return finding(true, "store %s: the way of an event works", text);
}

static int
check_secret(const struct config *config)
{
	struct error error;
	struct keyring *keyring = secrets_read(config->secret_file, &error);

	if (keyring == NULL)
		return finding_error("secret", &error);
	if (*error.text != '\0')
		warning("secret", &error);
	finding(true, "secret %s: %zu usable", config->secret_file, verify_keyring_size(keyring));
	verify_keyring_free(keyring);
	return 0;
}

/* No answer depends on the attempts log: what keeps it from being written is a warning. */
static void
check_log(const struct config *config)
{
	struct error error;

	if (attempts_check(config->spool, &error) != 0)
		warning("log", &error);
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

/* By the limit of this process: the service manager may give the receiver another one. */
static void
check_threads(const struct config *config)
{
	struct error error;

	if (responder_threads((int)config->threads, false, &error) < config->threads)
		warning("threads, by the limits of this process:", &error);
}

/*
 * Root can read and write what the receiver cannot: so root becomes the spool's owner, whom the
 * receiver must run as.
 */
static int
become_owner(const struct config *config)
{
	char name[USER_NAME_SIZE];
	uid_t before = geteuid();

	if (user_become_owner(config->spool) != 0)
		return finding(false, "spool %s: cannot become its owner: %s", config->spool,
		    strerror(errno));
	if (geteuid() != before)
		printf("as %s, the owner of %s:\n", user_name(geteuid(), name), config->spool);
	return 0;
}

/* Root has read it, the receiver must. */
static int
check_file(const struct config *config)
{
	struct error error;

	return config_check_file(config, &error) == 0 ? 0 : finding_error("configuration", &error);
}

int
config_test_run(const struct config *config)
{
	config_check_environment(print_setting, NULL);
	config_check_paths(config, print_setting, NULL);
	if (become_owner(config) != 0)
		return 1;
	check_log(config);
	check_threads(config);
	return check_file(config) + check_spool(config) + check_store(config) + check_secret(config) +
	    check_socket(config);
}
