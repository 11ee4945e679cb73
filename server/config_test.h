/* `psapi-fcgi -t`: would a receiver with this configuration work? */
#ifndef PSAPI_CHECK_H
#define PSAPI_CHECK_H

#include "base/config.h"

/*
 * Check spool, secret and socket, and leave everything as it was. One line for
 * each on standard output, "ok: …" or "error: …" with the remedy. Returns the
 * number of errors.
 */
int check_run(const struct config *config);

#endif
