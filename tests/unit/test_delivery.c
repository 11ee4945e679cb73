/*
 * Owns what delivery.h promises: the documented examples byte for byte, signatures
 * that verify() proves, what each wrong kind does wrong, the sender's schedule.
 */
#include "helpers.h"

#include <jansson.h>

#include "base/crypto.h"
#include "send/delivery.h"
#include "events.h"

#define SECRET "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define OTHER "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"
#define NOW 1614265330
#define BODY "{\"test\": 2432232314}"
#define ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define TOLERANCE 300

static struct keyring *
keyring_of(const char *first, const char *second)
{
	struct keyring *keyring = verify_keyring_new();

	assert_non_null(keyring);
	assert_int_equal(verify_keyring_add(keyring, first, strlen(first)), SECRET_GOOD);
	if (second != NULL)
		assert_int_equal(verify_keyring_add(keyring, second, strlen(second)), SECRET_GOOD);
	return keyring;
}

/* The value of a header, NULL if the delivery has none of that name. */
static const char *
value_of(const struct delivery *d, const char *name)
{
	for (const char *const *h = d->headers; *h != NULL; h++)
		if (strncmp(*h, name, strlen(name)) == 0 && strncmp(*h + strlen(name), ": ", 2) == 0)
			return *h + strlen(name) + 2;
	return NULL;
}

/* What a receiver that knows SECRET makes of it. */
static enum verify_result
judge(const struct delivery *d, const char *secret)
{
	struct keyring *keyring = keyring_of(secret, NULL);
	const char *id = value_of(d, "webhook-id"), *timestamp = value_of(d, "webhook-timestamp"),
		   *signature = value_of(d, "webhook-signature");
	struct message message = {id, strlen(id), timestamp, strlen(timestamp), d->body, d->length};
	struct verification outcome;

	assert_non_null(signature);
	enum verify_result result =
	    verify(keyring, &message, signature, strlen(signature), NOW, TOLERANCE, &outcome);
	assert_true(result != VERIFY_STALE || outcome.matched);
	verify_keyring_free(keyring);
	return result;
}

/* ---- events ---- */

TEST(examples_are_events_of_their_type)
{
	for (const char *const *type = delivery_example_types; *type != NULL; type++) {
		struct event event;
		const char *body = delivery_example_body(*type);
		assert_non_null(body);
		events_read(body, strlen(body), &event);
		assert_string_equal(event.type, *type);
		assert_int_equal(event.queue, QUEUE_NEW);
	}
	assert_null(delivery_example_body("id.producer.x"));
}

TEST(data_makes_an_event)
{
	static const char *const rows[][2] = {{"a.b", "{}"}, {"a.b", "[1,2]"}, {"a.b", "null"},
	    {"a.b", "\"text\""}, {"a\"b\n", " {\"x\" : 1} "}};
	struct error error;

	for (size_t i = 0; i < ROWS(rows); i++) {
		char *text = delivery_event_body(rows[i][0], rows[i][1], NOW, &error);
		assert_non_null(text);
		json_t *event = json_loads(text, 0, NULL),
		       *data = json_loads(rows[i][1], JSON_DECODE_ANY, NULL);
		assert_string_equal(json_string_value(json_object_get(event, "type")), rows[i][0]);
		assert_string_equal(json_string_value(json_object_get(event, "timestamp")),
		    "2021-02-25T15:02:10.000Z");
		assert_true(json_equal(json_object_get(event, "data"), data));
		json_decref(event);
		json_decref(data);
		free(text);
	}
	assert_null(delivery_event_body("a.b", NULL, NOW, &error));
	assert_non_null(strstr(error.text, "\"a.b\""));
	assert_non_null(strstr(error.remedy, "--data"));
	assert_null(delivery_event_body("a.b", "{", NOW, &error));
	assert_non_null(strstr(error.text, "not JSON"));
	assert_null(delivery_event_body("a.b", "", NOW, &error));
}

TEST(ids_are_new_each_time)
{
	char one[DELIVERY_ID_SIZE], two[DELIVERY_ID_SIZE];

	delivery_new_id(one);
	delivery_new_id(two);
	assert_int_equal(strlen(one), 31);
	assert_memory_equal(one, "msg_", 4);
	assert_string_not_equal(one, two);
	/* And told from the sender's, in a log that is full of them. */
	assert_memory_equal(one, EVENTS_TEST_ID, strlen(EVENTS_TEST_ID));
}

/* ---- a request ---- */

