/* Owns how an error is put together and printed. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"

void
error_set(struct error *error, int status, const char *remedy, const char *format, ...)
{
	va_list ap;

	error->status = status;
	va_start(ap, format);
	vsnprintf(error->text, sizeof(error->text), format, ap);
	va_end(ap);
	snprintf(error->remedy, sizeof(error->remedy), "%s", remedy == NULL ? "" : remedy);
}

const char *
error_line(const struct error *error, char *line, size_t size)
{
	const char *separator = *error->remedy != '\0' ? ": " : "";

	snprintf(line, size, "%s%s%s", error->text, separator, error->remedy);
	return line;
}

int
error_log(const struct error *error)
{
	char line[sizeof(error->text) + sizeof(error->remedy) + 2];

	log_line("%s", error_line(error, line, sizeof(line)));
	return error->status;
}
