/*
 * Owns the table of settings: names, defaults, limits, help. A new setting is
 * one member of struct config and one row here.
 *
 * The file has KEY=VALUE lines that systemd's EnvironmentFile= and "." in a shell can
 * read, too: blank lines and lines that begin with # are skipped, a value may be
 * enclosed in one pair of single or double quotes, "export" before a key is skipped,
 * nothing is expanded.
 */
#define _GNU_SOURCE
#include "base/config.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/columns.h"
#include "base/io.h"
#include "base/path.h"
#include "base/text.h"
#include "base/user.h"

extern char **environ;

#define LIST_SETTINGS "psapi-fcgi -h lists all settings"
#define SAVE_AS_UTF8 "save it as plain text in UTF-8"

enum { FILE_MAX = 64 * 1024 };

enum kind { NUMBER, PATH, LISTEN, SYNC, OPTIONAL, STORE, MAILTO, URL, YES_NO };

struct setting {
	const char *key;
	enum kind kind;
	size_t offset;
	const char *fallback;
	long long min, max; /* of a NUMBER */
	const char *help;
};

#define MEMBER(name) offsetof(struct config, name)

static const struct setting settings[] = {
	{"PSAPI_SPOOL", PATH, MEMBER(spool), PSAPI_LOCALSTATEDIR "/spool/psapi", 0, 0,
	    "spool directory"},
	{"PSAPI_STORE", STORE, MEMBER(store), "", 0, 0,
	    "PostgreSQL that several hosts share, postgresql://...; none: the spool"},
	{"PSAPI_SECRET_FILE", PATH, MEMBER(secret_file), PSAPI_SYSCONFDIR "/psapi/secret", 0, 0,
	    "signing secrets, one a line; mode 0640 or stricter"},
	{"PSAPI_TOLERANCE", NUMBER, MEMBER(tolerance), "300", 1, 1000000000,
	    "seconds that webhook-timestamp may be off, either way"},
	{"PSAPI_MAX_BODY", NUMBER, MEMBER(max_body), "1048576", 1, 1 << 30, "bytes of a body"},
	{"PSAPI_MIN_FREE", NUMBER, MEMBER(min_free), "67108864", 0, 1LL << 60,
	    "free bytes on the disk below which 503 is answered"},
	{"PSAPI_SYNC", SYNC, MEMBER(sync), "auto", 0, 0,
	    "how often an event waits for the disk: auto (once where that is safe), two"},
	{"PSAPI_LISTEN", LISTEN, MEMBER(listen), "", 0, 0,
	    "unix:/path or 127.0.0.1:port; none: descriptor 0, else classic CGI"},
	{"PSAPI_LISTEN_GROUP", OPTIONAL, MEMBER(listen_group), "", 0, 0,
	    "group of the unix socket"},
	{"PSAPI_THREADS", NUMBER, MEMBER(threads), "32", 1, 1024, "requests in flight"},
	{"PSAPI_READ_TIMEOUT", NUMBER, MEMBER(read_timeout), "10", 1, 3600,
	    "seconds within which a request must have arrived"},
	{"PSAPI_HANDLERS", PATH, MEMBER(handlers), PSAPI_SYSCONFDIR "/psapi/handlers.d", 0, 0,
	    "directory of the handlers (psapi drain)"},
	{"PSAPI_BATCH_HANDLERS", PATH, MEMBER(batch_handlers), PSAPI_SYSCONFDIR "/psapi/batch.d", 0, 0,
	    "directory of the handlers for many events at once"},
	{"PSAPI_BATCH", NUMBER, MEMBER(batch), "500", 1, 10000, "events of a batch, at most"},
	{"PSAPI_HANDLER_TIMEOUT", NUMBER, MEMBER(handler_timeout), "300", 1, 86400,
	    "seconds that a handler may run; for a batch, since its last result"},
	{"PSAPI_MAX_TRIES", NUMBER, MEMBER(max_tries), "10", 1, 1000,
	    "handler runs before an event goes to failed/"},
	{"PSAPI_ALERT_MAILTO", MAILTO, MEMBER(alert_mailto), "root", 0, 0,
	    "who gets the mail of psapi check --mail; empty: nobody"},
	{"PSAPI_HEARTBEAT_URL", URL, MEMBER(heartbeat_url), "", 0, 0,
	    "psapi check --mail requests it when all is well, URL/fail when not"},
	{"PSAPI_WEB_LISTEN", LISTEN, MEMBER(web_listen), "", 0, 0,
	    "the page's socket, as PSAPI_LISTEN (psapi-web)"},
	{"PSAPI_WEB_ACTIONS", YES_NO, MEMBER(web_actions), "no", 0, 0,
	    "whether the page can retry, replay and send for users who signed in: yes, no"},
	{"PSAPI_ENDPOINT_URL", URL, MEMBER(endpoint_url), "", 0, 0,
	    "this receiver's URL, as the portal has it: doctor and the page use it"},
};

