/*
 * Owns what of doctor needs another clock than the machine's: how long something
 * has waited. What is broken for real is in tests/e2e/test_doctor.py.
 */
#include "helpers.h"

#include "doctor/doctor.h"
#include "store/store.h"

struct fixture {
	void *dir;
	struct config config;
	struct store *store;
	struct finding found[64];
	int count;
};

static void
keep(const struct finding *finding, void *user)
{
	struct fixture *f = user;

	f->found[f->count++] = *finding;
}

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error error;

	if (f == NULL || sandbox_make(&f->dir) != 0)
		return -1;
	f->config = (struct config){.spool = strdup(in(f->dir, "spool")),
		.secret_file = strdup(in(f->dir, "secret")), .handlers = strdup(in(f->dir, "none")),
		.batch_handlers = strdup(in(f->dir, "none")),
		.listen = strdup(""), .listen_group = strdup(""), .sync = strdup("two"), .tolerance = 300};
	file_write(f->config.secret_file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", 0600);
	*state = f;
	f->store = store_open(&f->config, true, &error);
	return f->store != NULL ? 0 : -1;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	store_close(f->store);
	config_free(&f->config);
	int result = sandbox_remove(&f->dir);
	free(f);
	return result;
}

#define DOCTOR_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* Run the local checks this long from now. Returns the number of failed checks. */
static int
examine(struct fixture *f, long later)
{
	struct doctor doctor = {.config = &f->config, .listen = "", .now = time(NULL) + later,
		.report = keep, .user = f};

	f->count = 0;
	return doctor_run(&doctor);
}

static const struct finding *
finding_of(const struct fixture *f, const char *name)
{
	for (int i = 0; i < f->count; i++)
		if (strcmp(f->found[i].name, name) == 0)
			return &f->found[i];
	fail_msg("no check %s", name);
	return NULL;
}

static void
put(struct fixture *f, const char *id)
{
	struct evidence evidence = {.id = id, .id_length = strlen(id), .timestamp = "1",
		.timestamp_length = 1, .signature = "v1,x", .signature_length = 4, .received_at = {1, 0}};
	static const char body[] = "{\"type\":\"x\",\"data\":{}}";
	char name[STORE_NAME_SIZE];
	struct record record;
	struct event event;
	struct store_intake intake = {.name = name, .event = &event, .record = &record};
	struct error error;

	events_read(body, strlen(body), &event);
	assert_int_equal(store_name(id, strlen(id), name), 0);
	assert_int_equal(record_make(&record, &evidence, body, strlen(body), true), 0);
	assert_int_equal(store_put(f->store, &intake, &error), STORE_OK);
	record_free(&record);
}

/* A handler was run and said "later". */
static void
try(struct fixture *f, const char *name, const struct handler_state *state)
{
	struct store_work work;
	struct error error;

	assert_int_equal(store_load(f->store, name, &work, &error), STORE_OK);
	assert_int_equal(store_later(f->store, &work, state, &error), STORE_OK);
	store_unload(f->store, &work);
}

TEST(nothing_is_wrong)
{
	struct fixture *f = *state;

	assert_int_equal(examine(f, 0), 0);
	for (int i = 0; i < f->count; i++) {
		assert_true(*f->found[i].text != '\0');
		/* The file system of the tests may be one that no program can keep promises on. */
		if (f->found[i].result != DOCTOR_REMARK)
			assert_string_equal(f->found[i].remedy, "");
	}
}

TEST(a_backlog_that_nobody_works_off)
{
	struct fixture *f = *state;

	put(f, "one");
	put(f, "two");
	assert_int_equal(examine(f, 3500), 0);
	assert_int_equal(examine(f, 3 * 3600), 1);
	const struct finding *found = finding_of(f, "backlog");
	assert_int_equal(found->result, DOCTOR_FAILED);
	assert_non_null(strstr(found->text, "2 of 2"));
	assert_non_null(strstr(found->text, "3.0 h"));
	assert_non_null(strstr(found->remedy, "cron"));
}

/* With handlers, drain must run: at the latest when an event has waited for an hour. */
TEST(a_drain_that_does_not_run)
{
	struct fixture *f = *state;

	free(f->config.handlers);
	f->config.handlers = strdup(in(f->dir, "handlers"));
	assert_int_equal(mkdir(f->config.handlers, 0755), 0);
	file_write(in(f->config.handlers, "default"), "#!/bin/sh\n", 0755);
	put(f, "msg_1");
	assert_int_equal(examine(f, 0), 0);
	assert_int_equal(finding_of(f, "drain")->result, DOCTOR_REMARK);
	examine(f, 3700);
	assert_int_equal(finding_of(f, "drain")->result, DOCTOR_FAILED);
	store_note_run(f->store, time(NULL) + 3700);
	examine(f, 3700);
	assert_int_equal(finding_of(f, "drain")->result, DOCTOR_OK);
	examine(f, 3700 + 500);
	assert_int_equal(finding_of(f, "drain")->result, DOCTOR_OK);
	examine(f, 3700 + 700);
	assert_int_equal(finding_of(f, "drain")->result, DOCTOR_REMARK);
	examine(f, 3700 + 3500);
	assert_int_equal(finding_of(f, "drain")->result, DOCTOR_REMARK);
	examine(f, 3700 + 3700);
	assert_int_equal(finding_of(f, "drain")->result, DOCTOR_FAILED);
}

TEST(what_waits_for_its_retry_is_no_backlog)
{
	struct fixture *f = *state;
	struct handler_state waiting = {.tries = 3, .due_at = time(NULL) + 6 * 3600};

	put(f, "one");
	try(f, "one.json", &waiting);
	assert_int_equal(examine(f, 3 * 3600), 0);
	assert_int_equal(examine(f, 7 * 3600), 1);
}

TEST(a_replay_of_old_events_is_no_backlog)
{
	struct fixture *f = *state;
	struct timespec old[2] = {{.tv_sec = 1600000000}, {.tv_sec = 1600000000}};

	put(f, "one");
	assert_int_equal(utimensat(AT_FDCWD, in(f->config.spool, "new/one.json"), old, 0), 0);
	assert_int_equal(examine(f, 0), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		DOCTOR_TEST(nothing_is_wrong),
		DOCTOR_TEST(a_backlog_that_nobody_works_off),
		DOCTOR_TEST(a_drain_that_does_not_run),
		DOCTOR_TEST(what_waits_for_its_retry_is_no_backlog),
		DOCTOR_TEST(a_replay_of_old_events_is_no_backlog),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
