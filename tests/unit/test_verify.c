/*
 * Owns what verify.h promises: which secrets are taken, which signatures and
 * timestamps are accepted, and that other implementations agree.
 */
#include "helpers.h"

#include <jansson.h>
#include <mbedtls/md.h>
#include <pthread.h>

#include "base/crypto.h"
#include "verify.h"

/* The first vector that Standard Webhooks publishes. */
#define SECRET "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
#define ID "msg_p5jXN8AQM9LWM0D4loKWxJek"
#define NOW 1614265330
#define BODY "{\"test\": 2432232314}"
#define BASE64 "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
#define SIGNATURE "v1," BASE64
#define FORGED "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
#define TOLERANCE 300

static struct message
message_of(const char *id, const char *timestamp, const void *body, size_t length)
{
	return (struct message){.id = id,
		.id_length = strlen(id),
		.timestamp = timestamp,
		.timestamp_length = strlen(timestamp),
		.body = body,
		.body_length = length};
}

static struct keyring *
keyring_of(const char *secret)
{
	struct keyring *keyring = verify_keyring_new();

	assert_non_null(keyring);
	assert_int_equal(verify_keyring_add(keyring, secret, strlen(secret)), SECRET_GOOD);
	return keyring;
}

/* The published message, checked against a signature list. */
static enum verify_result
check(const char *signatures, int64_t now, struct verification *outcome)
{
	struct keyring *keyring = keyring_of(SECRET);
	struct message message = message_of(ID, "1614265330", BODY, strlen(BODY));
	enum verify_result result = verify(keyring, &message, signatures, strlen(signatures), now,
	    TOLERANCE, outcome);

	verify_keyring_free(keyring);
	return result;
}

/* ---- what others signed ---- */

static const char *
text_of(const json_t *row, const char *key)
{
	return json_string_value(json_object_get(row, key));
}

static void
check_row(const json_t *row)
{
	const char *name = text_of(row, "name"), *expect = text_of(row, "expect");
	const char *id = text_of(row, "id"), *timestamp = text_of(row, "timestamp"),
		   *signature = text_of(row, "signature"), *encoded = text_of(row, "body_base64");
	int64_t now = json_integer_value(json_object_get(row, "now")), seconds;
	struct verification outcome;

	if (strcmp(expect, "missing_header") == 0) {
		/* verify() has no opinion on what is not there; receive() has, in test_receive.c. */
		if (id != NULL && *id != '\0' && timestamp != NULL && signature != NULL)
			fail_msg("%s: nothing is missing", name);
		return;
	}
	bool well_formed = verify_timestamp_parse(timestamp, strlen(timestamp), &seconds);
	if (well_formed == (strcmp(expect, "malformed_header") == 0))
		fail_msg("%s: verify_timestamp_parse() says %d", name, well_formed);
	if (!well_formed)
		return;

	size_t room = strlen(encoded) + 1;
	char *body = malloc(room);
	assert_non_null(body);
	long length = crypto_base64_decode(encoded, strlen(encoded), body, room);
	assert_true(length >= 0);
	struct message message = message_of(id, timestamp, body, (size_t)length);
	struct keyring *keyring = verify_keyring_new();
	const json_t *secret;
	size_t i;
	json_array_foreach (json_object_get(row, "secrets"), i, secret)
		assert_int_equal(verify_keyring_add(keyring, json_string_value(secret),
		                     json_string_length(secret)),
		    SECRET_GOOD);
	enum verify_result result = verify(keyring, &message, signature, strlen(signature), now,
	    TOLERANCE, &outcome);
	verify_keyring_free(keyring);
	free(body);

	static const struct {
		const char *expect;
		enum verify_result result;
	} results[] = {{"accept", VERIFY_OK}, {"stale_timestamp", VERIFY_STALE},
	    {"future_timestamp", VERIFY_FUTURE}, {"signature_mismatch", VERIFY_MISMATCH}};
	for (i = 0; i < ROWS(results); i++) {
		if (strcmp(results[i].expect, expect) != 0)
			continue;
		if (result != results[i].result)
			fail_msg("%s: %d instead of %s", name, (int)result, expect);
		/* The rows out of tolerance are signed well: authentic, but stale. */
		if (outcome.matched != (result != VERIFY_MISMATCH))
			fail_msg("%s: matched is %d", name, outcome.matched);
		return;
	}
	fail_msg("%s: the test does not know \"%s\"", name, expect);
}

