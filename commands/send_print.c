/* Owns the output of psapi send: the curl command, each try, the progress bar, the totals. */
#define _GNU_SOURCE
#include "base/crypto.h"
#include "commands/send.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/terminal.h"

enum { BAR_MS = 100 };

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

/* Whether a body can be an argument of a command: --data-binary reads "@..." from a file. */
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
	char *encoded = malloc(CRYPTO_BASE64_SIZE(d->length));

	if (encoded == NULL)
		return;
	crypto_base64_encode(d->body, d->length, encoded);
	printf("base64 -d <<'BODY' |\n%s\nBODY\n", encoded);
	free(encoded);
}

int
send_print_command(const struct send_options *o)
{
	const struct sender_options *s = &o->sender;
	char id[DELIVERY_ID_SIZE];
	struct delivery d;

	delivery_new_id(id);
	if (delivery_make(&d, s->kind, s->keyring, s->id != NULL ? s->id : id,
	        (time_t)clock_unix(), s->body, s->length) != 0) {
		delivery_free(&d);
		log_line("out of memory");
		return EX_OSERR;
	}
	bool plain = is_plain(&d);
	if (!plain)
		print_encoded(&d);
	/* --globoff: [] and {} are part of the URL, not a list of URLs. */
	fputs("curl -sS -i --globoff", stdout);
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

/* ---- progress ---- */

static void
draw_bar(struct send_options *o)
{
	static const char full[] = "##############################";
	long count = o->sender.count;
	int filled = (int)(30.0 * (double)o->done / (double)count);

	if (!o->bar || (clock_milliseconds() - o->bar_drawn < BAR_MS && o->done < count))
		return;
	o->bar_drawn = clock_milliseconds();
	fprintf(stderr, "\r[%-30.*s] %ld/%ld ", filled, full, o->done, count);
	if (o->done == count)
		fprintf(stderr, "\r\033[K");
	fflush(stderr);
}

static void
clear_bar(const struct send_options *o)
{
	if (o->bar)
		fputs("\r\033[K", stderr);
}

/* Bytes of the reply without the white space at its end, at most 300. */
static size_t
reply_length(const struct http_answer *answer)
{
	size_t n = answer->length;

	while (n > 0 && isspace((unsigned char)answer->body[n - 1]))
		n--;
	return n < 300 ? n : 300;
}

static void
print_row(const struct send_options *o, const struct sender_try *try)
{
	const struct http_answer *a = try->answer;
	char reply[TERMINAL_ESCAPED_SIZE(300)], error[TERMINAL_ESCAPED_SIZE(sizeof(a->error))],
	    status[16] = "-";

	/* It may quote a certificate. */
	terminal_escape(error, sizeof(error), a->error, strlen(a->error), false);
	terminal_escape(reply, sizeof(reply), a->body, reply_length(a), false);
	if (a->status > 0)
		snprintf(status, sizeof(status), "%d", a->status);
	printf("%s%4s%s %8.1f ms  %s  %s\n", terminal_colour(try->expected ? COLOUR_GOOD : COLOUR_BAD),
	    status, terminal_colour(COLOUR_NONE), (double)a->us / 1000, terminal_column(try->id),
	    a->status > 0 ? reply : error);
	if (a->status / 100 == 3)
		printf("      a redirect is a failure, for the sender follows none: %s\n",
		    terminal_column(a->location));
	if (!try->expected && try->last)
		printf("      not as expected: %s deliveries should be answered %s\n",
		    delivery_kind_names[o->sender.kind],
		    o->sender.kind == DELIVERY_SIGNED ? "2xx" :
		        "4xx, not 404 or 405 as by a web server for a wrong path");
	if (a->us >= SENDER_LIMIT_MS * 1000LL)
		printf("      %swarning: over 5 s: the sender gives up then, and counts it as failed%s\n",
		    terminal_colour(COLOUR_WARN), terminal_colour(COLOUR_NONE));
	if (!try->last)
		printf("      try %d of %d in %.1f s\n", try->tries + 1, o->sender.retries + 1,
		    (double)try->wait_ms / 1000);
}

/* A JSON string of a text; if it is not UTF-8, of at most 512 bytes of it, escaped. */
static json_t *
json_text(const char *text, size_t length)
{
	char escaped[TERMINAL_ESCAPED_SIZE(512)];
	json_t *string = json_stringn(text, length);

	return string != NULL ?
	    string :
	    json_string(terminal_escape(escaped, sizeof(escaped), text, length, false));
}

static void
print_row_json(const struct sender_try *try)
{
	const struct http_answer *a = try->answer;

	terminal_print_json(json_pack("{s:I,s:i,s:o,s:i,s:I,s:b,s:o,s:o*}", "number",
	    (json_int_t)try->number, "try", try->tries, "webhook_id",
	    json_text(try->id, strlen(try->id)), "status", a->status, "ms", (json_int_t)a->us / 1000,
	    "expected", try->expected, "reply", json_text(a->body, reply_length(a)), "error",
	    a->status == 0 ? json_text(a->error, strlen(a->error)) : NULL));
}

void
send_print_try(const struct sender_try *try, void *user)
{
	struct send_options *o = user;
	bool notable = !try->expected || !try->last ||
	    try->answer->us >= SENDER_LIMIT_MS * 1000LL;

	o->done += try->last ? 1 : 0;
	if (o->line->json) {
		print_row_json(try);
	} else if (!o->bar || notable || !isatty(STDOUT_FILENO)) {
		clear_bar(o);
		print_row(o, try);
	}
	if (!o->bar && isatty(STDOUT_FILENO))
		fflush(stdout);
	draw_bar(o);
}

void
send_print_totals(const struct send_options *o, const struct sender_totals *t)
{
	if (o->line->json || t->tries < 2)
		return;
	printf(
	    "%ld deliveries, %ld tries: %ld as expected, %ld not, %ld over 5 s; %.1f s, %.0f a second, "
	    "mean %.1f ms, slowest %.1f ms\n",
	    t->expected + t->unexpected, t->tries, t->expected, t->unexpected, t->slow, t->seconds,
	    t->seconds > 0 ? (double)t->tries / t->seconds : 0.0,
	    (double)t->us_total / (double)t->tries / 1000, (double)t->us_max / 1000);
}
