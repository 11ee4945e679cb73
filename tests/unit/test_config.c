/*
 * Owns what config.h promises: which source wins, how the file is read, and that
 * a bad setting is named with its value and where it came from.
 */
#include "helpers.h"

#include <poll.h>
#include <sysexits.h>
#include <sys/wait.h>

#include "base/config.h"

static const char *const keys[] = {"PSAPI_SPOOL", "PSAPI_STORE", "PSAPI_SECRET_FILE",
	"PSAPI_TOLERANCE", "PSAPI_MAX_BODY", "PSAPI_MIN_FREE", "PSAPI_SYNC", "PSAPI_LISTEN",
	"PSAPI_LISTEN_GROUP", "PSAPI_THREADS", "PSAPI_READ_TIMEOUT", "PSAPI_HANDLERS",
	"PSAPI_BATCH_HANDLERS", "PSAPI_BATCH", "PSAPI_HANDLER_TIMEOUT", "PSAPI_MAX_TRIES",
	"PSAPI_ALERT_MAILTO", "PSAPI_HEARTBEAT_URL", "PSAPI_WEB_LISTEN", "PSAPI_WEB_ACTIONS",
	"PSAPI_ENDPOINT_URL"};
_Static_assert(ROWS(keys) == CONFIG_SETTINGS, "a setting that is not tested");

/* A directory, and no settings from the environment of the tests. */
static int
setup(void **state)
{
	unsetenv("PSAPI_CONF");
	for (size_t i = 0; i < ROWS(keys); i++)
		unsetenv(keys[i]);
	return sandbox_make(state);
}

#define CONFIG_TEST(name) cmocka_unit_test_setup_teardown(name, setup, sandbox_remove)

static const char *
conf(void **state, const char *text)
{
	const char *path = in(*state, "psapi.conf");

	file_write(path, text, 0644);
	return path;
}

/* Load what must be good. The caller frees it. */
static struct config
load(const char *file, const char *const *overrides, size_t count)
{
	struct config config;
	struct error error;

	if (config_load(&config, file, overrides, count, &error) != 0)
		fail_msg("%s", error.text);
	return config;
}

/* Load what must be refused, in words that contain all three. */
static void
expect_refusal(const char *file, const char *const *overrides, size_t count, const char *a,
    const char *b, const char *c)
{
	struct config config;
	struct error failed;
	char error[1600];

	if (config_load(&config, file, overrides, count, &failed) == 0)
		fail_msg("\"%s\" was taken", b);
	assert_int_equal(failed.status, EX_CONFIG);
	error_line(&failed, error, sizeof(error));
	if (strstr(error, a) == NULL || strstr(error, b) == NULL || strstr(error, c) == NULL ||
	    strchr(error, '\n') != NULL)
		fail_msg("\"%s\" does not say \"%s\", \"%s\" and \"%s\"", error, a, b, c);
}

TEST(without_any_setting_the_defaults_are_those_of_the_documentation)
{
	struct config c = load(conf(state, ""), NULL, 0);

	assert_string_equal(c.spool, "/var/spool/psapi");
	assert_string_equal(c.store, "");
	assert_string_equal(c.secret_file, "/etc/psapi/secret");
	assert_int_equal(c.tolerance, 300);
	assert_int_equal(c.max_body, 1048576);
	assert_int_equal(c.min_free, 67108864);
	assert_string_equal(c.sync, "auto");
	assert_string_equal(c.listen, "");
	assert_string_equal(c.listen_group, "");
	assert_int_equal(c.threads, 32);
	assert_int_equal(c.read_timeout, 10);
	assert_string_equal(c.handlers, "/etc/psapi/handlers.d");
	assert_int_equal(c.handler_timeout, 300);
	assert_string_equal(c.batch_handlers, "/etc/psapi/batch.d");
	assert_int_equal(c.batch, 500);
	assert_int_equal(c.max_tries, 10);
	assert_string_equal(c.alert_mailto, "root");
	assert_string_equal(c.heartbeat_url, "");
	assert_string_equal(c.web_listen, "");
	assert_string_equal(c.web_actions, "no");
	assert_string_equal(c.endpoint_url, "");
	config_free(&c);
}

