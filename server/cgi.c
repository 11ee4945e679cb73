/*
 * Owns what CGI/1.1 says: names of variables, form of the response, when a body
 * on standard input ends.
 */
#define _GNU_SOURCE
#include "server/cgi.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "receiver/adopt.h"
#include "base/io.h"
#include "base/json_line.h"

extern char **environ;

/*
 * How long a server may take to close standard input after CONTENT_LENGTH bytes,
 * milliseconds. RFC 3875, section 4.2, lets it stay open; the end of the body is
 * then CONTENT_LENGTH.
 */
enum { CLOSE_GRACE_MS = 100 };

/* Caddy (seen with 2.6) says -1 for a chunked request, whose length it does not know. */
static bool
says_minus_one(const char *server_software)
{
	return server_software != NULL && strncmp(server_software, "Caddy/", 6) == 0;
}

void
cgi_variables(struct request *request, char *const *envp)
{
	static const char software[] = "SERVER_SOFTWARE";
	const char *server = NULL;

	for (; *envp != NULL; envp++) {
		const char *equals = strchr(*envp, '=');
		if (equals == NULL)
			continue;
		size_t length = (size_t)(equals - *envp);
		receive_request_set(request, *envp, length, equals + 1);
		if (length == sizeof(software) - 1 && memcmp(*envp, software, length) == 0)
			server = equals + 1;
	}
	const char *declared = request->value[CONTENT_LENGTH];
	if (declared != NULL && strcmp(declared, "-1") == 0 && says_minus_one(server))
		request->value[CONTENT_LENGTH] = NULL;
}

size_t
cgi_response(const struct reply *reply, char text[CGI_RESPONSE_SIZE])
{
	struct json_line line;

	json_line_begin(&line, text, CGI_RESPONSE_SIZE);
	json_line_put(&line, "Status: ");
	json_line_put_number(&line, reply->status);
	json_line_put(&line, " ");
	json_line_put(&line, reply->phrase);
	json_line_put(&line, "\r\n");
	json_line_put(&line, reply->header);
	json_line_put(&line, "Content-Type: application/json\r\nContent-Length: ");
	json_line_put_number(&line, (long long)strlen(reply->body));
	json_line_put(&line, "\r\nCache-Control: no-store\r\n\r\n");
	json_line_put(&line, reply->body);
	return line.length;
}

/* Standard input as a body. */
struct input {
	long long left;     /* of CONTENT_LENGTH; negative: not known */
	struct timespec end; /* CLOCK_MONOTONIC: the request must have arrived */
};

static int
milliseconds_until(const struct timespec *end)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	long long ms = (end->tv_sec - now.tv_sec) * 1000LL + (end->tv_nsec - now.tv_nsec) / 1000000;
	return ms < 0 ? 0 : (int)ms;
}

static ssize_t
read_input(void *stream, void *buffer, size_t size)
{
	struct input *input = stream;
	struct pollfd pfd = {.fd = STDIN_FILENO, .events = POLLIN};
	int timeout = milliseconds_until(&input->end);
	bool complete = input->left == 0;
	int ready;

	if (complete && timeout > CLOSE_GRACE_MS)
		timeout = CLOSE_GRACE_MS;
	do
		ready = poll(&pfd, 1, timeout);
	while (ready < 0 && errno == EINTR);
	if (ready <= 0)
		return complete ? 0 : -1;
	ssize_t n = read(STDIN_FILENO, buffer, size);
	if (n > 0 && input->left > 0)
		input->left = n < input->left ? input->left - n : 0;
	return n < 0 && complete ? 0 : n;
}

/*
 * What an early refusal has left unread. Standard input is a socket under mod_cgid, the
 * same as standard output: closed with bytes unread it is reset, and the reply lost.
 */
static void
read_rest(struct input *input)
{
	char rest[4096];

	while (input->left != 0 && read_input(input, rest, sizeof(rest)) > 0)
		continue;
}

int
cgi_serve(struct receiver *receiver)
{
	const char *declared = getenv("CONTENT_LENGTH");
	struct input input = {.left = declared != NULL && *declared != '\0' ? atoll(declared) : -1};
	struct request request = {.read = read_input, .stream = &input};
	char text[CGI_RESPONSE_SIZE];
	struct timespec now;
	struct reply reply;

	clock_gettime(CLOCK_MONOTONIC, &input.end);
	clock_gettime(CLOCK_REALTIME, &now);
	cgi_variables(&request, environ);
	if (receiver != NULL) {
		input.end.tv_sec += receiver->config->read_timeout;
		receive(receiver, &request, now, &reply);
	} else {
		receive_unconfigured(&reply);
	}
	int result = io_write_all(STDOUT_FILENO, text, cgi_response(&reply, text)), error = errno;
	read_rest(&input);
	if (receiver != NULL)
		adopt_once(receiver);
	errno = error;
	return result;
}
