/*
 * Owns what secrets.h promises: who may hold the secret file, what a bad line
 * does, and that the last good secrets stay in force.
 */
#include "helpers.h"

#include <sys/wait.h>

#include "secrets/secrets.h"

#define GOOD "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER "C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
#define THIRD "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
#define SHORT "AAECAwQFBgcICQoLDA0ODxAREhMUFRY="

enum { NOBODY = 65534 };

static const char *
name_of(const char *secret)
{
	static char fingerprint[FINGERPRINT_SIZE];
	struct keyring *keyring = verify_keyring_new();

	assert_int_equal(verify_keyring_add(keyring, secret, strlen(secret)), SECRET_GOOD);
	strcpy(fingerprint, verify_keyring_fingerprint(keyring, 0));
	verify_keyring_free(keyring);
	return fingerprint;
}

/* Put a new file of this text in the place of another, as a careful administrator does. */
static void
replace(const char *path, const char *text)
{
	char next[1100];

	snprintf(next, sizeof(next), "%s.next", path);
	file_write(next, text, 0640);
	assert_int_equal(rename(next, path), 0);
}

/* secrets_read(), with what it logged in *logged (the caller frees it). */
static struct keyring *
read_secrets(const char *path, char why[512], char **logged)
{
	struct capture capture;
	struct error error;

	error_set(&error, 0, NULL, "%s", "");
	capture_begin(&capture);
	struct keyring *keyring = secrets_read(path, &error);
	*logged = capture_end(&capture);
	error_line(&error, why, 512);
	return keyring;
}

static void
expect_refusal(const char *path, const char *because)
{
	char why[512], *logged;
	struct keyring *keyring = read_secrets(path, why, &logged);

	if (keyring != NULL || strstr(why, because) == NULL || strchr(why, '\n') != NULL)
		fail_msg("%s: \"%s\" instead of \"%s\"", path, why, because);
	if (strstr(why, GOOD) != NULL || strstr(logged, GOOD) != NULL)
		fail_msg("%s: the secret itself was given away", path);
	free(logged);
}

/* ---- who may hold it ---- */

TEST(a_mode_that_lets_nobody_else_at_the_file_is_fine)
{
	static const mode_t modes[] = {0600, 0640, 0400, 0440};
	const char *path = in(*state, "secret");
	char why[512], *logged;

	file_write(path, GOOD "\n", 0600);
	for (size_t i = 0; i < ROWS(modes); i++) {
		assert_int_equal(chmod(path, modes[i]), 0);
		struct keyring *keyring = read_secrets(path, why, &logged);
		if (keyring == NULL)
			fail_msg("%04o: %s", (unsigned)modes[i], why);
		assert_string_equal(logged, "");
		free(logged);
		verify_keyring_free(keyring);
	}
}

TEST(any_other_mode_is_refused_with_the_remedy)
{
	static const mode_t modes[] = {
		0644, 0604, 0602, 0601, 0660, 0620, 0610, 0666, 0700, 0777, 04600};
	const char *path = in(*state, "secret");
	char mode[16];

	file_write(path, GOOD "\n", 0600);
	for (size_t i = 0; i < ROWS(modes); i++) {
		assert_int_equal(chmod(path, modes[i]), 0);
		snprintf(mode, sizeof(mode), "mode %04o", (unsigned)modes[i]);
		expect_refusal(path, mode);
		expect_refusal(path, "chmod 0640");
	}
}

TEST(a_file_of_another_user_is_refused)
{
	const char *path = in(*state, "secret");

	if (geteuid() != 0)
		skip(); /* only root can give a file away */
	file_write(path, GOOD "\n", 0600);
	assert_int_equal(chown(path, NOBODY, (gid_t)-1), 0);
	expect_refusal(path, "owned by user nobody");
	expect_refusal(path, "chown root:GROUP, and chmod 0640");
}