TEST(every_setting_can_come_from_every_source)
{
	static const char text[] = "PSAPI_SPOOL=/s\nPSAPI_STORE=host=d\nPSAPI_SECRET_FILE=/f\n"
				   "PSAPI_TOLERANCE=1\n"
				   "PSAPI_MAX_BODY=2\nPSAPI_MIN_FREE=3\nPSAPI_SYNC=two\nPSAPI_LISTEN=unix:/l\n"
				   "PSAPI_LISTEN_GROUP=g\nPSAPI_THREADS=4\nPSAPI_READ_TIMEOUT=5\n"
				   "PSAPI_HANDLERS=/h\nPSAPI_BATCH_HANDLERS=/b\nPSAPI_BATCH=8\n"
				   "PSAPI_HANDLER_TIMEOUT=6\nPSAPI_MAX_TRIES=7\n"
				   "PSAPI_ALERT_MAILTO=a@b.example\nPSAPI_HEARTBEAT_URL=http://h/\n"
				   "PSAPI_WEB_LISTEN=unix:/w\nPSAPI_WEB_ACTIONS=yes\nPSAPI_ENDPOINT_URL=http://e/";
	char copy[sizeof(text)], *overrides[ROWS(keys)];
	size_t n = 0;

	strcpy(copy, text);
	for (char *line = strtok(copy, "\n"); line != NULL; line = strtok(NULL, "\n"))
		overrides[n++] = line;
	assert_int_equal(n, ROWS(keys));
	for (int source = 0; source < 3; source++) {
		const char *file = conf(state, source == 0 ? text : "");
		for (size_t i = 0; i < n; i++)
			if (source == 1)
				putenv(overrides[i]);
		struct config c =
		    load(file, (const char *const *)overrides, source == 2 ? n : 0);
		for (size_t i = 0; i < n; i++)
			unsetenv(keys[i]);
		assert_string_equal(c.spool, "/s");
		assert_string_equal(c.store, "host=d");
		assert_string_equal(c.secret_file, "/f");
		assert_int_equal(c.tolerance, 1);
		assert_int_equal(c.max_body, 2);
		assert_int_equal(c.min_free, 3);
		assert_string_equal(c.sync, "two");
		assert_string_equal(c.listen, "unix:/l");
		assert_string_equal(c.listen_group, "g");
		assert_int_equal(c.threads, 4);
		assert_int_equal(c.read_timeout, 5);
		assert_string_equal(c.handlers, "/h");
		assert_int_equal(c.handler_timeout, 6);
		assert_string_equal(c.batch_handlers, "/b");
		assert_int_equal(c.batch, 8);
		assert_int_equal(c.max_tries, 7);
		assert_string_equal(c.alert_mailto, "a@b.example");
		assert_string_equal(c.heartbeat_url, "http://h/");
		assert_string_equal(c.web_listen, "unix:/w");
		assert_string_equal(c.web_actions, "yes");
		assert_string_equal(c.endpoint_url, "http://e/");
		config_free(&c);
	}
}

TEST(the_command_line_wins_over_the_environment_over_the_file_over_the_default)
{
	static const char *const overrides[] = {"PSAPI_TOLERANCE=4", "PSAPI_TOLERANCE=5"};
	const char *file = conf(state, "PSAPI_TOLERANCE=2\n");
	struct config c = load(file, NULL, 0);

	assert_int_equal(c.tolerance, 2);
	config_free(&c);
	setenv("PSAPI_TOLERANCE", "3", 1);
	c = load(file, NULL, 0);
	assert_int_equal(c.tolerance, 3);
	config_free(&c);
	c = load(file, overrides, 1);
	assert_int_equal(c.tolerance, 4);
	config_free(&c);
	c = load(file, overrides, 2); /* the last one counts */
	assert_int_equal(c.tolerance, 5);
	config_free(&c);
	c = load(conf(state, "PSAPI_TOLERANCE=7\nPSAPI_TOLERANCE=8\n"), overrides, 0);
	assert_int_equal(c.tolerance, 3);
	config_free(&c);
	unsetenv("PSAPI_TOLERANCE");
	c = load(file, NULL, 0);
	assert_int_equal(c.tolerance, 8);
	config_free(&c);
}

TEST(a_value_that_another_source_overrides_need_not_be_good)
{
	const char *file = conf(state, "PSAPI_TOLERANCE=soon\n");
	static const char *const override = "PSAPI_TOLERANCE=60";
	struct config c = load(file, &override, 1);

	assert_int_equal(c.tolerance, 60);
	config_free(&c);
}

