/* psapi adopt: verify and accept the requests that arrived before there was any secret. */
#define _GNU_SOURCE
#include "receiver/adopt.h"

#include <stdio.h>
#include <sys/stat.h>
#include <sysexits.h>
#include <unistd.h>

#include "commands/command.h"
#include "base/log.h"
#include "secrets/secrets.h"

enum { OPTION_DISCARD = OPTION_OWN };

/* Say why requests stay. */
static int
explain(struct command_line *line, const struct adoption *outcome)
{
	struct error error;
	char why[640];
	struct keyring *keyring = secrets_read(line->config.secret_file, &error);

	if (keyring == NULL)
		log_line("%d held request(s) wait for the secret: %s", outcome->unproven,
		    error_line(&error, why, sizeof(why)));
	else if (outcome->unproven > 0)
		log_line(
		    "%d held request(s) match no configured secret and stay: was the right endpoint's "
		    "secret added? psapi adopt --discard removes them",
		    outcome->unproven);
	verify_keyring_free(keyring);
	if (outcome->failed > 0)
		log_line("%d held request(s) could not be accepted and stay", outcome->failed);
	return outcome->failed > 0 ? EX_IOERR : 1;
}

static int
adopt(struct command_line *line, bool discarding)
{
	struct adoption outcome = {.discard = discarding};
	struct error error;

	if (adopt_now(&line->config, line->store, &outcome, &error) != 0)
		return error_log(&error);
	if (outcome.adopted + outcome.discarded + outcome.unproven + outcome.failed == 0)
		printf("nothing is held\n");
	if (outcome.adopted > 0)
		printf("%d adopted: a secret proves them, and they are accepted\n", outcome.adopted);
	if (outcome.discarded > 0)
		printf("%d discarded\n", outcome.discarded);
	return outcome.unproven + outcome.failed == 0 ? EX_OK : explain(line, &outcome);
}

int
adopt_main(struct command_line *line, int argc, char **argv)
{
	static const struct option names[] = {
		{"discard", no_argument, NULL, OPTION_DISCARD}, COMMON_OPTIONS};
	bool discarding = false;

	for (int option; (option = command_option(line, argc, argv, "", names)) != -1;) {
		if (option != OPTION_DISCARD)
			return EX_USAGE;
		discarding = true;
	}
	if (optind < argc)
		return command_misused(line, "no such argument", argv[optind]);
	umask(0027);
	int status = command_open(line);
	if (status == EX_OK)
		status = command_begin(line);
	return status == EX_OK ? adopt(line, discarding) : status;
}
