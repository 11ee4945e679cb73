/*
 * Alerts: what psapi check has found is sent to a person, on a change only, and to a heartbeat
 * service each time.
 */
#ifndef PSAPI_ALERT_H
#define PSAPI_ALERT_H

#include "base/config.h"
#include "metrics/health.h"
#include "store/store.h"

/*
 * Send mail where something has become bad, or worse, or all is well again; and request
 * PSAPI_HEARTBEAT_URL, or URL/fail. What was sent is a note of the store. A mail that could not be
 * sent is sent by the next call; where that can be said to nobody but the log, it is said once.
 * After a check that was partial nothing is forgotten that is known as bad. store NULL: it cannot
 * be opened, or hangs; then the note is psapi-alerts-UID-HASH in $RUNTIME_DIRECTORY, else in
 * /var/tmp. Of two calls at once one does it.
 */
void alert_run(const struct config *config, struct store *store, const struct health *health);

#endif
