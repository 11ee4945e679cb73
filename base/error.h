/*
 * An error that a person will read: what failed and why, and apart from that, what
 * mends it. The log prints both in one line, doctor the remedy in a line of its own.
 */
#ifndef PSAPI_ERROR_H
#define PSAPI_ERROR_H

#include <stddef.h>

struct error {
	int status;       /* exit status of sysexits(3); 0: no error */
	char text[1024];  /* the thing and the cause, one line */
	char remedy[512]; /* what mends it, one line; "" if there is nothing to say */
};

/* Fill in an error. remedy NULL: none. Longer texts are cut. */
void error_set(struct error *error, int status, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* "TEXT: REMEDY", or the text alone, in line (size bytes, cut). Returns line. */
const char *error_line(const struct error *error, char *line, size_t size);

/* Log that line. Returns the exit status, so that a command can return it. */
int error_log(const struct error *error);

#endif
