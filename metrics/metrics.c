/*
 * Owns the table of metric families, their collection, and the text format (Prometheus, "Exposition
 * formats"): HELP and TYPE once for each family, then its samples.
 */
#define _GNU_SOURCE
#include "metrics/metrics.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sysexits.h>

#include "base/clock.h"
#include "base/datetime.h"
#include "metrics/runs.h"
#include "metrics/totals.h"
#include "secrets/secrets.h"
#include "verify.h"

struct metrics {
	char endpoint[128]; /* escaped as the value of a label */
	bool up, counted;
	bool held; /* counts.held is known */
	struct store_counts counts;
	struct totals totals;
	struct runs runs;
	long long free_bytes; /* -1: not known */
	long secrets;         /* -1: they cannot be read */
};

/* ---- collection ---- */

/* A label's value: backslash, quote and newline are escaped; what is no printable ASCII is '?'. */
static void
escape_label(char *to, size_t size, const char *text)
{
	size_t n = 0;

	for (; *text != '\0' && n + 3 < size; text++) {
		if (*text == '\\' || *text == '"')
			to[n++] = '\\';
		to[n++] = *text >= ' ' && *text < 0x7f ? *text : '?';
	}
	to[n] = '\0';
}

static long long
free_bytes(const char *path)
{
	struct statvfs st;

	return statvfs(path, &st) == 0 ? (long long)st.f_bavail * (long long)st.f_frsize : -1;
}

/* How many usable secrets there are: none in an empty file; -1 where it cannot be read. */
static long
count_secrets(const char *path)
{
	struct error error;
	struct keyring *keyring = secrets_read(path, &error);

	if (keyring == NULL)
		return secrets_is_empty(path) ? 0 : -1;
	long count = (long)verify_keyring_size(keyring);
	verify_keyring_free(keyring);
	return count;
}

/* All but what the store has. NULL without memory. */
static struct metrics *
collect(const struct config *config, struct store *store)
{
	struct metrics *m = calloc(1, sizeof(*m));
	struct error error;

	if (m == NULL)
		return NULL;
	escape_label(m->endpoint, sizeof(m->endpoint), config->name);
	m->free_bytes = free_bytes(config->spool);
	m->secrets = count_secrets(config->secret_file);
	m->counts.standbys = -1;
	if (store == NULL)
		return m;
	if (totals_update(config, store, &m->totals, &error) != 0)
		error_log(&error);
	runs_read(store, &m->runs);
	return m;
}

struct metrics *
metrics_collect(const struct config *config, struct store *store)
{
	struct metrics *m = collect(config, store);
	struct error error;

	if (m == NULL || store == NULL)
		return m;
	m->counted = store_count(store, clock_unix(), &m->counts, &error) == STORE_OK;
	if (!m->counted)
		error_log(&error);
	m->up = m->counted;
	m->held = true; /* this host's, also where the shared store does not answer */
	return m;
}

const char *
metrics_endpoint(const struct metrics *metrics)
{
	return metrics->endpoint;
}

void
metrics_free(struct metrics *metrics)
{
	free(metrics);
}

/* ---- samples ---- */

/* One sample; labels: more of them, ',' before each, or "". */
static void
put(FILE *f, const struct metrics *m, const char *name, const char *labels, int64_t value)
{
	fprintf(f, "%s{endpoint=\"%s\"%s} %" PRId64 "\n", name, m->endpoint, labels, value);
}

/* The same of a time in microseconds, in seconds. */
static void
put_seconds(FILE *f, const struct metrics *m, const char *name, const char *labels, int64_t us)
{
	fprintf(f, "%s{endpoint=\"%s\"%s} %" PRId64 ".%06" PRId64 "\n", name, m->endpoint, labels,
	    us / 1000000, us % 1000000);
}

static void
put_attempts(FILE *f, const struct metrics *m, const char *name)
{
	char labels[128];

	for (int i = 0; i < m->totals.count; i++) {
		const struct totals_pair *pair = &m->totals.pairs[i];
		snprintf(labels, sizeof(labels), ",outcome=\"%s\",reason=\"%s\"", pair->outcome,
		    pair->reason);
		put(f, m, name, labels, pair->count);
	}
}

