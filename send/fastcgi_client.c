/* Owns the client's side of FastCGI: records out, records in, one request a connection. */
#define _GNU_SOURCE
#include "send/fastcgi_client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sysexits.h>
#include <unistd.h>

#include "base/clock.h"

/* FastCGI 1.0, section 8. */
enum { VERSION = 1, BEGIN = 1, END = 3, PARAMS = 4, STDIN = 5, STDOUT = 6, GET_VALUES = 9,
	GET_VALUES_RESULT = 10, RESPONDER = 1 };
enum { HEADER_SIZE = 8, CONTENT_MAX = 65535, REQUEST_ID = 1 };

/* ---- connect ---- */

static int
open_socket(int family, const struct sockaddr *address, socklen_t size, int timeout_ms)
{
	struct timeval timeout = {timeout_ms / 1000, timeout_ms % 1000 * 1000};
	int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof(timeout));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &timeout, sizeof(timeout));
	if (connect(fd, address, size) == 0)
		return fd;
	int saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static int
connect_to(const char *where, int timeout_ms)
{
	struct sockaddr_un local = {.sun_family = AF_UNIX};
	struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_addr = IN6ADDR_LOOPBACK_INIT};
	struct sockaddr_in four = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	const char *colon = strrchr(where, ':');

	if (strncmp(where, "unix:", 5) == 0) {
		snprintf(local.sun_path, sizeof(local.sun_path), "%s", where + 5);
		return open_socket(AF_UNIX, (struct sockaddr *)&local, sizeof(local), timeout_ms);
	}
	in_port_t port = htons((uint16_t)atoi(colon != NULL ? colon + 1 : "0"));
	six.sin6_port = four.sin_port = port;
	if (*where == '[')
		return open_socket(AF_INET6, (struct sockaddr *)&six, sizeof(six), timeout_ms);
	return open_socket(AF_INET, (struct sockaddr *)&four, sizeof(four), timeout_ms);
}

/* ---- send ---- */

/* A request as it is sent. It grows; failed: there was no memory. */
struct wire {
	unsigned char *bytes;
	size_t length, room;
	bool failed;
};

static void
put(struct wire *w, const void *bytes, size_t length)
{
	if (w->length + length > w->room && !w->failed) {
		size_t room = (w->length + length) * 2 + 1024;
		unsigned char *grown = realloc(w->bytes, room);
		if (grown == NULL) {
			w->failed = true;
			return;
		}
		w->bytes = grown;
		w->room = room;
	}
	if (w->failed || length == 0)
		return;
	memcpy(w->bytes + w->length, bytes, length);
	w->length += length;
}

static void
put_record(struct wire *w, unsigned char type, const void *content, size_t length)
{
	unsigned char header[HEADER_SIZE] = {VERSION, type, 0, REQUEST_ID,
		(unsigned char)(length >> 8), (unsigned char)(length & 255), 0, 0};

	put(w, header, sizeof(header));
	put(w, content, length);
}

/* A stream: its records, and the empty one that ends it. */
static void
put_stream(struct wire *w, unsigned char type, const void *data, size_t length)
{
	for (size_t at = 0; at < length; at += CONTENT_MAX)
		put_record(w, type, (const char *)data + at,
		    length - at < CONTENT_MAX ? length - at : CONTENT_MAX);
	put_record(w, type, NULL, 0);
}

static void
put_size(struct wire *w, size_t size)
{
	unsigned char bytes[4] = {(unsigned char)(size >> 24 | 128), (unsigned char)(size >> 16 & 255),
		(unsigned char)(size >> 8 & 255), (unsigned char)(size & 255)};

	if (size < 128)
		put(w, bytes + 3, 1);
	else
		put(w, bytes, 4);
}

static void
put_request(struct wire *w, const struct fastcgi_client_request *request)
{
	static const unsigned char begin[8] = {0, RESPONDER};
	struct wire params = {0};

	for (const char *const *p = request->params; p[0] != NULL; p += 2) {
		put_size(&params, strlen(p[0]));
		put_size(&params, strlen(p[1]));
		put(&params, p[0], strlen(p[0]));
		put(&params, p[1], strlen(p[1]));
	}
	put_record(w, BEGIN, begin, sizeof(begin));
	put_stream(w, PARAMS, params.bytes, params.length);
	put_stream(w, STDIN, request->body, request->length);
	w->failed = w->failed || params.failed;
	free(params.bytes);
}