enum { COUNT = sizeof(settings) / sizeof(settings[0]) };
_Static_assert(COUNT == CONFIG_SETTINGS, "CONFIG_SETTINGS in config.h");

/* The values that the sources give, before they are checked. */
struct raw {
	char *value[COUNT];
	char *source[COUNT];
};

static int
find(const char *key, size_t length)
{
	for (int i = 0; i < COUNT; i++)
		if (strlen(settings[i].key) == length && memcmp(settings[i].key, key, length) == 0)
			return i;
	return -1;
}

/* The setting that was meant by a name that is none; NULL: it is not near any. */
static const char *
meant(const char *key)
{
	char name[64];
	const char *best = NULL;
	size_t least = SIZE_MAX;

	/* text_distance() takes no longer ones */
	if (snprintf(name, sizeof(name), "%s", key) >= (int)sizeof(name))
		return NULL;
	for (char *c = name; *c != '\0'; c++)
		*c = (char)(*c == '-' || *c == '.' ? '_' : toupper((unsigned char)*c));
	for (int i = 0; i < COUNT; i++) {
		size_t distance = text_distance(name, settings[i].key);
		size_t limit = strlen(settings[i].key) < 15 ? 2 : 3;
		if (distance <= limit && distance < least) {
			least = distance;
			best = settings[i].key;
		}
	}
	return best;
}

/* The remedy for a name that is no setting. */
static const char *
near_remedy(const char *key, char *text, size_t size)
{
	char full[80];

	snprintf(full, sizeof(full), "PSAPI_%s", key);
	const char *near = meant(key);
	if (near == NULL)
		near = meant(full);
	if (near == NULL)
		return LIST_SETTINGS;
	snprintf(text, size, "did you mean %s? " LIST_SETTINGS, near);
	return text;
}

static int
set(struct raw *raw, int i, const char *value, const char *source)
{
	free(raw->value[i]);
	free(raw->source[i]);
	raw->value[i] = strdup(value);
	raw->source[i] = strdup(source);
	return raw->value[i] != NULL && raw->source[i] != NULL ? 0 : -1;
}

static char *
trim(char *text)
{
	while (isspace((unsigned char)*text))
		text++;
	for (size_t n = strlen(text); n > 0 && isspace((unsigned char)text[n - 1]); n--)
		text[n - 1] = '\0';
	return text;
}

static char *
unquote(char *value)
{
	size_t n = strlen(value);

	if (n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n - 1] == value[0]) {
		value[n - 1] = '\0';
		return value + 1;
	}
	return value;
}

/*
 * One line of the file. Keys without PSAPI_ are skipped, for the file may serve a shell, too; not
 * one like psapi_spool, which was meant for a setting.
 */
