/*
 * Finding out what is wrong: tables of checks, each a name, a function and a remedy. The local
 * checks look at configuration, files and the receiver, the others at a URL from outside in.
 */
#ifndef PSAPI_DOCTOR_H
#define PSAPI_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <jansson.h>

#include "base/config.h"
#include "base/error.h"
#include "drain/handler_survey.h"
#include "send/delivery.h"
#include "send/http.h"
#include "store/store.h"
#include "verify.h"

enum doctor_result {
	DOCTOR_OK,
	DOCTOR_FAILED,
	DOCTOR_SKIPPED, /* it does not apply here, or an earlier check has named the fault */
	DOCTOR_REMARK   /* it works, with a reservation that the remedy removes */
};

/* The result of one check. */
struct finding {
	const char *name;
	enum doctor_result result;
	char text[1024];
	char remedy[1024]; /* of a DOCTOR_FAILED or DOCTOR_REMARK one; lines */
};

/* An answer of the receiver, or of another program in its place. */
struct doctor_reply {
	bool ours;       /* it is a reply of psapi-fcgi */
	int status;      /* of HTTP; 0: none */
	char word[16];   /* "status" of the reply */
	char reason[32];
	char detail[300];
};

/*
 * One run of doctor. The caller fills it in up to user; the rest is what the checks have found out.
 */
struct doctor {
	const struct config *config;
	const char *listen;  /* where to ask the receiver: a PSAPI_LISTEN, or "" */
	const char *url;     /* NULL: local checks alone */
	const char *ca_file; /* NULL: the system's certificates */
	time_t now;
	void (*report)(const struct finding *finding, void *user);
	void *user;
	json_t *rows; /* results as JSON, to which report() adds; noted at the end. NULL: none are */

	int failed;               /* checks */
	bool not_owner;           /* of the spool: then a file that we cannot read is no fault */
	struct store *store;      /* NULL: it cannot be opened */
	bool store_failed;        /* a check of it has said why it cannot be read */
	bool unreadable;          /* the store: it was tried, and would only take the time again */
	struct handler_survey handlers; /* the directory of handlers, as drain judges it */
	struct store_counts counts; /* of it, */
	bool counted;               /* once they were counted */
	struct keyring *keyring;  /* NULL: no usable secret */
	bool receiver_answers;    /* at its socket */
	bool accepted_directly;   /* the receiver accepted a probe that no web server was involved in */
	char direct_id[DELIVERY_ID_SIZE]; /* of that probe, which is in this spool; "": none */
	bool log_is_read;         /* the attempts log can be */
	struct http *http;
	struct http_answer first; /* to an empty POST: shows what is on the way to the receiver */
	struct doctor_reply first_reply;
	bool reached;             /* psapi-fcgi answers at the URL */
	char probe_id[DELIVERY_ID_SIZE];
	struct doctor_reply probe_reply; /* to the signed probe; status 0: none yet */
	bool body_changed;        /* and that is why the probe was not accepted */
	int64_t slowest_us;
};

struct doctor_check {
	const char *name;
	void (*run)(struct doctor *doctor, struct finding *finding);
	const char *remedy; /* unless the function gives another one */
};

/* The tables; the last row has no name. */
extern const struct doctor_check doctor_local_checks[];
extern const struct doctor_check doctor_receiver_checks[];
extern const struct doctor_check doctor_log_checks[];
extern const struct doctor_check doctor_history_checks[];
extern const struct doctor_check doctor_url_checks[];
extern const struct doctor_check doctor_probe_checks[];

/* A probe may take longer than the sender would wait, so that doctor can say how long. */
#define DOCTOR_TIMEOUT_MS 20000

/* A result as `psapi doctor --json` prints it, which the caller frees. */
json_t *doctor_finding_json(const struct finding *finding);

/*
 * The results of the last run that were noted: {"at": Unix seconds, "rows": [...]}, which the
 * caller frees. NULL: there are none.
 */
json_t *doctor_last(struct store *store);

/* Run all checks that apply. Returns the number of failed ones. */
int doctor_run(struct doctor *doctor);

/* ---- for the checks ---- */

/* Run and report the checks of a table; name NULL: all, else that one. */
void doctor_run_table(struct doctor *doctor, const struct doctor_check *checks, const char *name);

/* store_check()'s visit; data is the doctor. */
void doctor_report_store(const struct store_check *check, void *data);

/* Set the result of a check. One that sets none is DOCTOR_OK. */
void doctor_ok(struct finding *finding, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* remedy NULL: the one in the table. */
void doctor_failed(struct finding *finding, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void doctor_remark(struct finding *finding, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void doctor_skipped(struct finding *finding, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Failed for an error; its remedy counts, if it has one, before the one in the table. */
void doctor_failed_for(struct finding *finding, const struct error *error);

/* Read a reply. */
void doctor_reply_read(struct doctor_reply *reply, int status, const char *body, size_t length);

/*
 * Send one request to the URL. delivery NULL: "{}" without a signature. The caller frees
 * answer->body.
 */
void doctor_exchange(struct doctor *doctor, const char *method, const struct delivery *delivery,
    struct http_answer *answer);

/* Send "{}" without a signature to the URL, at this address of its host. */
void doctor_exchange_at(struct doctor *doctor, struct http *http, const char *address,
    struct http_answer *answer);

/*
 * When the daily event last came to any host of a shared store, in the last so many seconds:
 * nanoseconds since 1970; 0: it did not, or the store is not shared; -1: the store cannot be read.
 */
int64_t doctor_copied_daily(struct doctor *doctor, int64_t seconds);

/*
 * When the first event was accepted, as far as the attempts log goes back: nanoseconds since 1970;
 * 0: none was. From then on the daily event is expected.
 */
int64_t doctor_first_accepted(const struct doctor *doctor);

/* Whether there is a handler for psapi drain. */
bool doctor_has_handlers(const struct config *config);

/* Checks of addresses.c, for the table of url.c. */
void doctor_check_name(struct doctor *doctor, struct finding *finding);
void doctor_check_addresses(struct doctor *doctor, struct finding *finding);

/* The body of a probe, of size bytes at least. The caller frees it; NULL without memory. */
char *doctor_probe_body(const char *id, time_t now, size_t size);

/*
 * Failed: what a status means that psapi-fcgi did not give, with the likely causes as the remedy.
 */
void doctor_explain_status(struct finding *finding, const struct http_answer *answer);

#endif
