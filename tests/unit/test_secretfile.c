/*
 * Owns what secretfile.h promises: what may cling to a pasted secret, and that the
 * file is changed as a whole, keeps owner and group and never gets a wider mode.
 */
#include "helpers.h"

#include <errno.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/crypto.h"
#include "secrets/secretfile.h"
#include "secrets/secrets.h"

#define ONE "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define TWO "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
#define THREE "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
#define NOW 1769860800 /* 2026-01-31T12:00:00Z */

static struct error error;
static char fingerprint[FINGERPRINT_SIZE];

static enum secretfile_result
add(const char *path, const char *secret)
{
	return secretfile_add(path, secret, strlen(secret), NOW, (gid_t)-1, fingerprint,
	    &error);
}

static void
assert_file(const char *path, const char *expected)
{
	size_t length;
	char *text = file_read(path, &length);

	assert_non_null(text);
	assert_string_equal(text, expected);
	free(text);
}

static mode_t
mode_of(const char *path)
{
	struct stat st;

	assert_int_equal(stat(path, &st), 0);
	return st.st_mode & 07777;
}

/* ---- what people paste ---- */

TEST(what_clings_is_trimmed)
{
	static const char *const pasted[] = {ONE, " " ONE "\n", "\t\"" ONE "\"\r\n", "'" ONE "'",
	    "`" ONE "`", "\"" ONE, "\xe2\x80\x9c" ONE "\xe2\x80\x9d",
	    "\xe2\x80\x98" ONE "\xe2\x80\x99 ", "\xef\xbb\xbf" ONE, "\xc2\xa0" ONE "\xc2\xa0",
	    ONE "\xe2\x80\x8b", " \" ' " ONE " ' \" ", "\xc2\xab" ONE "\xc2\xbb"};

	for (size_t i = 0; i < ROWS(pasted); i++) {
		size_t length = strlen(pasted[i]);
		const char *text = secretfile_trim(pasted[i], &length);
		assert_int_equal(length, strlen(ONE));
		assert_memory_equal(text, ONE, length);
	}
}

TEST(nothing_may_remain)
{
	static const char *const pasted[] = {
		"", " ", "\"\"", "\n\n", "\xc2\xa0\xc2\xa0", "\xe2\x80\x9c"};

	for (size_t i = 0; i < ROWS(pasted); i++) {
		size_t length = strlen(pasted[i]);
		secretfile_trim(pasted[i], &length);
		assert_int_equal(length, 0);
	}
}

TEST(what_cannot_be_right_is_refused)
{
	static const struct {
		const char *secret, *says;
	} rows[] = {
		{"", "empty"},
		{"v1," ONE, "v1,"},
		{"v1,K5oZfzN95Z9UVu1EsfQmfVNQhnkZ2pj9o9NDN/H/pI4=", "v1,"},
		{"whpk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whpk_"},
		{"whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsk_"},
		{"whsec_", "empty"},
		{"whsec_c2hvcnQ=", "24 bytes"},
		{"changeme", "24 bytes"},
		{"whsec_MfKQ9r8GKYqrTwjU PD8ILPZIo2LaLaSw", "base64"},
		{"whsec_MfKQ9r8GKYqrTwjU\nPD8ILPZIo2LaLaSw", "several lines"},
		{"whsec_****************************************", "base64"},
		{"SECRET=" ONE, "NAME="},
		{ONE ONE, "line of its own"},
		{"# a comment", "base64"},
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		const char *path = in(*state, "secret");
		assert_int_equal(add(path, rows[i].secret), SECRETFILE_REFUSED);
		assert_non_null(strstr(error.text, rows[i].says));
		/* Never printed back. */
		assert_null(strstr(error.text, "MfKQ"));
		assert_false(exists(path));
	}
}

/* ---- the file ---- */

