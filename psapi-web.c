/*
 * psapi-web: the operator's page, behind a web server that knows who may see it. Owns main(): the
 * command line, and which of the two ways requests come in, as psapi-fcgi.c does. web/ answers.
 *
 * It can read what the receiver stored, and where PSAPI_WEB_ACTIONS says so move it. Nothing that
 * happens here is in the receiver's process.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <malloc.h>
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
#include "events.h"
#include "server/cgi.h"
#include "server/responder.h"
#include "server/sandbox.h"
#include "server/sd_notify.h"
#include "web/example_sender.h"
#include "web/web.h"

enum { THREADS = 8, BODY_MAX = 128 * 1024 };

static void
usage(void)
{
	puts("usage: psapi-web [-f FILE] [-o KEY=VALUE]...\n"
	     "       psapi-web -h | -V\n"
	     "\n"
	     "The operator's page, behind a web server and its authentication: FastCGI on a\n"
	     "socket of its own (PSAPI_WEB_LISTEN) or on descriptor 0, else one classic CGI\n"
	     "request.\n"
	     "\n"
	     "  -f, --file FILE     configuration file (default $PSAPI_CONF, else\n"
	     "                      " CONFIG_DEFAULT_FILE ")\n"
	     "  -o, --set KEY=VALUE a setting, over environment and file\n"
	     "  -V, --version       print the version\n"
	     "  -h, --help          print this\n"
	     "\n"
	     "Settings, from the command line, the environment or the file:\n");
	config_usage();
}

static void
parse_options(int argc, char **argv, struct option_settings *settings)
{
	static const struct option names[] = {{"file", required_argument, NULL, 'f'},
	    {"set", required_argument, NULL, 'o'}, {"version", no_argument, NULL, 'V'},
	    {"help", no_argument, NULL, 'h'}, {0}};

	opterr = 0;
	for (int c; (c = getopt_long(argc, argv, ":f:o:Vh", names, NULL)) != -1;) {
		if (c == 'f')
			settings->file = optarg;
		else if (c == 'o' && !option_override(settings, optarg))
			exit(EX_USAGE);
		else if (c == 'V')
			puts("psapi-web " PSAPI_VERSION);
		else if (c == 'h')
			usage();
		if (c == 'V' || c == 'h')
			exit(io_finish(EX_OK));
		if (c == '?' || c == ':') {
			option_log(names, c, argv[optind - 1], "psapi-web -h lists what there is");
			exit(EX_USAGE);
		}
	}
	if (optind < argc) {
		log_line("\"%s\": no such argument; psapi-web -h lists what there is", argv[optind]);
		exit(EX_USAGE);
	}
}

/* Say why the program does not start. Returns the exit status. */
static int
refuse(const struct error *error)
{
	char line[1600];

	sd_notify_failed(error_line(error, line, sizeof(line)));
	return error_log(error);
}

static struct service
service_of(struct web *web)
{
	return (struct service){.handle = web_handle, .after = web_after, .context = web,
	    .threads = THREADS, .threads_fixed = true, .read_timeout = (int)web->config->read_timeout,
	    .body_max = BODY_MAX};
}

static int
run_cgi(const struct config *config)
{
	struct error error;
	struct web web;
	/* It sends nothing but for a POST, and ends after its answer: there is nothing to count for. */
	const char *method = getenv("REQUEST_METHOD");
	bool posts = method != NULL && strcmp(method, "POST") == 0;
	int status = EX_OK, sender = posts ? example_sender_start(config) : -1;

	/* Without a store it still answers: 503. */
	if (web_open(&web, config, &error) != 0)
		error_log(&error);
	web.sender = sender;
	web.alone = true;
	struct service service = service_of(&web);
	service.after = NULL;
	if (cgi_serve(&service) != 0) {
		log_line("standard output: %s", strerror(errno));
		status = EX_IOERR;
	}
	web_close(&web);
	return status;
}

/* Every file that will be needed is open, and there are no threads yet. */
static void
enter_sandbox(const struct web *web, const struct listener *listener)
{
	static struct store_network network; /* some pages: not on the stack */

	events_seed();
	tzset();
	store_network(web->store, &network);
	sandbox_network(&network);
	sandbox_files(web->config->spool, web->config->secret_file, listener->path);
	sandbox_calls();
}

static int
open_listener(struct listener *listener, const struct config *config, bool inherited,
    struct error *error)
{
	const char *where = inherited ? "" : config->web_listen;
	gid_t group = (gid_t)-1;

	if (strncmp(where, "unix:", 5) == 0 && listener_group(config->listen_group, &group, error) != 0)
		return -1;
	return listener_open(listener, where, group, error);
}

static void
log_warning(const struct error *warning, void *data)
{
	(void)data;
	error_log(warning);
}

static int
run_fastcgi(const struct config *config, bool inherited)
{
	struct listener listener = {.fd = -1};
	struct error error;
	struct web web;
	int status = EX_OK;

	config_check_environment(log_warning, NULL);
	int sender = example_sender_start(config);
	responder_own_signals();
	mallopt(M_ARENA_MAX, 2);
	if (web_open(&web, config, &error) != 0 ||
	    open_listener(&listener, config, inherited, &error) != 0) {
		status = refuse(&error);
	} else {
		web.sender = sender;
		sd_notify_ready(NULL);
		enter_sandbox(&web, &listener);
		const struct service service = service_of(&web);
		if (responder_run(&service, &listener, &error) != 0)
			status = error_log(&error);
	}
	listener_close(&listener);
	web_close(&web);
	return status;
}

int
main(int argc, char **argv)
{
	struct option_settings settings = {0};
	struct config config;
	struct error error;

	if (!io_open_standard())
		_exit(EX_OSERR);
	log_program("psapi-web");
	sandbox_process();
	umask(0027);
	bool inherited = listener_inherited(STDIN_FILENO);
	bool cgi = !inherited && cgi_is_request();
	/* A CGI program's arguments are the client's: RFC 3875, section 4.4. */
	if (!cgi)
		parse_options(argc, argv, &settings);
	if (config_load(&config, settings.file, settings.overrides, settings.count, &error) != 0)
		return refuse(&error);
	int status = EX_USAGE;
	if (cgi)
		status = run_cgi(&config);
	else if (inherited || *config.web_listen != '\0')
		status = run_fastcgi(&config, inherited);
	else
		log_line("no socket (PSAPI_WEB_LISTEN, or one on descriptor 0) and no CGI request: "
		         "psapi-web -h says how it is started");
	config_free(&config);
	return status;
}
