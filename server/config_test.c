/* Owns the checks of `psapi-fcgi -t` and what it prints. */
#define _GNU_SOURCE
#include "server/config_test.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "server/listener.h"
#include "secrets/secrets.h"
#include "store/store.h"

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

static void
print_warning(const struct error *warning, void *data)
{
	(void)data;
	printf("warning: spool %s: %s\n", warning->text, warning->remedy);
}

static int
check_spool(const struct config *config)
{
	struct error error;
	char text[512];
	struct store *store = store_try(config, text, sizeof(text), &error);

	if (store == NULL)
		return finding_error("spool", &error);
	bool full = store_is_full(store, config->min_free);
	store_warnings(store, print_warning, NULL);
	store_close(store);
	if (full)
		return finding(false, "spool %s: fewer than PSAPI_MIN_FREE=%lld bytes are free",
		    config->spool, config->min_free);
	return finding(true, "spool %s: %s", config->spool, text);
}

static int
check_secret(const struct config *config)
{
	struct error error;
	struct keyring *keyring = secrets_read(config->secret_file, &error);

	if (keyring == NULL)
		return finding_error("secret", &error);
	if (*error.text != '\0')
		printf("warning: secret %s: %s\n", error.text, error.remedy);
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
