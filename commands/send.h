/* psapi send: its options, and what it prints. */
#ifndef PSAPI_SEND_H
#define PSAPI_SEND_H

#include <stdbool.h>

#include "commands/command.h"
#include "send/sender.h"

struct send_options {
	struct command_line *line;
	const char *type, *data, *file, *secret_file, *ca_file;
	bool print, insecure;
	struct sending sending;
	/* while it runs */
	bool bar;
	long done;
	long long bar_drawn; /* milliseconds */
};

/* --print: the curl command that sends what would be sent. Returns an exit status. */
int send_print_command(const struct send_options *options);

/* A try and its answer: struct sending's report, user is the options. */
void send_report(const struct sent *sent, void *user);

/* What became of all of them, if there was more than one try. */
void send_print_tally(const struct send_options *options, const struct tally *tally);

#endif