TEST(every_row_signed_by_another_library_is_judged_as_expected)
{
	const char *path = getenv("PSAPI_VECTORS");
	json_error_t error;
	const json_t *row;
	size_t i;

	json_t *rows = json_load_file(path != NULL ? path : "tests/vectors/signatures.json", 0, &error);
	if (rows == NULL)
		fail_msg("%s: %s (PSAPI_VECTORS names another)", error.source, error.text);
	assert_true(json_array_size(rows) >= 53);
	json_array_foreach (rows, i, row)
		check_row(row);
	json_decref(rows);
}

TEST(the_published_vectors_verify_and_are_what_we_sign)
{
	static const struct {
		const char *secret, *id, *timestamp, *body, *signature;
	} rows[] = {
		{SECRET, ID, "1614265330", BODY, SIGNATURE},
		{"whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD", "msg_27UH4WbU6Z5A5EzD8u03UvzRbpk",
		    "1649367553", "{\"email\":\"test@example.com\",\"username\":\"test_user\"}",
		    "v1,tZ1I4/hDygAJgO5TYxiSd6Sd0kDW6hPenDe+bTa3Kkw="},
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct keyring *keyring = keyring_of(rows[i].secret);
		struct message message =
		    message_of(rows[i].id, rows[i].timestamp, rows[i].body, strlen(rows[i].body));
		struct verification outcome;
		char signature[SIGNATURE_SIZE + 1];
		assert_int_equal(verify_keyring_sign(keyring, 0, &message, signature), 0);
		assert_string_equal(signature, rows[i].signature);
		assert_int_equal(verify(keyring, &message, rows[i].signature, SIGNATURE_SIZE,
		                     atoll(rows[i].timestamp), TOLERANCE, &outcome),
		    VERIFY_OK);
		verify_keyring_free(keyring);
	}
}

/* RFC 2104: a key over the 64 bytes of a block is hashed first. */
TEST(our_hmac_is_that_of_mbedtls_for_every_length_of_key)
{
	static const size_t body_lengths[] = {0, 1, 17, 18, 63, 64, 65, 4097};
	unsigned char body[4097], key[KEY_MAX], digest[32];
	char secret[CRYPTO_BASE64_SIZE(KEY_MAX)], expected[SIGNATURE_SIZE + 1], got[SIGNATURE_SIZE + 1];
	char hex[65];

	for (size_t i = 0; i < sizeof(body); i++)
		body[i] = (unsigned char)(i * 31 + 7);
	for (size_t n = KEY_MIN; n <= KEY_MAX; n++) {
		for (size_t i = 0; i < n; i++)
			key[i] = (unsigned char)(i * 113 + n * 7 + 0x80);
		crypto_base64_encode(key, n, secret);
		struct keyring *keyring = keyring_of(secret);
		assert_int_equal(crypto_sha256_hex(key, n, hex), 0);
		assert_memory_equal(verify_keyring_fingerprint(keyring, 0), hex, FINGERPRINT_SIZE - 1);
		assert_int_equal(strlen(verify_keyring_fingerprint(keyring, 0)), FINGERPRINT_SIZE - 1);
		for (size_t i = 0; i < ROWS(body_lengths); i++) {
			mbedtls_md_context_t md;
			mbedtls_md_init(&md);
			assert_int_equal(
			    mbedtls_md_setup(&md, mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), 1), 0);
			mbedtls_md_hmac_starts(&md, key, n);
			mbedtls_md_hmac_update(&md, (const unsigned char *)"msg_1.1614265330.", 17);
			mbedtls_md_hmac_update(&md, body, body_lengths[i]);
			mbedtls_md_hmac_finish(&md, digest);
			mbedtls_md_free(&md);
			memcpy(expected, "v1,", 3);
			crypto_base64_encode(digest, sizeof(digest), expected + 3);

			struct message message =
			    message_of("msg_1", "1614265330", body, body_lengths[i]);
			assert_int_equal(verify_keyring_sign(keyring, 0, &message, got), 0);
			assert_string_equal(got, expected);
		}
		verify_keyring_free(keyring);
	}
}

/* ---- where the reference libraries disagree ---- */