static int
read_line(struct raw *raw, char *line, const char *source, struct error *error)
{
	char *text = trim(line), remedy[128];

	if (*text == '\0' || *text == '#' || *text == ';')
		return 0;
	char *equals = strchr(text, '=');
	if (equals == NULL) {
		error_set(error, EX_CONFIG, "write KEY=VALUE, or # for a comment",
		    "%s: no setting: \"%.60s\"", source, text);
		return -1;
	}
	*equals = '\0';
	if (strncmp(text, "export ", 7) == 0)
		text += 7;
	text = trim(text);
	int i = find(text, strlen(text));
	if (i >= 0)
		return set(raw, i, unquote(trim(equals + 1)), source);
	if (strncmp(text, "PSAPI_", 6) == 0 || meant(text) != NULL) {
		error_set(error, EX_CONFIG, near_remedy(text, remedy, sizeof(remedy)),
		    "%s=\"%.200s\" (%s): no such setting", text, equals + 1, source);
		return -1;
	}
	return 0;
}

/* Why a file cannot be opened. */
static void
refuse_file(const char *path, int number, struct error *error)
{
	char user[USER_NAME_SIZE], group[USER_NAME_SIZE], closed[PATH_REMEDY_SIZE], remedy[512];

	if (number != EACCES) {
		error_set(error, EX_CONFIG, "name another with -f or PSAPI_CONF", "%s: %s", path,
		    strerror(number));
		return;
	}
	snprintf(remedy, sizeof(remedy), "chmod 0644 %.150s; or chgrp %s %.150s, and chmod 0640", path,
	    user_group_name(getegid(), group), path);
	error_set(error, EX_CONFIG, path_remedy(path, remedy, closed),
	    "%s: user %s cannot read it: %s", path, user_name(geteuid(), user), strerror(number));
}

int
config_check_file(const struct config *config, struct error *error)
{
	if (config->file == NULL || access(config->file, R_OK) == 0)
		return 0;
	refuse_file(config->file, errno, error);
	return -1;
}

/* A shell's <(...) and /dev/stdin; a FIFO with a name of its own has perhaps no writer, ever. */
static bool
is_from_caller(const char *path)
{
	return strncmp(path, "/dev/", 5) == 0 || strncmp(path, "/proc/", 6) == 0;
}

/* Read an open file into text, FILE_MAX bytes and a NUL. Returns how many, or -1 with an error. */
static ssize_t
read_open(int fd, const char *path, char *text, struct error *error)
{
	struct stat st;
	bool fifo = fstat(fd, &st) == 0 && S_ISFIFO(st.st_mode);

	if (fifo && !is_from_caller(path)) {
		error_set(error, EX_CONFIG, "name a regular file with -f or PSAPI_CONF", "%s: is a FIFO",
		    path);
		return -1;
	}
	/* A pipe or a terminal is waited for. */
	ssize_t n = fcntl(fd, F_SETFL, 0) != 0 ? -1 : io_read_all(fd, text, FILE_MAX);
	if (n < 0)
		error_set(error, EX_CONFIG, NULL, "%s: cannot be read: %s", path, strerror(errno));
	else if (n == FILE_MAX)
		error_set(error, EX_CONFIG, "name a file of settings with -f or PSAPI_CONF",
		    "%s: is larger than %d KiB", path, FILE_MAX / 1024);
	else
		text[n] = '\0';
	return n == FILE_MAX ? -1 : n;
}

static int
read_lines(struct raw *raw, char *text, size_t length, const char *path, struct error *error)
{
	char source[4200], *end = text + length;
	int number = 1;

	if (strncmp(text, "\xff\xfe", 2) == 0 || strncmp(text, "\xfe\xff", 2) == 0) {
		error_set(error, EX_CONFIG, SAVE_AS_UTF8, "%s: is UTF-16, as Windows writes it", path);
		return -1;
	}
	/* A byte order mark, which some editors write, is no part of the first key. */
	for (char *next, *line = text + (strncmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0); line < end;
	    line = next + 1) {
		next = memchr(line, '\n', (size_t)(end - line));
		next = next == NULL ? end : next;
		*next = '\0';
		snprintf(source, sizeof(source), "%s:%d", path, number++);
		if (strlen(line) != (size_t)(next - line)) {
			error_set(error, EX_CONFIG, SAVE_AS_UTF8, "%s: has a NUL byte", source);
			return -1;
		}
		if (read_line(raw, line, source, error) != 0)
			return -1;
	}
	return 0;
}