static int
send_request(int fd, const struct fastcgi_client_request *request)
{
	struct wire w = {0};
	int result = 0;

	put_request(&w, request);
	if (w.failed) {
		errno = ENOMEM;
		result = -1;
	}
	for (size_t at = 0; result == 0 && at < w.length;) {
		ssize_t n = send(fd, w.bytes + at, w.length - at, MSG_NOSIGNAL);
		if (n <= 0)
			result = -1;
		else
			at += (size_t)n;
	}
	free(w.bytes);
	return result;
}

/* ---- receive ---- */

static int
receive_exactly(int fd, void *buffer, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t n = recv(fd, (char *)buffer + at, length - at, 0);
		if (n == 0)
			errno = ECONNRESET;
		if (n <= 0)
			return -1;
		at += (size_t)n;
	}
	return 0;
}

/* Read STDOUT up to END_REQUEST; bytes over the answer's room are dropped. */
static int
receive_answer(int fd, struct fastcgi_client_answer *answer)
{
	unsigned char header[HEADER_SIZE], content[CONTENT_MAX + 256];
	size_t n = 0;

	while (receive_exactly(fd, header, sizeof(header)) == 0) {
		size_t length = (size_t)header[4] << 8 | header[5];
		if (receive_exactly(fd, content, length + header[6]) != 0)
			return -1;
		if (header[1] == END) {
			answer->text[n] = '\0';
			return 0;
		}
		if (header[1] != STDOUT)
			continue;
		size_t room = sizeof(answer->text) - 1 - n;
		memcpy(answer->text + n, content, length < room ? length : room);
		n += length < room ? length : room;
	}
	return -1;
}

/* RFC 3875, section 6: header lines, an empty one, the body. */
static void
parse(struct fastcgi_client_answer *answer)
{
	const char *status = strstr(answer->text, "Status: ");
	const char *end = strstr(answer->text, "\r\n\r\n");

	answer->body = end != NULL ? end + 4 : answer->text + strlen(answer->text);
	answer->status = status != NULL && (end == NULL || status < end) ? atoi(status + 8) : 200;
}

/* The user of the process that listens at a unix socket; (uid_t)-1 if it is another kind. */
static uid_t
peer_user(int fd)
{
	struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
	struct ucred peer;
	socklen_t size = sizeof(address), peer_size = sizeof(peer);

	if (fd < 0 || getpeername(fd, (struct sockaddr *)&address, &size) != 0 ||
	    address.ss_family != AF_UNIX ||
	    getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &peer_size) != 0)
		return (uid_t)-1;
	return peer.uid;
}

/* A step failed, with errno. */
static void
explain(struct error *error, const char *where, const char *step, int number)
{
	error_set(error, EX_UNAVAILABLE, NULL, "%s: %s: %s%s", where, step,
	    number == EAGAIN || number == EINPROGRESS ? "no answer in time" : strerror(number),
	    number == ECONNREFUSED ? ": the socket exists, but nobody listens there" : "");
}

int
fastcgi_client_ping(const char *where, int timeout_ms, struct error *error)
{
	static const unsigned char question[HEADER_SIZE] = {VERSION, GET_VALUES};
	unsigned char answer[HEADER_SIZE] = {0};
	int fd = connect_to(where, timeout_ms), result = -1;
	const char *step = fd < 0 ? "connect" : "question";

	if (fd >= 0 && send(fd, question, sizeof(question), MSG_NOSIGNAL) == sizeof(question))
		result = receive_exactly(fd, answer, sizeof(answer));
	if (result == 0 && answer[1] != GET_VALUES_RESULT) {
		errno = EPROTO;
		result = -1;
	}
	int saved = errno;
	if (result != 0)
		explain(error, where, step, saved);
	if (fd >= 0)
		close(fd);
	errno = saved;
	return result;
}

int
fastcgi_client_exchange(const char *where, const struct fastcgi_client_request *request,
    int timeout_ms, struct fastcgi_client_answer *answer, struct error *error)
{
	int64_t start = clock_microseconds();
	const char *step = "connect";
	int result = -1;

	memset(answer, 0, sizeof(*answer));
	int fd = connect_to(where, timeout_ms);
	answer->user = peer_user(fd);
	if (fd >= 0) {
		step = "request";
		/* EPIPE: a refusal may come before all was sent, and is there to be read. */
		if (send_request(fd, request) == 0 || errno == EPIPE)
			result = receive_answer(fd, answer);
	}
	int saved = errno;
	if (result == 0)
		parse(answer);
	else
		explain(error, where, step, saved);
	if (fd >= 0)
		close(fd);
	answer->us = clock_microseconds() - start;
	errno = saved;
	return result;
}
