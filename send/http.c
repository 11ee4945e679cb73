/*
 * Owns the HTTP client: one curl multi handle, one easy handle for each request
 * in flight. Nothing here knows of webhooks.
 */
#define _GNU_SOURCE
#include "send/http.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <curl/curl.h>

#include "base/clock.h"

struct exchange {
	CURL *easy;
	struct curl_slist *headers;
	struct curl_slist *resolve;
	struct http_answer answer;
	char error[CURL_ERROR_SIZE];
	struct exchange *next; /* in flight */
};

struct http {
	CURLM *multi;
	struct http_options options;
	struct exchange *in_flight;
	unsigned count;
};

struct http *
http_open(const struct http_options *options)
{
	struct http *http = calloc(1, sizeof(*http));

	if (http == NULL || curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
		free(http);
		return NULL;
	}
	http->options = *options;
	http->multi = curl_multi_init();
	if (http->multi != NULL)
		return http;
	free(http);
	return NULL;
}

static void
free_exchange(struct exchange *x)
{
	curl_easy_cleanup(x->easy);
	curl_slist_free_all(x->headers);
	curl_slist_free_all(x->resolve);
	free(x);
}

void
http_close(struct http *http)
{
	if (http == NULL)
		return;
	for (struct exchange *x = http->in_flight, *next; x != NULL; x = next) {
		next = x->next;
		curl_multi_remove_handle(http->multi, x->easy);
		free(x->answer.body);
		free_exchange(x);
	}
	curl_multi_cleanup(http->multi);
	curl_global_cleanup();
	free(http);
}

/* ---- receiving ---- */

static size_t
take_body(char *data, size_t one, size_t count, void *user)
{
	struct http_answer *answer = user;
	size_t length = one * count, keep = length;

	if (keep > HTTP_BODY_MAX - answer->length)
		keep = HTTP_BODY_MAX - answer->length;
	char *body = realloc(answer->body, answer->length + keep + 1);
	if (body == NULL)
		return 0;
	answer->body = body;
	memcpy(body + answer->length, data, keep);
	answer->length += keep;
	body[answer->length] = '\0';
	return length;
}

/* Copy the value of a header line if it is the header of this name. */
static void
take_value(const char *line, size_t length, const char *name, char *value, size_t size)
{
	size_t n = strlen(name);

	if (length <= n || line[n] != ':' || strncasecmp(line, name, n) != 0)
		return;
	line += n + 1;
	length -= n + 1;
	while (length > 0 && (*line == ' ' || *line == '\t')) {
		line++;
		length--;
	}
	while (length > 0 && strchr(" \t\r\n", line[length - 1]) != NULL)
		length--;
	snprintf(value, size, "%.*s", (int)length, line);
}

static size_t
take_header(char *line, size_t one, size_t count, void *user)
{
	struct http_answer *a = user;
	size_t length = one * count;
	char seconds[32] = "";

	take_value(line, length, "location", a->location, sizeof(a->location));
	take_value(line, length, "server", a->server, sizeof(a->server));
	take_value(line, length, "content-type", a->content_type, sizeof(a->content_type));
	take_value(line, length, "www-authenticate", a->authenticate, sizeof(a->authenticate));
	take_value(line, length, "retry-after", seconds, sizeof(seconds));
	if (*seconds != '\0')
		a->retry_after = strtol(seconds, NULL, 10);
	return length;
}

/* ---- one request ---- */

