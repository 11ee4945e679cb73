/*
 * Owns what receive.h promises: every reason, the order of the checks, what the
 * sender is told, what is left in the spool and in the attempts log. The spool is
 * a real one; the server is a struct.
 */
#include "helpers.h"

#include <jansson.h>

#include "base/crypto.h"
#include "receiver/receive.h"
#include "store/spool/spool.h"

#define SECRET "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define NOW 1753397465
#define BODY \
	"{\"type\":\"producersync.updates_available\",\"id\":\"12345\"," \
	"\"data\":{\"runDate\":\"2025-07-24\"}}"

enum { MAX_BODY = 20000 };

/* A receiver with all that it borrows. */
struct fixture {
	void *dir;
	const char *secret_file;
	struct config config;
	struct spool *spool; /* of the receiver's store */
	struct receiver receiver;
	struct keyring *keyring; /* the sender's */
};

static int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));
	struct error error;

	if (f == NULL || sandbox_make(&f->dir) != 0)
		return -1;
	f->secret_file = in(f->dir, "secret");
	file_write(f->secret_file, "whsec_" SECRET "\n", 0600);
	f->config = (struct config){.tolerance = 300, .max_body = MAX_BODY, .min_free = 1,
		.spool = strdup(in(f->dir, "spool")), .sync = strdup("two")};
	struct store *store = store_open(&f->config, true, &error);
	if (store == NULL)
		return -1;
	f->spool = (struct spool *)(void *)store; /* the first member of struct store */
	f->receiver = (struct receiver){.config = &f->config,
		.store = store,
		.secrets = secrets_open(f->secret_file),
		.attempts = attempts_open(f->spool->path)};
	f->keyring = verify_keyring_new();
	verify_keyring_add(f->keyring, SECRET, strlen(SECRET));
	*state = f;
	return 0;
}

static int
teardown(void **state)
{
	struct fixture *f = *state;

	attempts_close(f->receiver.attempts);
	secrets_close(f->receiver.secrets);
	store_close((struct store *)(void *)f->spool);
	config_free(&f->config);
	verify_keyring_free(f->keyring);
	int result = sandbox_remove(&f->dir);
	free(f);
	return result;
}

#define RECEIVE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* ---- a request ---- */

/* What is sent. All zero: a good event, signed by us; "" leaves out what it stands for. */
struct post {
	const char *method, *encoding, *id, *timestamp, *signature, *content_length;
	const char *body;
	size_t body_length; /* of a body given */
	size_t chunk;       /* bytes that arrive at once; 0: all */
	bool cut;           /* the stream breaks off after the body */
	const char *again; /* "NAME=VALUE", which comes after the others */
	int64_t now;
};

struct stream {
	const char *body;
	size_t left, chunk;
	bool cut;
	int reads;
};

static ssize_t
read_stream(void *data, void *buffer, size_t size)
{
	struct stream *stream = data;
	size_t n = stream->left < size ? stream->left : size;

	stream->reads++;
	assert_true(size > 0);
	if (stream->chunk != 0 && n > stream->chunk)
		n = stream->chunk;
	if (n == 0)
		return stream->cut ? -1 : 0;
	memcpy(buffer, stream->body, n);
	stream->body += n;
	stream->left -= n;
	return (ssize_t)n;
}

/* The variables of a request. */
struct variables {
	char *text[16];
	int count;
};

static void
set(struct variables *variables, const char *name, const char *value)
{
	assert_true(variables->count < 15);
	if (*value != '\0')
		assert_true(asprintf(&variables->text[variables->count++], "%s=%s", name, value) > 0);
}

static void
unset_all(struct variables *variables)
{
	while (variables->count > 0)
		free(variables->text[--variables->count]);
}

static const char *
or_else(const char *value, const char *fallback)
{
	return value != NULL ? value : fallback;
}

/* What holds for every reply. expected is the signature that must not be given away. */
static void
check_reply(struct fixture *f, const struct reply *reply, const char *expected)
{
	size_t n = reply->length;
	assert_int_equal(strlen(reply->body), n);
	assert_string_equal(reply->type, "application/json");
	assert_non_null(strstr(reply->header, "Cache-Control: no-store\r\n"));
	json_t *json = json_loads(reply->body, JSON_REJECT_DUPLICATES, NULL);

	if (json == NULL || n >= 20000 || lines_of(reply->body) != 1 || reply->body[n - 1] != '\n')
		fail_msg("no line of JSON: %s", reply->body);
	if (strchr(reply->body, '/') != NULL || strstr(reply->body, f->dir) != NULL ||
	    strstr(reply->body, SECRET) != NULL || strstr(reply->body, expected) != NULL)
		fail_msg("too much is told: %s", reply->body);
	const char *status = json_string_value(json_object_get(json, "status"));
	const char *reason = json_string_value(json_object_get(json, "reason"));
	assert_non_null(status);
	if (reply->status == 200)
		assert_null(reason);
	else
		assert_non_null(reason);
	assert_string_equal(status,
	    reply->status == 503       ? "error" :
	        reply->status != 200   ? "rejected" :
	        strstr(status, "dupl") ? "duplicate" :
	                                 "accepted");
	assert_int_equal(strstr(reply->header, "Retry-After: ") != NULL, reply->status == 503);
	assert_int_equal(strstr(reply->header, "Allow: POST\r\n") != NULL, reply->status == 405);
	json_decref(json);
}

/* The log as if it had not been written to lately, or each refusal but the first were left out. */
static void
age_log(struct fixture *f)
{
	static const struct timespec long_ago[2] = {{0, 0}, {0, 0}};

	utimensat(f->spool->root, ATTEMPTS_FILE, long_ago, 0);
	if (f->receiver.attempts != NULL) {
		attempts_close(f->receiver.attempts); /* which remembers */
		f->receiver.attempts = attempts_open(f->spool->path);
	}
}

/* What a test keeps of a reply, which must not be copied. */
struct answer {
	int status;
	char body[REPLY_TEXT_SIZE];
};