static int
read_file(struct raw *raw, const char *path, bool may_be_missing, struct error *error)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	if (fd < 0 && errno == ENOENT && may_be_missing)
		return 0;
	if (fd < 0) {
		refuse_file(path, errno, error);
		return -1;
	}
	char *text = malloc(FILE_MAX + 1);
	ssize_t n = text == NULL ? -1 : read_open(fd, path, text, error);
	int result = n < 0 ? -1 : read_lines(raw, text, (size_t)n, path, error);
	free(text);
	close(fd);
	return result;
}

static int
read_overrides(struct raw *raw, const char *const *overrides, size_t count, struct error *error)
{
	for (size_t k = 0; k < count; k++) {
		const char *equals = strchr(overrides[k], '=');
		if (equals == NULL) {
			error_set(error, EX_CONFIG, "write KEY=VALUE",
			    "\"%.200s\" (command line): has no \"=\"", overrides[k]);
			return -1;
		}
		int i = find(overrides[k], (size_t)(equals - overrides[k]));
		if (i < 0) {
			char key[64], remedy[128];
			snprintf(key, sizeof(key), "%.*s", (int)strcspn(overrides[k], "="), overrides[k]);
			error_set(error, EX_CONFIG, near_remedy(trim(key), remedy, sizeof(remedy)),
			    "\"%.200s\" (command line): no such setting", overrides[k]);
			return -1;
		}
		if (set(raw, i, equals + 1, "command line") != 0)
			return -1;
	}
	return 0;
}

static const char *
check_number(const struct setting *s, const char *value, long long *number)
{
	static _Thread_local char why[96];
	char *end;

	errno = 0;
	*number = strtoll(value, &end, 10);
	if (isdigit((unsigned char)value[0]) && *end == '\0' && errno == 0 && *number >= s->min &&
	    *number <= s->max)
		return NULL;
	snprintf(why, sizeof(why), "must be a whole number from %lld to %lld", s->min, s->max);
	return why;
}

/* A relative path would be another one for each program: services, cron and shells. */
static const char *
check_path(const char *value)
{
	if (*value == '\0')
		return "must not be empty";
	return *value == '/' ? NULL : "must be an absolute path";
}

/*
 * A client of a FastCGI socket is trusted with what a web server says, REMOTE_ADDR among it:
 * no address but loopback is accepted.
 */
static const char *
check_listen(const char *value)
{
	if (*value == '\0')
		return NULL;
	if (strncmp(value, "unix:", 5) == 0) {
		if (value[5] != '/')
			return "needs an absolute path: unix:/run/psapi/psapi.sock";
		/* sockaddr_un holds 107 bytes and the ".PID" of a socket being made (listener.c). */
		return strlen(value + 5) <= 96 ? NULL : "is longer than the 96 bytes a path may have";
	}
	const char *port = NULL;
	if (strncmp(value, "127.0.0.1:", 10) == 0)
		port = value + 10;
	else if (strncmp(value, "[::1]:", 6) == 0)
		port = value + 6;
	if (port == NULL)
		return "must be unix:/path, 127.0.0.1:port or [::1]:port";
	char *end;
	long number = strtol(port, &end, 10);
	if (isdigit((unsigned char)*port) && *end == '\0' && number >= 1 && number <= 65535)
		return NULL;
	return "needs a port from 1 to 65535";
}

/*
 * Whether text has password=, sslpassword= or user:password@. Their values must appear in no
 * message.
 */
static bool
has_password(const char *value)
{
	const char *scheme = strstr(value, "://");

	for (const char *p = value; (p = strcasestr(p, "password")) != NULL; p += 8)
		if (p[8 + strspn(p + 8, " \t")] == '=')
			return true;
	if (scheme == NULL)
		return false;
	size_t length = strcspn(scheme + 3, "/?");
	const char *at = memrchr(scheme + 3, '@', length);
	return at != NULL && memchr(scheme + 3, ':', (size_t)(at - scheme - 3)) != NULL;
}