TEST(a_timestamp_is_one_to_twelve_digits_without_a_leading_zero)
{
	static const char *const good[] = {"1", "10", "1614265330", "999999999999"};
	static const char *const bad[] = {"", "0", "00", "01", "01614265330", "+1614265330",
		"-1614265330", "1614265330.0", " 1614265330", "1614265330 ", "1614265330\n",
		"1614265330abc", "1e9", "0x60", "1614265330000", "9999999999999", "1 614 265", "1,614",
		"\xef\xbc\x91\xef\xbc\x96", "\xd9\xa1\xd9\xa2", "hello", "/", ":", "1/", "1:"};
	int64_t seconds;

	for (size_t i = 0; i < ROWS(good); i++) {
		assert_true(verify_timestamp_parse(good[i], strlen(good[i]), &seconds));
		assert_int_equal(seconds, atoll(good[i]));
	}
	for (size_t i = 0; i < ROWS(bad); i++)
		if (verify_timestamp_parse(bad[i], strlen(bad[i]), &seconds))
			fail_msg("\"%s\" was taken", bad[i]);
	assert_false(verify_timestamp_parse("1\0", 2, &seconds));
	/* Not to the end of the text: the header may have been joined. */
	assert_true(verify_timestamp_parse("12, 12", 2, &seconds));
	assert_int_equal(seconds, 12);
}

TEST(a_malformed_timestamp_does_not_verify_however_it_is_signed)
{
	static const char *const bad[] = {"+1614265330", "01614265330", "1614265330.0", "1614265330 "};
	struct keyring *keyring = keyring_of(SECRET);

	for (size_t i = 0; i < ROWS(bad); i++) {
		struct message message = message_of(ID, bad[i], BODY, strlen(BODY));
		struct verification outcome;
		char signature[SIGNATURE_SIZE + 1];
		assert_int_equal(verify_keyring_sign(keyring, 0, &message, signature), 0);
		assert_int_equal(verify(keyring, &message, signature, SIGNATURE_SIZE, NOW, TOLERANCE,
		                     &outcome),
		    VERIFY_ERROR);
	}
	verify_keyring_free(keyring);
}

TEST(parts_of_the_list_that_are_no_v1_signature_are_skipped)
{
	static const char *const lists[] = {
		SIGNATURE,
		" " SIGNATURE,
		SIGNATURE " ",
		FORGED "  " SIGNATURE,
		"garbage " SIGNATURE,
		", " SIGNATURE,
		"v1 " SIGNATURE,
		"v1, " SIGNATURE,
		"v2," BASE64 " " SIGNATURE,
		"v1a," BASE64 BASE64 " " SIGNATURE,
		"v1,!!!! " SIGNATURE,
		SIGNATURE ",x " SIGNATURE,
		FORGED " " SIGNATURE,
		SIGNATURE " " FORGED,
		SIGNATURE " " SIGNATURE,
	};
	struct verification outcome;

	for (size_t i = 0; i < ROWS(lists); i++) {
		if (check(lists[i], NOW, &outcome) != VERIFY_OK)
			fail_msg("\"%s\" was refused", lists[i]);
		assert_true(outcome.matched);
		/* The evidence is the part that matched, in the list itself. */
		assert_true(outcome.signature >= lists[i] &&
		    outcome.signature + SIGNATURE_SIZE <= lists[i] + strlen(lists[i]));
		assert_memory_equal(outcome.signature, SIGNATURE, SIGNATURE_SIZE);
	}
}

TEST(nothing_but_the_canonical_text_of_the_signature_matches)
{
	static const char *const lists[] = {
		"",
		" ",
		"v1",
		"v1,",
		FORGED,
		BASE64,
		"," BASE64,
		"V1," BASE64,
		"v2," BASE64,
		"v1a," BASE64,
		"v1 ," BASE64,
		"v1, " BASE64,
		"v1;" BASE64,
		SIGNATURE ",x",
		SIGNATURE "=",
		SIGNATURE "\n",
		SIGNATURE "\t" SIGNATURE,
		FORGED "," SIGNATURE,
		"\"" SIGNATURE "\"",
		"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE",  /* no padding */
		"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OF=", /* the same bytes, stray bits */
		"v1,g0hM9SsE-OTPJTGt_tmIKtSyZlE3uFJELVlNIOLJ1OE=", /* the same bytes, URL alphabet */
		"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlN\nIOLJ1OE=",
		"v1,83484cf52b04f8e4cf2531adfed9882ad4b2665137b852442d594d20e2c9d4e1", /* hex */
	};
	struct verification outcome;
	char list[] = SIGNATURE;

	for (size_t i = 0; i < ROWS(lists); i++) {
		if (check(lists[i], NOW, &outcome) != VERIFY_MISMATCH)
			fail_msg("\"%s\" was not refused", lists[i]);
		assert_false(outcome.matched);
		assert_null(outcome.key);
		assert_null(outcome.signature);
	}
	for (size_t i = 0; i < SIGNATURE_SIZE; i++) {
		list[i] ^= 1;
		assert_int_equal(check(list, NOW, &outcome), VERIFY_MISMATCH);
		list[i] ^= 1;
	}
	for (size_t n = 0; n < SIGNATURE_SIZE; n++) {
		list[n] = '\0';
		assert_int_equal(check(list, NOW, &outcome), VERIFY_MISMATCH);
		list[n] = SIGNATURE[n];
	}
	assert_int_equal(check(list, NOW, &outcome), VERIFY_OK);
}