void
http_host(const char *url, char *host, size_t size)
{
	CURLU *parsed = curl_url();
	char *part = NULL, *scheme = NULL;

	*host = '\0';
	if (parsed != NULL && curl_url_set(parsed, CURLUPART_URL, url, 0) == CURLUE_OK &&
	    curl_url_get(parsed, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
	    (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
	    curl_url_get(parsed, CURLUPART_HOST, &part, 0) == CURLUE_OK)
		snprintf(host, size, "%s", part);
	curl_free(part);
	curl_free(scheme);
	curl_url_cleanup(parsed);
}

bool
http_host_is_loopback(const char *host)
{
	return strcasecmp(host, "localhost") == 0 || strncmp(host, "127.", 4) == 0 ||
	    strcmp(host, "[::1]") == 0;
}

/* Connect to this address, not to one that the host has. */
static void
set_address(struct exchange *x, const struct http_request *request)
{
	char to[80];
	bool six = strchr(request->address, ':') != NULL;

	snprintf(to, sizeof(to), "::%s%.64s%s:", six ? "[" : "", request->address, six ? "]" : "");
	x->resolve = curl_slist_append(NULL, to);
	curl_easy_setopt(x->easy, CURLOPT_CONNECT_TO, x->resolve);
	curl_easy_setopt(x->easy, CURLOPT_PROXY, "");
}

static void
set_request(struct exchange *x, const struct http_request *request)
{
	CURL *easy = x->easy;
	char host[256];

	curl_easy_setopt(easy, CURLOPT_URL, request->url);
	if (strcmp(request->method, "POST") == 0) {
		curl_easy_setopt(easy, CURLOPT_POST, 1L);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)request->length);
		curl_easy_setopt(easy, CURLOPT_POSTFIELDS,
		    request->body != NULL ? request->body : "");
	} else {
		curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, request->method);
	}
	for (const char *const *h = request->headers; h != NULL && *h != NULL; h++)
		x->headers = curl_slist_append(x->headers, *h);
	/* No "Expect: 100-continue": the sender has none, and it may cost a second. */
	x->headers = curl_slist_append(x->headers, "Expect:");
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, x->headers);
	http_host(request->url, host, sizeof(host));
	if (http_host_is_loopback(host))
		curl_easy_setopt(easy, CURLOPT_PROXY, "");
	if (request->address != NULL)
		set_address(x, request);
}

static void
set_answer(struct exchange *x)
{
	CURL *easy = x->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, x);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->error);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, take_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, &x->answer);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, take_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, &x->answer);
}

