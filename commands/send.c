/*
 * psapi send: the portal's "Send Example" on the user's own machine. Owns the options. delivery.c
 * makes the requests, sender.c has their order, send_print.c prints the results.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands/command.h"
#include "commands/send.h"
#include "base/clock.h"
#include "base/log.h"
#include "send/sender.h"

enum {
	OPTION_TYPE = OPTION_OWN, OPTION_DATA, OPTION_BODY, OPTION_ID, OPTION_COUNT, OPTION_RATE,
	OPTION_PARALLEL, OPTION_SECRET_FILE, OPTION_RETRIES, OPTION_TIME_SCALE, OPTION_PRINT,
	OPTION_CACERT, OPTION_INSECURE,
	OPTION_KIND, /* OPTION_KIND + enum delivery_kind */
	MANY = 20,   /* deliveries from which a terminal gets a progress bar */
	BODY_MAX = 64 << 20,
	TIMEOUT_MS = 30000
};

/* ---- options ---- */

static bool
take_number(const char *text, double min, double max, double *number)
{
	char *end;

	errno = 0;
	*number = strtod(text, &end);
	return (isdigit((unsigned char)*text) || *text == '.') && *end == '\0' && errno == 0 &&
	    *number >= min && *number <= max;
}

static bool
take_whole(const char *text, long min, long max, long *number)
{
	double value;

	if (!take_number(text, (double)min, (double)max, &value) || (double)(long)value != value)
		return false;
	*number = (long)value;
	return true;
}

/* Take an id, if it can be the value of a header and a webhook-id. */
static bool
take_id(const char *text, struct sender_options *sender)
{
	sender->id = text;
	for (const char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c <= 0x20 || *c == 0x7f)
			return false;
	return *text != '\0' && strlen(text) <= 512;
}

/* Take one of the options with a number. Returns false if the number is not in its range. */
static bool
take_numeric(struct send_options *o, int option)
{
	struct sender_options *s = &o->sender;
	long number = 0;

	switch (option) {
	case OPTION_COUNT:
		return take_whole(optarg, 1, 1000000000, &s->count);
	case OPTION_RATE:
		return take_number(optarg, 0.001, 1e6, &s->rate);
	case OPTION_PARALLEL:
		if (!take_whole(optarg, 1, 1000, &number))
			return false;
		s->parallel = (unsigned)number;
		return true;
	case OPTION_RETRIES:
		if (!take_whole(optarg, 0, 1000, &number))
			return false;
		s->retries = (int)number;
		return true;
	default:
		return take_number(optarg, 0, 1000, &s->time_scale);
	}
}

/* What the argument of an option must be. */
static const char *
range_of(int option)
{
	switch (option) {
	case OPTION_TYPE:
		return "--type takes the type of an event";
	case OPTION_ID:
		return "--id takes 1 to 512 bytes without blanks";
	case OPTION_COUNT:
		return "--count takes a number from 1 to 1000000000";
	case OPTION_RATE:
		return "--rate takes deliveries a second, 0.001 to 1000000";
	case OPTION_PARALLEL:
		return "--parallel takes a number from 1 to 1000";
	case OPTION_RETRIES:
		return "--retries takes a number from 0 to 1000";
	default:
		return "--time-scale takes a number from 0 to 1000";
	}
}

/* Take any option. Returns false if its argument is not valid. */
static bool
take_option(struct send_options *o, int option)
{
	switch (option) {
	case OPTION_TYPE:
		o->type = optarg;
		return *optarg != '\0';
	case OPTION_DATA:
		o->data = optarg;
		return true;
	case OPTION_BODY:
		o->file = optarg;
		return true;
	case OPTION_ID:
		return take_id(optarg, &o->sender);
	case OPTION_SECRET_FILE:
		o->secret_file = optarg;
		return true;
	case OPTION_CACERT:
		o->ca_file = optarg;
		return true;
	case OPTION_INSECURE:
		o->insecure = true;
		return true;
	case OPTION_PRINT:
		o->print = true;
		return true;
	case OPTION_COUNT:
	case OPTION_RATE:
	case OPTION_PARALLEL:
	case OPTION_RETRIES:
	case OPTION_TIME_SCALE:
		return take_numeric(o, option);
	default:
		o->sender.kind = (enum delivery_kind)(option - OPTION_KIND);
		return true;
	}
}

