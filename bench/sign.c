/*
 * Write signed requests for wrk: sign SECRET COUNT PATH [forged | same].
 *
 * Standard output gets COUNT whole HTTP requests, all of one length, so that load.lua can find
 * the nth by seeking. Each has an id of its own and the current time; "forged" spoils the
 * signatures, "same" repeats the id of the first.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "verify.h"

static const char body[] =
    "{\"data\":{\"activatedAt\":\"2025-07-25T15:53:01.579Z\",\"npn\":\"123456789\"},"
    "\"id\":\"whe_123454321\",\"timestamp\":\"2025-07-25T15:53:01.579Z\","
    "\"type\":\"producersync.npn.activated\"}";

int
main(int argc, char **argv)
{
	struct keyring *keyring = verify_keyring_new();
	char id[64], when[24], signature[SIGNATURE_SIZE + 1];

	if (argc < 4 || keyring == NULL ||
	    verify_keyring_add(keyring, argv[1], strlen(argv[1])) != SECRET_GOOD)
		return 1;
	long long now = (long long)time(NULL);
	bool forged = argc > 4 && strcmp(argv[4], "forged") == 0;
	bool same = argc > 4 && strcmp(argv[4], "same") == 0;
	snprintf(when, sizeof(when), "%010lld", now);
	for (long n = 0; n < atol(argv[2]); n++) {
		/* As long as Svix's ids; different in each run, alike in a run but for their end. */
		snprintf(id, sizeof(id), "msg_%010lld%06ld%011ld", now, (long)getpid() % 1000000,
		    same ? 0 : n);
		struct message message = {.id = id, .id_length = strlen(id), .timestamp = when,
			.timestamp_length = strlen(when), .body = body, .body_length = strlen(body)};
		if (verify_keyring_sign(keyring, 0, &message, signature) != 0)
			return 1;
		if (forged)
			signature[10] = signature[10] == 'A' ? 'B' : 'A';
		printf("POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: Svix-Webhooks/1.68.0\r\n"
		       "Accept: */*\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
		       "webhook-id: %s\r\nwebhook-timestamp: %s\r\nwebhook-signature: %s\r\n\r\n%s",
		    argv[3], strlen(body), id, when, signature, body);
	}
	verify_keyring_free(keyring);
	return fflush(stdout) == 0 ? 0 : 1;
}
