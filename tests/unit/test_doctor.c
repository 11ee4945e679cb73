/*
 * Owns what of doctor needs another clock than the machine's: how long something
 * has waited. What is broken for real is in tests/e2e/test_doctor.py.
 */
#include "helpers.h"

#include "doctor/doctor.h"
#include "store/spool/handler_state.h"

struct fixture {
	void *dir;
	struct config config;
	struct spool spool;
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
	char why[256];

	if (f == NULL || sandbox_make(&f->dir) != 0)
		return -1;
	f->config = (struct config){.spool = strdup(in(f->dir, "spool")),
		.secret_file = strdup(in(f->dir, "secret")), .handlers = strdup(in(f->dir, "none")),
		.listen = strdup(""), .listen_group = strdup(""), .tolerance = 300};
	file_write(f->config.secret_file, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n", 0600);
	*state = f;
	return spool_open(&f->spool, f->config.spool, true, why, sizeof(why));
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	spool_close(&f->spool);
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
put(struct fixture *f, enum spool_dir queue, const char *name)
{
	char text[] = "{}";
	struct iovec piece = {text, 2};

	assert_int_equal(spool_store(&f->spool, name, queue, &piece, 1), SPOOL_STORED);
}

TEST(nothing_is_wrong)
{
	struct fixture *f = *state;

	assert_int_equal(examine(f, 0), 0);
	for (int i = 0; i < f->count; i++) {
		assert_true(*f->found[i].text != '\0');
		assert_string_equal(f->found[i].remedy, "");
	}
}

TEST(a_backlog_that_nobody_works_off)
{
	struct fixture *f = *state;

	put(f, SPOOL_NEW, "one.json");
	put(f, SPOOL_NEW, "two.json");
	assert_int_equal(examine(f, 3500), 0);
	assert_int_equal(examine(f, 3 * 3600), 1);
	const struct finding *found = finding_of(f, "backlog");
	assert_int_equal(found->result, CHECK_FAILED);
	assert_non_null(strstr(found->text, "2 of 2"));
	assert_non_null(strstr(found->text, "3.0 h"));
	assert_non_null(strstr(found->remedy, "cron"));
}

TEST(what_waits_for_its_retry_is_no_backlog)
{
	struct fixture *f = *state;
	struct handler_state waiting = {.tries = 3, .due_at = time(NULL) + 6 * 3600};

	put(f, SPOOL_NEW, "one.json");
	assert_int_equal(handler_state_write(&f->spool, "one.json", &waiting), 0);
	assert_int_equal(examine(f, 3 * 3600), 0);
	assert_int_equal(examine(f, 7 * 3600), 1);
}

TEST(a_replay_of_old_events_is_no_backlog)
{
	struct fixture *f = *state;
	struct timespec old[2] = {{.tv_sec = 1600000000}, {.tv_sec = 1600000000}};

	put(f, SPOOL_NEW, "one.json");
	assert_int_equal(utimensat(f->spool.dir[SPOOL_NEW], "one.json", old, 0), 0);
	assert_int_equal(examine(f, 0), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		DOCTOR_TEST(nothing_is_wrong),
		DOCTOR_TEST(a_backlog_that_nobody_works_off),
		DOCTOR_TEST(what_waits_for_its_retry_is_no_backlog),
		DOCTOR_TEST(a_replay_of_old_events_is_no_backlog),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