TEST(the_list_is_not_read_beyond_its_length)
{
	struct keyring *keyring = keyring_of(SECRET);
	struct message message = message_of(ID, "1614265330", BODY, strlen(BODY));
	struct verification outcome;
	size_t length = strlen(FORGED " " SIGNATURE);
	char *list = malloc(length); /* without a NUL, for the sanitizer */

	assert_non_null(list);
	memcpy(list, FORGED " " SIGNATURE, length);
	assert_int_equal(verify(keyring, &message, list, length - 1, NOW, TOLERANCE, &outcome),
	    VERIFY_MISMATCH);
	assert_int_equal(verify(keyring, &message, list, length, NOW, TOLERANCE, &outcome), VERIFY_OK);
	free(list);
	verify_keyring_free(keyring);
}

TEST(each_part_of_the_message_is_signed)
{
	struct message rows[] = {
		message_of("msg_p5jXN8AQM9LWM0D4loKWxJeK", "1614265330", BODY, strlen(BODY)),
		message_of(ID, "1614265331", BODY, strlen(BODY)),
		message_of(ID, "1614265330", BODY "\n", strlen(BODY) + 1),
		message_of(ID, "1614265330", BODY, strlen(BODY) - 1),
		message_of(ID, "1614265330", NULL, 0),
		message_of("", "1614265330", BODY, strlen(BODY)),
	};
	struct message good = message_of(ID, "1614265330", BODY, strlen(BODY));
	struct keyring *keyring = keyring_of(SECRET);
	struct verification outcome;
	char signature[SIGNATURE_SIZE + 1];

	/* Our own: what is left out of it is left out of the check as well. */
	assert_int_equal(verify_keyring_sign(keyring, 0, &good, signature), 0);
	assert_int_equal(verify(keyring, &good, signature, SIGNATURE_SIZE, NOW, TOLERANCE, &outcome),
	    VERIFY_OK);
	for (size_t i = 0; i < ROWS(rows); i++)
		assert_int_equal(verify(keyring, &rows[i], signature, SIGNATURE_SIZE, NOW, TOLERANCE,
		                     &outcome),
		    VERIFY_MISMATCH);
	verify_keyring_free(keyring);
}

/* ---- the clock ---- */

TEST(the_tolerance_is_inclusive_either_way_and_the_mac_is_known_outside_it)
{
	static const struct {
		int64_t ahead; /* our clock minus theirs */
		enum verify_result good, forged;
	} rows[] = {
		{0, VERIFY_OK, VERIFY_MISMATCH},
		{300, VERIFY_OK, VERIFY_MISMATCH},
		{-300, VERIFY_OK, VERIFY_MISMATCH},
		{301, VERIFY_STALE, VERIFY_STALE},
		{-301, VERIFY_FUTURE, VERIFY_FUTURE},
		{1000000000000, VERIFY_STALE, VERIFY_STALE},
		{-NOW, VERIFY_FUTURE, VERIFY_FUTURE},
	};
	struct verification outcome;

	for (size_t i = 0; i < ROWS(rows); i++) {
		assert_int_equal(check(SIGNATURE, NOW + rows[i].ahead, &outcome), rows[i].good);
		assert_true(outcome.matched);
		assert_int_equal(outcome.skew, rows[i].ahead);
		assert_int_equal(check(FORGED, NOW + rows[i].ahead, &outcome), rows[i].forged);
		assert_false(outcome.matched);
		assert_int_equal(outcome.skew, rows[i].ahead);
	}
}

/* ---- secrets ---- */

