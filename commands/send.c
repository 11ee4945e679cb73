/*
 * psapi send: the portal's "Send Example" on the user's own machine. What is sent
 * is delivery.c's, in which order sender.c's; here are options and what is printed.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands/command.h"
#include "log.h"
#include "secrets.h"
#include "sender.h"
#include "terminal.h"

enum {
	OPTION_TYPE = OPTION_OWN, OPTION_DATA, OPTION_BODY, OPTION_ID, OPTION_COUNT, OPTION_RATE,
	OPTION_PARALLEL, OPTION_SECRET_FILE, OPTION_RETRIES, OPTION_TIME_SCALE, OPTION_PRINT,
	OPTION_CACERT, OPTION_INSECURE,
	OPTION_KIND, /* OPTION_KIND + enum delivery_kind */
	MANY = 20,   /* deliveries from which a terminal gets a progress bar */
	BAR_MS = 100,
	BODY_MAX = 64 << 20,
	TIMEOUT_MS = 30000
};

struct options {
	struct command_line *line;
	const char *type, *data, *file, *secret_file, *ca_file;
	bool print, insecure;
	struct sending sending;
	/* while it runs */
	bool bar;
	long done;
	long long bar_drawn; /* milliseconds */
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

/* An id that can be a header's value and a webhook-id. */
static bool
take_id(const char *text, struct sending *sending)
{
	sending->id = text;
	for (const char *c = text; *c != '\0'; c++)
		if ((unsigned char)*c <= 0x20 || *c == 0x7f)
			return false;
	return *text != '\0' && strlen(text) <= 512;
}

/* One of the options that have a number. Returns false if it is none that may be. */
static bool
take_numeric(struct options *o, int option)
{
	struct sending *s = &o->sending;
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

/* One of the others. Returns false if its argument cannot be. */
static bool
take_option(struct options *o, int option)
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
		return take_id(optarg, &o->sending);
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
		o->sending.kind = (enum delivery_kind)(option - OPTION_KIND);
		return true;
	}
}

static int
parse(struct options *o, int argc, char **argv)
{
	/* --file is the event's here; the configuration's is -f. */
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
		if (!take_option(o, option))
			return command_misused(o->line, "cannot be the value of that option", optarg);
	}
	if (argc - optind != 1)
		return command_misused(o->line, "one URL is needed, after the options",
		    argc > optind ? argv[optind + 1] : "");
	o->sending.url = argv[optind];
	http_host(o->sending.url, host, sizeof(host));
	if (*host == '\0')
		return command_misused(o->line, "no URL of http or https", o->sending.url);
	if (o->file != NULL && (o->data != NULL || o->type != NULL))
		return command_misused(o->line, "the file is the whole event: leave --type and --data out",
		    o->file);
	return EX_OK;
}

/* ---- what is sent ---- */

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
make_body(struct options *o, size_t *length)
{
	char why[512];

	if (o->file != NULL)
		return read_body(o->file, length);
	char *body = event_body(o->type != NULL ? o->type : example_types[0], o->data,
	    (time_t)command_clock(), why, sizeof(why));
	if (body == NULL)
		log_line("%s", why);
	else
		*length = strlen(body);
	return body;
}

/* The secrets to sign with, where any are needed. */
static int
read_secrets(struct options *o, struct keyring **keyring)
{
	const char *path = o->secret_file;
	char why[512];

	*keyring = NULL;
	if (o->sending.kind == DELIVERY_UNSIGNED || o->sending.kind == DELIVERY_WRONG_SECRET)
		return EX_OK;
	if (path == NULL) {
		int status = command_configure(o->line);
		if (status != EX_OK)
			return status;
		path = o->line->config.secret_file;
	}
	*keyring = secrets_read(path, why, sizeof(why));
	if (*keyring != NULL)
		return EX_OK;
	log_line("%s; --secret-file names another, --unsigned and --wrong-secret need none", why);
	return EX_NOINPUT;
}

/* ---- --print ---- */