static struct answer
send_post(struct fixture *f, const struct post *post)
{
	const char *id = or_else(post->id, "msg_1");
	const char *timestamp = or_else(post->timestamp, "1753397465");
	const char *body = or_else(post->body, BODY);
	size_t length = post->body != NULL ? post->body_length : strlen(BODY);
	struct message message = {id, strlen(id), timestamp, strlen(timestamp), body, length};
	struct stream stream = {.body = body, .left = length, .chunk = post->chunk, .cut = post->cut};
	struct variables variables = {0};
	struct request request = {
		.variables = variables.text, .read = read_stream, .stream = &stream};
	char signature[SIGNATURE_SIZE + 1], size[32];
	struct answer answer;
	struct reply reply;

	assert_int_equal(verify_keyring_sign(f->keyring, 0, &message, signature), 0);
	snprintf(size, sizeof(size), "%zu", length);
	set(&variables, "REQUEST_METHOD", or_else(post->method, "POST"));
	set(&variables, "REMOTE_ADDR", "192.0.2.1");
	set(&variables, "HTTP_CONTENT_ENCODING", or_else(post->encoding, ""));
	set(&variables, "HTTP_WEBHOOK_ID", id);
	set(&variables, "HTTP_WEBHOOK_TIMESTAMP", timestamp);
	set(&variables, "HTTP_WEBHOOK_SIGNATURE", or_else(post->signature, signature));
	set(&variables, "CONTENT_LENGTH", or_else(post->content_length, size));
	if (post->again != NULL)
		assert_non_null(variables.text[variables.count++] = strdup(post->again));
	age_log(f);
	memset(&reply, 'x', sizeof(reply));
	receive(&f->receiver, &request,
	    (struct timespec){post->now != 0 ? post->now : NOW, 391000000}, &reply);
	unset_all(&variables);
	check_reply(f, &reply, signature);
	answer.status = reply.status;
	snprintf(answer.body, sizeof(answer.body), "%s", reply.body);
	reply_free(&reply);
	return answer;
}

/* "reason" of a reply, else its "status". */
static const char *
verdict_of(const struct answer *answer)
{
	static char verdict[64];
	json_t *json = json_loads(answer->body, 0, NULL);
	const char *reason = json_string_value(json_object_get(json, "reason"));

	snprintf(verdict, sizeof(verdict), "%s",
	    reason != NULL ? reason : json_string_value(json_object_get(json, "status")));
	json_decref(json);
	return verdict;
}

static void
expect(struct fixture *f, const char *name, const struct post *post, int status,
    const char *verdict)
{
	struct answer reply = send_post(f, post);

	if (reply.status != status || strcmp(verdict_of(&reply), verdict) != 0)
		fail_msg("%s: %d %s instead of %d %s", name, reply.status, reply.body, status, verdict);
}

/* The same, with log lines that are expected. */
static char *
expect_quietly(struct fixture *f, const char *name, const struct post *post, int status,
    const char *verdict)
{
	struct capture capture;

	capture_begin(&capture);
	struct answer reply = send_post(f, post);
	char *logged = capture_end(&capture);
	if (reply.status != status || strcmp(verdict_of(&reply), verdict) != 0)
		fail_msg("%s: %d %s instead of %d %s", name, reply.status, reply.body, status, verdict);
	return logged;
}

static int
count(struct fixture *f, enum spool_dir dir)
{
	return names_in(in(in(f->dir, "spool"), spool_dir_names[dir]));
}

static void
expect_spool(struct fixture *f, int queued, int failed, int recorded)
{
	assert_int_equal(count(f, SPOOL_NEW), queued);
	assert_int_equal(count(f, SPOOL_FAILED), failed);
	assert_int_equal(count(f, SPOOL_EVENTS), recorded);
	assert_int_equal(count(f, SPOOL_TMP), 0);
}

static json_t *
last_attempt(struct fixture *f)
{
	size_t length;
	char *text = file_read(in(in(f->dir, "spool"), ATTEMPTS_FILE), &length);

	assert_non_null(text);
	assert_true(length > 1 && text[length - 1] == '\n');
	text[length - 1] = '\0';
	const char *before = strrchr(text, '\n');
	json_t *line = json_loads(before != NULL ? before + 1 : text, 0, NULL);
	assert_non_null(line);
	free(text);
	return line;
}

static const char *
text_of(const json_t *line, const char *key)
{
	return or_else(json_string_value(json_object_get(line, key)), "");
}

#define FORGED "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
static const struct post good;

/* ---- every reason ---- */

TEST(what_is_proven_is_accepted_and_stored_and_a_second_time_a_duplicate)
{
	struct fixture *f = *state;

	expect(f, "first", &good, 200, "accepted");
	expect_spool(f, 1, 0, 1);
	json_t *line = last_attempt(f);
	assert_string_equal(text_of(line, "at"), "2025-07-24T22:51:05.391Z");
	assert_string_equal(text_of(line, "outcome"), "accepted");
	assert_string_equal(text_of(line, "webhook_id"), "msg_1");
	assert_string_equal(text_of(line, "type"), "producersync.updates_available");
	assert_string_equal(text_of(line, "event_id"), "12345");
	assert_string_equal(text_of(line, "remote_addr"), "192.0.2.1");
	assert_string_equal(text_of(line, "key"), verify_keyring_fingerprint(f->keyring, 0));
	assert_int_equal(json_integer_value(json_object_get(line, "bytes")), strlen(BODY));
	assert_int_equal(json_integer_value(json_object_get(line, "skew_s")), 0);
	assert_true(json_is_integer(json_object_get(line, "skew_s")));
	json_decref(line);

	struct answer reply = send_post(f, &good);
	assert_int_equal(reply.status, 200);
	assert_string_equal(verdict_of(&reply), "duplicate");
	assert_non_null(strstr(reply.body, "psapi replay ID"));
	expect_spool(f, 1, 0, 1);
	line = last_attempt(f);
	assert_string_equal(text_of(line, "outcome"), "duplicate");
	json_decref(line);

	/* The id is what counts: another attempt has another time and signature. */
	expect(f, "again", &(struct post){.timestamp = "1753397470"}, 200, "duplicate");
	expect_spool(f, 1, 0, 1);
}