TEST(the_file_is_read_as_a_shell_and_systemd_would)
{
	static const struct {
		const char *text, *spool;
	} rows[] = {
		{"PSAPI_SPOOL=/a", "/a"},
		{"PSAPI_SPOOL=/a\r\n", "/a"},
		{"  PSAPI_SPOOL=/a  \n", "/a"},
		{"\xef\xbb\xbf" "PSAPI_SPOOL=/a\n", "/a"}, /* U+FEFF */
		{"PSAPI_SPOOL=\"/a b\"\n", "/a b"},
		{"PSAPI_SPOOL='/a b'\n", "/a b"},
		{"PSAPI_SPOOL='/a\"b'\n", "/a\"b"},
		{"PSAPI_SPOOL=/a=b\n", "/a=b"},
		{"PSAPI_SPOOL=/a#b\n", "/a#b"},
		{"PSAPI_SPOOL=/$HOME\n", "/$HOME"},
		{"\n\n# PSAPI_SPOOL=/b\n  # more\n; and more\nPSAPI_SPOOL=/a\n", "/a"},
		{"PSAPI_SPOOL=/a\nHOME=/x\nPATH=\nMY_PSAPI_SPOOL=/b\nspool=/c\n", "/a"},
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct config c = load(conf(state, rows[i].text), NULL, 0);
		if (strcmp(c.spool, rows[i].spool) != 0)
			fail_msg("%s: \"%s\"", rows[i].text, c.spool);
		config_free(&c);
	}
}

TEST(a_key_that_is_meant_for_us_and_unknown_is_refused)
{
	static const struct {
		const char *text, *key, *value, *source;
	} rows[] = {
		{"PSAPI_SPOOOL=/a\n", "PSAPI_SPOOOL", "/a", "psapi.conf:1"},
		{"\n#\nPSAPI_=1\n", "PSAPI_", "1", "psapi.conf:3"},
		{"PSAPI_SPOOL\n", "PSAPI_SPOOL", "KEY=VALUE", "psapi.conf:1"},
		{"PSAPI_TOLERANCE: 3\n", "PSAPI_TOLERANCE: 3", "KEY=VALUE", "psapi.conf:1"},
	};

	for (size_t i = 0; i < ROWS(rows); i++)
		expect_refusal(conf(state, rows[i].text), NULL, 0, rows[i].key, rows[i].value,
		    rows[i].source);
}

TEST(a_setting_behind_export_is_not_silently_ignored)
{
	const char *file = conf(state, "export PSAPI_TOLERANCE=60\n");
	struct config config;
	struct error error;

	if (config_load(&config, file, NULL, 0, &error) == 0) {
		assert_int_equal(config.tolerance, 60);
		config_free(&config);
	}
}

TEST(an_override_of_an_unknown_key_is_refused)
{
	static const char *const bad[] = {"PSAPI_SPOOOL=/a", "HOME=/a", "=", "=/a", "PSAPI_SPOO=/a",
		"psapi_spool=/a"};
	const char *file = conf(state, "");

	for (size_t i = 0; i < ROWS(bad); i++)
		expect_refusal(file, &bad[i], 1, "command line", bad[i], "no such setting");
}

TEST(an_override_without_a_value_or_prefix_is_told_what_is_missing)
{
	static const char *const bare[] = {"PSAPI_THREADS", "THREADS", ""};
	static const char *const prefix[] = {"THREADS=3", "theads=3"};
	const char *file = conf(state, "");

	for (size_t i = 0; i < ROWS(bare); i++)
		expect_refusal(file, &bare[i], 1, bare[i], "(command line): has no \"=\"", "KEY=VALUE");
	for (size_t i = 0; i < ROWS(prefix); i++)
		expect_refusal(file, &prefix[i], 1, prefix[i], "did you mean PSAPI_THREADS?", "");
	/* in the file, which may serve a shell, a name without the prefix is another's */
	struct config c = load(conf(state, "THREADS=3\n"), NULL, 0);
	assert_int_equal(c.threads, 32);
	config_free(&c);
}

