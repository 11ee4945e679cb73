/* Owns the question who has signed in. */
#define _GNU_SOURCE
#include "web/context.h"

const char *
context_user(const struct request *request)
{
	return request_variable(request, "REMOTE_USER");
}
