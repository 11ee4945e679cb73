/* Owns how the variables of a request are read. */
#include "base/request.h"

#include <string.h>

const char *
request_variable(const struct request *request, const char *name)
{
	size_t length = strlen(name);

	for (char *const *variable = request->variables; *variable != NULL; variable++)
		if (strncmp(*variable, name, length) == 0 && (*variable)[length] == '=')
			return (*variable)[length + 1] != '\0' ? *variable + length + 1 : NULL;
	return NULL;
}

bool
request_length_parse(const char *text, size_t n, long long *length)
{
	*length = 0;
	for (size_t i = 0; i < n; i++) {
		if (text[i] < '0' || text[i] > '9')
			return false;
		if (*length < 1LL << 50)
			*length = *length * 10 + (text[i] - '0');
	}
	return n > 0;
}
