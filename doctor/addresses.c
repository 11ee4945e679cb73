/*
 * Owns the checks of a name's addresses: where they are, and whether the receiver answers at
 * each of them. The sender may use any of them; an old AAAA record is easily forgotten.
 */
#define _GNU_SOURCE
#include "doctor/doctor.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ADDRESSES_MAX = 8, ADDRESS_SIZE = 64, TRY_TIMEOUT_MS = 6000 };

/* The addresses of a name. */
struct addresses {
	int count;
	char text[ADDRESSES_MAX][ADDRESS_SIZE];
	struct sockaddr_storage address[ADDRESSES_MAX];
	socklen_t length[ADDRESSES_MAX];
};

/* The host of the URL, without the brackets of an IPv6 address. "" if there is none. */
static void
host_of(const char *url, char *host, size_t size)
{
	http_host(url, host, size);
	size_t length = strlen(host);
	if (*host == '[' && host[length - 1] == ']') {
		host[length - 1] = '\0';
		memmove(host, host + 1, length - 1);
	}
}

/* Whether the URL names this machine itself: then no name has to be checked. */
static bool
is_this_machine(const char *url)
{
	char host[256];

	http_host(url, host, sizeof(host));
	return http_host_is_loopback(host);
}

static bool
has_address(const struct addresses *all, const char *text)
{
	for (int i = 0; i < all->count; i++)
		if (strcmp(all->text[i], text) == 0)
			return true;
	return false;
}

/* Returns 0, or an error of getaddrinfo(3). */
static int
find_addresses(const char *host, struct addresses *all)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
	int error = getaddrinfo(host, "443", &hints, &list);

	all->count = 0;
	for (const struct addrinfo *a = list; error == 0 && a != NULL; a = a->ai_next) {
		char text[ADDRESS_SIZE];
		if (all->count == ADDRESSES_MAX || a->ai_addrlen > sizeof(all->address[0]) ||
		    getnameinfo(a->ai_addr, a->ai_addrlen, text, sizeof(text), NULL, 0,
		        NI_NUMERICHOST) != 0 || has_address(all, text))
			continue;
		memcpy(all->text[all->count], text, sizeof(text));
		memcpy(&all->address[all->count], a->ai_addr, a->ai_addrlen);
		all->length[all->count++] = a->ai_addrlen;
	}
	if (list != NULL)
		freeaddrinfo(list);
	return error;
}

/* Why an address cannot be reached from the Internet; NULL: it can be. */
static const char *
why_not_public(const char *text)
{
	static const struct {
		const char *begins, *why;
	} rows[] = {{"127.", "this machine itself"}, {"::1", "this machine itself"},
	    {"0.", "no address"}, {"10.", "a private address"}, {"192.168.", "a private address"},
	    {"169.254.", "an address of one link"}, {"fe80:", "an address of one link"},
	    {"fc", "a private address"}, {"fd", "a private address"}};
	struct in_addr four;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (strncmp(text, rows[i].begins, strlen(rows[i].begins)) == 0)
			return rows[i].why;
	if (inet_pton(AF_INET, text, &four) == 1 && (ntohl(four.s_addr) >> 20) == (172 << 4 | 1))
		return "a private address"; /* 172.16.0.0/12 */
	return NULL;
}

void
doctor_check_name(struct doctor *d, struct finding *f)
{
	struct addresses all;
	char host[256], list[ADDRESSES_MAX * (ADDRESS_SIZE + 2)] = "";

	host_of(d->url, host, sizeof(host));
	if (*host == '\0') {
		doctor_skipped(f, "the URL has none");
		return;
	}
	int error = find_addresses(host, &all);
	if (error != 0) {
		doctor_failed(f, NULL, "%s: %s", host, gai_strerror(error));
		return;
	}
	for (int i = 0; i < all.count; i++)
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", i > 0 ? ", " : "",
		    all.text[i]);
	doctor_ok(f, "%s is %s", host, list);
	for (int i = 0; i < all.count && !is_this_machine(d->url); i++) {
		const char *why = why_not_public(all.text[i]);
		if (why == NULL)
			continue;
		doctor_remark(f,
		    "look from elsewhere (dig NAME @1.1.1.1): is that only /etc/hosts, or the resolver of "
		    "this network?\n"
		    "Then doctor does not see what the sender sees", "%s is %s here: %s", host, list, why);
		return;
	}
}

/* Whether this machine has a route to the address. No packet is sent. */
static bool
has_route(const struct addresses *all, int i)
{
	int fd = socket(all->address[i].ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool routed = fd >= 0 &&
	    connect(fd, (const struct sockaddr *)&all->address[i], all->length[i]) == 0;

	if (fd >= 0)
		close(fd);
	return routed;
}

/* Send a request to one address. False: its answer differs from the first one; why says how. */
static bool
answers_at(struct doctor *d, const char *address, char *why, size_t size)
{
	struct http_options options = {d->ca_file, true, TRY_TIMEOUT_MS};
	struct http_answer answer = {.failure = HTTP_BROKEN};
	struct doctor_reply first, reply;
	struct http *http = http_open(&options);

	if (http == NULL) {
		snprintf(why, size, "out of memory");
		return false;
	}
	doctor_exchange_at(d, http, address, &answer);
	doctor_reply_read(&first, d->first.status, d->first.body, d->first.length);
	doctor_reply_read(&reply, answer.status, answer.body, answer.length);
	bool same = answer.failure == HTTP_ANSWERED && reply.ours == first.ours;
	if (answer.failure != HTTP_ANSWERED)
		snprintf(why, size, "%s", answer.error);
	else
		snprintf(why, size, "HTTP %d by %s, which is %spsapi-fcgi", answer.status,
		    *answer.server != '\0' ? answer.server : "an unnamed server", reply.ours ? "" : "not ");
	free(answer.body);
	http_close(http);
	return same;
}

/* Whether a proxy is configured: requests through a proxy do not use the addresses. */
static bool
has_proxy(void)
{
	static const char *const names[] = {
	    "https_proxy", "HTTPS_PROXY", "http_proxy", "all_proxy", "ALL_PROXY"};

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *value = getenv(names[i]);
		if (value != NULL && *value != '\0')
			return true;
	}
	return false;
}

void
doctor_check_addresses(struct doctor *d, struct finding *f)
{
	struct addresses all;
	char host[256], why[400], unreached[ADDRESS_SIZE] = "";

	host_of(d->url, host, sizeof(host));
	if (d->first.failure != HTTP_ANSWERED || *host == '\0' || find_addresses(host, &all) != 0) {
		doctor_skipped(f, "there is no answer");
	} else if (all.count < 2) {
		doctor_ok(f, "there is one");
	} else if (is_this_machine(d->url) || has_proxy()) {
		doctor_skipped(f, "a proxy, or this machine itself");
	} else {
		doctor_ok(f, "the same answer at each of %d", all.count);
		for (int i = 0; i < all.count; i++) {
			if (!has_route(&all, i))
				snprintf(unreached, sizeof(unreached), "%s", all.text[i]);
			else if (!answers_at(d, all.text[i], why, sizeof(why)))
				doctor_failed(f, NULL, "%s: %s", all.text[i], why);
		}
		if (*unreached != '\0' && f->result == DOCTOR_OK)
			doctor_remark(f, "try it from a machine that has IPv6 and IPv4: curl -4, curl -6",
			    "%s cannot be tried: this machine has no route to it", unreached);
	}
}
