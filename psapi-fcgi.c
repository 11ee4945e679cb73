/*
 * psapi-fcgi: receive ProducerSync API webhooks behind a web server. Owns main():
 * the command line, which of the two ways requests come in, and what they share.
 *
 *   descriptor 0 is a listening socket: FastCGI (server/responder.c)
 *   a CGI request is in the environment: classic CGI, that request (server/cgi.c)
 *   PSAPI_LISTEN is set: FastCGI
 *
 * In this order, so that one configuration serves all three. FastCGI is served in a sandbox
 * (server/sandbox.c), classic CGI in a part of it.
 *
 * From there: receiver/receive.c decides, verify.c verifies, events.c reads the event,
 * store/ stores it, receiver/attempts.c logs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/config.h"
#include "base/io.h"
#include "base/log.h"
#include "base/option.h"
#include "base/securemem.h"
#include "base/user.h"
#include "events.h"
#include "receiver/adopt.h"
#include "server/cgi.h"
#include "server/config_test.h"
#include "server/responder.h"
#include "server/sandbox.h"
#include "server/sd_notify.h"
#include "store/store.h"

struct options {
	struct option_settings settings;
	bool check;
};

static void
usage(void)
{
	puts("usage: psapi-fcgi [-t] [-f FILE] [-o KEY=VALUE]...\n"
	     "       psapi-fcgi -h | -V\n"
	     "\n"
	     "Receives ProducerSync API webhooks behind a web server: FastCGI on a socket of\n"
	     "its own (PSAPI_LISTEN) or on descriptor 0, else one classic CGI request.\n"
	     "\n"
	     "  -f, --file FILE     configuration file (default $PSAPI_CONF, else\n"
	     "                      " CONFIG_DEFAULT_FILE ")\n"
	     "  -o, --set KEY=VALUE a setting, over environment and file\n"
	     "  -t, --test          check configuration, spool, secret and socket\n"
	     "  -V, --version       print the version\n"
	     "  -h, --help          print this\n"
	     "\n"
	     "Settings, from the command line, the environment or the file:\n");
	config_usage();
}

static void
parse_options(int argc, char **argv, struct options *options)
{
	static const struct option names[] = {{"file", required_argument, NULL, 'f'},
	    {"set", required_argument, NULL, 'o'}, {"test", no_argument, NULL, 't'},
	    {"version", no_argument, NULL, 'V'}, {"help", no_argument, NULL, 'h'}, {0}};

	opterr = 0;
	for (int c; (c = getopt_long(argc, argv, ":f:o:tVh", names, NULL)) != -1;) {
		switch (c) {
		case 'f':
			options->settings.file = optarg;
			break;
		case 'o':
			if (!option_override(&options->settings, optarg))
				exit(EX_USAGE);
			break;
		case 't':
			options->check = true;
			break;
		case 'V':
			puts("psapi-fcgi " PSAPI_VERSION);
			exit(io_finish(EX_OK));
		case 'h':
			usage();
			exit(io_finish(EX_OK));
		default:
			option_log(names, c, argv[optind - 1], "psapi-fcgi -h lists what there is");
			exit(EX_USAGE);
		}
	}
	if (optind < argc) {
		log_line("\"%s\": no such argument; psapi-fcgi -h lists what there is", argv[optind]);
		exit(EX_USAGE);
	}
}

/*
 * Tell the service manager that the socket listens, and whether a secret is usable. It is not
 * told when a secret is added later, so the text says that it is about the start.
 */
static void
tell_ready(const struct receiver *receiver, bool usable)
{
	char status[768];

	snprintf(status, sizeof(status), "at its start %s held no secret that can be used: %s",
	    receiver->config->secret_file, secrets_awaited(receiver->secrets) ?
	    "psapi secret add, then psapi adopt" : "the log says why");
	sd_notify_ready(usable ? NULL : status);
}

/* Say why the program does not start, in the log and in `systemctl status`. */
static void __attribute__((format(printf, 1, 2)))
refuse(const char *format, ...)
{
	char text[768];
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);
	log_line("%s", text);
	sd_notify_failed(text);
}

