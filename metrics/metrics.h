/*
 * The numbers of an endpoint in Prometheus's text format (0.0.4): collected once, then printed for
 * one endpoint or for several together. Labels are never an NPN or a webhook-id; there are no
 * timestamps; what has never happened is absent. The last verdict of `psapi check`: health.h.
 */
#ifndef PSAPI_METRICS_H
#define PSAPI_METRICS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/config.h"
#include "base/error.h"
#include "metrics/health.h"
#include "store/store.h"

struct metrics;

/* The content type of an HTTP answer with them. */
#define METRICS_CONTENT_TYPE "text/plain; version=0.0.4; charset=utf-8"

/*
 * Collect the numbers of one endpoint, whose label is config->name. store NULL: it cannot be
 * opened, which is a number, too (psapi_store_up 0); so is a store that does not answer. What
 * cannot be counted is logged, and absent. Returns NULL without memory. The time is bounded by what
 * waits, not by the archive.
 */
struct metrics *metrics_collect(const struct config *config, struct store *store);

/* Its label, escaped. Two with the same one must not be printed together. */
const char *metrics_endpoint(const struct metrics *metrics);
void metrics_free(struct metrics *metrics);

/* Print all of them, each family once. Returns 0, or -1 with errno of the stream. */
int metrics_print(FILE *stream, const struct metrics *const *all, size_t count);

/*
 * Collect and print the numbers of one endpoint, but for what the caller has counted. up: the
 * store answers. counts NULL: they are not known, and left out. Returns 0, or -1 with *error.
 */
int metrics_write(FILE *stream, const struct config *config, struct store *store, bool up,
    const struct store_counts *counts, struct error *error);

#endif