TEST(the_file_is_the_evidence_and_the_signed_bytes)
{
	struct fixture *f = *state;
	struct message message = {"msg_1", 5, "1753397465", 10, BODY, strlen(BODY)};
	char signature[SIGNATURE_SIZE + 1], list[200], expected[1024];
	size_t length;

	verify_keyring_sign(f->keyring, 0, &message, signature);
	snprintf(list, sizeof(list), "%s %s v2,x", FORGED, signature);
	expect(f, "list", &(struct post){.signature = list}, 200, "accepted");
	snprintf(expected, sizeof(expected),
	    "{\"webhook_id\":\"msg_1\",\"webhook_timestamp\":\"1753397465\","
	    "\"webhook_signature\":\"%s\",\"received_at\":\"2025-07-24T22:51:05.391Z\",\"event\":\n"
	    BODY "\n}\n", signature);
	char *file = file_read(in(in(f->dir, "spool/new"), "msg_1.json"), &length);
	assert_non_null(file);
	assert_string_equal(file, expected);
	free(file);
}

TEST(what_is_refused_has_its_reason_and_leaves_nothing)
{
	static const struct {
		const char *name;
		struct post post;
		int status;
		const char *reason;
	} rows[] = {
		{"GET", {.method = "GET"}, 405, "method_not_allowed"},
		{"HEAD", {.method = "HEAD"}, 405, "method_not_allowed"},
		{"post", {.method = "post"}, 405, "method_not_allowed"},
		{"no method", {.method = ""}, 405, "method_not_allowed"},
		{"gzip", {.encoding = "gzip"}, 415, "unsupported_encoding"},
		{"two encodings", {.encoding = "identity, gzip"}, 415, "unsupported_encoding"},
		{"no id", {.id = ""}, 400, "missing_header"},
		{"no timestamp", {.timestamp = ""}, 400, "missing_header"},
		{"no signature", {.signature = ""}, 400, "missing_header"},
		{"timestamp in words", {.timestamp = "today"}, 400, "malformed_header"},
		{"timestamp with sign", {.timestamp = "+1753397465"}, 400, "malformed_header"},
		{"timestamp with zero", {.timestamp = "01753397465"}, 400, "malformed_header"},
		{"timestamp with fraction", {.timestamp = "1753397465.0"}, 400, "malformed_header"},
		{"timestamp in ms", {.timestamp = "1753397465000"}, 400, "malformed_header"},
		{"length in words", {.content_length = "all"}, 400, "malformed_header"},
		{"cut, length", {.cut = true}, 400, "truncated_body"},
		{"cut, no length", {.cut = true, .content_length = ""}, 400, "truncated_body"},
		{"shorter than said", {.content_length = "2000"}, 400, "truncated_body"},
		{"declared too large", {.content_length = "20001"}, 413, "body_too_large"},
		{"stale", {.timestamp = "1753397164"}, 401, "stale_timestamp"},
		{"future", {.timestamp = "1753397766"}, 401, "future_timestamp"},
		{"forged", {.signature = FORGED}, 401, "signature_mismatch"},
		{"no v1", {.signature = "v1"}, 401, "signature_mismatch"},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(rows); i++) {
		expect(f, rows[i].name, &rows[i].post, rows[i].status, rows[i].reason);
		expect_spool(f, 0, 0, 0);
		json_t *line = last_attempt(f);
		assert_string_equal(text_of(line, "outcome"), "rejected");
		assert_string_equal(text_of(line, "reason"), rows[i].reason);
		assert_int_equal(json_integer_value(json_object_get(line, "status")), rows[i].status);
		json_decref(line);
	}
	/* None of them stands in the way of the event. */
	expect(f, "after all", &good, 200, "accepted");
}