/* In a process of its own: 0 if path is read, 1 if not. */
static int
read_as_nobody(const char *path)
{
	pid_t child = fork();
	struct error error;
	int status;

	assert_true(child >= 0);
	if (child == 0) {
		if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
			_exit(2);
		struct keyring *keyring = secrets_read(path, &error);
		_exit(keyring != NULL && verify_keyring_size(keyring) == 1 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST(root_and_the_running_user_may_own_it)
{
	const char *path = in(*state, "secret");

	if (geteuid() != 0)
		skip(); /* needs a second user to be */
	assert_int_equal(chmod(*state, 0711), 0);
	file_write(path, GOOD "\n", 0640);
	assert_int_equal(chown(path, 0, NOBODY), 0);
	assert_int_equal(read_as_nobody(path), 0);
	assert_int_equal(chown(path, NOBODY, NOBODY), 0);
	assert_int_equal(read_as_nobody(path), 0);
	assert_int_equal(chown(path, NOBODY - 1, NOBODY), 0);
	assert_int_equal(read_as_nobody(path), 1);
}

TEST(what_is_no_regular_file_is_refused)
{
	const char *fifo = in(*state, "fifo"), *link = in(*state, "link");
	char why[512], *logged;

	expect_refusal(in(*state, "absent"), "No such file");
	expect_refusal(*state, "is not a regular file");
	assert_int_equal(mkfifo(fifo, 0600), 0);
	expect_refusal(fifo, "is not a regular file"); /* and without waiting for a writer */

	/* A link is how some keep their secrets: what it leads to is judged. */
	file_write(in(*state, "secret"), GOOD "\n", 0600);
	assert_int_equal(symlink("secret", link), 0);
	struct keyring *keyring = read_secrets(link, why, &logged);
	assert_non_null(keyring);
	verify_keyring_free(keyring);
	free(logged);
}

/* ---- what is in it ---- */

TEST(one_secret_a_line_with_comments_blank_lines_and_white_space)
{
	static const struct {
		const char *text;
		size_t count;
	} rows[] = {
		{GOOD, 1},
		{GOOD "\n", 1},
		{"whsec_" GOOD "\nwhsec_" OTHER "\n", 2},
		{"# from the portal\n\n  whsec_" GOOD "  \n\t# old:\n" OTHER "\n\n", 2},
		{"whsec_" GOOD "\r\n\r\nwhsec_" OTHER "\r\n", 2},
		{"# old editor\rwhsec_" GOOD "\rwhsec_" OTHER "\r", 2},
		{GOOD "\n" OTHER "\n" THIRD, 3},
	};
	const char *path = in(*state, "secret");
	char why[512], *logged;

	for (size_t i = 0; i < ROWS(rows); i++) {
		file_write(path, rows[i].text, 0600);
		struct keyring *keyring = read_secrets(path, why, &logged);
		if (keyring == NULL)
			fail_msg("row %zu: %s", i, why);
		assert_int_equal(verify_keyring_size(keyring), rows[i].count);
		assert_string_equal(verify_keyring_fingerprint(keyring, 0), name_of(GOOD));
		assert_string_equal(logged, "");
		free(logged);
		verify_keyring_free(keyring);
	}
}

TEST(a_file_without_a_usable_line_is_refused_and_says_how_to_mend_it)
{
	static const struct {
		const char *text, *because;
	} rows[] = {
		{"", "holds no secret yet"},
		{"\n\n", "holds no secret yet"},
		{"# none\n", "holds no secret yet"},
		{"whsec_\n", "secret:1: is empty"},
		{"\"whsec_" GOOD "\"\n", "secret:1: is in quotes"},
		{"# a\nv1," GOOD "\n", "secret:2: begins with \"v1,\""},
		{"whpk_" GOOD "\n", "secret:1: is a public key"},
		{"whsk_" GOOD "\n", "secret:1: is a private key"},
		{SHORT "\n", "secret:1: is under 24 bytes"},
		{GOOD " " GOOD "\n", "secret:1: is not base64"},
	};
	const char *path = in(*state, "secret");

	for (size_t i = 0; i < ROWS(rows); i++) {
		file_write(path, rows[i].text, 0600);
		expect_refusal(path, rows[i].because);
	}
}

/* What a receiver logs when it reads the file; the caller frees it. */
static char *
logged_by_borrowing(const char *path)
{
	struct secrets *secrets = secrets_open(path);
	struct capture capture;

	assert_non_null(secrets);
	capture_begin(&capture);
	const struct keyring *keyring = secrets_borrow(secrets);
	char *logged = capture_end(&capture);
	secrets_return(secrets, keyring);
	secrets_close(secrets);
	return logged;
}

TEST(a_bad_line_is_logged_by_its_number_and_shuts_no_good_one_out)
{
	const char *path = in(*state, "secret");
	char why[512], *logged;

	file_write(path, "# old and new\nwhsec_" GOOD "\n'" THIRD "'\n" SHORT "\nwhsec_" OTHER "\n",
	    0600);
	struct keyring *keyring = read_secrets(path, why, &logged);
	assert_non_null(keyring);
	assert_int_equal(verify_keyring_size(keyring), 2);
	assert_string_equal(verify_keyring_fingerprint(keyring, 0), name_of(GOOD));
	assert_string_equal(verify_keyring_fingerprint(keyring, 1), name_of(OTHER));
	assert_string_equal(logged, "");
	assert_non_null(strstr(why, "secret:3: is in quotes"));
	assert_non_null(strstr(why, ", and 1 more such line(s): correct or remove that line"));
	free(logged);
	verify_keyring_free(keyring);

	logged = logged_by_borrowing(path);
	assert_non_null(strstr(logged, "secret:3: is in quotes"));
	assert_non_null(strstr(logged, "secret:4: is under 24 bytes"));
	assert_int_equal(lines_of(logged), 2);
	assert_null(strstr(logged, THIRD));
	assert_null(strstr(logged, SHORT));
	free(logged);
}

TEST(more_secrets_than_a_keyring_holds_are_logged_and_the_first_kept)
{
	const char *path = in(*state, "secret");
	char text[(KEYRING_MAX + 1) * sizeof(GOOD) + 1] = "", why[512], *logged;

	for (int i = 0; i <= KEYRING_MAX; i++)
		strcat(text, GOOD "\n");
	file_write(path, text, 0600);
	struct keyring *keyring = read_secrets(path, why, &logged);
	assert_non_null(keyring);
	assert_int_equal(verify_keyring_size(keyring), KEYRING_MAX);
	assert_non_null(strstr(why, "secret:33: is one secret too many"));
	free(logged);
	verify_keyring_free(keyring);
	logged = logged_by_borrowing(path);
	assert_non_null(strstr(logged, "secret:33: is one secret too many"));
	free(logged);
}

/* ---- reading it again ---- */

/* The fingerprint of the first key in force, or "". Logged lines are counted into *lines. */
static const char *
in_force(struct secrets *secrets, int *lines)
{
	static char fingerprint[FINGERPRINT_SIZE];
	struct capture capture;

	capture_begin(&capture);
	const struct keyring *keyring = secrets_borrow(secrets);
	char *logged = capture_end(&capture);
	strcpy(fingerprint, keyring != NULL ? verify_keyring_fingerprint(keyring, 0) : "");
	secrets_return(secrets, keyring);
	*lines = lines_of(logged);
	free(logged);
	return fingerprint;
}

TEST(a_change_is_noticed_at_the_next_request)
{
	const char *path = in(*state, "secret");
	struct secrets *secrets = secrets_open(path);
	int lines;

	assert_string_equal(in_force(secrets, &lines), "");
	assert_int_equal(lines, 1);
	assert_string_equal(in_force(secrets, &lines), "");
	assert_int_equal(lines, 0); /* said once for each change */
	replace(path, GOOD "\n");
	assert_string_equal(in_force(secrets, &lines), name_of(GOOD));
	assert_string_equal(in_force(secrets, &lines), name_of(GOOD));
	assert_int_equal(lines, 0);
	replace(path, OTHER "\n");
	assert_string_equal(in_force(secrets, &lines), name_of(OTHER));
	assert_int_equal(lines, 1);
	file_write(path, GOOD "\n" OTHER "\n", 0640); /* in place */
	assert_string_equal(in_force(secrets, &lines), name_of(GOOD));
	secrets_close(secrets);
	secrets_close(NULL);
}

TEST(an_unchanged_file_is_not_read_again)
{
	const char *path = in(*state, "secret");
	struct secrets *secrets = secrets_open(path);

	replace(path, GOOD "\n");
	const struct keyring *first = secrets_borrow(secrets), *second = secrets_borrow(secrets);
	assert_ptr_equal(first, second);
	secrets_return(secrets, first);
	secrets_return(secrets, second);
	second = secrets_borrow(secrets);
	assert_ptr_equal(first, second);
	secrets_return(secrets, second);
	secrets_return(secrets, NULL);
	secrets_close(secrets);
}

static void
make_unusable(const char *path, int how)
{
	switch (how) {
	case 0:
		assert_int_equal(unlink(path), 0);
		break;
	case 1:
		replace(path, "");
		break;
	case 2:
		replace(path, "v1," GOOD "\n");
		break;
	case 3:
		assert_int_equal(unlink(path), 0);
		file_write(path, OTHER "\n", 0666);
		break;
	case 4:
		assert_int_equal(unlink(path), 0);
		assert_int_equal(mkdir(path, 0700), 0);
		break;
	}
}

TEST(the_last_good_secrets_stay_while_the_file_is_unusable)
{
	const char *path = in(*state, "secret");

	for (int how = 0; how <= 4; how++) {
		struct secrets *secrets = secrets_open(path);
		int lines;
		replace(path, GOOD "\n");
		assert_string_equal(in_force(secrets, &lines), name_of(GOOD));
		make_unusable(path, how);
		assert_string_equal(in_force(secrets, &lines), name_of(GOOD));
		assert_true(lines >= 1);
		assert_string_equal(in_force(secrets, &lines), name_of(GOOD));
		assert_int_equal(lines, 0);
		rmdir(path);
		replace(path, OTHER "\n");
		assert_string_equal(in_force(secrets, &lines), name_of(OTHER));
		secrets_close(secrets);
	}
}

/*
 * A file system's clock ticks every few milliseconds: `echo > secret; chmod 0640
 * secret` fits into one tick, and a request between the two must not be the last look.
 */
TEST(a_mode_mended_within_the_same_tick_of_the_clock_is_noticed)
{
	const char *path = in(*state, "secret");
	int lines;

	for (int i = 0; i < 20; i++) {
		struct secrets *secrets = secrets_open(path);
		file_write(path, GOOD "\n", 0644);
		assert_string_equal(in_force(secrets, &lines), "");
		assert_int_equal(chmod(path, 0640), 0);
		assert_string_equal(in_force(secrets, &lines), name_of(GOOD));
		secrets_close(secrets);
		unlink(path);
	}
}

/* The same for what is written into the file itself, and has as many bytes. */
TEST(a_secret_changed_within_the_same_tick_of_the_clock_is_noticed)
{
	const char *path = in(*state, "secret");
	int lines;

	for (int i = 0; i < 20; i++) {
		struct secrets *secrets = secrets_open(path);
		file_write(path, GOOD "\n", 0640);
		assert_string_equal(in_force(secrets, &lines), name_of(GOOD));
		int fd = open(path, O_WRONLY);
		assert_int_equal(write(fd, OTHER "\n", sizeof(OTHER)), sizeof(OTHER));
		close(fd);
		assert_string_equal(in_force(secrets, &lines), name_of(OTHER));
		secrets_close(secrets);
	}
}

TEST(a_borrowed_keyring_survives_the_changes_of_the_file)
{
	static const char *const texts[] = {OTHER "\n", THIRD "\n", OTHER "\n"};
	static const struct message message = {"a", 1, "1", 1, "b", 1};
	const char *path = in(*state, "secret");
	struct secrets *secrets = secrets_open(path);
	const struct keyring *keyrings[4];
	char before[SIGNATURE_SIZE + 1], after[SIGNATURE_SIZE + 1];
	struct capture capture;

	replace(path, GOOD "\n");
	keyrings[0] = secrets_borrow(secrets);
	assert_int_equal(verify_keyring_sign(keyrings[0], 0, &message, before), 0);
	capture_begin(&capture);
	for (size_t i = 0; i < 3; i++) {
		replace(path, texts[i]);
		keyrings[i + 1] = secrets_borrow(secrets);
	}
	free(capture_end(&capture));
	secrets_return(secrets, keyrings[2]);
	secrets_return(secrets, keyrings[1]);
	assert_string_equal(verify_keyring_fingerprint(keyrings[0], 0), name_of(GOOD));
	assert_int_equal(verify_keyring_sign(keyrings[0], 0, &message, after), 0);
	assert_string_equal(before, after);
	secrets_return(secrets, keyrings[0]);
	assert_string_equal(verify_keyring_fingerprint(keyrings[3], 0), name_of(OTHER));
	secrets_return(secrets, keyrings[3]);
	secrets_close(secrets);
}

TEST(reading_leaves_no_descriptor_open)
{
	const char *path = in(*state, "secret");
	int before = descriptors();

	file_write(path, GOOD "\n", 0600);
	for (int how = 0; how <= 4; how++) {
		char why[512], *logged;
		verify_keyring_free(read_secrets(path, why, &logged));
		free(logged);
		make_unusable(path, how);
		verify_keyring_free(read_secrets(path, why, &logged));
		free(logged);
		rmdir(path);
		replace(path, GOOD "\n");
	}
	assert_int_equal(descriptors(), before);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		SANDBOX_TEST(a_mode_that_lets_nobody_else_at_the_file_is_fine),
		SANDBOX_TEST(any_other_mode_is_refused_with_the_remedy),
		SANDBOX_TEST(a_file_of_another_user_is_refused),
		SANDBOX_TEST(root_and_the_running_user_may_own_it),
		SANDBOX_TEST(what_is_no_regular_file_is_refused),
		SANDBOX_TEST(one_secret_a_line_with_comments_blank_lines_and_white_space),
		SANDBOX_TEST(a_file_without_a_usable_line_is_refused_and_says_how_to_mend_it),
		SANDBOX_TEST(a_bad_line_is_logged_by_its_number_and_shuts_no_good_one_out),
		SANDBOX_TEST(more_secrets_than_a_keyring_holds_are_logged_and_the_first_kept),
		SANDBOX_TEST(a_change_is_noticed_at_the_next_request),
		SANDBOX_TEST(an_unchanged_file_is_not_read_again),
		SANDBOX_TEST(the_last_good_secrets_stay_while_the_file_is_unusable),
		SANDBOX_TEST(a_mode_mended_within_the_same_tick_of_the_clock_is_noticed),
		SANDBOX_TEST(a_secret_changed_within_the_same_tick_of_the_clock_is_noticed),
		SANDBOX_TEST(a_borrowed_keyring_survives_the_changes_of_the_file),
		SANDBOX_TEST(reading_leaves_no_descriptor_open),
	};

	return cmocka_run_group_tests_name("secrets", tests, NULL, NULL);
}