#define B64_23 "AAECAwQFBgcICQoLDA0ODxAREhMUFRY="
#define B64_24 "AAECAwQFBgcICQoLDA0ODxAREhMUFRYX"
/* base64 of "whsec_" SECRET, and of "whsec_" SECRET SECRET SECRET */
#define TWICE \
	"d2hzZWNfTWZLUTlyOEdLWXFyVHdqVVBEOElMUFpJbzJMYUxhU3c="
#define LONG_TWICE \
	"d2hzZWNfTWZLUTlyOEdLWXFyVHdqVVBEOElMUFpJbzJMYUxhU3dNZktROXI4R0tZcXJUd2pVUEQ4SUxQ" \
	"WklvMkxhTGFTd01mS1E5cjhHS1lxclR3alVQRDhJTFBaSW8yTGFMYVN3"
#define B64_75 \
	"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8gISIjJCUmJygpKissLS4v" \
	"MDEyMzQ1Njc4OTo7PD0+P0BBQkNERUZHSElK"

static const struct {
	const char *text;
	enum secret_kind kind;
} pasted[] = {
	{"whsec_" SECRET, SECRET_GOOD},
	{SECRET, SECRET_GOOD},
	{"  whsec_" SECRET "\t \r", SECRET_GOOD},
	{"whsec_" SECRET "Bg==", SECRET_GOOD}, /* 25 bytes */
	{"whsec_" SECRET "Bg=", SECRET_GOOD},
	{"whsec_" SECRET "Bg", SECRET_GOOD},
	{B64_24, SECRET_GOOD},
	{B64_75, SECRET_GOOD},
	{"", SECRET_EMPTY},
	{" \t\r", SECRET_EMPTY},
	{"whsec_", SECRET_EMPTY},
	{"whsec_==", SECRET_EMPTY},
	{"\"whsec_" SECRET "\"", SECRET_QUOTED},
	{"'whsec_" SECRET "'", SECRET_QUOTED},
	{"`" SECRET "`", SECRET_QUOTED},
	{"whsec_" SECRET "\"", SECRET_QUOTED},
	{"\"whsec_" SECRET, SECRET_QUOTED},
	{"\xe2\x80\x9cwhsec_" SECRET "\xe2\x80\x9d", SECRET_QUOTED}, /* U+201C, U+201D */
	{"\xe2\x80\x98" SECRET, SECRET_QUOTED},
	{SECRET "\xe2\x80\x9f", SECRET_QUOTED},
	{"\xe2\x80\xa0" SECRET, SECRET_NOT_BASE64},
	{"PSAPI_SECRET=whsec_" SECRET, SECRET_NAMED},
	{"export SECRET=\"whsec_" SECRET "\"", SECRET_NAMED},
	{"secret: whsec_" SECRET, SECRET_NAMED},
	{"whsec_" SECRET " whsec_" SECRET, SECRET_SEVERAL},
	{"whsec_" SECRET ",whsec_" SECRET, SECRET_SEVERAL},
	{"v1,whsec_" SECRET, SECRET_SIGNATURE},
	{SIGNATURE, SECRET_SIGNATURE},
	{"v1a," SECRET, SECRET_SIGNATURE},
	{"whpk_" SECRET, SECRET_PUBLIC_KEY},
	{"whsk_" SECRET, SECRET_PRIVATE_KEY},
	{TWICE, SECRET_ENCODED_TWICE},
	{"whsec_" TWICE, SECRET_ENCODED_TWICE},
	{LONG_TWICE, SECRET_ENCODED_TWICE}, /* of over 75 bytes */
	{"whsec_" SECRET "!", SECRET_NOT_BASE64},
	{"whsec_" SECRET "A", SECRET_NOT_BASE64}, /* 33 characters are no base64 */
	{"whsec_MfKQ9r8GKYqrTwjU PD8ILPZIo2LaLaSw", SECRET_NOT_BASE64},
	{"whsec_MfKQ=9r8GKYqrTwjUPD8ILPZIo2LaLaS", SECRET_NOT_BASE64},
	{"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLa-_", SECRET_NOT_BASE64}, /* URL alphabet */
	{"WHSEC_" SECRET, SECRET_NOT_BASE64},
	{"\xef\xbb\xbfwhsec_" SECRET, SECRET_NAMED},
	{"A", SECRET_NOT_BASE64},
	{"AAAA", SECRET_TOO_SHORT},
	{"whsec_" B64_23, SECRET_TOO_SHORT},
	{B64_75 "AA==", SECRET_TOO_LONG},
	{B64_75 "AAAA", SECRET_TOO_LONG},
	{B64_75 B64_75, SECRET_TOO_LONG},
	{B64_75 B64_75 B64_75 B64_75 "A", SECRET_TOO_LONG},
};

