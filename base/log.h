/*
 * The operational log: one line on standard error for the administrator.
 * Not the attempts log (attempts.h), which has a line for every request.
 */
#ifndef PSAPI_LOG_H
#define PSAPI_LOG_H

/* The name that every line begins with; "psapi" until it is set. Keeps the pointer. */
void log_program(const char *name);

/*
 * Write "NAME: MESSAGE\n" to standard error in a single write(2), at most 1,024
 * bytes. Bytes outside printable ASCII appear as \xHH, so that no text from
 * outside can forge a line or steer a terminal. errno is preserved.
 */
void log_line(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
