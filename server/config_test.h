/* `psapi-fcgi -t`: would a receiver with this configuration work? */
#ifndef PSAPI_CONFIG_TEST_H
#define PSAPI_CONFIG_TEST_H

#include "base/config.h"

/*
 * Check spool, secret and socket, and leave everything as it was. One line for
 * each on standard output, "ok: …" or "error: …" with the remedy. Returns the
 * number of errors.
 */
int config_test_run(const struct config *config);

#endif