/* What each key does not take. */
static const struct {
	const char *key, *value, *why;
} bad_values[] = {
	{"PSAPI_SPOOL", "", "empty"},
	{"PSAPI_SPOOL", "tmp", "absolute path"},
	{"PSAPI_SPOOL", "./tmp", "absolute path"},
	{"PSAPI_SECRET_FILE", "secret", "absolute path"},
	{"PSAPI_HANDLERS", "handlers.d", "absolute path"},
	{"PSAPI_SECRET_FILE", "", "empty"},
	{"PSAPI_HANDLERS", "", "empty"},
	{"PSAPI_TOLERANCE", "", "whole number from 1 "},
	{"PSAPI_TOLERANCE", "0", "whole number from 1 "},
	{"PSAPI_TOLERANCE", "-1", "whole number"},
	{"PSAPI_TOLERANCE", "+1", "whole number"},
	{"PSAPI_TOLERANCE", "5 minutes", "whole number"},
	{"PSAPI_TOLERANCE", "300s", "whole number"},
	{"PSAPI_TOLERANCE", "0x12c", "whole number"},
	{"PSAPI_TOLERANCE", "3e2", "whole number"},
	{"PSAPI_TOLERANCE", "300.0", "whole number"},
	{"PSAPI_TOLERANCE", "1000000001", "to 1000000000"},
	{"PSAPI_TOLERANCE", "99999999999999999999999", "to 1000000000"},
	{"PSAPI_MAX_BODY", "0", "from 1 to 1073741824"},
	{"PSAPI_MAX_BODY", "1M", "whole number"},
	{"PSAPI_MAX_BODY", "1073741825", "from 1 to 1073741824"},
	{"PSAPI_MIN_FREE", "64MB", "from 0 "},
	{"PSAPI_THREADS", "0", "from 1 to 1024"},
	{"PSAPI_THREADS", "1025", "from 1 to 1024"},
	{"PSAPI_READ_TIMEOUT", "0", "from 1 to 3600"},
	{"PSAPI_READ_TIMEOUT", "3601", "from 1 to 3600"},
	{"PSAPI_HANDLER_TIMEOUT", "0", "from 1 to 86400"},
	{"PSAPI_MAX_TRIES", "0", "from 1 to 1000"},
	{"PSAPI_LISTEN", "unix:", "absolute path"},
	{"PSAPI_LISTEN", "unix:run/psapi.sock", "absolute path"},
	{"PSAPI_LISTEN", "/run/psapi.sock", "must be unix:/path"},
	{"PSAPI_LISTEN", "unix/run", "must be unix:/path"},
	{"PSAPI_LISTEN", "9000", "must be unix:/path"},
	{"PSAPI_LISTEN", ":9000", "must be unix:/path"},
	{"PSAPI_LISTEN", "0.0.0.0:9000", "must be unix:/path"},
	{"PSAPI_LISTEN", "192.0.2.1:9000", "must be unix:/path"},
	{"PSAPI_LISTEN", "localhost:9000", "must be unix:/path"},
	{"PSAPI_LISTEN", "[::]:9000", "must be unix:/path"},
	{"PSAPI_LISTEN", "127.0.0.1", "must be unix:/path"},
	{"PSAPI_LISTEN", "127.0.0.1:", "port from 1 to 65535"},
	{"PSAPI_LISTEN", "127.0.0.1:0", "port from 1 to 65535"},
	{"PSAPI_LISTEN", "127.0.0.1:65536", "port from 1 to 65535"},
	{"PSAPI_LISTEN", "127.0.0.1:99999999999999999999", "port from 1 to 65535"},
	{"PSAPI_LISTEN", "127.0.0.1:http", "port from 1 to 65535"},
	{"PSAPI_LISTEN", "127.0.0.1:80x", "port from 1 to 65535"},
	{"PSAPI_LISTEN", "127.0.0.1:-1", "port from 1 to 65535"},
};

TEST(a_bad_value_is_named_with_its_key_and_source)
{
	for (size_t i = 0; i < ROWS(bad_values); i++) {
		char line[256], said[256];
		const char *override = line;
		snprintf(line, sizeof(line), "%s=%s", bad_values[i].key, bad_values[i].value);
		snprintf(said, sizeof(said), "%s=\"%s\" (", bad_values[i].key, bad_values[i].value);

		expect_refusal(conf(state, line), NULL, 0, said, "psapi.conf:1)", bad_values[i].why);
		const char *empty = conf(state, "");
		expect_refusal(empty, &override, 1, said, "(command line)", bad_values[i].why);
		setenv(bad_values[i].key, bad_values[i].value, 1);
		expect_refusal(empty, NULL, 0, said, "(environment)", bad_values[i].why);
		unsetenv(bad_values[i].key);
	}
}

