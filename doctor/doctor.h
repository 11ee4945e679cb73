/*
 * Finding what is wrong: tables of checks, each a name, a function and a remedy.
 * Local ones look at configuration, files and the receiver; the others look at a
 * URL from outside in.
 */
#ifndef PSAPI_DOCTOR_H
#define PSAPI_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "base/config.h"
#include "send/delivery.h"
#include "send/http.h"
#include "store/spool/spool.h"
#include "verify.h"

enum mark { MARK_GOOD, MARK_BAD, MARK_SKIPPED };

/* What one check found. */
struct finding {
	const char *name;
	enum mark mark;
	char text[512];
	char remedy[1024]; /* of a MARK_BAD one; lines */
};

/* What the receiver, or whatever took its place, answered. */
struct answer_seen {
	bool ours;       /* it is psapi-fcgi's reply */
	int status;      /* of HTTP; 0: none */
	char word[16];   /* "status" of the reply */
	char reason[32];
	char detail[300];
};

/* The examination. All of it is the caller's to fill up to url, and doctor.c's from there. */
struct doctor {
	const struct config *config;
	const char *listen;  /* where the receiver is asked: a PSAPI_LISTEN, or "" */
	const char *url;     /* NULL: local checks alone */
	const char *ca_file; /* NULL: the system's certificates */
	time_t now;
	void (*report)(const struct finding *finding, void *user);
	void *user;

	int bad;
	bool stranger;            /* we are not the spool's owner: what is denied to us is no fault */
	bool spool_opened;
	struct spool spool;
	struct keyring *keyring;  /* NULL: no usable secret */
	bool answers;             /* the receiver does, at its socket */
	bool proven_locally;      /* the receiver accepted a probe without a web server */
	struct http *http;
	struct http_answer first; /* to a POST of nothing: what the way to the receiver is like */
	struct answer_seen seen;  /* the same */
	bool reached;             /* psapi-fcgi answers at the URL */
	char probe_id[DELIVERY_ID_SIZE];
	struct answer_seen probe; /* the answer to the signed probe; status 0: none yet */
	bool body_changed;        /* that is why it was not accepted */
	int64_t slowest_us;
};

struct check {
	const char *name;
	void (*run)(struct doctor *doctor, struct finding *finding);
	const char *remedy; /* unless the function knows better */
};

/* The tables; the last has no name. */
extern const struct check doctor_local_checks[];
extern const struct check doctor_history_checks[];
extern const struct check doctor_url_checks[];
extern const struct check doctor_probe_checks[];

/* A probe may take longer than the sender would wait, to be able to say by how much. */
#define DOCTOR_TIMEOUT_MS 20000

/* Run all checks that apply. Returns the number of crosses. */
int doctor_run(struct doctor *doctor);

/* For the checks: what is found. A finding that none of these touched is good. */
void doctor_found_good(struct finding *finding, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* remedy NULL: the table's. */
void doctor_found_bad(struct finding *finding, const char *remedy, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void doctor_found_nothing(struct finding *finding, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Read a reply. */
void doctor_answer_read(struct answer_seen *seen, int status, const char *body, size_t length);

/* One request to the URL. delivery NULL: of the method alone. The caller frees answer->body. */
void doctor_exchange(struct doctor *doctor, const char *method, const struct delivery *delivery,
    struct http_answer *answer);

/* The body of a probe, of size bytes at least. The caller frees it. */
char *doctor_probe_body(const char *id, time_t now, size_t size);

/* What a status that psapi-fcgi did not give means, with the likely causes in remedy. */
void doctor_explain_status(struct finding *finding, const struct http_answer *answer);

#endif