static const char *
check_store(const char *value)
{
	if (*value == '\0')
		return NULL;
	if (has_password(value))
		return "must hold no password, which others could read: "
		       "name a password file with passfile=";
	return strncmp(value, "postgresql://", 13) == 0 || strncmp(value, "postgres://", 11) == 0 ||
	        strchr(value, '=') != NULL ?
	    NULL : "must be a URI, postgresql://..., or a connection string like host=db1 dbname=psapi";
}

/* Whether text is ADDRESS or NAME <ADDRESS>, with blanks around it. */
static bool
is_address(const char *text, size_t length)
{
	const char *open = memchr(text, '<', length);

	while (length > 0 && text[length - 1] == ' ')
		length--;
	if (open != NULL) {
		if (text[length - 1] != '>')
			return false;
		length -= (size_t)(open + 1 - text) + 1;
		text = open + 1;
	}
	while (open == NULL && length > 0 && *text == ' ') {
		text++;
		length--;
	}
	return length > 0 && memchr(text, ' ', length) == NULL;
}

/* It becomes a header of a mail: nothing in it may begin another one. */
static const char *
check_mailto(const char *value)
{
	static const char wrong[] = "must be mail addresses in ASCII, with commas between them";

	for (const char *p = value; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || (unsigned char)*p >= 0x7f || *p == ';')
			return wrong;
	for (const char *p = value; *value != '\0' && p != NULL;) {
		const char *end = p;
		bool quoted = false;
		for (; *end != '\0' && (quoted || *end != ','); end++)
			quoted ^= *end == '"';
		if (quoted || !is_address(p, (size_t)(end - p)))
			return wrong;
		p = *end == ',' ? end + 1 : NULL;
	}
	return strlen(value) <= 900 ? NULL : "is longer than the line of a mail";
}

static const char *
check_url(const char *value)
{
	if (*value == '\0')
		return NULL;
	for (const char *p = value; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || (unsigned char)*p >= 0x7f)
			return "must be a URL: no blanks, only ASCII";
	return strncmp(value, "https://", 8) == 0 || strncmp(value, "http://", 7) == 0 ?
	    NULL : "must begin with https:// or http://";
}

static int
apply(struct config *config, const struct setting *s, const char *value, const char *source,
    struct error *error)
{
	char *member = (char *)config + s->offset;
	const char *why = NULL;
	long long number;

	if (s->kind == NUMBER) {
		why = check_number(s, value, &number);
		if (why == NULL)
			memcpy(member, &number, sizeof(number));
	} else {
		char *copy = strdup(value);
		memcpy(member, &copy, sizeof(copy)); /* freed by config_free() */
		if (copy == NULL)
			why = "out of memory";
		else if (s->kind == PATH)
			why = check_path(value);
		else if (s->kind == LISTEN)
			why = check_listen(value);
		else if (s->kind == SYNC && strcmp(value, "auto") != 0 && strcmp(value, "two") != 0)
			why = "must be auto or two";
		else if (s->kind == STORE)
			why = check_store(value);
		else if (s->kind == MAILTO)
			why = check_mailto(value);
		else if (s->kind == URL)
			why = check_url(value);
		else if (s->kind == YES_NO && strcmp(value, "yes") != 0 && strcmp(value, "no") != 0)
			why = "must be yes or no";
		/* cppcheck-suppress memleak ; the copy is the member's */
	}
	if (why == NULL)
		return 0;
	if (s->kind == STORE) /* it may hold a password */
		error_set(error, EX_CONFIG, NULL, "%s (%.300s): %s", s->key, source, why);
	else
		error_set(error, EX_CONFIG, NULL, "%s=\"%.200s\" (%.300s): %s", s->key, value, source, why);
	return -1;
}

void
config_check_environment(void (*warn)(const struct error *warning, void *data), void *data)
{
	struct error warning;
	char key[64], remedy[128];

	for (char **variable = environ; *variable != NULL; variable++) {
		size_t length = strcspn(*variable, "=");
		snprintf(key, sizeof(key), "%.*s", (int)length, *variable);
		if (strncmp(key, "PSAPI_", 6) != 0 || length >= sizeof(key) || find(key, length) >= 0 ||
		    meant(key) == NULL)
			continue;
		error_set(&warning, EX_CONFIG, near_remedy(key, remedy, sizeof(remedy)),
		    "%s (environment): no such setting", key);
		warn(&warning, data);
	}
}