TEST(the_limits_of_each_number_are_taken)
{
	static const char *const good[] = {"PSAPI_TOLERANCE=1", "PSAPI_TOLERANCE=1000000000",
		"PSAPI_MAX_BODY=1", "PSAPI_MAX_BODY=1073741824", "PSAPI_MIN_FREE=0",
		"PSAPI_MIN_FREE=1152921504606846976", "PSAPI_THREADS=1", "PSAPI_THREADS=1024",
		"PSAPI_READ_TIMEOUT=1", "PSAPI_READ_TIMEOUT=3600", "PSAPI_TOLERANCE=0300"};
	const char *file = conf(state, "");

	for (size_t i = 0; i < ROWS(good); i++) {
		struct config c = load(file, &good[i], 1);
		if (i == ROWS(good) - 1)
			assert_int_equal(c.tolerance, 300); /* decimal, not octal */
		config_free(&c);
	}
}

TEST(listen_takes_a_unix_path_or_a_port_on_loopback)
{
	static const char *const good[] = {"", "unix:/run/psapi/psapi.sock", "unix:/s",
		"127.0.0.1:1", "127.0.0.1:9000", "127.0.0.1:65535", "[::1]:9000"};
	const char *file = conf(state, "");
	char longest[200];

	for (size_t i = 0; i < ROWS(good); i++) {
		setenv("PSAPI_LISTEN", good[i], 1);
		struct config c = load(file, NULL, 0);
		assert_string_equal(c.listen, good[i]);
		config_free(&c);
	}
	unsetenv("PSAPI_LISTEN");
	for (int length = 96; length <= 97; length++) {
		const char *override = longest;
		snprintf(longest, sizeof(longest), "PSAPI_LISTEN=unix:/%0*d", length - 1, 0);
		if (length == 97) {
			expect_refusal(file, &override, 1, "PSAPI_LISTEN", "command line", "96 bytes");
			continue;
		}
		struct config c = load(file, &override, 1);
		config_free(&c);
	}
}

TEST(a_file_that_was_named_must_be_there)
{
	const char *absent = in(*state, "absent.conf"), *directory = *state;

	expect_refusal(absent, NULL, 0, "absent.conf", "No such file", "-f or PSAPI_CONF");
	setenv("PSAPI_CONF", absent, 1);
	expect_refusal(NULL, NULL, 0, "absent.conf", "No such file", "-f or PSAPI_CONF");
	unsetenv("PSAPI_CONF");
	expect_refusal(directory, NULL, 0, directory, "cannot be read", "");
}

/* Load a file of these bytes, which must be refused. */
static void
refuse_bytes(void **state, const char *bytes, size_t length, const char *text)
{
	const char *path = in(*state, "bytes.conf");
	FILE *file = fopen(path, "we");

	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
	expect_refusal(path, NULL, 0, "bytes.conf", text, "");
}

#define BYTES(text) text, sizeof(text) - 1

TEST(bytes_that_no_editor_shows_are_refused)
{
	static char large[64 * 1024];
	static const char least[] = "PSAPI_THREADS=8\n#";

	refuse_bytes(state, BYTES("\xff\xfeP\0S\0\n\0"), "is UTF-16, as Windows writes it: save it");
	refuse_bytes(state, BYTES("\xfe\xff\0P\0S\0\n"), "is UTF-16");
	refuse_bytes(state, BYTES("P\0S\0A\0\n\0"), ":1: has a NUL byte: save it as plain text");
	refuse_bytes(state, BYTES("#\nPSAPI_THREADS=8\0\n"), ":2: has a NUL byte");
	refuse_bytes(state, BYTES("PSAPI_SPOOL=/a\0junk"), ":1: has a NUL byte");
	memset(large, 'x', sizeof(large));
	memcpy(large, least, sizeof(least) - 1);
	refuse_bytes(state, large, sizeof(large), "is larger than 64 KiB");
	large[sizeof(large) - 1] = '\0';
	struct config c = load(conf(state, large), NULL, 0);
	assert_int_equal(c.threads, 8);
	config_free(&c);
}

