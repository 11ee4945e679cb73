/* psapi send: its options, and its output. */
#ifndef PSAPI_SEND_H
#define PSAPI_SEND_H

#include <stdbool.h>

#include "commands/command.h"
#include "send/sender.h"

struct send_options {
	struct command_line *line;
	const char *type, *data, *file, *secret_file, *ca_file;
	bool print, insecure;
	struct sender_options sender;
	/* while it runs */
	bool bar;
	long done;
	int64_t bar_drawn; /* clock_milliseconds() */
};

/* --print: print the curl command that sends the same request. Returns an exit status. */
int send_print_command(const struct send_options *options);

/* Print a try and its answer: struct sender_options' report, user is the options. */
void send_print_try(const struct sender_try *try, void *user);

/* Print the totals, if there was more than one try. */
void send_print_totals(const struct send_options *options, const struct sender_totals *totals);

#endif