static void
print_quoted(const char *text, size_t length)
{
	putchar('\'');
	for (size_t i = 0; i < length; i++) {
		if (text[i] == '\'')
			fputs("'\\''", stdout);
		else
			putchar(text[i]);
	}
	putchar('\'');
}

/* Whether a body can be a word of a command line: --data-binary takes "@" for a file. */
static bool
is_plain(const struct delivery *d)
{
	const unsigned char *body = d->body;

	for (size_t i = 0; i < d->length; i++)
		if ((body[i] < 0x20 && body[i] != '\t' && body[i] != '\n') || body[i] == 0x7f)
			return false;
	return d->length < 65536 && (d->length == 0 || body[0] != '@');
}

static void
print_encoded(const struct delivery *d)
{
	char *encoded = malloc(BASE64_SIZE(d->length));

	if (encoded == NULL)
		return;
	base64_encode(d->body, d->length, encoded);
	printf("base64 -d <<'BODY' |\n%s\nBODY\n", encoded);
	free(encoded);
}

static int
print_command(const struct options *o)
{
	const struct sending *s = &o->sending;
	char id[DELIVERY_ID_SIZE];
	struct delivery d;

	delivery_new_id(id);
	if (delivery_make(&d, s->kind, s->keyring, s->id != NULL ? s->id : id,
	        (time_t)command_clock(), s->body, s->length) != 0) {
		delivery_free(&d);
		log_line("out of memory");
		return EX_OSERR;
	}
	bool plain = is_plain(&d);
	if (!plain)
		print_encoded(&d);
	fputs("curl -sS -i", stdout);
	if (o->insecure)
		fputs(" --insecure", stdout);
	if (o->ca_file != NULL) {
		fputs(" --cacert ", stdout);
		print_quoted(o->ca_file, strlen(o->ca_file));
	}
	putchar(' ');
	print_quoted(s->url, strlen(s->url));
	for (const char *const *h = d.headers; *h != NULL; h++) {
		fputs(" \\\n    -H ", stdout);
		print_quoted(*h, strlen(*h));
	}
	fputs(" \\\n    --data-binary ", stdout);
	if (plain)
		print_quoted(d.body, d.length);
	else
		fputs("@-", stdout);
	putchar('\n');
	delivery_free(&d);
	if (s->kind != DELIVERY_UNSIGNED && s->kind != DELIVERY_STALE)
		log_line("the signature is good for PSAPI_TOLERANCE (300 s), from now");
	return EX_OK;
}

/* ---- what is printed while it runs ---- */

static long long
now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static void
draw_bar(struct options *o)
{
	static const char full[] = "##############################";
	long count = o->sending.count;
	int filled = (int)(30.0 * (double)o->done / (double)count);

	if (!o->bar || (now_ms() - o->bar_drawn < BAR_MS && o->done < count))
		return;
	o->bar_drawn = now_ms();
	fprintf(stderr, "\r[%-30.*s] %ld/%ld ", filled, full, o->done, count);
	if (o->done == count)
		fprintf(stderr, "\r\033[K");
	fflush(stderr);
}

static void
clear_bar(const struct options *o)
{
	if (o->bar)
		fputs("\r\033[K", stderr);
}

/* The reply's text without its last newlines, for one line. */
static size_t
reply_length(const struct http_answer *answer)
{
	size_t n = answer->length;

	while (n > 0 && isspace((unsigned char)answer->body[n - 1]))
		n--;
	return n < 300 ? n : 300;
}