TEST(a_secret_is_taken_as_the_libraries_take_it_and_what_else_is_pasted_is_named)
{
	for (size_t i = 0; i < ROWS(pasted); i++) {
		struct keyring *keyring = verify_keyring_new();
		enum secret_kind kind = verify_keyring_add(keyring, pasted[i].text, strlen(pasted[i].text));
		if (kind != pasted[i].kind)
			fail_msg("\"%s\": %d instead of %d", pasted[i].text, (int)kind, (int)pasted[i].kind);
		assert_int_equal(verify_keyring_size(keyring), kind == SECRET_GOOD ? 1 : 0);
		verify_keyring_free(keyring);
	}
}

TEST(a_nul_byte_at_an_end_is_no_quotation_mark)
{
	struct keyring *keyring = verify_keyring_new();

	assert_int_equal(verify_keyring_add(keyring, "\0" SECRET, 33), SECRET_NOT_BASE64);
	assert_int_equal(verify_keyring_add(keyring, SECRET, 33), SECRET_NOT_BASE64);
	verify_keyring_free(keyring);
}

TEST(every_spelling_of_a_secret_is_the_same_key)
{
	static const char *const spellings[] = {
		SECRET "Bg", "whsec_" SECRET "Bg", SECRET "Bg==", " whsec_" SECRET "Bg== "};
	struct keyring *keyring = verify_keyring_new();

	for (size_t i = 0; i < ROWS(spellings); i++)
		assert_int_equal(
		    verify_keyring_add(keyring, spellings[i], strlen(spellings[i])), SECRET_GOOD);
	for (size_t i = 1; i < ROWS(spellings); i++)
		assert_string_equal(
		    verify_keyring_fingerprint(keyring, i), verify_keyring_fingerprint(keyring, 0));
	verify_keyring_free(keyring);
}

TEST(each_fault_of_a_secret_comes_with_its_remedy_and_without_the_secret)
{
	static const struct {
		enum secret_kind kind;
		const char *remedy;
	} rows[] = {
		{SECRET_GOOD, "is a signing secret"},
		{SECRET_EMPTY, "paste the endpoint's signing secret"},
		{SECRET_QUOTED, "write the secret without them"},
		{SECRET_SIGNATURE, "leave that out"},
		{SECRET_SEVERAL, "a line of its own"},
		{SECRET_NAMED, "write the secret alone"},
		{SECRET_PUBLIC_KEY, "copy the endpoint's whsec_ secret"},
		{SECRET_PRIVATE_KEY, "copy the endpoint's whsec_ secret"},
		{SECRET_ENCODED_TWICE, "base64 -d"},
		{SECRET_NOT_BASE64, "copy the whole secret"},
		{SECRET_TOO_SHORT, "copy it again"},
		{SECRET_TOO_LONG, "two in one line"},
		{SECRET_TOO_MANY, "drop those that were rotated out"},
		{SECRET_NO_MEMORY, "out of memory"},
	};

	assert_int_equal(ROWS(rows), SECRET_NO_MEMORY + 1);
	assert_string_equal(verify_secret_kind_text((enum secret_kind)ROWS(rows)), "cannot be used");
	for (size_t i = 0; i < ROWS(rows); i++) {
		const char *text = verify_secret_kind_text(rows[i].kind);
		if (strstr(text, rows[i].remedy) == NULL || strchr(text, '\n') != NULL)
			fail_msg("%d: \"%s\"", (int)rows[i].kind, text);
		/* Fixed texts: no run of base64 long enough to be from a secret. */
		for (size_t run = 0; *text != '\0'; text++) {
			run = *text == ' ' ? 0 : run + 1;
			assert_true(run < KEY_MIN);
		}
	}
}

