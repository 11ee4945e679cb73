/* Owns the operational log: formatting and escaping of its lines. */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static const char *program = "psapi";

void
log_program(const char *name)
{
	program = name;
}

void
log_line(const char *format, ...)
{
	static const char hex[] = "0123456789abcdef";
	char text[768], line[1024];
	int saved = errno;
	va_list ap;

	va_start(ap, format);
	vsnprintf(text, sizeof(text), format, ap);
	va_end(ap);

	size_t n = (size_t)snprintf(line, 64, "%s: ", program);
	for (const char *p = text; *p != '\0' && n + 5 < sizeof(line); p++) {
		unsigned char c = (unsigned char)*p;
		if (c >= 0x20 && c < 0x7f) {
			line[n++] = *p;
			continue;
		}
		line[n++] = '\\';
		line[n++] = 'x';
		line[n++] = hex[c >> 4];
		line[n++] = hex[c & 15];
	}
	line[n++] = '\n';
	if (write(STDERR_FILENO, line, n) < 0) {
		/* There is no other place to report it. */
	}
	errno = saved;
}
