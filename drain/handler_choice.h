/*
 * Which program gets an event: of the handlers for one event (PSAPI_HANDLERS) and those for many
 * (PSAPI_BATCH_HANDLERS) the more specific one.
 */
#ifndef PSAPI_HANDLER_CHOICE_H
#define PSAPI_HANDLER_CHOICE_H

#include <stdbool.h>

#include "base/config.h"
#include "base/error.h"
#include "drain/handler.h"

/*
 * handler_find(), over both directories; *batch: it is one of PSAPI_BATCH_HANDLERS, which may be
 * missing where nothing sets it. A name that is in both directories is HANDLER_REFUSED.
 */
enum handler_result handler_choice_find(const struct config *config, const char *type,
    struct handler *handler, bool *batch, struct error *error);

/* Whether both directories have this name; then the error says it. */
bool handler_choice_conflict(const struct config *config, const char *name, struct error *error);

#endif