void
config_check_paths(const struct config *config,
    void (*warn)(const struct error *warning, void *data), void *data)
{
	struct error warning;
	const char *value;

	for (size_t i = 0; i < COUNT; i++) {
		if (settings[i].kind != PATH)
			continue;
		memcpy(&value, (const char *)config + settings[i].offset, sizeof(value));
		if (strstr(value, " #") == NULL)
			continue;
		error_set(&warning, EX_CONFIG, "is a comment meant? Write it on a line of its own",
		    "%s=\"%.200s\" (%.300s): the path has a \" #\" in it", settings[i].key, value,
		    config_source(config, settings[i].key));
		warn(&warning, data);
	}
}

/* "agents" of "/etc/psapi/agents.conf". NULL without memory. */
static char *
name_of(const char *file)
{
	const char *slash = strrchr(file, '/'), *name = slash != NULL ? slash + 1 : file;
	size_t length = strlen(name);

	if (length > 5 && strcmp(name + length - 5, ".conf") == 0)
		length -= 5;
	return strndup(name, length);
}

/* Not what a shell gives, as <(...): no other process will read that. */
static int
note_file(struct config *config, const char *file)
{
	struct stat st;

	if (is_from_caller(file) || stat(file, &st) != 0 || !S_ISREG(st.st_mode))
		return 0;
	config->file = strdup(file);
	return config->file == NULL ? -1 : 0;
}

int
config_load(struct config *config, const char *file, const char *const *overrides, size_t count,
    struct error *error)
{
	struct raw raw = {0};
	const char *from_environment = getenv("PSAPI_CONF");
	bool optional = false;
	int result;

	memset(config, 0, sizeof(*config));
	error_set(error, EX_OSERR, NULL, "out of memory");
	if (file == NULL && from_environment != NULL && *from_environment != '\0')
		file = from_environment;
	if (file == NULL) {
		file = CONFIG_DEFAULT_FILE;
		optional = true;
	}
	result = read_file(&raw, file, optional, error);
	for (int i = 0; result == 0 && i < COUNT; i++) {
		const char *value = getenv(settings[i].key);
		if (value != NULL)
			result = set(&raw, i, value, "environment");
	}
	if (result == 0)
		result = read_overrides(&raw, overrides, count, error);
	for (int i = 0; result == 0 && i < COUNT; i++)
		result = apply(config, &settings[i],
		    raw.value[i] != NULL ? raw.value[i] : settings[i].fallback,
		    raw.source[i] != NULL ? raw.source[i] : "default", error);
	for (int i = 0; i < COUNT; i++) {
		free(raw.value[i]);
		config->source[i] = raw.source[i];
	}
	config->name = name_of(file);
	if (config->name == NULL || note_file(config, file) != 0)
		result = -1;
	if (result != 0)
		config_free(config);
	return result;
}

const char *
config_source(const struct config *config, const char *key)
{
	int i = find(key, strlen(key));

	return i >= 0 && config->source[i] != NULL ? config->source[i] : "default";
}

void
config_free(struct config *config)
{
	for (int i = 0; i < COUNT; i++) {
		char *text;
		memcpy(&text, (char *)config + settings[i].offset, sizeof(text));
		if (settings[i].kind != NUMBER)
			free(text);
		free(config->source[i]);
	}
	free(config->file);
	free(config->name);
	memset(config, 0, sizeof(*config));
}

void
config_usage(void)
{
	enum { INDENT = 25 };
	char text[512];

	for (int i = 0; i < COUNT; i++) {
		int n = printf("  %-22s ", settings[i].key);
		snprintf(text, sizeof(text), "%s (default %s)", settings[i].help,
		    *settings[i].fallback != '\0' ? settings[i].fallback : "none");
		columns_wrap(text, (size_t)n, INDENT);
		putchar('\n');
	}
}
