/*
 * Owns the checks of the way from the Internet to the receiver. Each is skipped unless the checks
 * before it passed, so that doctor names the fault and not its consequences.
 */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { CERTIFICATE_DAYS = 14 };

static void
exchange_at(struct doctor *d, struct http *http, const char *method,
    const struct delivery *delivery, const char *address, struct http_answer *answer)
{
	static const char *const json[] = {"content-type: application/json", NULL};
	struct http_request request = {.url = d->url, .method = method, .address = address,
		.headers = delivery != NULL ? delivery->headers : json,
		.body = delivery != NULL ? delivery->body : "{}",
		.length = delivery != NULL ? delivery->length : 2};

	http_exchange(http, &request, answer);
}

void
doctor_exchange(struct doctor *d, const char *method, const struct delivery *delivery,
    struct http_answer *answer)
{
	exchange_at(d, d->http, method, delivery, NULL, answer);
}

void
doctor_exchange_at(struct doctor *d, struct http *http, const char *address,
    struct http_answer *answer)
{
	exchange_at(d, http, "POST", NULL, address, answer);
}

static void
check_url(struct doctor *d, struct finding *f)
{
	char host[256];

	http_host(d->url, host, sizeof(host));
	if (*host == '\0')
		doctor_failed(f, NULL, "%.200s is no URL of https", d->url);
	else if (strncmp(d->url, "https:", 6) != 0 && !http_host_is_loopback(host))
		doctor_failed(f, NULL, "%.200s is not https: the sender delivers to https alone", d->url);
	else
		doctor_ok(f, "%.300s", d->url);
}

static void
check_connection(struct doctor *d, struct finding *f)
{
	char host[256];

	http_host(d->url, host, sizeof(host));
	if (*host == '\0') {
		d->first.failure = HTTP_BAD_URL;
		doctor_skipped(f, "the URL has no host");
		return;
	}
	doctor_exchange(d, "POST", NULL, &d->first);
	switch (d->first.failure) {
	case HTTP_ANSWERED:
	case HTTP_NO_TLS:
		doctor_ok(f, "connected%s%s", *d->first.address != '\0' ? " to " : "", d->first.address);
		return;
	case HTTP_NO_NAME:
		doctor_skipped(f, "the name does not resolve");
		return;
	case HTTP_TIMEOUT:
		doctor_failed(f,
		    d->first.tls_us > 0 ?
		        "it accepts the connection, and answers nothing: does the receiver hang, does the "
		        "web server wait for\n"
		        "it longer than the sender does?" :
		        NULL,
		    "%s", d->first.error);
		return;
	case HTTP_NO_CONNECTION:
	case HTTP_BAD_URL:
	case HTTP_BROKEN:
		doctor_failed(f, NULL, "%s", d->first.error);
		return;
	}
}

/*
 * Go on without TLS verification, so that other faults show in the same run. No secret is ever
 * sent.
 */
static void
connect_insecurely(struct doctor *d)
{
	struct http_options options = {d->ca_file, true, DOCTOR_TIMEOUT_MS};
	struct http *insecure = http_open(&options);

	if (insecure == NULL)
		return;
	http_close(d->http);
	d->http = insecure;
	free(d->first.body);
	doctor_exchange(d, "POST", NULL, &d->first);
}

static void
check_certificate(struct doctor *d, struct finding *f)
{
	char error[256];

	if (strncmp(d->url, "https:", 6) != 0) {
		doctor_skipped(f, "the URL is not https");
		return;
	}
	if (d->first.failure == HTTP_NO_TLS) {
		snprintf(error, sizeof(error), "%s", d->first.error);
		connect_insecurely(d);
		doctor_failed(f, NULL, "%s", error);
		return;
	}
	if (d->first.failure != HTTP_ANSWERED) {
		doctor_skipped(f, "there is no connection");
		return;
	}
	long long days = d->first.certificate_expires == 0 ? -1 :
	    ((long long)d->first.certificate_expires - (long long)d->now) / 86400;
	if (days < 0)
		doctor_ok(f, "valid");
	else if (days < CERTIFICATE_DAYS)
		doctor_failed(f,
		    "it should have been renewed by now: systemctl status certbot.timer; certbot renew "
		    "--dry-run",
		    "valid for %lld more day(s)", days);
	else
		doctor_ok(f, "valid for %lld more days", days);
}

static void
check_redirect(struct doctor *d, struct finding *f)
{
	if (d->first.failure != HTTP_ANSWERED)
		doctor_skipped(f, "there is no answer");
	else if (d->first.status / 100 == 3)
		doctor_failed(f, NULL,
		    "HTTP %d to %s: the sender follows no redirect, and counts it as a failure",
		    d->first.status, *d->first.location != '\0' ? d->first.location : "nowhere");
	else
		doctor_ok(f, "none");
}

