/* The files of web/static/, which are part of the program. */
#ifndef PSAPI_STATIC_H
#define PSAPI_STATIC_H

#include "base/reply.h"
#include "base/request.h"

/* Once, before threads: their ETags. */
void static_init(void);

/*
 * Answer with the file of this path ("/" is index.html). Returns false if there is none: only
 * the names in the table exist.
 */
bool static_answer(const char *path, const struct request *request, struct reply *reply);

#endif