static void
print_try(const struct options *o, const struct sent *sent)
{
	const struct http_answer *a = sent->answer;
	char reply[ESCAPED_SIZE(300)], status[16] = "-";

	escape(reply, sizeof(reply), a->body, reply_length(a), false);
	if (a->status > 0)
		snprintf(status, sizeof(status), "%d", a->status);
	printf("%s%4s%s %8.1f ms  %s  %s\n", colour(sent->expected ? COLOUR_GOOD : COLOUR_BAD), status,
	    colour(COLOUR_NONE), (double)a->us / 1000, column(sent->id), a->status > 0 ? reply : a->error);
	if (a->status / 100 == 3)
		printf("      a redirect is a failure, the sender follows none: %s\n", column(a->location));
	if (!sent->expected && sent->last)
		printf("      not as expected: %s deliveries should be answered %s\n",
		    delivery_kind_names[o->sending.kind],
		    o->sending.kind == DELIVERY_SIGNED ? "2xx" : "4xx");
	if (a->us >= SENDER_LIMIT_MS * 1000LL)
		printf("      %swarning: over 5 s: the sender gives up then, and counts it as failed%s\n",
		    colour(COLOUR_WARN), colour(COLOUR_NONE));
	if (!sent->last)
		printf("      try %d of %d in %.1f s\n", sent->try + 1, o->sending.retries + 1,
		    (double)sent->wait_ms / 1000);
}

static void
print_try_json(const struct sent *sent)
{
	const struct http_answer *a = sent->answer;
	char escaped[ESCAPED_SIZE(300)];
	json_t *reply = json_stringn(a->body, reply_length(a));

	if (reply == NULL) /* no UTF-8 */
		reply = json_string(escape(escaped, sizeof(escaped), a->body, reply_length(a), false));
	print_json(json_pack("{s:I,s:i,s:s,s:i,s:I,s:b,s:o,s:s*}", "number", (json_int_t)sent->number,
	    "try", sent->try, "webhook_id", sent->id, "status", a->status, "ms",
	    (json_int_t)a->us / 1000, "expected", sent->expected, "reply", reply, "error",
	    a->status == 0 ? a->error : NULL));
}

static void
report(const struct sent *sent, void *user)
{
	struct options *o = user;
	bool notable = !sent->expected || !sent->last ||
	    sent->answer->us >= SENDER_LIMIT_MS * 1000LL;

	o->done += sent->last ? 1 : 0;
	if (o->line->json) {
		print_try_json(sent);
	} else if (!o->bar || notable || !isatty(STDOUT_FILENO)) {
		clear_bar(o);
		print_try(o, sent);
	}
	if (!o->bar && isatty(STDOUT_FILENO))
		fflush(stdout);
	draw_bar(o);
}

static void
print_tally(const struct options *o, const struct tally *t)
{
	if (o->line->json || t->tries < 2)
		return;
	printf("%ld deliveries, %ld tries: %ld as expected, %ld not, %ld over 5 s; %.1f s, %.0f a second, "
	       "mean %.1f ms, slowest %.1f ms\n",
	    t->expected + t->refused, t->tries, t->expected, t->refused, t->slow, t->seconds,
	    t->seconds > 0 ? (double)t->tries / t->seconds : 0.0,
	    (double)t->us_total / (double)t->tries / 1000, (double)t->us_max / 1000);
}

/* ---- */

static int
send_all(struct options *o)
{
	struct http_options options = {o->ca_file, o->insecure, TIMEOUT_MS};
	struct http *http = http_open(&options);
	struct tally tally;

	if (http == NULL) {
		log_line("libcurl cannot be used");
		return EX_OSERR;
	}
	o->bar = o->sending.count > MANY && !o->line->json && isatty(STDERR_FILENO);
	o->sending.report = report;
	o->sending.user = o;
	int result = sender_run(http, &o->sending, &tally);
	http_close(http);
	if (result != 0)
		log_line("out of memory");
	print_tally(o, &tally);
	return result != 0 ? EX_OSERR : tally.refused == 0 ? EX_OK : 1;
}

int
send_main(struct command_line *line, int argc, char **argv)
{
	struct options o = {.line = line,
		.sending = {.count = 1, .parallel = 1, .time_scale = 1}};
	struct keyring *keyring = NULL;
	int status = parse(&o, argc, argv);

	if (status != EX_OK)
		return status;
	char *body = make_body(&o, &o.sending.length);
	if (body == NULL)
		return EX_DATAERR;
	o.sending.body = body;
	status = read_secrets(&o, &keyring);
	o.sending.keyring = keyring;
	if (status == EX_OK)
		status = o.print ? print_command(&o) : send_all(&o);
	keyring_free(keyring);
	free(body);
	return status;
}
