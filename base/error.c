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

int
error_log(const struct error *error)
{
	if (*error->remedy != '\0')
		log_line("%s: %s", error->text, error->remedy);
	else
		log_line("%s", error->text);
	return error->status;
}