TEST(what_has_no_end_is_refused)
{
	const char *fifo = in(*state, "fifo");

	assert_int_equal(mkfifo(fifo, 0600), 0);
	expect_refusal(fifo, NULL, 0, "fifo", "is a FIFO", "-f or PSAPI_CONF");
	expect_refusal("/dev/zero", NULL, 0, "/dev/zero", "is larger than 64 KiB", "");
	struct config c = load("/dev/null", NULL, 0);
	assert_int_equal(c.threads, 32);
	config_free(&c);
}

TEST(a_pipe_of_the_caller_is_read_to_its_end)
{
	char path[64];
	int end[2];

	assert_int_equal(pipe(end), 0);
	snprintf(path, sizeof(path), "/dev/fd/%d", end[0]);
	pid_t child = fork();
	if (child == 0) {
		close(end[0]);
		poll(NULL, 0, 50);
		_exit(write(end[1], BYTES("PSAPI_THREADS=8\n")) == 16 ? 0 : 1);
	}
	close(end[1]);
	struct config c = load(path, NULL, 0);
	assert_int_equal(c.threads, 8);
	config_free(&c);
	close(end[0]);
	assert_int_equal(waitpid(child, NULL, 0), child);
}

TEST(the_named_file_wins_over_psapi_conf)
{
	const char *named = conf(state, "PSAPI_TOLERANCE=1\n"), *other = in(*state, "other.conf");

	file_write(other, "PSAPI_TOLERANCE=2\n", 0644);
	setenv("PSAPI_CONF", other, 1);
	struct config c = load(NULL, NULL, 0);
	assert_int_equal(c.tolerance, 2);
	config_free(&c);
	c = load(named, NULL, 0);
	assert_int_equal(c.tolerance, 1);
	config_free(&c);
	unsetenv("PSAPI_CONF");
}

TEST(reading_leaves_no_descriptor_open)
{
	const char *good = conf(state, ""), *bad = in(*state, "bad.conf");
	int before = descriptors();

	file_write(bad, "PSAPI_X=1\n", 0644);
	struct config c = load(good, NULL, 0);
	config_free(&c);
	expect_refusal(bad, NULL, 0, "PSAPI_X", "bad.conf:1", "no such setting");
	assert_int_equal(descriptors(), before);
}

TEST(a_setting_that_was_meant_is_named)
{
	static const struct {
		const char *text, *meant;
	} rows[] = {{"PSAPI_TOLERENCE", "PSAPI_TOLERANCE"}, {"PSAPI_SPOL", "PSAPI_SPOOL"},
		{"PSAPI_HANDLER", "PSAPI_HANDLERS"}, {"PSAPI_MAX_TRY", "PSAPI_MAX_TRIES"},
		{"PSAPI-SPOOL", "PSAPI_SPOOL"}, {"psapi_spool", "PSAPI_SPOOL"},
		{"PSPAI_LISTEN", "PSAPI_LISTEN"}, {"PSAPISPOOL", "PSAPI_SPOOL"}};
	char line[128], words[128];

	for (size_t i = 0; i < ROWS(rows); i++) {
		snprintf(line, sizeof(line), "%s=300", rows[i].text);
		snprintf(words, sizeof(words), "did you mean %s? psapi-fcgi -h lists", rows[i].meant);
		const char *overrides[] = {line};
		expect_refusal(conf(state, line), NULL, 0, rows[i].text, "no such setting", words);
		expect_refusal(conf(state, ""), overrides, 1, line, "no such setting", words);
	}
	expect_refusal(conf(state, "PSAPI_COLOUR=1"), NULL, 0, "PSAPI_COLOUR", "no such setting: psapi",
	    "lists all settings");
}

TEST(blanks_around_the_equals_sign_are_no_part_of_key_or_value)
{
	static const char *const texts[] = {"PSAPI_TOLERANCE = 5", "PSAPI_TOLERANCE\t=5",
		"export PSAPI_TOLERANCE = '5'", "export  PSAPI_TOLERANCE =5 "};

	for (size_t i = 0; i < ROWS(texts); i++) {
		struct config c = load(conf(state, texts[i]), NULL, 0);
		assert_int_equal(c.tolerance, 5);
		config_free(&c);
	}
}

/* warn of config_check_environment() */
static void
collect(const struct error *warning, void *data)
{
	char line[256];

	strcat(strcat(data, error_line(warning, line, sizeof(line))), "\n");
}