TEST(a_full_keyring_takes_no_more_and_all_its_keys_verify)
{
	struct keyring *keyring = verify_keyring_new(), *single;
	struct message message = message_of(ID, "1614265330", BODY, strlen(BODY));
	struct verification outcome;
	char signature[SIGNATURE_SIZE + 1], secret[CRYPTO_BASE64_SIZE(KEY_MIN)];
	unsigned char key[KEY_MIN] = {0};

	for (int i = 0; i <= KEYRING_MAX; i++) {
		key[0] = (unsigned char)i;
		crypto_base64_encode(key, sizeof(key), secret);
		assert_int_equal(verify_keyring_add(keyring, secret, strlen(secret)),
		    i < KEYRING_MAX ? SECRET_GOOD : SECRET_TOO_MANY);
	}
	assert_int_equal(verify_keyring_size(keyring), KEYRING_MAX);
	for (size_t i = 0; i <= KEYRING_MAX; i++) {
		key[0] = (unsigned char)i;
		crypto_base64_encode(key, sizeof(key), secret);
		single = keyring_of(secret);
		assert_int_equal(verify_keyring_sign(single, 0, &message, signature), 0);
		assert_int_equal(verify(keyring, &message, signature, SIGNATURE_SIZE, NOW, TOLERANCE,
		                     &outcome),
		    i < KEYRING_MAX ? VERIFY_OK : VERIFY_MISMATCH);
		if (i < KEYRING_MAX)
			assert_string_equal(outcome.key, verify_keyring_fingerprint(single, 0));
		verify_keyring_free(single);
	}
	verify_keyring_free(keyring);
}

TEST(a_refused_secret_leaves_the_keyring_as_it_was)
{
	struct keyring *keyring = keyring_of(SECRET);
	struct message message = message_of(ID, "1614265330", BODY, strlen(BODY));
	struct verification outcome;

	assert_int_equal(verify_keyring_add(keyring, B64_23, strlen(B64_23)), SECRET_TOO_SHORT);
	assert_int_equal(verify_keyring_add(keyring, "", 0), SECRET_EMPTY);
	assert_int_equal(verify_keyring_size(keyring), 1);
	assert_int_equal(verify(keyring, &message, SIGNATURE, SIGNATURE_SIZE, NOW, TOLERANCE, &outcome),
	    VERIFY_OK);
	verify_keyring_free(keyring);
	verify_keyring_free(NULL);
}

TEST(without_keys_nothing_matches)
{
	struct keyring *keyring = verify_keyring_new();
	struct message message = message_of(ID, "1614265330", BODY, strlen(BODY));
	struct verification outcome;

	assert_int_equal(verify(keyring, &message, SIGNATURE, SIGNATURE_SIZE, NOW, TOLERANCE, &outcome),
	    VERIFY_MISMATCH);
	verify_keyring_free(keyring);
}

/* ---- what the rest of the program borrows ---- */