TEST(what_this_side_fails_at_is_503_and_leaves_nothing)
{
	struct fixture *f = *state;
	struct store *store = f->receiver.store;

	f->config.min_free = 1LL << 60;
	expect(f, "floor", &good, 503, "spool_full");
	f->config.min_free = 1;
	expect_spool(f, 0, 0, 0);

	f->spool->distrusted = true;
	expect(f, "fsync failed before", &good, 503, "spool_error");
	f->spool->distrusted = false;
	expect_spool(f, 0, 0, 0);

	f->receiver.store = NULL;
	expect(f, "no spool", &good, 503, "spool_error");
	f->receiver.store = store;

	/* Where no file can be made, neither without a name nor with one. */
	int events = f->spool->dir[SPOOL_EVENTS], tmp = f->spool->dir[SPOOL_TMP];
	f->spool->dir[SPOOL_EVENTS] = f->spool->dir[SPOOL_TMP] =
	    open("/proc/self", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *logged = expect_quietly(f, "no file", &good, 503, "spool_error");
	assert_non_null(strstr(logged, "msg_1.json: cannot write"));
	free(logged);
	/* An invalid event has a state file as well; whatever fails, the log says what. */
	const struct post invalid = {.body = "{}", .body_length = 2};
	logged = expect_quietly(f, "no file, invalid", &invalid, 503, "spool_error");
	bool said = strstr(logged, "msg_1.json") != NULL;
	free(logged);
	close(f->spool->dir[SPOOL_TMP]);
	f->spool->dir[SPOOL_EVENTS] = events;
	f->spool->dir[SPOOL_TMP] = tmp;
	expect_spool(f, 0, 0, 0);
	assert_true(said);
	expect(f, "after all", &good, 200, "accepted");
}

TEST(a_secret_that_has_just_come_proves_the_next_request)
{
	static const struct post first = {.id = "msg_before"};
	struct fixture *f = *state;
	const char *draft = in(f->dir, "secret.new");

	file_write(draft, "whsec_" "bm90IHRoZSBzZWNyZXQgdGhhdCBpdCBpcyBzaWduZWQ" "\n", 0600);
	assert_int_equal(rename(draft, f->secret_file), 0);
	expect(f, "before", &first, 401, "signature_mismatch");
	file_write(draft, "whsec_" SECRET "\n", 0600);
	assert_int_equal(rename(draft, f->secret_file), 0);
	free(expect_quietly(f, "after", &first, 200, "accepted"));
}

TEST(without_a_secret_it_is_503_until_there_is_one)
{
	struct fixture *f = *state;

	assert_int_equal(unlink(f->secret_file), 0);
	free(expect_quietly(f, "absent", &good, 503, "no_secret"));
	/* One that is there and empty is a hold: test_hold.c */
	file_write(f->secret_file, "whpk_" SECRET "\n", 0600);
	free(expect_quietly(f, "unusable", &good, 503, "no_secret"));
	expect_spool(f, 0, 0, 0);
	json_t *line = last_attempt(f);
	assert_string_equal(text_of(line, "outcome"), "error");
	json_decref(line);
	file_write(f->secret_file, SECRET "\n", 0600);
	expect(f, "there", &good, 200, "accepted");
}

TEST(unconfigured_is_503)
{
	struct fixture *f = *state;
	struct reply reply;

	receive_unconfigured(&reply);
	check_reply(f, &reply, FORGED);
	assert_int_equal(reply.status, 503);
	assert_non_null(strstr(reply.body, "\"reason\":\"spool_error\""));
	reply_free(&reply);
}

TEST(it_answers_without_an_attempts_log)
{
	struct fixture *f = *state;
	struct attempts *attempts = f->receiver.attempts;

	f->receiver.attempts = NULL;
	expect(f, "no log", &good, 200, "accepted");
	f->receiver.attempts = attempts;
}

/* ---- the order ---- */

static void
spoil_tmp(struct fixture *f, struct post *post)
{
	(void)post;
	f->spool->distrusted = true;
}

static void
spoil_free(struct fixture *f, struct post *post)
{
	(void)post;
	f->config.min_free = 1LL << 60;
}

static void
spoil_event(struct fixture *f, struct post *post)
{
	const char *id = or_else(post->id, "msg_1");
	char name[STORE_NAME_SIZE], path[300] = "spool/events/";

	assert_int_equal(store_name(id, strlen(id), name), 0);
	file_write(in(f->dir, strcat(path, name)), "", 0640);
}

static void
spoil_signature(struct fixture *f, struct post *post)
{
	(void)f;
	if (post->signature == NULL)
		post->signature = FORGED;
}

static void
spoil_clock(struct fixture *f, struct post *post)
{
	(void)f;
	post->now = NOW + 1000;
}

static void
spoil_secret(struct fixture *f, struct post *post)
{
	(void)post;
	assert_int_equal(unlink(f->secret_file), 0);
}

static void
spoil_end(struct fixture *f, struct post *post)
{
	(void)f;
	post->cut = true;
}

static void
spoil_size(struct fixture *f, struct post *post)
{
	(void)f;
	if (post->content_length == NULL)
		post->content_length = "20001";
}

static void
spoil_form(struct fixture *f, struct post *post)
{
	(void)f;
	post->content_length = "x";
}

static void
spoil_presence(struct fixture *f, struct post *post)
{
	(void)f;
	post->timestamp = "";
}

static void
spoil_encoding(struct fixture *f, struct post *post)
{
	(void)f;
	post->encoding = "br";
}

static void
spoil_method(struct fixture *f, struct post *post)
{
	(void)f;
	post->method = "PUT";
}

/* As documented: what is wrong first is what is said. */
static const struct {
	void (*spoil)(struct fixture *f, struct post *post);
	int status;
	const char *verdict;
} order[] = {
	{spoil_method, 405, "method_not_allowed"},
	{spoil_encoding, 415, "unsupported_encoding"},
	{spoil_presence, 400, "missing_header"},
	{spoil_form, 400, "malformed_header"},
	{spoil_size, 413, "body_too_large"},
	{spoil_end, 400, "truncated_body"},
	{spoil_secret, 503, "no_secret"},
	{spoil_clock, 401, "stale_timestamp"},
	{spoil_signature, 401, "signature_mismatch"},
	{spoil_event, 200, "duplicate"},
	{spoil_free, 503, "spool_full"},
	{spoil_tmp, 503, "spool_error"},
};

TEST(of_two_faults_the_one_that_is_checked_first_is_told)
{
	(void)state;
	for (size_t i = 0; i < ROWS(order); i++)
		for (size_t k = i; k < ROWS(order); k++) {
			struct post post = {0};
			char name[64];
			void *own;
			assert_int_equal(setup(&own), 0);
			order[i].spoil(own, &post);
			if (k > i)
				order[k].spoil(own, &post);
			snprintf(name, sizeof(name), "faults %zu and %zu", i, k);
			free(expect_quietly(own, name, &post, order[i].status, order[i].verdict));
			assert_int_equal(teardown(&own), 0);
		}
}

TEST(of_all_faults_the_first_is_told)
{
	(void)state;
	for (size_t i = 0; i < ROWS(order); i++) {
		struct post post = {0};
		void *own;
		assert_int_equal(setup(&own), 0);
		for (size_t k = i; k < ROWS(order); k++)
			order[k].spoil(own, &post);
		free(expect_quietly(own, order[i].verdict, &post, order[i].status, order[i].verdict));
		assert_int_equal(teardown(&own), 0);
	}
}

TEST(a_duplicate_is_200_on_a_full_disk)
{
	struct fixture *f = *state;

	expect(f, "first", &good, 200, "accepted");
	f->config.min_free = 1LL << 60;
	expect(f, "again", &good, 200, "duplicate");
	expect(f, "another", &(struct post){.id = "msg_2"}, 503, "spool_full");
}

TEST(a_forged_duplicate_is_refused_as_any_forgery)
{
	struct fixture *f = *state;

	expect(f, "first", &good, 200, "accepted");
	expect(f, "forged", &(struct post){.signature = FORGED}, 401, "signature_mismatch");
	expect(f, "other body", &(struct post){.signature = FORGED, .body = "{}", .body_length = 2},
	    401, "signature_mismatch");
}

/* ---- what is told ---- */

TEST(a_refused_timestamp_tells_by_how_much_and_whether_the_signature_matched)
{
	static const struct {
		struct post post;
		const char *told[3];
	} rows[] = {
		{{.now = NOW + 301}, {"301 s behind", "300 s are tolerated", "the signature matched"}},
		{{.now = NOW - 400}, {"400 s ahead of", "300 s are tolerated", "the signature matched"}},
		{{.now = NOW + 301, .signature = FORGED},
		    {"301 s behind", "300 s are tolerated", "did not match either"}},
		{{.now = NOW - 400, .signature = FORGED},
		    {"400 s ahead of", "300 s are tolerated", "did not match either"}},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct answer reply = send_post(f, &rows[i].post);
		for (int k = 0; k < 3; k++)
			if (strstr(reply.body, rows[i].told[k]) == NULL)
				fail_msg("\"%s\" is not in %s", rows[i].told[k], reply.body);
		json_t *line = last_attempt(f);
		assert_int_equal(json_integer_value(json_object_get(line, "skew_s")),
		    rows[i].post.now - NOW);
		/* "key" says that it was authentic. */
		assert_int_equal(json_object_get(line, "key") != NULL, rows[i].post.signature == NULL);
		json_decref(line);
	}
}

TEST(each_missing_header_is_named)
{
	static const struct {
		struct post post;
		const char *told;
	} rows[] = {{{.id = ""}, "webhook-id"}, {{.timestamp = ""}, "webhook-timestamp"},
	    {{.signature = ""}, "webhook-signature"}, {{.timestamp = "x"}, "webhook-timestamp"},
	    {{.content_length = "x"}, "content-length"}, {{.encoding = "gzip"}, "Content-Encoding"}};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct answer reply = send_post(f, &rows[i].post);
		if (strstr(reply.body, rows[i].told) == NULL)
			fail_msg("\"%s\" is not in %s", rows[i].told, reply.body);
	}
}

