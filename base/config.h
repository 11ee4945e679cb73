/*
 * Settings: one table, three sources (command line over environment over the
 * configuration file), one validated struct. Never from request parameters.
 */
#ifndef PSAPI_CONFIG_H
#define PSAPI_CONFIG_H

#include <stddef.h>

#include "base/error.h"

/* The directories of the defaults; the Makefile defines them. */
#ifndef PSAPI_SYSCONFDIR
#define PSAPI_SYSCONFDIR "/etc"
#endif
#ifndef PSAPI_LOCALSTATEDIR
#define PSAPI_LOCALSTATEDIR "/var"
#endif

#define CONFIG_DEFAULT_FILE PSAPI_SYSCONFDIR "/psapi/psapi.conf"

/* As many settings as the table has. */
#define CONFIG_SETTINGS 21

/* Strings are owned by the struct; "" where a setting without default is not set. */
struct config {
	char *spool;               /* PSAPI_SPOOL: directory */
	/* PSAPI_STORE: a PostgreSQL URI or connection string, without password */
	char *store;
	char *secret_file;         /* PSAPI_SECRET_FILE */
	long long tolerance;       /* PSAPI_TOLERANCE: seconds, either way */
	long long max_body;        /* PSAPI_MAX_BODY: bytes */
	long long min_free;        /* PSAPI_MIN_FREE: bytes */
	char *sync;                /* PSAPI_SYNC: "auto" or "two" */
	char *listen;              /* PSAPI_LISTEN: unix:/path or loopback:port */
	char *listen_group;        /* PSAPI_LISTEN_GROUP: name of a group */
	long long threads;         /* PSAPI_THREADS */
	long long read_timeout;    /* PSAPI_READ_TIMEOUT: seconds */
	char *handlers;            /* PSAPI_HANDLERS: directory */
	char *batch_handlers;      /* PSAPI_BATCH_HANDLERS: directory */
	long long batch;           /* PSAPI_BATCH: events */
	long long handler_timeout; /* PSAPI_HANDLER_TIMEOUT: seconds */
	long long max_tries;       /* PSAPI_MAX_TRIES */
	char *alert_mailto;        /* PSAPI_ALERT_MAILTO: for the header "To:"; "": no mail */
	char *heartbeat_url;       /* PSAPI_HEARTBEAT_URL */
	char *web_listen;          /* PSAPI_WEB_LISTEN: as listen, of psapi-web */
	char *web_actions;         /* PSAPI_WEB_ACTIONS: "yes" or "no" */
	char *endpoint_url;        /* PSAPI_ENDPOINT_URL: of the receiver, as the sender calls it */
	char *file;                /* the configuration file; NULL: none, or it is no regular one */
	char *name;                /* the endpoint's: of the configuration file, without ".conf" */
	char *source[CONFIG_SETTINGS]; /* where each came from: see config_source() */
};

/*
 * Read all settings. file: the configuration file that the user named, or NULL
 * for $PSAPI_CONF, else CONFIG_DEFAULT_FILE (which alone may be missing).
 * overrides: count strings "KEY=VALUE" from the command line, later ones first
 * in force. Returns 0; or -1 with an error that names key, value and source, and
 * nothing to free.
 */
int config_load(struct config *config, const char *file, const char *const *overrides,
    size_t count, struct error *error);

/*
 * The source of a setting's value ("FILE:LINE", "environment", "command line", "default"),
 * for errors that appear only when the value is used. Owned by the struct.
 */
const char *config_source(const struct config *config, const char *key);

/*
 * Whether this process, which may have become another user since config_load(), can read the
 * configuration file: the receiver and cron's drain must. Returns 0, or -1 with an error.
 */
int config_check_file(const struct config *config, struct error *error);

/*
 * Call warn for each variable of the environment that is named nearly as a setting, and is none,
 * with the name that was meant. Others that begin with PSAPI_ are for handlers.
 */
void config_check_environment(void (*warn)(const struct error *warning, void *data), void *data);

/* Call warn for each path with a " #" in it: a comment perhaps, which must be a line of its own. */
void config_check_paths(const struct config *config,
    void (*warn)(const struct error *warning, void *data), void *data);

/* Free the strings of a loaded configuration. */
void config_free(struct config *config);

/*
 * Print every setting as KEY, one line of help and default to standard output, for
 * `psapi-fcgi -h`.
 */
void config_usage(void);

#endif