static void
put_refused(FILE *f, const struct metrics *m, const char *name)
{
	char labels[128];

	for (int i = 0; i < m->totals.count; i++) {
		const struct totals_pair *pair = &m->totals.pairs[i];
		snprintf(labels, sizeof(labels), ",reason=\"%s\"", pair->reason);
		if (pair->refused > 0)
			put(f, m, name, labels, pair->refused);
	}
}

static void
put_suppressed(FILE *f, const struct metrics *m, const char *name)
{
	if (m->totals.suppressed > 0)
		put(f, m, name, "", m->totals.suppressed);
}

static void
put_waiting(FILE *f, const struct metrics *m, const char *name)
{
	if (m->counted)
		put(f, m, name, "", m->counts.waiting);
}

static void
put_retrying(FILE *f, const struct metrics *m, const char *name)
{
	if (m->counted)
		put(f, m, name, "", m->counts.retrying);
}

static void
put_failed(FILE *f, const struct metrics *m, const char *name)
{
	if (m->counted)
		put(f, m, name, "", m->counts.failed);
}

static void
put_held(FILE *f, const struct metrics *m, const char *name)
{
	if (m->held)
		put(f, m, name, "", m->counts.held);
}

static void
put_oldest(FILE *f, const struct metrics *m, const char *name)
{
	if (m->counts.oldest_waiting != 0)
		put(f, m, name, "", m->counts.oldest_waiting);
}

static void
put_accepted(FILE *f, const struct metrics *m, const char *name)
{
	char labels[160];
	const char *type;

	for (size_t i = 0; i < TOTALS_TYPES_MAX && (type = totals_type(i)) != NULL; i++) {
		snprintf(labels, sizeof(labels), ",type=\"%s\"", type);
		if (m->totals.accepted[i] > 0)
			put_seconds(f, m, name, labels, m->totals.accepted[i] / 1000);
	}
}

static void
put_drained(FILE *f, const struct metrics *m, const char *name)
{
	if (m->counts.drained != 0)
		put(f, m, name, "", m->counts.drained);
}

static void
put_drain_success(FILE *f, const struct metrics *m, const char *name)
{
	if (m->runs.ended != 0)
		put(f, m, name, "", runs_are_good(&m->runs));
}

static void
put_runs(FILE *f, const struct metrics *m, const char *name)
{
	const struct {
		const char *labels;
		int64_t count;
	} results[] = {{",result=\"done\"", m->runs.done}, {",result=\"later\"", m->runs.later},
	    {",result=\"failed\"", m->runs.failed}};

	for (size_t i = 0; i < sizeof(results) / sizeof(results[0]); i++)
		if (results[i].count > 0)
			put(f, m, name, results[i].labels, results[i].count);
}

static void
put_durations(FILE *f, const struct metrics *m, const char *name)
{
	char bucket[64], labels[48];
	int64_t count = 0;

	for (int i = 0; i <= TOTALS_BUCKETS; i++)
		count += m->totals.answers[i];
	if (count == 0)
		return;
	snprintf(bucket, sizeof(bucket), "%s_bucket", name);
	count = 0;
	for (int i = 0; i <= TOTALS_BUCKETS; i++) {
		count += m->totals.answers[i];
		if (i < TOTALS_BUCKETS)
			snprintf(labels, sizeof(labels), ",le=\"%g\"", (double)totals_bounds[i] / 1e6);
		else
			snprintf(labels, sizeof(labels), ",le=\"+Inf\"");
		put(f, m, bucket, labels, count);
	}
	snprintf(bucket, sizeof(bucket), "%s_sum", name);
	put_seconds(f, m, bucket, "", m->totals.us);
	snprintf(bucket, sizeof(bucket), "%s_count", name);
	put(f, m, bucket, "", count);
}

static void
put_skew(FILE *f, const struct metrics *m, const char *name)
{
	int64_t seconds;

	if (totals_skew(&m->totals, &seconds))
		put(f, m, name, "", seconds);
}

static void
put_free(FILE *f, const struct metrics *m, const char *name)
{
	if (m->free_bytes >= 0)
		put(f, m, name, "", m->free_bytes);
}

static void
put_secrets(FILE *f, const struct metrics *m, const char *name)
{
	if (m->secrets >= 0)
		put(f, m, name, "", m->secrets);
}

static void
put_up(FILE *f, const struct metrics *m, const char *name)
{
	put(f, m, name, "", m->up);
}