static void
check_answer(struct doctor *d, struct finding *f)
{
	if (d->first.failure != HTTP_ANSWERED || d->first.status / 100 == 3) {
		doctor_skipped(
		    f, d->first.failure != HTTP_ANSWERED ? "there is none" : "a redirect is in the way");
		return;
	}
	doctor_reply_read(&d->first_reply, d->first.status, d->first.body, d->first.length);
	d->reached = d->first_reply.ours && d->first_reply.status != 413;
	if (d->reached)
		doctor_ok(f, "psapi-fcgi answers%s%s", *d->first.server != '\0' ? " behind " : "",
		    d->first.server);
	else
		doctor_explain_status(f, &d->first);
}

/* ---- the operator's page ---- */

#define PAGE_PATH "/psapi/"

/* "https://HOST" of the endpoint, with the page's path. */
static void
page_url(const struct doctor *d, const char *path, char *url, size_t size)
{
	const char *host = strstr(d->url, "://");
	size_t length = host == NULL ? 0 : (size_t)(host - d->url) + 3;

	length += strcspn(d->url + length, "/?#");
	snprintf(url, size, "%.*s" PAGE_PATH "%s", (int)length, d->url, path);
}

/* Whether this is an answer of psapi-web's API. */
static bool
is_page(const struct http_answer *answer)
{
	return answer->failure == HTTP_ANSWERED && answer->status == 200 && answer->body != NULL &&
	    strncmp(answer->content_type, "application/json", 16) == 0 &&
	    strstr(answer->body, "\"actions\":") != NULL && strstr(answer->body, "\"send\":") != NULL;
}

/* Ask the page who has signed in, with these headers. */
static void
ask_page(struct doctor *d, const char *const *headers, struct http_answer *answer)
{
	char url[600];
	struct http_request request = {.url = url, .method = "GET", .headers = headers};

	page_url(d, "api/1/session", url, sizeof(url));
	http_exchange(d->http, &request, answer);
}

/* Whether the page takes a name for a user that nobody has checked. */
static bool
takes_any_name(struct doctor *d)
{
	/* "psapi-doctor-nobody:x" */
	static const char *const headers[] = {
	    "authorization: Basic cHNhcGktZG9jdG9yLW5vYm9keTp4", NULL};
	struct http_answer answer;

	ask_page(d, headers, &answer);
	bool taken = is_page(&answer) && strstr(answer.body, "\"psapi-doctor-nobody\"") != NULL;
	free(answer.body);
	return taken;
}

/* Without a password: nobody must see it. At another path than the shipped one it is not found. */
static void
check_page(struct doctor *d, struct finding *f)
{
	static const char *const no_headers[] = {NULL};
	char url[600];
	struct http_answer answer;

	if (d->first.failure != HTTP_ANSWERED) {
		doctor_skipped(f, "there is no answer");
		return;
	}
	ask_page(d, no_headers, &answer);
	page_url(d, "", url, sizeof(url));
	bool open = is_page(&answer);
	bool closed = answer.failure == HTTP_ANSWERED &&
	    (answer.status == 401 || answer.status == 403);
	free(answer.body);
	if ((open || closed) && takes_any_name(d))
		doctor_failed(f,
		    "anybody can act under any name. nginx: $remote_user is checked by auth_basic alone; "
		    "with another authentication,\n"
		    "REMOTE_USER must be what that one says, see nginx/psapi-web.conf",
		    "%.400s takes any user name that a browser sends", url);
	else if (open)
		doctor_remark(f, NULL, "%.400s answers without a login", url);
	else if (closed)
		doctor_ok(f, "%.400s asks for a login", url);
	else
		doctor_ok(f, "there is none at %.400s", url);
}

const struct doctor_check doctor_url_checks[] = {
	{"url", check_url,
	    "give the endpoint's URL as the portal has it, or set it with PSAPI_ENDPOINT_URL:\n"
	    "https://YOUR.HOST/webhooks/psapi"},
	{"name", doctor_check_name,
	    "is there an A or AAAA record? The name must resolve everywhere, not only here"},
	{"connection", check_connection,
	    "does the web server listen on that port, does a firewall let it through? ss -ltn; nft "
	    "list ruleset"},
	{"addresses", doctor_check_addresses,
	    "the sender may use any of them: remove the record (A, AAAA), or have the web server "
	    "listen there, too\n"
	    "(nginx: listen [::]:443 ssl; Apache: Listen)"},
	{"certificate", check_certificate,
	    "the sender checks it as browsers do: it needs a certificate for exactly this name, from "
	    "a public authority, with\n"
	    "its chain (nginx: ssl_certificate with fullchain.pem; Apache: SSLCertificateFile "
	    "likewise)"},
	{"redirect", check_redirect,
	    "give the portal the URL that it leads to; or exclude the location from the rule\n"
	    "(nginx: return 301, rewrite; Apache: Redirect, RewriteRule, DirectorySlash)"},
	{"answer", check_answer, ""},
	{"page", check_page,
	    "that address shows all events. Have the web server ask for a login there "
	    "(nginx: auth_basic; Apache: Require),\n"
	    "as nginx/psapi-web.conf and apache/psapi-web.conf do; or remove it"},
	{0},
};