/* An error that a setting causes. Returns the exit status. */
static int
refuse_setting(const struct config *config, const char *key, const char *value,
    const struct error *error)
{
	char line[640];

	refuse("%s=\"%s\" (%s): %s", key, value, config_source(config, key),
	    error_line(error, line, sizeof(line)));
	return error->status;
}

/* An error of the store. The value of PSAPI_STORE is in no message. */
static void
refuse_store(const struct config *config, const struct error *error)
{
	char line[1600];

	if (strncmp(error->text, "PSAPI_STORE", 11) == 0)
		refuse("%s", error_line(error, line, sizeof(line)));
	else
		refuse_setting(config, "PSAPI_SPOOL", config->spool, error);
}

/* Open what all requests share. Returns 0, or -1 (logged): then close_receiver() as well. */
static int
open_receiver(struct receiver *receiver, const struct config *config)
{
	struct error error;

	*receiver = (struct receiver){.config = config};
	receiver->secrets = secrets_open(config->secret_file);
	if (receiver->secrets == NULL) {
		log_line("out of memory");
		return -1;
	}
	receiver->store = store_open(config, true, &error);
	if (receiver->store == NULL) {
		refuse_store(config, &error);
		return -1;
	}
	receiver->attempts = attempts_open(config->spool);
	if (receiver->attempts == NULL) {
		refuse("PSAPI_SPOOL=\"%s\": %s", config->spool, strerror(errno));
		return -1;
	}
	attempts_copy_to(receiver->attempts, receiver->store);
	return 0;
}

static void
log_warning(const struct error *warning, void *data)
{
	(void)data;
	error_log(warning);
}

/* Root's files in another user's spool are made that user's; but the process is root's. */
static void
warn_of_root(const struct config *config)
{
	char owner[USER_NAME_SIZE];
	struct stat st;

	if (geteuid() == 0 && user_of_spool(AT_FDCWD, config->spool, &st) == 0 && st.st_uid != 0)
		log_line("runs as root, and %s belongs to %s: start it as that user (User= in its unit)",
		    config->spool, user_name(st.st_uid, owner));
}

/*
 * Before the first request: try the way of an event, and commit what a crash left. A database that
 * does not answer may come back while we run: until then each event is answered 503.
 */
static int
prepare_store(struct store *store, const struct config *config)
{
	struct error error;
	long committed;

	if (store_probe(store, &error) != STORE_OK ||
	    store_recover(store, &committed, &error) != STORE_OK) {
		if (store_is_shared(store) && strncmp(error.text, "PostgreSQL", 10) == 0) {
			error_log(&error);
			return 0;
		}
		refuse_setting(config, "PSAPI_SPOOL", config->spool, &error);
		return -1;
	}
	if (committed > 0)
		log_line("%s: committed %ld event(s) of an earlier run", config->spool, committed);
	return 0;
}

static void
close_receiver(struct receiver *receiver)
{
	attempts_close(receiver->attempts);
	secrets_close(receiver->secrets);
	store_close(receiver->store);
}

/* ---- the service: server/service.h ---- */

static void
answer(void *receiver, const struct request *request, struct reply *reply)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	receive(receiver, request, now, reply);
}

static void
answer_unconfigured(void *context, const struct request *request, struct reply *reply)
{
	(void)context;
	(void)request;
	receive_unconfigured(reply);
}

static void
after_answer(void *context)
{
	struct receiver *receiver = context;

	adopt_once(receiver);
	if (receiver->store != NULL)
		store_attempts_send(receiver->store);
}

static struct service
service_of(struct receiver *receiver)
{
	return (struct service){.handle = answer, .after = after_answer, .context = receiver,
		.threads = (int)receiver->config->threads,
		.read_timeout = (int)receiver->config->read_timeout,
		.body_max = (size_t)receiver->config->max_body};
}

/* ---- classic CGI ---- */

static int
serve_unconfigured(void)
{
	const struct service service = {.handle = answer_unconfigured};

	return cgi_serve(&service);
}

static int
run_cgi(const struct config *config)
{
	struct receiver receiver;

	/* Without a store it still answers: 503 for every authentic request. */
	open_receiver(&receiver, config);
	const struct service service = service_of(&receiver);
	int result = receiver.secrets != NULL ? cgi_serve(&service) : serve_unconfigured();
	if (result != 0)
		log_line("standard output: %s", strerror(errno));
	close_receiver(&receiver);
	return result == 0 ? EX_OK : EX_IOERR;
}