TEST(sha256_and_base64_are_those_of_the_standards)
{
	/* FIPS 180-2, appendix B; RFC 4648, section 10. */
	static const struct {
		const char *plain, *encoded;
	} rows[] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="},
	    {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
	char hex[65], text[16], data[8];

	assert_int_equal(crypto_sha256_hex("abc", 3, hex), 0);
	assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
	for (size_t i = 0; i < ROWS(rows); i++) {
		size_t n = strlen(rows[i].plain);
		assert_int_equal(strlen(rows[i].encoded) + 1, CRYPTO_BASE64_SIZE(n));
		crypto_base64_encode(rows[i].plain, n, text);
		assert_string_equal(text, rows[i].encoded);
		assert_int_equal(crypto_base64_decode(text, strlen(text), data, sizeof(data)), n);
		assert_memory_equal(data, rows[i].plain, n);
	}
	assert_int_equal(crypto_base64_decode("Zm9vYmFy", 8, data, 5), -1); /* does not fit */
	assert_int_equal(crypto_base64_decode("Zm9v!", 5, data, sizeof(data)), -1);
	assert_int_equal(crypto_base64_decode("Zm9", 3, data, sizeof(data)), -1);
}

/* ---- what is left on the stack ---- */

enum { STACK = 256 * 1024, WINDOW = 12 };

static void *
add_secret(void *secret)
{
	struct keyring *keyring = verify_keyring_new();
	enum secret_kind kind = verify_keyring_add(keyring, secret, strlen(secret));

	verify_keyring_free(keyring);
	return (void *)(uintptr_t)kind;
}

/* Whether WINDOW bytes of what must not be left are there. */
static bool
is_left(const unsigned char *stack, const unsigned char *trace, size_t length)
{
	for (size_t i = 0; i + WINDOW <= length; i++)
		if (memmem(stack, STACK, trace + i, WINDOW) != NULL)
			return true;
	return false;
}

TEST(of_a_secret_that_was_added_nothing_is_left_on_the_stack)
{
	static const size_t lengths[] = {24, 64, 75}; /* over 64 it is hashed first */
	unsigned char key[75], block[64], *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char text[CRYPTO_BASE64_SIZE(sizeof(key))], hex[65];
	pthread_attr_t attributes;
	pthread_t thread;
	void *kind;

	if (getenv("UNDER_VALGRIND") != NULL)
		skip(); /* what a thread has left on its stack counts as uninitialised */
	assert_true(stack != MAP_FAILED);
	for (size_t i = 0; i < sizeof(key); i++)
		key[i] = (unsigned char)(i * 37 + 11);
	pthread_attr_init(&attributes);
	assert_int_equal(pthread_attr_setstack(&attributes, stack, STACK), 0);
	for (size_t i = 0; i < ROWS(lengths); i++) {
		size_t length = lengths[i];
		crypto_base64_encode(key, length, text);
		memset(stack, 0, STACK);
		assert_int_equal(pthread_create(&thread, &attributes, add_secret, text), 0);
		pthread_join(thread, &kind);
		assert_int_equal((uintptr_t)kind, SECRET_GOOD);
		assert_false(is_left(stack, (unsigned char *)text, strlen(text)));
		assert_false(is_left(stack, key, length));
		for (size_t n = 0; n < sizeof(block); n++)
			block[n] = (n < length ? key[n] : 0) ^ 0x5c;
		assert_false(is_left(stack, block, length < sizeof(block) ? length : sizeof(block)));
		crypto_sha256_hex(key, length, hex);
		for (size_t n = 0; n < 32; n++)
			sscanf(hex + 2 * n, "%2hhx", &block[n]);
		/* A hash of the key: of a long one, that is the key. */
		assert_false(is_left(stack, block, 32));
		assert_false(is_left(stack, (unsigned char *)hex, 64));
	}
	pthread_attr_destroy(&attributes);
	munmap(stack, STACK);
}

TEST(the_tolerance_is_inclusive_either_way)
{
	static const struct {
		int64_t skew;
		enum verify_result result;
	} rows[] = {{0, VERIFY_OK}, {300, VERIFY_OK}, {-300, VERIFY_OK}, {301, VERIFY_STALE},
		{-301, VERIFY_FUTURE}, {INT64_MAX, VERIFY_STALE}, {INT64_MIN, VERIFY_FUTURE}};

	for (size_t i = 0; i < ROWS(rows); i++)
		assert_int_equal(verify_timestamp_in_tolerance(rows[i].skew, TOLERANCE), rows[i].result);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_tolerance_is_inclusive_either_way),
		cmocka_unit_test(every_row_signed_by_another_library_is_judged_as_expected),
		cmocka_unit_test(the_published_vectors_verify_and_are_what_we_sign),
		cmocka_unit_test(our_hmac_is_that_of_mbedtls_for_every_length_of_key),
		cmocka_unit_test(a_timestamp_is_one_to_twelve_digits_without_a_leading_zero),
		cmocka_unit_test(a_malformed_timestamp_does_not_verify_however_it_is_signed),
		cmocka_unit_test(parts_of_the_list_that_are_no_v1_signature_are_skipped),
		cmocka_unit_test(nothing_but_the_canonical_text_of_the_signature_matches),
		cmocka_unit_test(the_list_is_not_read_beyond_its_length),
		cmocka_unit_test(each_part_of_the_message_is_signed),
		cmocka_unit_test(the_tolerance_is_inclusive_either_way_and_the_mac_is_known_outside_it),
		cmocka_unit_test(
		    a_secret_is_taken_as_the_libraries_take_it_and_what_else_is_pasted_is_named),
		cmocka_unit_test(a_nul_byte_at_an_end_is_no_quotation_mark),
		cmocka_unit_test(every_spelling_of_a_secret_is_the_same_key),
		cmocka_unit_test(each_fault_of_a_secret_comes_with_its_remedy_and_without_the_secret),
		cmocka_unit_test(a_full_keyring_takes_no_more_and_all_its_keys_verify),
		cmocka_unit_test(a_refused_secret_leaves_the_keyring_as_it_was),
		cmocka_unit_test(without_keys_nothing_matches),
		cmocka_unit_test(sha256_and_base64_are_those_of_the_standards),
		cmocka_unit_test(of_a_secret_that_was_added_nothing_is_left_on_the_stack),
	};

	return cmocka_run_group_tests_name("verify", tests, NULL, NULL);
}
