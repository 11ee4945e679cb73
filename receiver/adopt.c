/*
 * Owns how requests leave hold/. A held request goes through the same receive() as one
 * from the network, so that the same checks decide. It is removed from hold/ only after
 * receive() answered 200: then the event is on the disk.
 */
#define _GNU_SOURCE
#include "receiver/adopt.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#include "base/log.h"
#include "base/datetime.h"
#include "verify.h"

/* The body of a held request, as a stream. */
struct body {
	const char *bytes;
	size_t left;
};

static ssize_t
read_body(void *stream, void *buffer, size_t size)
{
	struct body *body = stream;
	size_t n = size < body->left ? size : body->left;

	if (n > 0)
		memcpy(buffer, body->bytes, n);
	body->bytes += n;
	body->left -= n;
	return (ssize_t)n;
}

/*
 * Whether a secret in force proves the request. Checked before receive() is called: receive()
 * would log an unproven one as a new attempt at every run of drain.
 */
static bool
is_proven(struct receiver *receiver, const struct entry *held)
{
	const struct keyring *keyring = secrets_borrow(receiver->secrets);
	struct message message = {held->id, strlen(held->id), held->timestamp,
		strlen(held->timestamp), held->body, held->body_length};
	struct verification verification;

	bool proven = keyring != NULL &&
	    verify(keyring, &message, held->signature, strlen(held->signature),
	        held->received / NANOSECONDS, receiver->config->tolerance, &verification) == VERIFY_OK;
	secrets_return(receiver->secrets, keyring);
	return proven;
}

/* "NAME=VALUE", which the caller frees; NULL without memory. */
static char *
variable(const char *name, const char *value)
{
	char *text;

	return asprintf(&text, "%s=%s", name, value) < 0 ? NULL : text;
}

/* Returns the HTTP status that receive() answers. */
static int
replay(struct receiver *receiver, const struct entry *held)
{
	struct body body = {held->body, held->body_length};
	char method[] = "REQUEST_METHOD=POST";
	char *variables[5] = {method};
	struct request request = {.variables = variables, .read = read_body, .stream = &body};
	struct timespec arrival = {.tv_sec = held->received / NANOSECONDS,
		.tv_nsec = held->received % NANOSECONDS};
	struct reply reply = {.status = 503, .body = "out of memory"};

	if ((variables[1] = variable("HTTP_WEBHOOK_ID", held->id)) != NULL &&
	    (variables[2] = variable("HTTP_WEBHOOK_TIMESTAMP", held->timestamp)) != NULL &&
	    (variables[3] = variable("HTTP_WEBHOOK_SIGNATURE", held->signature)) != NULL)
		receive(receiver, &request, arrival, &reply);
	for (int i = 1; i < 4; i++)
		free(variables[i]);
	if (reply.status != 200)
		log_line("a held request is authentic, but not accepted: %.300s", reply.body);
	reply_free(&reply);
	return reply.status;
}

static bool
remove_held(struct store *store, const char *name)
{
	struct error error;

	if (store_held_remove(store, name, &error) == STORE_OK)
		return true;
	error_log(&error);
	return false;
}

static void
adopt_one(struct receiver *receiver, const char *name, struct adoption *outcome)
{
	struct entry held;
	struct error error;

	switch (store_held_read(receiver->store, name, &held, &error)) {
	case STORE_OK:
		break;
	case STORE_ABSENT: /* another process has adopted it */
		return;
	default:
		error_log(&error);
		outcome->failed++;
		return;
	}
	if (!is_proven(receiver, &held)) {
		if (outcome->discard && remove_held(receiver->store, name))
			outcome->discarded++;
		else
			outcome->unproven++;
	} else if (replay(receiver, &held) == 200 && remove_held(receiver->store, name)) {
		outcome->adopted++;
	} else {
		outcome->failed++;
	}
	entry_free(&held);
}

/*
 * Pass the held requests to receive(), each at its time of arrival. Without a secret in force all
 * stay. Needs no lock: a request that two processes adopt at once is a duplicate for one of them.
 * Returns 0, or -1 with *error if they cannot be listed.
 */
static int
adopt_held(struct receiver *receiver, struct adoption *outcome, struct error *error)
{
	char **names;
	int count = store_held(receiver->store, &names, error);

	*outcome = (struct adoption){.discard = outcome->discard};
	for (int i = 0; i < count && names[i] != NULL; i++)
		adopt_one(receiver, names[i], outcome);
	store_held_free(names);
	return count < 0 ? -1 : 0;
}

static void
log_outcome(const struct adoption *outcome)
{
	int stay = outcome->unproven + outcome->failed;

	if (outcome->adopted > 0)
		log_line("HOLD: %d held request(s) proven and accepted", outcome->adopted);
	if (stay > 0)
		log_line("HOLD: %d held request(s) match no configured secret, or could not be accepted, "
		         "and stay: is the right secret there? psapi adopt --discard removes them", stay);
}

void
adopt_once(struct receiver *receiver)
{
	unsigned long generation = secrets_generation(receiver->secrets);
	struct adoption outcome = {0};
	struct error error;

	if (receiver->store == NULL || generation == atomic_load(&receiver->adopted) ||
	    atomic_exchange(&receiver->adopted, generation) == generation)
		return;
	if (adopt_held(receiver, &outcome, &error) == 0)
		log_outcome(&outcome);
	else
		error_log(&error);
}

/* Whether the file has a usable secret; the caller reports what is wrong with it. */
static bool
has_secret(const struct config *config)
{
	struct error error;
	struct keyring *keyring = secrets_read(config->secret_file, &error);
	bool usable = keyring != NULL;

	verify_keyring_free(keyring);
	return usable;
}

int
adopt_now(const struct config *config, struct store *store, struct adoption *outcome,
    struct error *error)
{
	struct receiver receiver = {.config = config, .store = store};
	char **names;
	int count = store_held(store, &names, error), result = -1;

	store_held_free(names);
	*outcome = (struct adoption){.discard = outcome->discard};
	if (count <= 0)
		return count;
	if (!has_secret(config)) {
		outcome->unproven = count;
		return 0;
	}
	receiver.secrets = secrets_open(config->secret_file);
	receiver.attempts = attempts_open(config->spool);
	if (receiver.secrets != NULL && receiver.attempts != NULL) {
		attempts_copy_to(receiver.attempts, store);
		result = adopt_held(&receiver, outcome, error);
		store_attempts_send(store);
	} else {
		error_set(error, EX_IOERR, NULL, "%s: %s", config->spool, strerror(errno));
	}
	attempts_close(receiver.attempts);
	secrets_close(receiver.secrets);
	return result;
}