TEST(the_published_vector)
{
	struct keyring *keyring = keyring_of(SECRET, NULL);
	struct delivery d;

	assert_int_equal(delivery_make(&d, DELIVERY_SIGNED, keyring, ID, NOW, BODY, strlen(BODY)), 0);
	assert_string_equal(value_of(&d, "webhook-id"), ID);
	assert_string_equal(value_of(&d, "webhook-timestamp"), "1614265330");
	assert_string_equal(value_of(&d, "webhook-signature"),
	    "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
	assert_string_equal(value_of(&d, "content-type"), "application/json");
	assert_ptr_equal(d.body, BODY);
	delivery_free(&d);
	verify_keyring_free(keyring);
}

TEST(each_key_signs)
{
	struct keyring *keyring = keyring_of(SECRET, OTHER);
	struct delivery d;

	assert_int_equal(delivery_make(&d, DELIVERY_SIGNED, keyring, ID, NOW, BODY, strlen(BODY)), 0);
	assert_int_equal(strlen(value_of(&d, "webhook-signature")), 2 * SIGNATURE_SIZE + 1);
	assert_int_equal(judge(&d, SECRET), VERIFY_OK);
	assert_int_equal(judge(&d, OTHER), VERIFY_OK);
	delivery_free(&d);
	verify_keyring_free(keyring);
}

TEST(as_many_keys_as_the_sender_has)
{
	struct keyring *keyring = verify_keyring_new();
	char secret[CRYPTO_BASE64_SIZE(24)];
	struct delivery d;

	for (unsigned char i = 0; i < KEYRING_MAX; i++) {
		unsigned char bytes[24] = {i};
		crypto_base64_encode(bytes, sizeof(bytes), secret);
		assert_int_equal(verify_keyring_add(keyring, secret, strlen(secret)), SECRET_GOOD);
	}
	assert_int_equal(delivery_make(&d, DELIVERY_SIGNED, keyring, ID, NOW, BODY, strlen(BODY)), 0);
	assert_int_equal(strlen(value_of(&d, "webhook-signature")),
	    DELIVERY_SIGNATURES_MAX * (SIGNATURE_SIZE + 1) - 1);
	delivery_free(&d);
	verify_keyring_free(keyring);
}

TEST(the_wrong_kinds)
{
	static const char *const bodies[] = {BODY, "{}", "", "9", "no digits"};
	struct keyring *keyring = keyring_of(SECRET, NULL);

	for (size_t i = 0; i < ROWS(bodies); i++) {
		const char *body = bodies[i];
		struct delivery d;
		assert_int_equal(
		    delivery_make(&d, DELIVERY_UNSIGNED, NULL, ID, NOW, body, strlen(body)), 0);
		assert_null(value_of(&d, "webhook-signature"));
		assert_string_equal(value_of(&d, "webhook-id"), ID);
		delivery_free(&d);

		assert_int_equal(
		    delivery_make(&d, DELIVERY_TAMPERED, keyring, ID, NOW, body, strlen(body)), 0);
		assert_int_equal(judge(&d, SECRET), VERIFY_MISMATCH);
		assert_true(d.length != strlen(body) || memcmp(d.body, body, d.length) != 0);
		delivery_free(&d);

		assert_int_equal(
		    delivery_make(&d, DELIVERY_STALE, keyring, ID, NOW, body, strlen(body)), 0);
		assert_int_equal(judge(&d, SECRET), VERIFY_STALE);
		delivery_free(&d);

		assert_int_equal(
		    delivery_make(&d, DELIVERY_WRONG_SECRET, NULL, ID, NOW, body, strlen(body)), 0);
		assert_int_equal(judge(&d, SECRET), VERIFY_MISMATCH);
		delivery_free(&d);
	}
	verify_keyring_free(keyring);
}

TEST(what_is_expected)
{
	for (int kind = 0; kind < DELIVERY_KINDS; kind++) {
		enum delivery_kind k = (enum delivery_kind)kind;
		bool is_signed = k == DELIVERY_SIGNED;
		assert_int_equal(delivery_expected(k, 200), is_signed);
		assert_int_equal(delivery_expected(k, 204), is_signed);
		assert_int_equal(delivery_expected(k, 400), !is_signed);
		assert_int_equal(delivery_expected(k, 401), !is_signed);
		assert_false(delivery_expected(k, 0));
		assert_false(delivery_expected(k, 301));
		assert_false(delivery_expected(k, 503));
		assert_non_null(delivery_kind_names[k]);
	}
}

/* ---- the schedule ---- */

TEST(the_senders_schedule)
{
	static const int seconds[] = {5, 300, 1800, 7200, 18000, 36000, 36000, 36000};

	for (int i = 0; i < (int)ROWS(seconds); i++) {
		long long least = delivery_backoff_ms(i + 1, 0, 1, 0);
		long long most = delivery_backoff_ms(i + 1, 10000, 1, 0);
		assert_in_range(least, seconds[i] * 799LL, seconds[i] * 801LL);
		assert_in_range(most, seconds[i] * 1199LL, seconds[i] * 1201LL);
		for (unsigned random = 0; random < 100000; random += 777)
			assert_in_range(delivery_backoff_ms(i + 1, random, 1, 0), least, most);
	}
	assert_in_range(delivery_backoff_ms(1, 5000, 0.001, 0), 4, 6);
	assert_int_equal(delivery_backoff_ms(3, 5000, 0, 0), 0);
}

TEST(retry_after_within_limits)
{
	assert_int_equal(delivery_backoff_ms(1, 0, 1, 60), 60000);
	/* sooner than the schedule: ignored */
	assert_int_equal(delivery_backoff_ms(2, 5000, 1, 60), 300000);
	assert_int_equal(delivery_backoff_ms(1, 0, 1, 1000000), 36000000);
	assert_in_range(delivery_backoff_ms(1, 0, 1, -5), 3999, 4001);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(examples_are_events_of_their_type),
		cmocka_unit_test(data_makes_an_event),
		cmocka_unit_test(ids_are_new_each_time),
		cmocka_unit_test(the_published_vector),
		cmocka_unit_test(each_key_signs),
		cmocka_unit_test(as_many_keys_as_the_sender_has),
		cmocka_unit_test(the_wrong_kinds),
		cmocka_unit_test(what_is_expected),
		cmocka_unit_test(the_senders_schedule),
		cmocka_unit_test(retry_after_within_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
