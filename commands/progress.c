/* Owns the line that says how far a command is. */
#define _GNU_SOURCE
#include "commands/progress.h"

#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"

enum { EVERY_MS = 200 };

void
progress_begin(struct progress *p)
{
	*p = (struct progress){.wanted = isatty(STDERR_FILENO), .begun = clock_milliseconds()};
}

void
progress_show(struct progress *p, size_t count, size_t total, const char *what)
{
	int64_t now = clock_milliseconds();

	if (!p->wanted || now - p->begun < EVERY_MS || now - p->shown < EVERY_MS)
		return;
	if (total > 0)
		fprintf(stderr, "\r%zu of %zu %s\033[K", count, total, what);
	else
		fprintf(stderr, "\r%zu %s\033[K", count, what);
	p->shown = now;
}

void
progress_end(struct progress *p)
{
	if (p->shown != 0)
		fputs("\r\033[K", stderr);
	p->shown = 0;
}
