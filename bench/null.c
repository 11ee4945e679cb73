/*
 * A FastCGI responder that does nothing: null THREADS, its socket on descriptor 0. Threads in
 * libfcgi's own accept, the request read to its end, the answer of the same size as the
 * receiver's. What is left is the price of the protocol.
 *
 * null THREADS hmac: and one HMAC of the body, which is what a refusal cannot do without.
 * null THREADS store DIRECTORY: and a file stored, as the spool does it; an accepted event's.
 * null THREADS log DIRECTORY: and the event parsed, by the receiver's own code, a line written to
 * a log, and the process sandboxed as the receiver is.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <fcgiapp.h>

#include "events.h"
#include "store/spool/journal.h"
#include "server/sandbox.h"
#include "store/spool/spool.h"
#include "verify.h"

static struct keyring *keyring; /* NULL: no HMAC */
static struct spool spool;
static bool stores;
static int log_fd = -1; /* no log, no JSON */

/* The body looked into, and one line of the length of the receiver's. */
static void
look_and_log(const char *body, size_t length)
{
	static const char line[250] = "{\"status\":\"accepted\"}";
	struct event event;

	events_read(body, length, &event);
	if (event.invalid != NULL || write(log_fd, line, sizeof(line)) != (ssize_t)sizeof(line))
		abort();
}

/* The path that a request takes through all that is not ours. */
static void
work(const char *body, size_t length)
{
	static atomic_long serial;
	char id[64], name[SPOOL_NAME_SIZE], signature[SIGNATURE_SIZE + 1], record[420];
	struct message message = {.id = id, .timestamp = "1753397465", .timestamp_length = 10,
		.body = body, .body_length = length};
	struct iovec piece = {record, sizeof(record)};

	if (keyring == NULL)
		return;
	message.id_length = (size_t)snprintf(id, sizeof(id), "msg_null%023ld",
	    atomic_fetch_add(&serial, 1));
	if (verify_keyring_sign(keyring, 0, &message, signature) != 0)
		abort();
	if (!stores)
		return;
	if (log_fd >= 0)
		look_and_log(body, length);
	memset(record, ' ', sizeof(record));
	memcpy(record, "{}", 2); /* the files are read back */
	if (spool_name(id, message.id_length, name) != 0 || spool_find(&spool, name) != SPOOL_ABSENT ||
	    spool_store(&spool, name, SPOOL_NEW, &piece, 1) != SPOOL_STORED)
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
		work(body, (size_t)length);
		FCGX_PutStr(answer, sizeof(answer) - 1, request.out);
		FCGX_Finish_r(&request);
	}
	return unused;
}

int
main(int argc, char **argv)
{
	static const char secret[] = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
	pthread_t thread;
	char why[512];

	stores = argc > 3;
	if (argc > 2 && ((keyring = verify_keyring_new()) == NULL ||
	                    verify_keyring_add(keyring, secret, strlen(secret)) != SECRET_GOOD))
		return 1;
	if (stores && spool_open(&spool, argv[3], true, why, sizeof(why)) != 0) {
		fprintf(stderr, "null: %s\n", why);
		return 1;
	}
	if (stores)
		spool.journal = journal_open(&spool);
	if (stores && strcmp(argv[2], "log") == 0 &&
	    (log_fd = openat(spool.root, "log", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640)) < 0)
		return 1;
	FCGX_Init();
	if (log_fd >= 0) {
		sandbox_files(argv[3], "/etc/hostname", NULL);
		sandbox_calls();
	}
	for (int i = 1; i < (argc > 1 ? atoi(argv[1]) : 1); i++)
		pthread_create(&thread, NULL, serve, NULL);
	serve(NULL);
	return 0;
}