TEST(an_invalid_event_is_accepted_into_failed_with_the_reason)
{
	static const struct {
		const char *id, *body;
		size_t length;
		const char *reason;
	} rows[] = {
		{"a", "", 0, "not JSON"},
		{"b", "hello", 5, "not JSON"},
		{"c", "\0\xff", 2, "not JSON"},
		{"d", "[]", 2, "no JSON object"},
		{"e", "{}", 2, "no type"},
		{"f", "{\"type\":\"producersync.updates_available\"}", 41, "data is no object"},
	};
	struct fixture *f = *state;
	char path[64];
	size_t length;

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct answer reply = send_post(f,
		    &(struct post){.id = rows[i].id, .body = rows[i].body, .body_length = rows[i].length});
		assert_int_equal(reply.status, 200);
		assert_string_equal(verdict_of(&reply), "accepted");
		assert_non_null(strstr(reply.body, rows[i].reason));
		expect_spool(f, 0, (int)i + 1, (int)i + 1);
		snprintf(path, sizeof(path), "spool/state/%s.json", rows[i].id);
		char *text = file_read(in(f->dir, path), &length);
		assert_non_null(text);
		json_t *json = json_loads(text, 0, NULL);
		assert_non_null(strstr(text_of(json, "reason"), rows[i].reason));
		assert_string_equal(text_of(json, "failed_at"), "2025-07-24T22:51:05Z");
		assert_true(json_is_integer(json_object_get(json, "tries")));
		json_decref(json);
		free(text);
	}
}

TEST(the_probe_of_doctor_is_recorded_and_never_queued)
{
	static const char body[] = "{\"type\":\"psapi.doctor\"}";
	struct fixture *f = *state;
	struct post post = {.body = body, .body_length = sizeof(body) - 1};

	expect(f, "probe", &post, 200, "accepted");
	expect_spool(f, 0, 0, 1);
	expect(f, "again", &post, 200, "duplicate");
}

/* ---- headers ---- */

TEST(a_header_twice_is_one_if_equal_and_malformed_if_not)
{
	static const struct {
		const char *name;
		struct post post;
		int status;
		const char *verdict;
	} rows[] = {
		{"id equal", {.id = "a", .again = "HTTP_WEBHOOK_ID=a"}, 200, "accepted"},
		{"id differs", {.id = "b", .again = "HTTP_WEBHOOK_ID=c"}, 400,
		    "malformed_header"},
		{"id empty again", {.id = "b", .again = "HTTP_WEBHOOK_ID="}, 400,
		    "missing_header"},
		{"timestamp equal",
		    {.id = "d", .again = "HTTP_WEBHOOK_TIMESTAMP=1753397465"}, 200,
		    "accepted"},
		{"timestamp differs",
		    {.id = "e", .again = "HTTP_WEBHOOK_TIMESTAMP=1753397466"}, 400,
		    "malformed_header"},
		{"signature differs", {.id = "f", .again = "HTTP_WEBHOOK_SIGNATURE=" FORGED},
		    400, "malformed_header"},
		{"length differs", {.id = "g", .again = "CONTENT_LENGTH=1"}, 400,
		    "malformed_header"},
		{"ids joined", {.id = "h, i"}, 400, "malformed_header"},
		{"three ids joined", {.id = "h, h, i"}, 400, "malformed_header"},
		{"ids joined, the first a prefix", {.id = "h, hh"}, 400, "malformed_header"},
		{"ids joined, the second a prefix", {.id = "hh, h"}, 400, "malformed_header"},
		{"timestamps joined", {.timestamp = "1753397465, 1753397466"}, 400, "malformed_header"},
		{"signatures joined", {.signature = FORGED ", v1,x"}, 400, "malformed_header"},
		/* an empty id is no id, however it comes */
		{"nothing joined to nothing", {.id = ", "}, 400, NULL},
		{"nothing three times", {.id = ", , "}, 400, NULL},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct answer reply = send_post(f, &rows[i].post);
		const char *verdict = verdict_of(&reply);
		if (reply.status != rows[i].status ||
		    (rows[i].verdict != NULL && strcmp(verdict, rows[i].verdict) != 0))
			fail_msg("%s: %d %s", rows[i].name, reply.status, reply.body);
	}
}