TEST(a_variable_named_nearly_as_a_setting_is_found)
{
	/* What handlers, their examples and the tests use. */
	static const char *const others[] = {"PSAPI_CONF", "PSAPI_MODULE_DIR", "PSAPI_WEBHOOK_ID",
		"PSAPI_EVENT_TYPE", "PSAPI_EVENT_TIMESTAMP", "PSAPI_NPN", "PSAPI_RUN_DATE", "PSAPI_TRY",
		"PSAPI_API_URL", "PSAPI_API_TOKEN", "PSAPI_API_LOGIN", "PSAPI_AUTH_URL", "PSAPI_CSV",
		"PSAPI_CHAT_URL_FILE", "PSAPI_MAIL_TO", "PSAPI_NPN_DIR", "PSAPI_UPDATES_DIR", "PSAPI_TABLE",
		"PSAPI_COLLECTIONS", "PSAPI_DATABASE", "PSAPI_SQLITE", "PSAPI_FORWARD_URL",
		"PSAPI_FORWARD_SECRET", "PSAPI_BIN", "PSAPI_TOLD", "PSAPI_SANITIZED", "PSAPI_HOOK_OPEN",
		"PSAPI_VECTORS", "PSAPI_SENDMAIL", "PSAPI_MACHINE"};
	char text[1024] = "";

	setenv("PSAPI_TOLERANCE", "300", 1);
	for (size_t i = 0; i < ROWS(others); i++)
		setenv(others[i], "1", 1);
	config_check_environment(collect, text);
	for (size_t i = 0; i < ROWS(others); i++)
		unsetenv(others[i]);
	unsetenv("PSAPI_TOLERANCE");
	assert_string_equal(text, "");
	setenv("PSAPI_TOLERENCE", "300", 1);
	config_check_environment(collect, text);
	unsetenv("PSAPI_TOLERENCE");
	assert_string_equal(text, "PSAPI_TOLERENCE (environment): no such setting: did you mean "
				  "PSAPI_TOLERANCE? psapi-fcgi -h lists all settings\n");
}

TEST(a_comment_behind_a_path_is_warned_of)
{
	struct config c = load(conf(state, "PSAPI_SPOOL=/s # mine\nPSAPI_SECRET_FILE=/a#b\n"), NULL, 0);
	char text[1024] = "";

	config_check_paths(&c, collect, text);
	assert_non_null(strstr(text, "PSAPI_SPOOL=\"/s # mine\" ("));
	assert_non_null(strstr(text, "psapi.conf:1): the path has a \" #\" in it: "));
	assert_ptr_equal(strchr(text, '\n') + 1, text + strlen(text));
	config_free(&c);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		CONFIG_TEST(without_any_setting_the_defaults_are_those_of_the_documentation),
		CONFIG_TEST(every_setting_can_come_from_every_source),
		CONFIG_TEST(the_command_line_wins_over_the_environment_over_the_file_over_the_default),
		CONFIG_TEST(a_value_that_another_source_overrides_need_not_be_good),
		CONFIG_TEST(the_file_is_read_as_a_shell_and_systemd_would),
		CONFIG_TEST(a_key_that_is_meant_for_us_and_unknown_is_refused),
		CONFIG_TEST(a_setting_behind_export_is_not_silently_ignored),
		CONFIG_TEST(an_override_of_an_unknown_key_is_refused),
		CONFIG_TEST(an_override_without_a_value_or_prefix_is_told_what_is_missing),
		CONFIG_TEST(a_bad_value_is_named_with_its_key_and_source),
		CONFIG_TEST(the_limits_of_each_number_are_taken),
		CONFIG_TEST(listen_takes_a_unix_path_or_a_port_on_loopback),
		CONFIG_TEST(a_file_that_was_named_must_be_there),
		CONFIG_TEST(bytes_that_no_editor_shows_are_refused),
		CONFIG_TEST(what_has_no_end_is_refused),
		CONFIG_TEST(a_pipe_of_the_caller_is_read_to_its_end),
		CONFIG_TEST(the_named_file_wins_over_psapi_conf),
		CONFIG_TEST(reading_leaves_no_descriptor_open),
		CONFIG_TEST(a_setting_that_was_meant_is_named),
		CONFIG_TEST(blanks_around_the_equals_sign_are_no_part_of_key_or_value),
		CONFIG_TEST(a_variable_named_nearly_as_a_setting_is_found),
		CONFIG_TEST(a_comment_behind_a_path_is_warned_of),
	};

	return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