TEST(added_with_its_date)
{
	const char *path = in(*state, "secret");

	assert_int_equal(add(path, ONE), SECRETFILE_DONE);
	assert_file(path, "# added 2026-01-31T12:00:00Z\n" ONE "\n");
	assert_int_equal(mode_of(path), 0640);
	assert_int_equal(strlen(fingerprint), 8);
	assert_int_equal(add(path, ONE), SECRETFILE_ALREADY);
	/* The same key in another spelling. */
	assert_int_equal(add(path, "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), SECRETFILE_ALREADY);
	assert_int_equal(add(path, TWO), SECRETFILE_DONE);
	assert_file(path,
	    "# added 2026-01-31T12:00:00Z\n" ONE "\n# added 2026-01-31T12:00:00Z\n" TWO "\n");
	struct keyring *keyring = secrets_read(path, &error);
	assert_non_null(keyring);
	assert_int_equal(verify_keyring_size(keyring), 2);
	verify_keyring_free(keyring);
	assert_int_equal(names_in(*state), 1);
}

TEST(no_more_than_the_receiver_uses)
{
	const char *path = in(*state, "secret");
	char secret[CRYPTO_BASE64_SIZE(24)];

	for (unsigned char i = 0; i <= KEYRING_MAX; i++) {
		unsigned char bytes[24] = {i};
		crypto_base64_encode(bytes, sizeof(bytes), secret);
		assert_int_equal(add(path, secret), i < KEYRING_MAX ? SECRETFILE_DONE : SECRETFILE_REFUSED);
	}
	assert_non_null(strstr(error.text, "too many"));
	assert_int_equal(add(path, "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), SECRETFILE_ALREADY);
}

TEST(what_is_there_is_kept)
{
	const char *path = in(*state, "secret");

	file_write(path, "# mine\n\n" ONE, 0640); /* no newline at its end */
	assert_int_equal(add(path, TWO), SECRETFILE_DONE);
	assert_file(path, "# mine\n\n" ONE "\n# added 2026-01-31T12:00:00Z\n" TWO "\n");
}

TEST(mode_is_never_wider)
{
	static const struct {
		mode_t before, after;
	} rows[] = {{0640, 0640}, {0600, 0600}, {0400, 0400}, {0644, 0640}, {0666, 0640}, {0440, 0440}};

	for (size_t i = 0; i < ROWS(rows); i++) {
		const char *path = in(*state, "secret");
		file_write(path, "", rows[i].before);
		assert_int_equal(add(path, ONE), SECRETFILE_DONE);
		assert_int_equal(mode_of(path), rows[i].after);
		unlink(path);
	}
}

TEST(owner_and_group_are_kept)
{
	const char *path = in(*state, "secret");
	struct stat st;

	if (geteuid() != 0)
		skip();
	file_write(path, "", 0640);
	assert_int_equal(chown(path, 12345, 23456), 0);
	assert_int_equal(add(path, ONE), SECRETFILE_DONE);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, 12345);
	assert_int_equal(st.st_gid, 23456);
	/* A new one gets the group that is asked for. */
	const char *other = in(*state, "other");
	assert_int_equal(secretfile_add(other, TWO, strlen(TWO), NOW, 23456, fingerprint,
	    &error), SECRETFILE_DONE);
	assert_int_equal(stat(other, &st), 0);
	assert_int_equal(st.st_uid, 0);
	assert_int_equal(st.st_gid, 23456);
}

TEST(a_link_stays_a_link)
{
	const char *real = in(*state, "real"), *path = in(*state, "secret");
	struct stat st;

	file_write(real, "", 0640);
	assert_int_equal(symlink("real", path), 0);
	assert_int_equal(add(path, ONE), SECRETFILE_DONE);
	assert_int_equal(lstat(path, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_file(real, "# added 2026-01-31T12:00:00Z\n" ONE "\n");
}

/* Who reads meanwhile has all of the old file, or all of the new one. */
TEST(replaced_and_not_written_over)
{
	const char *path = in(*state, "secret");
	char before[sizeof("# mine\n")] = "";

	file_write(path, "# mine\n", 0640);
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(add(path, ONE), SECRETFILE_DONE);
	assert_int_equal(lseek(fd, 0, SEEK_END), strlen("# mine\n"));
	assert_int_equal(pread(fd, before, sizeof(before), 0), strlen("# mine\n"));
	assert_string_equal(before, "# mine\n");
	close(fd);
}

TEST(a_full_disk_leaves_the_old_file)
{
	const char *path = in(*state, "secret");
	struct rlimit unlimited, limited;
	void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);

	file_write(path, "# mine\n", 0640);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
	limited = unlimited;
	limited.rlim_cur = 20; /* write(2) fails then, in the midst of it */
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limited), 0);
	enum secretfile_result result = add(path, ONE);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
	signal(SIGXFSZ, handler);
	assert_int_equal(result, SECRETFILE_ERROR);
	assert_file(path, "# mine\n");
	assert_int_equal(names_in(*state), 1);
}

TEST(dropped_with_its_comment)
{
	const char *path = in(*state, "secret");
	char first[FINGERPRINT_SIZE];
	size_t left;

	file_write(path, "# mine\n", 0640);
	assert_int_equal(add(path, ONE), SECRETFILE_DONE);
	snprintf(first, sizeof(first), "%s", fingerprint);
	assert_int_equal(add(path, TWO), SECRETFILE_DONE);
	assert_int_equal(secretfile_drop(path, first, &left, &error), SECRETFILE_DONE);
	assert_int_equal(left, 1);
	assert_file(path, "# mine\n# added 2026-01-31T12:00:00Z\n" TWO "\n");
	assert_int_equal(secretfile_drop(path, first, &left, &error), SECRETFILE_ALREADY);
	assert_int_equal(secretfile_drop(path, fingerprint, &left, &error), SECRETFILE_DONE);
	assert_int_equal(left, 0);
	assert_file(path, "# mine\n");
}

TEST(dropped_wherever_it_is)
{
	const char *path = in(*state, "secret");
	size_t left;

	/* Twice, and once without a newline at its end. */
	file_write(path, ONE "\n" TWO "\n# a comment\n" ONE, 0640);
	assert_int_equal(add(path, ONE), SECRETFILE_ALREADY);
	assert_int_equal(secretfile_drop(path, fingerprint, &left, &error), SECRETFILE_DONE);
	assert_int_equal(left, 1);
	assert_file(path, TWO "\n# a comment\n");
}

TEST(listed)
{
	const char *path = in(*state, "secret");
	struct secretfile_entry *entries;
	size_t count;

	file_write(path, "# a comment\n" ONE "\n\n\"quoted\"\n# added somewhen\n\n" TWO "\n", 0640);
	assert_int_equal(add(path, THREE), SECRETFILE_DONE);
	assert_int_equal(secretfile_list(path, &entries, &count, &error), 0);
	assert_int_equal(count, 4);
	assert_int_equal(entries[0].line, 2);
	assert_string_equal(entries[0].added, "");
	assert_int_equal(entries[1].kind, SECRET_QUOTED);
	assert_int_equal(entries[1].line, 4);
	assert_string_equal(entries[2].added, ""); /* the comment is not its own */
	assert_string_equal(entries[3].added, "2026-01-31T12:00:00Z");
	assert_string_equal(entries[3].fingerprint, fingerprint);
	free(entries);
	assert_int_equal(secretfile_list(in(*state, "none"), &entries, &count, &error), -1);
	assert_non_null(strstr(error.remedy, "psapi secret add"));
}

TEST(what_cannot_be_written_stays)
{
	const char *path = in(*state, "directory"), *below = in(*state, "none/secret");
	int open_before = descriptors();

	assert_int_equal(mkdir(path, 0755), 0);
	assert_int_equal(add(path, ONE), SECRETFILE_ERROR);
	assert_int_equal(add(below, ONE), SECRETFILE_ERROR);
	assert_non_null(strstr(error.text, "none"));
	assert_int_equal(names_in(*state), 1);
	assert_int_equal(descriptors(), open_before);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_clings_is_trimmed),
		cmocka_unit_test(nothing_may_remain),
		SANDBOX_TEST(what_cannot_be_right_is_refused),
		SANDBOX_TEST(added_with_its_date),
		SANDBOX_TEST(no_more_than_the_receiver_uses),
		SANDBOX_TEST(what_is_there_is_kept),
		SANDBOX_TEST(mode_is_never_wider),
		SANDBOX_TEST(owner_and_group_are_kept),
		SANDBOX_TEST(a_link_stays_a_link),
		SANDBOX_TEST(replaced_and_not_written_over),
		SANDBOX_TEST(a_full_disk_leaves_the_old_file),
		SANDBOX_TEST(dropped_with_its_comment),
		SANDBOX_TEST(dropped_wherever_it_is),
		SANDBOX_TEST(listed),
		SANDBOX_TEST(what_cannot_be_written_stays),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