static void
set_options(CURL *easy, const struct http_options *options)
{
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "psapi/" PSAPI_VERSION);
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_CERTINFO, 1L);
	curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)options->timeout_ms);
	if (options->ca_file != NULL)
		curl_easy_setopt(easy, CURLOPT_CAINFO, options->ca_file);
	if (options->insecure) {
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

int
http_start(struct http *http, const struct http_request *request)
{
	struct exchange *x = calloc(1, sizeof(*x));

	if (x == NULL || (x->easy = curl_easy_init()) == NULL) {
		free(x);
		return -1;
	}
	x->answer.tag = request->tag;
	set_options(x->easy, &http->options);
	set_request(x, request);
	set_answer(x);
	if (curl_multi_add_handle(http->multi, x->easy) != CURLM_OK) {
		free_exchange(x);
		return -1;
	}
	x->next = http->in_flight;
	http->in_flight = x;
	http->count++;
	return 0;
}

unsigned
http_in_flight(const struct http *http)
{
	return http->count;
}

/* ---- its answer ---- */

static enum http_failure
failure_of(CURLcode code)
{
	switch (code) {
	case CURLE_OK:
		return HTTP_ANSWERED;
	case CURLE_COULDNT_RESOLVE_HOST:
	case CURLE_COULDNT_RESOLVE_PROXY:
		return HTTP_NO_NAME;
	case CURLE_COULDNT_CONNECT:
		return HTTP_NO_CONNECTION;
	case CURLE_SSL_CONNECT_ERROR:
	case CURLE_PEER_FAILED_VERIFICATION:
	case CURLE_SSL_CACERT_BADFILE:
	case CURLE_SSL_CERTPROBLEM:
	case CURLE_SSL_CIPHER:
	case CURLE_SSL_ISSUER_ERROR:
		return HTTP_NO_TLS;
	case CURLE_OPERATION_TIMEDOUT:
		return HTTP_TIMEOUT;
	case CURLE_URL_MALFORMAT:
	case CURLE_UNSUPPORTED_PROTOCOL:
		return HTTP_BAD_URL;
	default:
		return HTTP_BROKEN;
	}
}

/* "Expire date:" of the first certificate of the chain, the server's own. */
static time_t
certificate_expiry(CURL *easy)
{
	static const char name[] = "Expire date:";
	struct curl_certinfo *chain = NULL;

	if (curl_easy_getinfo(easy, CURLINFO_CERTINFO, &chain) != CURLE_OK || chain == NULL ||
	    chain->num_of_certs < 1)
		return 0;
	for (struct curl_slist *line = chain->certinfo[0]; line != NULL; line = line->next) {
		if (strncasecmp(line->data, name, strlen(name)) != 0)
			continue;
		time_t expires = curl_getdate(line->data + strlen(name), NULL);
		return expires < 0 ? 0 : expires;
	}
	return 0;
}

static void
fill_answer(struct exchange *x, CURLcode code)
{
	struct http_answer *a = &x->answer;
	curl_off_t total = 0, tls = 0, tcp = 0;
	const char *address = NULL;
	long status = 0;

	curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &status);
	curl_easy_getinfo(x->easy, CURLINFO_TOTAL_TIME_T, &total);
	curl_easy_getinfo(x->easy, CURLINFO_CONNECT_TIME_T, &tcp);
	curl_easy_getinfo(x->easy, CURLINFO_APPCONNECT_TIME_T, &tls);
	curl_easy_getinfo(x->easy, CURLINFO_PRIMARY_IP, &address);
	a->certificate_expires = certificate_expiry(x->easy);
	snprintf(a->address, sizeof(a->address), "%s", address != NULL ? address : "");
	a->us = total;
	a->tls_us = tls > 0 ? tls : tcp;
	a->failure = failure_of(code);
	/* The answer is complete although the server closed the connection during an upload. */
	if (code == CURLE_SEND_ERROR && status >= 200)
		a->failure = HTTP_ANSWERED;
	a->status = a->failure == HTTP_ANSWERED ? (int)status : 0;
	if (a->failure != HTTP_ANSWERED)
		snprintf(a->error, sizeof(a->error), "%s",
		    x->error[0] != '\0' ? x->error : curl_easy_strerror(code));
	if (a->body == NULL)
		a->body = calloc(1, 1);
}

/* Take it out of the list, give its answer to the caller, free the rest. */
static void
finish(struct http *http, struct exchange *x, CURLcode code, struct http_answer *answer)
{
	struct exchange **link = &http->in_flight;

	while (*link != x)
		link = &(*link)->next;
	*link = x->next;
	http->count--;
	fill_answer(x, code);
	*answer = x->answer;
	curl_multi_remove_handle(http->multi, x->easy);
	free_exchange(x);
}

static int
next_answer(struct http *http, struct http_answer *answer)
{
	int left;

	for (CURLMsg *m; (m = curl_multi_info_read(http->multi, &left)) != NULL;) {
		struct exchange *x = NULL;
		if (m->msg != CURLMSG_DONE)
			continue;
		CURLcode code = m->data.result;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &x);
		finish(http, x, code, answer);
		return 1;
	}
	return 0;
}

int
http_wait(struct http *http, int timeout_ms, struct http_answer *answer)
{
	int64_t end = clock_milliseconds() + timeout_ms;

	for (;;) {
		int running;
		curl_multi_perform(http->multi, &running);
		if (next_answer(http, answer) == 1)
			return 1;
		int64_t left = end - clock_milliseconds();
		if (left <= 0 || http->count == 0)
			return 0;
		curl_multi_poll(http->multi, NULL, 0, (int)left, NULL);
	}
}

void
http_exchange(struct http *http, const struct http_request *request, struct http_answer *answer)
{
	memset(answer, 0, sizeof(*answer));
	answer->failure = HTTP_BROKEN;
	snprintf(answer->error, sizeof(answer->error), "the request cannot be started");
	if (http_start(http, request) != 0)
		answer->body = calloc(1, 1);
	else
		while (http_wait(http, 1000, answer) == 0)
			continue;
}