static int
parse(struct send_options *o, int argc, char **argv)
{
	/* --file is the event's file here; the configuration's is -f. */
	static const struct option names[] = {{"type", required_argument, NULL, OPTION_TYPE},
	    {"data", required_argument, NULL, OPTION_DATA},
	    {"file", required_argument, NULL, OPTION_BODY}, {"id", required_argument, NULL, OPTION_ID},
	    {"count", required_argument, NULL, OPTION_COUNT},
	    {"rate", required_argument, NULL, OPTION_RATE},
	    {"parallel", required_argument, NULL, OPTION_PARALLEL},
	    {"secret-file", required_argument, NULL, OPTION_SECRET_FILE},
	    {"unsigned", no_argument, NULL, OPTION_KIND + DELIVERY_UNSIGNED},
	    {"tampered", no_argument, NULL, OPTION_KIND + DELIVERY_TAMPERED},
	    {"stale", no_argument, NULL, OPTION_KIND + DELIVERY_STALE},
	    {"wrong-secret", no_argument, NULL, OPTION_KIND + DELIVERY_WRONG_SECRET},
	    {"retries", required_argument, NULL, OPTION_RETRIES},
	    {"time-scale", required_argument, NULL, OPTION_TIME_SCALE},
	    {"print", no_argument, NULL, OPTION_PRINT},
	    {"cacert", required_argument, NULL, OPTION_CACERT},
	    {"insecure", no_argument, NULL, OPTION_INSECURE}, COMMON_OPTIONS};
	char host[256];

	for (int option; (option = command_option(o->line, argc, argv, "", names)) != -1;) {
		if (option == '?')
			return EX_USAGE;
		if (option >= OPTION_KIND && o->sender.kind != DELIVERY_SIGNED)
			return command_misused(o->line, "one wrong kind at a time", argv[optind - 1]);
		if (!take_option(o, option))
			return command_misused(o->line, range_of(option), optarg);
	}
	if (argc - optind != 1)
		return command_misused(o->line, "one URL is needed, after the options",
		    argc > optind ? argv[optind + 1] : NULL);
	o->sender.url = argv[optind];
	http_host(o->sender.url, host, sizeof(host));
	if (*host == '\0')
		return command_misused(o->line, "is not a URL of http or https", o->sender.url);
	if (o->file != NULL && (o->data != NULL || o->type != NULL))
		return command_misused(o->line, "the file is the whole event: leave --type and --data out",
		    o->file);
	return EX_OK;
}

/* ---- body and secrets ---- */

static char *
read_body(const char *path, size_t *length)
{
	FILE *file = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	char *body = NULL;

	*length = 0;
	for (size_t room = 65536; file != NULL && room <= BODY_MAX; room *= 2) {
		char *grown = realloc(body, room);
		if (grown == NULL)
			break;
		body = grown;
		*length += fread(body + *length, 1, room - *length, file);
		if (*length < room)
			break;
	}
	if (file == NULL || ferror(file) || *length >= BODY_MAX) {
		log_line("%s: %s", path, *length >= BODY_MAX ? "too large" : strerror(errno));
		free(body);
		body = NULL;
	}
	if (file != NULL && file != stdin)
		fclose(file);
	return body;
}

static char *
make_body(struct send_options *o, size_t *length)
{
	struct error error;

	if (o->file != NULL)
		return read_body(o->file, length);
	char *body = delivery_event_body(o->type != NULL ? o->type : delivery_example_types[0], o->data,
	    (time_t)clock_unix(), &error);
	if (body == NULL)
		error_log(&error);
	else
		*length = strlen(body);
	return body;
}

/* Read the secrets to sign with, if the kind needs any. */
static int
read_secrets(struct send_options *o, struct keyring **keyring)
{
	const char *path = o->secret_file;
	struct error error;
	char why[640];

	*keyring = NULL;
	if (o->sender.kind == DELIVERY_UNSIGNED || o->sender.kind == DELIVERY_WRONG_SECRET)
		return EX_OK;
	int status = command_configure(o->line);
	if (status != EX_OK)
		return status;
	if (path == NULL)
		path = o->line->config.secret_file;
	*keyring = command_read_secrets(o->line, path, &error);
	if (*keyring != NULL)
		return EX_OK;
	log_line("%s; --secret-file names another, --unsigned and --wrong-secret need none",
	    error_line(&error, why, sizeof(why)));
	return error.status;
}

static int
send_all(struct send_options *o)
{
	struct http_options options = {o->ca_file, o->insecure, TIMEOUT_MS};
	struct http *http = http_open(&options);
	struct sender_totals totals;

	if (http == NULL) {
		log_line("libcurl cannot be used");
		return EX_OSERR;
	}
	o->bar = o->sender.count > MANY && !o->line->json && isatty(STDERR_FILENO);
	o->sender.report = send_print_try;
	o->sender.user = o;
	int result = sender_run(http, &o->sender, &totals);
	http_close(http);
	if (result != 0)
		log_line("out of memory");
	send_print_totals(o, &totals);
	return result != 0 ? EX_OSERR : totals.unexpected == 0 ? EX_OK : 1;
}

int
send_main(struct command_line *line, int argc, char **argv)
{
	struct send_options o = {.line = line,
		.sender = {.count = 1, .parallel = 1, .time_scale = 1}};
	struct keyring *keyring = NULL;
	int status = parse(&o, argc, argv);

	if (status != EX_OK)
		return status;
	char *body = make_body(&o, &o.sender.length);
	if (body == NULL)
		return EX_DATAERR;
	o.sender.body = body;
	status = read_secrets(&o, &keyring);
	o.sender.keyring = keyring;
	if (status == EX_OK)
		status = o.print ? send_print_command(&o) : send_all(&o);
	verify_keyring_free(keyring);
	free(body);
	return status;
}
