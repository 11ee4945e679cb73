/*
 * Owns what CGI/1.1 says: the form of a response, and when a body on standard input
 * ends.
 */
#define _GNU_SOURCE
#include "server/cgi.h"

#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/json_line.h"

extern char **environ;

/*
 * How long a server may take to close standard input after CONTENT_LENGTH bytes,
 * milliseconds. RFC 3875, section 4.2, lets it stay open; the end of the body is
 * then CONTENT_LENGTH.
 */
enum { CLOSE_GRACE_MS = 100 };

bool
cgi_is_request(void)
{
	return getenv("GATEWAY_INTERFACE") != NULL || getenv("REQUEST_METHOD") != NULL;
}

/* Seen with Caddy 2.6, for a chunked request. */
void
cgi_correct(char **variables)
{
	static const char name[] = "CONTENT_LENGTH=";
	const struct request request = {.variables = variables};
	const char *software;

	for (char **variable = variables; *variable != NULL; variable++) {
		if (**variable != 'C' || strcmp(*variable, "CONTENT_LENGTH=-1") != 0)
			continue;
		software = request_variable(&request, "SERVER_SOFTWARE");
		if (software != NULL && strncmp(software, "Caddy/", 6) == 0)
			(*variable)[sizeof(name) - 1] = '\0'; /* in place: libfcgi frees it */
	}
}

size_t
cgi_header(const struct reply *reply, char text[CGI_HEADER_SIZE])
{
	struct json_line line;

	json_line_begin(&line, text, CGI_HEADER_SIZE);
	json_line_put(&line, "Status: ");
	json_line_put_number(&line, reply->status);
	json_line_put(&line, " ");
	json_line_put(&line, reply->phrase);
	json_line_put(&line, "\r\nContent-Type: ");
	json_line_put(&line, reply->type);
	json_line_put(&line, "\r\nContent-Length: ");
	json_line_put_number(&line, (long long)reply->length);
	json_line_put(&line, "\r\n");
	json_line_put(&line, reply->header);
	json_line_put(&line, "\r\n");
	return line.cut ? 0 : line.length;
}

/* Standard input as a body. */
struct input {
	long long left; /* bytes of CONTENT_LENGTH; negative: not known */
	int64_t end;    /* clock_milliseconds() at which the request must have arrived */
};

static ssize_t
read_input(void *stream, void *buffer, size_t size)
{
	struct input *input = stream;
	struct pollfd pfd = {.fd = STDIN_FILENO, .events = POLLIN};
	bool complete = input->left == 0;
	int ready;

	do {
		int64_t left = input->end - clock_milliseconds();
		int timeout = left < 0 ? 0 : (int)left;
		if (complete && timeout > CLOSE_GRACE_MS)
			timeout = CLOSE_GRACE_MS;
		ready = poll(&pfd, 1, timeout);
	} while (ready < 0 && errno == EINTR);
	if (ready <= 0)
		return complete ? 0 : -1;
	ssize_t n = read(STDIN_FILENO, buffer, size);
	if (n > 0 && input->left > 0)
		input->left = n < input->left ? input->left - n : 0;
	return n < 0 && complete ? 0 : n;
}

/*
 * Read what an early refusal left unread. Standard input is a socket under mod_cgid, the
 * same as standard output: closed with bytes unread it is reset, and the reply lost.
 */
static void
read_rest(struct input *input)
{
	char rest[4096];

	while (input->left != 0 && read_input(input, rest, sizeof(rest)) > 0)
		continue;
}

/* Returns 0, or -1 with errno. */
static int
write_response(const struct reply *reply)
{
	char header[CGI_HEADER_SIZE];
	size_t length = cgi_header(reply, header);

	if (length == 0) {
		errno = EMSGSIZE;
		return -1;
	}
	if (io_write_all(STDOUT_FILENO, header, length) != 0)
		return -1;
	return reply->bodiless ? 0 : io_write_all(STDOUT_FILENO, reply->body, reply->length);
}

int
cgi_serve(const struct service *service)
{
	struct request request = {.variables = environ, .read = read_input};
	struct input input = {.left = -1, .end = clock_milliseconds() + service->read_timeout * 1000LL};
	struct reply reply;
	const char *declared;
	long long length;

	request.stream = &input;
	cgi_correct(environ);
	declared = request_variable(&request, "CONTENT_LENGTH");
	if (declared != NULL && request_length_parse(declared, strlen(declared), &length))
		input.left = length;
	reply.bodiless = false;
	service->handle(service->context, &request, &reply);
	int result = write_response(&reply), error = errno;
	reply_free(&reply);
	read_rest(&input);
	if (service->after != NULL)
		service->after(service->context);
	errno = error;
	return result;
}