static void
put_standbys(FILE *f, const struct metrics *m, const char *name)
{
	if (m->counts.standbys >= 0)
		put(f, m, name, "", m->counts.standbys);
}

static void
put_build(FILE *f, const struct metrics *m, const char *name)
{
	put(f, m, name, ",version=\"" PSAPI_VERSION "\"", 1);
}

/* ---- the families ---- */

static const struct family {
	const char *name, *type, *help;
	void (*put)(FILE *stream, const struct metrics *metrics, const char *name);
} families[] = {
	{"psapi_attempts_total", "counter",
	    "Requests that the receiver answered, by outcome and reason of a refusal.", put_attempts},
	{"psapi_attempts_suppressed_total", "counter",
	    "Refused requests that the attempts log left out, at over ten a second.", put_suppressed},
	{"psapi_refused_deliveries_total", "counter",
	    "Refused requests with an id, without test deliveries of psapi itself.", put_refused},
	{"psapi_events_waiting", "gauge", "Events that are not handled yet.", put_waiting},
	{"psapi_events_retrying", "gauge", "Events that wait for a retry; they wait, too.",
	    put_retrying},
	{"psapi_events_failed", "gauge", "Events in failed/, which a person must look at.", put_failed},
	{"psapi_events_held", "gauge", "Requests that arrived before the first secret.", put_held},
	{"psapi_oldest_waiting_timestamp_seconds", "gauge",
	    "When the oldest of the events arrived that wait.", put_oldest},
	{"psapi_last_accepted_timestamp_seconds", "gauge",
	    "When the sender's last event of each known type was accepted.", put_accepted},
	{"psapi_last_drain_timestamp_seconds", "gauge",
	    "When psapi drain was last at work.", put_drained},
	{"psapi_last_drain_success", "gauge",
	    "Whether the last run of psapi drain ended with exit status 0, or 1: an event failed.",
	    put_drain_success},
	{"psapi_handler_runs_total", "counter", "Events by the result of their handler.", put_runs},
	{"psapi_answer_duration_seconds", "histogram",
	    "Time from the headers of a request to its answer.", put_durations},
	{"psapi_clock_skew_seconds", "gauge",
	    "This clock minus the sender's, in the median of the last deliveries.", put_skew},
	{"psapi_spool_free_bytes", "gauge", "Free bytes on the file system of the spool.", put_free},
	{"psapi_secrets", "gauge", "Usable signing secrets.", put_secrets},
	{"psapi_store_up", "gauge", "Whether the store of the events answers.", put_up},
	{"psapi_store_synchronous_standbys", "gauge",
	    "Synchronous standbys of the database that several hosts share.", put_standbys},
	{"psapi_build_info", "gauge", "The version of psapi.", put_build},
};

/* A family without a sample is left out. */
static int
print_family(FILE *stream, const struct family *family, const struct metrics *const *all,
    size_t count)
{
	char *text = NULL;
	size_t length = 0;
	FILE *samples = open_memstream(&text, &length);

	if (samples == NULL)
		return -1;
	for (size_t i = 0; i < count; i++)
		family->put(samples, all[i], family->name);
	int result = fclose(samples);
	if (result == 0 && length > 0 && fprintf(stream, "# HELP %s %s\n# TYPE %s %s\n%s",
	        family->name, family->help, family->name, family->type, text) < 0)
		result = -1;
	free(text);
	return result;
}

int
metrics_print(FILE *stream, const struct metrics *const *all, size_t count)
{
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++)
		if (print_family(stream, &families[i], all, count) != 0)
			return -1;
	return fflush(stream) == 0 ? 0 : -1;
}

int
metrics_write(FILE *stream, const struct config *config, struct store *store, bool up,
    const struct store_counts *counts, struct error *error)
{
	struct metrics *metrics = collect(config, store);
	const struct metrics *all[] = {metrics};

	if (metrics != NULL) {
		metrics->up = up;
		metrics->counted = metrics->held = counts != NULL;
		if (counts != NULL)
			metrics->counts = *counts;
	}
	if (metrics == NULL || metrics_print(stream, all, 1) != 0) {
		error_set(error, EX_OSERR, NULL, "the metrics cannot be written: %s", strerror(errno));
		metrics_free(metrics);
		return -1;
	}
	metrics_free(metrics);
	return 0;
}