/* ---- FastCGI ---- */

/* Every file that will be needed is open, and there are no threads yet. */
static void
enter_sandbox(const struct receiver *receiver, const struct listener *listener)
{
	static struct store_network network; /* some pages: not on the stack */

	/* The libraries would open files when they first need them. */
	events_seed();
	tzset();
	if (securemem_error() != 0)
		log_line("secrets in memory cannot be kept from swap: mlock: %s: raise the limit of locked "
		         "memory (LimitMEMLOCK=, ulimit -l)", strerror(securemem_error()));
	store_network(receiver->store, &network);
	sandbox_network(&network);
	sandbox_files(receiver->config->spool, receiver->config->secret_file, listener->path);
	sandbox_calls();
}

/* Serve until a signal. Returns the exit status. */
static int
serve(struct receiver *receiver, struct listener *listener)
{
	const struct service service = service_of(receiver);
	struct error error;

	enter_sandbox(receiver, listener);
	return responder_run(&service, listener, &error) == 0 ? EX_OK : error_log(&error);
}

/* Returns EX_OK, or an exit status (logged). */
static int
open_listener(struct listener *listener, const struct config *config, bool inherited)
{
	const char *where = inherited ? "" : config->listen;
	gid_t group = (gid_t)-1;
	struct error error;

	if (strncmp(where, "unix:", 5) == 0 &&
	    listener_group(config->listen_group, &group, &error) != 0)
		return refuse_setting(config, "PSAPI_LISTEN_GROUP", config->listen_group, &error);
	if (listener_open(listener, where, group, &error) != 0)
		return refuse_setting(config, "PSAPI_LISTEN", config->listen, &error);
	return EX_OK;
}

static int
run_fastcgi(const struct config *config, bool inherited)
{
	struct receiver receiver;
	struct listener listener = {.fd = -1};
	int status;

	responder_own_signals();
	/* Threads outnumber the cores; an arena for each would only cost memory. */
	mallopt(M_ARENA_MAX, 2);
	if (open_receiver(&receiver, config) != 0 || prepare_store(receiver.store, config) != 0) {
		close_receiver(&receiver);
		return EX_CANTCREAT;
	}
	config_check_environment(log_warning, NULL);
	warn_of_root(config);
	/* Read the secret now: an error is logged before the first request. */
	const struct keyring *keyring = secrets_borrow(receiver.secrets);
	bool usable = keyring != NULL;
	secrets_return(receiver.secrets, keyring);
	adopt_once(&receiver);
	status = open_listener(&listener, config, inherited);
	if (status == EX_OK) {
		tell_ready(&receiver, usable);
		status = serve(&receiver, &listener);
	}
	listener_close(&listener);
	close_receiver(&receiver);
	return status;
}

int
main(int argc, char **argv)
{
	struct options options = {0};
	struct config config;
	struct error error;
	char line[768];

	if (!io_open_standard())
		_exit(EX_OSERR);
	log_program("psapi-fcgi");
	sandbox_process();
	umask(0027);
	bool inherited = listener_inherited(STDIN_FILENO);
	bool cgi = !inherited && cgi_is_request();
	/*
	 * A CGI program's arguments are the client's: RFC 3875, section 4.4, makes them of a
	 * query without "=". A wrapper script names the file with PSAPI_CONF.
	 */
	if (!cgi)
		parse_options(argc, argv, &options);
	const struct option_settings *settings = &options.settings;
	if (config_load(&config, settings->file, settings->overrides, settings->count, &error) != 0) {
		refuse("%s", error_line(&error, line, sizeof(line)));
		return cgi && serve_unconfigured() == 0 ? EX_OK : EX_CONFIG;
	}
	int status;
	if (options.check) {
		status = io_finish(config_test_run(&config) == 0 ? EX_OK : EX_CONFIG);
	} else if (cgi) {
		status = run_cgi(&config);
	} else if (inherited || *config.listen != '\0') {
		status = run_fastcgi(&config, inherited);
	} else {
		log_line("no socket (PSAPI_LISTEN, or one on descriptor 0) and no CGI request: "
		         "psapi-fcgi -h says how it is started");
		status = EX_USAGE;
	}
	config_free(&config);
	return status;
}