/* The older names mean the same; a set is never mixed of both. */
TEST(the_older_names_of_the_headers_count_where_there_are_no_others)
{
	static const char *const newer[] = {
	    "HTTP_WEBHOOK_ID", "HTTP_WEBHOOK_TIMESTAMP", "HTTP_WEBHOOK_SIGNATURE"};
	static const char *const older[] = {
	    "HTTP_SVIX_ID", "HTTP_SVIX_TIMESTAMP", "HTTP_SVIX_SIGNATURE"};
	static const struct {
		unsigned newer, older; /* bits: which of the three are there, all with right values */
		int status;
		const char *says;
	} rows[] = {
	    {0, 7, 200, "accepted"},
	    {7, 7, 200, "accepted"},
	    {0, 3, 400, "no svix-signature header"},
	    {0, 5, 400, "no svix-timestamp header"},
	    {0, 6, 400, "no svix-id header arrived, or it is empty\""},
	    {1, 7, 400, "no webhook-timestamp header arrived, or it is empty; webhook- and svix-"},
	    {6, 7, 400, "no webhook-id header arrived, or it is empty; webhook- and svix-"},
	    {6, 1, 400, "no webhook-id header arrived, or it is empty; webhook- and svix-"},
	    {3, 4, 400, "no webhook-signature header arrived, or it is empty; webhook- and svix-"},
	    {6, 0, 400, "no webhook-id header arrived, or it is empty\""},
	    {0, 0, 400, "no webhook-id header arrived, or it is empty\""},
	};
	struct fixture *f = *state;

	for (size_t i = 0; i < ROWS(rows); i++) {
		char id[16], expected[SIGNATURE_SIZE + 1];
		struct variables variables = {0};
		struct stream stream = {.body = BODY, .left = strlen(BODY)};
		snprintf(id, sizeof(id), "msg_%zu", i);
		struct message message = {id, strlen(id), "1753397465", 10, BODY, strlen(BODY)};
		assert_int_equal(verify_keyring_sign(f->keyring, 0, &message, expected), 0);
		const char *const values[] = {id, "1753397465", expected};
		set(&variables, "REQUEST_METHOD", "POST");
		for (int k = 0; k < 3; k++) {
			set(&variables, newer[k], (rows[i].newer & 1U << k) != 0 ? values[k] : "");
			set(&variables, older[k], (rows[i].older & 1U << k) != 0 ? values[k] : "");
		}
		struct request request = {.variables = variables.text, .read = read_stream,
		    .stream = &stream};
		struct reply reply;
		receive(&f->receiver, &request, (struct timespec){NOW, 0}, &reply);
		assert_int_equal(reply.status, rows[i].status);
		if (strstr(reply.body, rows[i].says) == NULL)
			fail_msg("%zu: %s", i, reply.body);
		reply_free(&reply);
		unset_all(&variables);
	}
}

TEST(no_variable_but_those_decides)
{
	static const char *const others[] = {"", "=", "=POST", "REQUEST_METHOD", "REQUEST_METHO=GET",
		"REQUEST_METHODS=GET", "request_method=GET", "HTTP_WEBHOOK_ID2=a", "WEBHOOK_ID=a",
		"HTTP_WEBHOOK_IDENTITY=a", "HTTP_CONTENT_LENGTH=1", "HTTP_REMOTE_ADDR=203.0.113.1",
		"PSAPI_SPOOL=/tmp", "QUERY_STRING=PSAPI_SPOOL=/tmp", "HTTP_PROXY=a"};
	static const char *const instead[] = {"", "=POST", "REQUEST_METHOD", "REQUEST_METHO=POST",
		"REQUEST_METHODS=POST", "request_method=POST", "HTTP_REQUEST_METHOD=POST"};
	struct fixture *f = *state;
	char id[16];

	for (size_t i = 0; i < ROWS(others); i++) {
		snprintf(id, sizeof(id), "msg_%zu", i);
		expect(f, others[i], &(struct post){.id = id, .again = others[i]}, 200, "accepted");
		json_t *line = last_attempt(f);
		assert_string_equal(text_of(line, "webhook_id"), id);
		assert_string_equal(text_of(line, "remote_addr"), "192.0.2.1");
		json_decref(line);
	}
	for (size_t i = 0; i < ROWS(instead); i++)
		expect(f, instead[i], &(struct post){.method = "", .again = instead[i]}, 405,
		    "method_not_allowed");
}

/* Signed as one value, as the sender did; joined on the way. */
static struct answer
send_joined(struct fixture *f, const char *id, const char *joined_id, const char *timestamp,
    const char *joined_timestamp, bool join_signature)
{
	struct message message = {id, strlen(id), timestamp, strlen(timestamp), BODY, strlen(BODY)};
	char signature[SIGNATURE_SIZE + 1], joined[2 * SIGNATURE_SIZE + 3];

	verify_keyring_sign(f->keyring, 0, &message, signature);
	snprintf(joined, sizeof(joined), "%s, %s", signature, signature);
	struct post post = {.id = joined_id,
		.timestamp = joined_timestamp,
		.signature = join_signature ? joined : signature};
	return send_post(f, &post);
}

TEST(equal_headers_that_a_server_joined_are_one)
{
	struct fixture *f = *state;
	struct answer replies[] = {
		send_joined(f, "a", "a, a", "1753397465", "1753397465", false),
		send_joined(f, "b", "b, b, b", "1753397465", "1753397465", false),
		send_joined(f, "c", "c", "1753397465", "1753397465, 1753397465", false),
		send_joined(f, "d", "d", "1753397465", "1753397465", true),
		send_joined(f, "e", "e, e", "1753397465", "1753397465, 1753397465", true),
	};

	for (size_t i = 0; i < ROWS(replies); i++) {
		assert_int_equal(replies[i].status, 200);
		assert_string_equal(verdict_of(&replies[i]), "accepted");
	}
	assert_true(exists(in(f->dir, "spool/new/a.json")));
	assert_true(exists(in(f->dir, "spool/new/b.json")));
	expect_spool(f, 5, 0, 5);
}

