/*
 * Owns both ends of the socket to the sending process: a byte with the example's index goes there,
 * a length and JSON come back. The URL is the configuration's, the events are the documented ones.
 */
#define _GNU_SOURCE
#include "web/example_sender.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/io.h"
#include "base/json_text.h"
#include "base/log.h"
#include "base/text.h"
#include "secrets/secrets.h"
#include "send/delivery.h"
#include "send/http.h"
#include "send/sender.h"
#include "web/answer.h"

/* The sender gives up after SENDER_LIMIT_MS. */
enum { ANSWER_MAX = 256 * 1024, ANSWER_WAIT_MS = SENDER_LIMIT_MS + 3000 };

static int
index_of(const char *type)
{
	for (int i = 0; delivery_example_types[i] != NULL; i++)
		if (strcmp(delivery_example_types[i], type) == 0)
			return i;
	return -1;
}

bool
example_sender_knows(const char *type)
{
	return index_of(type) >= 0;
}

/* ---- the process ---- */

static json_t *
exchange(const struct config *config, const char *id, const struct delivery *delivery)
{
	const struct http_options options = {.timeout_ms = SENDER_LIMIT_MS};
	const struct http_request request = {.url = config->endpoint_url, .method = "POST",
	    .headers = delivery->headers, .body = delivery->body, .length = delivery->length};
	struct http *http = http_open(&options);
	struct http_answer answer;

	if (http == NULL)
		return json_pack("{s:s}", "failed", "libcurl cannot be used");
	http_exchange(http, &request, &answer);
	json_t *object = answer.failure != HTTP_ANSWERED ?
	    json_pack("{s:s,s:o}", "id", id, "failed", text_json(answer.error)) :
	    json_pack("{s:s,s:i,s:f,s:o}", "id", id, "status", answer.status, "ms",
	        (double)answer.us / 1000, "body", text_json(answer.body != NULL ? answer.body : ""));
	free(answer.body);
	http_close(http);
	return object;
}

static json_t *
send_example(const struct config *config, const char *type)
{
	char id[DELIVERY_ID_SIZE];
	struct delivery delivery;
	struct error error;
	struct keyring *ring = secrets_read(config->secret_file, &error);
	char *body = ring == NULL ? NULL :
	    delivery_event_body(type, NULL, (time_t)clock_unix(), &error);
	json_t *object = NULL;

	delivery_new_id(id);
	if (body != NULL && delivery_make(&delivery, DELIVERY_SIGNED, ring, id, (time_t)clock_unix(),
	        body, strlen(body)) == 0) {
		object = exchange(config, id, &delivery);
		delivery_free(&delivery);
	} else {
		object = json_pack("{s:s}", "failed", body == NULL ? error.text : "out of memory");
	}
	free(body);
	verify_keyring_free(ring);
	return object;
}

static void
serve(const struct config *config, int fd)
{
	unsigned char number;
	int count = 0;

	while (delivery_example_types[count] != NULL)
		count++;
	while (read(fd, &number, 1) == 1 && number < count) {
		json_t *object = send_example(config, delivery_example_types[number]);
		char *text =
		    json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));
		uint32_t length = text != NULL ? (uint32_t)strlen(text) : 0;
		json_decref(object);
		if (io_write_all(fd, &length, sizeof(length)) != 0 ||
		    (length > 0 && io_write_all(fd, text, length) != 0))
			length = 0;
		free(text);
		if (length == 0)
			return;
	}
}

bool
example_sender_configured(const struct config *config)
{
	return strcmp(config->web_actions, "yes") == 0 && *config->endpoint_url != '\0';
}

int
example_sender_start(const struct config *config)
{
	int pair[2];

	if (!example_sender_configured(config))
		return -1;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
		log_line("socketpair: %s: the page cannot send examples", strerror(errno));
		return -1;
	}
	pid_t child = fork();
	if (child < 0)
		log_line("fork: %s: the page cannot send examples", strerror(errno));
	if (child == 0) {
		/* A signal to the service ends both: it ends with its socket, after an answer. */
		close(pair[0]);
		close(STDIN_FILENO);
		prctl(PR_SET_NAME, "psapi-web-send");
		signal(SIGPIPE, SIG_IGN);
		serve(config, pair[1]);
		_exit(0);
	}
	close(pair[1]);
	if (child > 0)
		return pair[0];
	close(pair[0]);
	return -1;
}

/* ---- the page's end ---- */

/* Read so many bytes until the deadline, clock_milliseconds(). */
static bool
read_whole(int fd, void *data, size_t length, int64_t deadline)
{
	struct pollfd pfd = {.fd = fd, .events = POLLIN};

	for (size_t n = 0; n < length;) {
		int64_t left = deadline - clock_milliseconds();
		if (left <= 0 || poll(&pfd, 1, (int)left) <= 0)
			return false;
		ssize_t more = read(fd, (char *)data + n, length - n);
		if (more <= 0)
			return false;
		n += (size_t)more;
	}
	return true;
}

/* What still comes would be taken for the next answer: the process ends with its socket. */
static char *
give_up(int sender)
{
	shutdown(sender, SHUT_RDWR);
	return NULL;
}

char *
example_sender_send(int sender, const char *type)
{
	int64_t deadline = clock_milliseconds() + ANSWER_WAIT_MS;
	unsigned char number = (unsigned char)index_of(type);
	uint32_t length;

	if (send(sender, &number, 1, MSG_NOSIGNAL) != 1 ||
	    !read_whole(sender, &length, sizeof(length), deadline) || length == 0 ||
	    length > ANSWER_MAX)
		return give_up(sender);
	char *text = malloc(length + 1);
	if (text == NULL || !read_whole(sender, text, length, deadline)) {
		free(text);
		return give_up(sender);
	}
	text[length] = '\0';
	return text;
}

void
example_sender_answer_examples(const struct request *request, struct reply *reply)
{
	json_t *rows = json_array();

	for (int i = 0; delivery_example_types[i] != NULL; i++)
		json_array_append_new(rows, json_pack("{s:s,s:s}", "type", delivery_example_types[i],
		    "body", delivery_example_body(delivery_example_types[i])));
	answer_json(reply, request, json_pack("{s:o}", "examples", rows));
}
