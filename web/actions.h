/*
 * What a user who signed in may do: retry, replay, done, discard a held request, send an example.
 * The router has checked that the request comes from the page itself.
 */
#ifndef PSAPI_ACTIONS_H
#define PSAPI_ACTIONS_H

#include "web/context.h"

/* Bytes of a POST's body, and ids in it. */
#define ACTIONS_BODY_MAX (64 * 1024)
#define ACTIONS_IDS_MAX 1000

/* Whether the configuration allows actions; and whether this user may. */
bool actions_enabled(const struct web *web);
bool actions_allowed(const struct web *web, const struct request *request);

/* POST /api/1/NAME with its body. {"ids":[...]}; {"names":[...]} for discard; {"type":TYPE}. */
void actions_retry(struct web *web, const struct request *request, const char *body, size_t length,
    struct reply *reply);
void actions_replay(struct web *web, const struct request *request, const char *body,
    size_t length, struct reply *reply);
void actions_done(struct web *web, const struct request *request, const char *body, size_t length,
    struct reply *reply);
void actions_discard(struct web *web, const struct request *request, const char *body,
    size_t length, struct reply *reply);
void actions_send(struct web *web, const struct request *request, const char *body, size_t length,
    struct reply *reply);

#endif