TEST(an_id_of_any_bytes_is_stored_under_a_name_that_stays_in_the_spool)
{
	static const char *const ids[] = {"..", ".", "/", "../../../etc/passwd", "a/b", ".hidden",
		"a b", "\x01\x1b[2J\n", "\xff\xfe", "%2F", "Zo\xc3\xab", "a,b", ",", "'; rm -rf"};
	struct fixture *f = *state;
	char id[301];

	for (size_t i = 0; i < ROWS(ids); i++)
		expect(f, ids[i], &(struct post){.id = ids[i]}, 200, "accepted");
	memset(id, 'a', 300);
	id[300] = '\0';
	expect(f, "300 bytes", &(struct post){.id = id}, 200, "accepted");
	expect(f, "300 bytes", &(struct post){.id = id}, 200, "duplicate");
	id[299] = 'b';
	expect(f, "300 other bytes", &(struct post){.id = id}, 200, "accepted");
	expect_spool(f, (int)ROWS(ids) + 2, 0, (int)ROWS(ids) + 2);
	/* Nothing was left beside the spool. */
	assert_int_equal(names_in(f->dir), 2);
	assert_int_equal(names_in(in(f->dir, "spool")), SPOOL_DIRS + 1);
}

TEST(identity_is_no_encoding)
{
	struct fixture *f = *state;

	expect(f, "identity", &(struct post){.encoding = "identity"}, 200, "accepted");
	expect(f, "Identity", &(struct post){.encoding = "Identity"}, 200, "duplicate");
}

TEST(content_length_is_digits_and_checked_against_the_body)
{
	static const struct {
		const char *declared;
		size_t length; /* of the body */
		int status;
		const char *verdict;
	} rows[] = {
		{"", 50, 200, "accepted"},
		{"50", 50, 200, "accepted"},
		{"050", 50, 200, "accepted"},
		{"00000000000000000000000000050", 50, 200, "accepted"},
		{"0", 0, 200, "accepted"},
		{"49", 50, 200, "accepted"}, /* the end of the stream is the end of the body */
		{"51", 50, 400, "truncated_body"},
		{"20000", 50, 400, "truncated_body"},
		{"1", 0, 400, "truncated_body"},
		{"20001", 50, 413, "body_too_large"},
		{"9223372036854775807", 50, 413, "body_too_large"},
		{"18446744073709551616", 50, 413, "body_too_large"},
		{"99999999999999999999999999999999", 50, 413, "body_too_large"},
		{"-1", 50, 400, "malformed_header"},
		{"-0", 0, 400, "malformed_header"},
		{"+50", 50, 400, "malformed_header"},
		{" 50", 50, 400, "malformed_header"},
		{"50 ", 50, 400, "malformed_header"},
		{"0x32", 50, 400, "malformed_header"},
		{"5e1", 50, 400, "malformed_header"},
		{"50.0", 50, 400, "malformed_header"},
		{"50,50", 50, 400, "malformed_header"},
		{"50, 51", 50, 400, "malformed_header"},
		{"many", 50, 400, "malformed_header"},
	};
	struct fixture *f = *state;
	char body[50], id[16];

	memset(body, ' ', sizeof(body));
	memcpy(body, "{\"type\":\"x\"}", 12);
	for (size_t i = 0; i < ROWS(rows); i++) {
		snprintf(id, sizeof(id), "msg_%zu", i);
		struct post post = {.id = id,
			.content_length = rows[i].declared,
			.body = body,
			.body_length = rows[i].length};
		expect(f, rows[i].declared, &post, rows[i].status, rows[i].verdict);
	}
}

/* ---- the body ---- */

TEST(a_body_of_any_size_up_to_the_limit_is_stored_as_it_came)
{
	static const size_t sizes[] = {2, 3, 4095, 4096, 4097, 8191, 8192, 8193, 16384, 16385,
		MAX_BODY - 1, MAX_BODY};
	static const size_t chunks[] = {0, 1, 7, 4096};
	struct fixture *f = *state;
	char *body = malloc(MAX_BODY + 1), id[64], path[128];

	for (size_t i = 0; i < ROWS(sizes) * ROWS(chunks) * 2; i++) {
		size_t size = sizes[i % ROWS(sizes)], length;
		struct post post = {.id = id,
			.chunk = chunks[i / ROWS(sizes) % ROWS(chunks)],
			.content_length = i % 2 == 0 ? NULL : "",
			.body = body,
			.body_length = size};
		for (size_t k = 0; k < size; k++)
			body[k] = (char)('a' + (k * 7 + i) % 26);
		body[0] = body[size - 1] = '"'; /* a JSON string */
		snprintf(id, sizeof(id), "msg_%zu", i);
		expect(f, id, &post, 200, "accepted");
		snprintf(path, sizeof(path), "spool/failed/%s.json", id);
		char *file = file_read(in(f->dir, path), &length);
		assert_non_null(file);
		assert_true(length > size + 3);
		assert_memory_equal(file + length - 3 - size, body, size);
		assert_string_equal(file + length - 3, "\n}\n");
		free(file);
	}
	free(body);
}

TEST(one_byte_over_the_limit_is_too_large_with_or_without_a_length)
{
	struct fixture *f = *state;
	char *body = malloc(MAX_BODY + 5000);

	memset(body, ' ', MAX_BODY + 5000);
	for (size_t chunk = 0; chunk <= 4096; chunk += 512) {
		struct post post = {.content_length = "",
			.body = body,
			.body_length = MAX_BODY + 1,
			.chunk = chunk};
		expect(f, "one over", &post, 413, "body_too_large");
		post.body_length = MAX_BODY + 5000;
		expect(f, "5000 over", &post, 413, "body_too_large");
		post.content_length = "20000";
		expect(f, "more than declared", &post, 413, "body_too_large");
		post.content_length = "10";
		expect(f, "far more than declared", &post, 413, "body_too_large");
	}
	struct answer reply = send_post(f, &(struct post){.content_length = "20001"});
	assert_non_null(strstr(reply.body, "20000 bytes"));
	expect_spool(f, 0, 0, 0);
	f->config.max_body = 10;
	struct post small = {.content_length = "", .body = body, .body_length = 11};
	expect(f, "a small limit", &small, 413, "body_too_large");
	small.body_length = 10;
	expect(f, "a small limit", &small, 200, "accepted");
	free(body);
}

