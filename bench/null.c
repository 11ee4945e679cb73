/*
 * A FastCGI responder that decides nothing: null THREADS [DIRECTORY], its socket on descriptor 0.
 * Its threads wait in libfcgi's own accept, read the request to its end, and send an answer as
 * long as the receiver's. It costs as much as the protocol does.
 *
 * With a DIRECTORY it does what an accepted event cannot do without, by the receiver's own code:
 * it computes an HMAC, parses the event, puts it into the store and writes a line to a log; and
 * it is sandboxed.
 */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include <fcgiapp.h>

#include "bench/put.h"
#include "server/sandbox.h"
#include "verify.h"

static struct store *store; /* NULL: nothing but the protocol */
static struct keyring *keyring;
static int log_fd;

static void
work(const char *body, size_t length)
{
	static const char line[250] = "{\"status\":\"accepted\"}"; /* as long as the receiver's */
	static atomic_long serial;
	char id[64], signature[SIGNATURE_SIZE + 1];
	struct message message = {.id = id, .timestamp = "1753397465", .timestamp_length = 10,
		.body = body, .body_length = length};
	struct event event;

	message.id_length = (size_t)snprintf(id, sizeof(id), "msg_null%023ld",
	    atomic_fetch_add(&serial, 1));
	if (verify_keyring_sign(keyring, 0, &message, signature) != 0)
		abort();
	events_read(body, length, &event);
	if (event.invalid != NULL)
		abort();
	put_event(store, id, body, length, &event);
	if (write(log_fd, line, sizeof(line)) != (ssize_t)sizeof(line))
		abort();
}

static void *
serve(void *unused)
{
	static const char answer[] =
	    "Status: 200 OK\r\nContent-Type: application/json\r\nContent-Length: 22\r\n"
	    "Cache-Control: no-store\r\n\r\n{\"status\":\"accepted\"}\n";
	FCGX_Request request;
	char body[4096];

	FCGX_InitRequest(&request, 0, 0);
	while (FCGX_Accept_r(&request) == 0) {
		int length = 0, n;
		while ((n = FCGX_GetStr(body, sizeof(body), request.in)) > 0)
			length = n;
		if (store != NULL)
			work(body, (size_t)length);
		FCGX_PutStr(answer, sizeof(answer) - 1, request.out);
		FCGX_Finish_r(&request);
	}
	return unused;
}

static void
prepare(const char *directory)
{
	static const char secret[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
	char path[512];

	keyring = verify_keyring_new();
	if (keyring == NULL || verify_keyring_add(keyring, secret, strlen(secret)) != SECRET_GOOD)
		exit(1);
	store = put_open(directory);
	snprintf(path, sizeof(path), "%s/log", directory);
	log_fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
	if (log_fd < 0)
		exit(1);
	events_seed();
	sandbox_files(directory, "/etc/hostname", NULL);
	sandbox_calls();
}

int
main(int argc, char **argv)
{
	pthread_t thread;

	FCGX_Init();
	if (argc > 2)
		prepare(argv[2]);
	for (int i = 1; i < (argc > 1 ? atoi(argv[1]) : 1); i++)
		pthread_create(&thread, NULL, serve, NULL);
	serve(NULL);
	return 0;
}