TEST(a_body_declared_too_large_is_not_read)
{
	char *variables[] = {(char[]){"REQUEST_METHOD=POST"}, (char[]){"HTTP_WEBHOOK_ID=a"},
		(char[]){"HTTP_WEBHOOK_TIMESTAMP=1753397465"}, (char[]){"HTTP_WEBHOOK_SIGNATURE=" FORGED},
		(char[]){"CONTENT_LENGTH=20001"}, NULL};
	struct stream stream = {.body = BODY, .left = strlen(BODY)};
	struct request request = {.variables = variables, .read = read_stream, .stream = &stream};
	struct fixture *f = *state;
	struct reply reply;

	receive(&f->receiver, &request, (struct timespec){NOW, 0}, &reply);
	assert_int_equal(reply.status, 413);
	assert_int_equal(stream.reads, 0);
}

TEST(an_upload_that_breaks_off_is_truncated_wherever_it_does)
{
	struct fixture *f = *state;
	char told[64];

	for (size_t n = 0; n <= strlen(BODY); n++) {
		struct post post = {.body = BODY, .body_length = n, .cut = true, .chunk = 1};
		post.content_length = n % 2 == 0 ? "500" : "";
		struct answer reply = send_post(f, &post);
		assert_int_equal(reply.status, 400);
		assert_string_equal(verdict_of(&reply), "truncated_body");
		snprintf(told, sizeof(told), n % 2 == 0 ? "%zu of 500 bytes" : "after %zu bytes", n);
		assert_non_null(strstr(reply.body, told));
	}
	expect_spool(f, 0, 0, 0);
}

/* ---- vectors ---- */

static void
check_row(struct fixture *f, const json_t *row)
{
	const char *expected = text_of(row, "expect"), *encoded = text_of(row, "body_base64");
	char secrets[1024] = "";
	const json_t *secret;
	size_t i;

	json_array_foreach (json_object_get(row, "secrets"), i, secret)
		strcat(strcat(secrets, json_string_value(secret)), "\n");
	unlink(f->secret_file);
	file_write(f->secret_file, secrets, 0600);
	size_t room = strlen(encoded) + 1;
	char *body = malloc(room);
	long length = crypto_base64_decode(encoded, strlen(encoded), body, room);
	assert_true(length >= 0);
	struct post post = {.id = text_of(row, "id"),
		.timestamp = text_of(row, "timestamp"),
		.signature = text_of(row, "signature"),
		.body = body,
		.body_length = (size_t)length,
		.now = json_integer_value(json_object_get(row, "now"))};
	struct capture capture;
	capture_begin(&capture);
	struct answer reply = send_post(f, &post);
	free(capture_end(&capture));
	free(body);
	bool accept = strcmp(expected, "accept") == 0;
	if (accept != (reply.status == 200) ||
	    (!accept && strcmp(verdict_of(&reply), expected) != 0))
		fail_msg("%s: %s", text_of(row, "name"), reply.body);
}

TEST(every_request_signed_by_another_library_is_judged_as_expected)
{
	const char *path = getenv("PSAPI_VECTORS");
	json_error_t error;
	const json_t *row;
	size_t i;

	json_t *rows = json_load_file(path != NULL ? path : "tests/vectors/signatures.json", 0, &error);
	if (rows == NULL)
		fail_msg("%s: %s (PSAPI_VECTORS names another)", error.source, error.text);
	json_array_foreach (rows, i, row) {
		void *own;
		assert_int_equal(setup(&own), 0);
		((struct fixture *)own)->config.max_body = 1 << 20;
		check_row(own, row);
		assert_int_equal(teardown(&own), 0);
	}
	json_decref(rows);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		RECEIVE_TEST(what_is_proven_is_accepted_and_stored_and_a_second_time_a_duplicate),
		RECEIVE_TEST(the_file_is_the_evidence_and_the_signed_bytes),
		RECEIVE_TEST(what_is_refused_has_its_reason_and_leaves_nothing),
		RECEIVE_TEST(what_this_side_fails_at_is_503_and_leaves_nothing),
		RECEIVE_TEST(a_secret_that_has_just_come_proves_the_next_request),
		RECEIVE_TEST(without_a_secret_it_is_503_until_there_is_one),
		RECEIVE_TEST(unconfigured_is_503),
		RECEIVE_TEST(it_answers_without_an_attempts_log),
		cmocka_unit_test(of_two_faults_the_one_that_is_checked_first_is_told),
		cmocka_unit_test(of_all_faults_the_first_is_told),
		RECEIVE_TEST(a_duplicate_is_200_on_a_full_disk),
		RECEIVE_TEST(a_forged_duplicate_is_refused_as_any_forgery),
		RECEIVE_TEST(a_refused_timestamp_tells_by_how_much_and_whether_the_signature_matched),
		RECEIVE_TEST(each_missing_header_is_named),
		RECEIVE_TEST(an_invalid_event_is_accepted_into_failed_with_the_reason),
		RECEIVE_TEST(the_probe_of_doctor_is_recorded_and_never_queued),
		RECEIVE_TEST(a_header_twice_is_one_if_equal_and_malformed_if_not),
		RECEIVE_TEST(the_older_names_of_the_headers_count_where_there_are_no_others),
		RECEIVE_TEST(no_variable_but_those_decides),
		RECEIVE_TEST(equal_headers_that_a_server_joined_are_one),
		RECEIVE_TEST(an_id_of_any_bytes_is_stored_under_a_name_that_stays_in_the_spool),
		RECEIVE_TEST(identity_is_no_encoding),
		RECEIVE_TEST(content_length_is_digits_and_checked_against_the_body),
		RECEIVE_TEST(a_body_of_any_size_up_to_the_limit_is_stored_as_it_came),
		RECEIVE_TEST(one_byte_over_the_limit_is_too_large_with_or_without_a_length),
		RECEIVE_TEST(a_body_declared_too_large_is_not_read),
		RECEIVE_TEST(an_upload_that_breaks_off_is_truncated_wherever_it_does),
		cmocka_unit_test(every_request_signed_by_another_library_is_judged_as_expected),
	};

	return cmocka_run_group_tests_name("receive", tests, NULL, NULL);
}
