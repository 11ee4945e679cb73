/* Owns what store.h promises of names: which one an id has, and which texts are names. */
#include "helpers.h"

#include "base/crypto.h"
#include "store/store.h"

static const char *
name_of(const void *id, size_t length)
{
	static char names[2][STORE_NAME_SIZE];
	static unsigned turn;
	char *name = names[turn++ % 2];

	assert_int_equal(store_name(id, length, name), 0);
	return name;
}

TEST(a_name_is_the_id_with_every_other_byte_as_percent_and_hex)
{
	static const struct {
		const char *id;
		size_t length;
		const char *name;
	} rows[] = {
		{"msg_2KWPBgLlAfxdpx2AI54pPJ85f4W", 31, "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W.json"},
		{"-", 1, "-.json"},
		{".", 1, "%2E.json"},
		{"..", 2, "%2E%2E.json"},
		{"../../etc/passwd", 16, "%2E%2E%2F%2E%2E%2Fetc%2Fpasswd.json"},
		{"/", 1, "%2F.json"},
		{"%2F", 3, "%252F.json"},
		{".hidden", 7, "%2Ehidden.json"},
		{"a.json", 6, "a%2Ejson.json"},
		{"a\0b", 3, "a%00b.json"},
		{"a\nb ", 4, "a%0Ab%20.json"},
		{"\x7f\x80\xff", 3, "%7F%80%FF.json"},
		{"%sha256-", 8, "%25sha256-.json"},
	};

	for (size_t i = 0; i < ROWS(rows); i++)
		assert_string_equal(name_of(rows[i].id, rows[i].length), rows[i].name);
}

TEST(only_plain_bytes_stand_for_themselves)
{
	char expected[16];

	for (int c = 0; c < 256; c++) {
		char byte = (char)c;
		if (c != 0 && strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-", c))
			snprintf(expected, sizeof(expected), "%c.json", c);
		else
			snprintf(expected, sizeof(expected), "%%%02X.json", (unsigned)c);
		assert_string_equal(name_of(&byte, 1), expected);
	}
}

TEST(over_200_bytes_encoded_the_name_is_the_hash)
{
	static const struct {
		size_t plain, encoded; /* bytes of the id that take one and three */
		bool hashed;
	} rows[] = {{199, 0, false}, {200, 0, false}, {201, 0, true}, {197, 1, false}, {198, 1, true},
	    {199, 1, true}, {2, 66, false}, {3, 66, true}, {0, 67, true}, {300, 0, true},
	    {0, 300, true}};
	char id[400], hex[65], expected[STORE_NAME_SIZE + 64];

	for (size_t i = 0; i < ROWS(rows); i++) {
		size_t length = rows[i].plain + rows[i].encoded;
		memset(id, 'a', rows[i].plain);
		memset(id + rows[i].plain, '/', rows[i].encoded);
		assert_int_equal(crypto_sha256_hex(id, length, hex), 0);
		snprintf(expected, sizeof(expected), "%%sha256-%s.json", hex);
		const char *name = name_of(id, length);
		assert_true(strlen(name) < STORE_NAME_SIZE);
		assert_int_equal(strcmp(name, expected) == 0, rows[i].hashed);
		if (!rows[i].hashed)
			assert_int_equal(strlen(name), rows[i].plain + 3 * rows[i].encoded + 5);
		assert_true(store_name_valid(name));
	}
}

/* A small generator, so that a failure comes again. */
static uint32_t
next_random(uint32_t *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 17;
	*seed ^= *seed << 5;
	return *seed;
}

struct id {
	size_t length;
	char bytes[320];
	char name[STORE_NAME_SIZE];
};

static int
by_name(const void *a, const void *b)
{
	return strcmp(((const struct id *)a)->name, ((const struct id *)b)->name);
}

/* Ids near each other: built of the pieces that encoding makes and takes. */
static void
invent(struct id *id, uint32_t *seed)
{
	static const char *const pieces[] = {"%", "2", "F", "f", "%2F", "/", "%25", ".", "..", "%2E",
		"%2e", ".json", "%sha256-", "a", "A", "_", "-", "\xff", " ", "%00", "\n"};
	size_t wanted = next_random(seed) % 8 == 0 ? 60 + next_random(seed) % 200 :
	                                             1 + next_random(seed) % 4;

	while (id->length < wanted) {
		const char *piece = pieces[next_random(seed) % ROWS(pieces)];
		memcpy(id->bytes + id->length, piece, strlen(piece));
		id->length += strlen(piece);
	}
}

TEST(distinct_ids_have_distinct_valid_names_that_stay_in_the_directory)
{
	enum { IDS = 20000 };
	struct id *ids = calloc(IDS, sizeof(*ids));
	uint32_t seed = 20250724;

	assert_non_null(ids);
	for (size_t i = 0; i < IDS; i++) {
		struct id *id = &ids[i];
		if (i % 4 == 1) {
			/* the name of the one before as an id, with and without its ending */
			id->length = strlen(id[-1].name) - (i % 8 == 1 ? 0 : 5);
			memcpy(id->bytes, id[-1].name, id->length);
		} else {
			invent(id, &seed);
		}
		assert_int_equal(store_name(id->bytes, id->length, id->name), 0);
		if (!store_name_valid(id->name) || strchr(id->name, '/') != NULL ||
		    id->name[0] == '.')
			fail_msg("%s", id->name);
	}
	qsort(ids, IDS, sizeof(*ids), by_name);
	for (size_t i = 1; i < IDS; i++)
		if (strcmp(ids[i].name, ids[i - 1].name) == 0 &&
		    (ids[i].length != ids[i - 1].length ||
		        memcmp(ids[i].bytes, ids[i - 1].bytes, ids[i].length) != 0))
			fail_msg("two ids of the name %s", ids[i].name);
	free(ids);
}

TEST(a_name_that_no_id_has_is_not_valid)
{
	static const char hash[] = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
	static const char *const bad[] = {"", ".", "..", ".json", "json", "a", "a.", "a.jso", "a.JSON",
		"a.json ", "a.json.json", "a.b.json", "../a.json", "a/b.json", "a b.json", "\xff.json",
		"%.json", "%2.json", "%2", "%2f.json", "%2e%2e.json", "%GG.json", "% 2.json", "a%.json",
		"a%2.json", "%%2F.json", "%sha256-.json", "%sha256-ba7816bf.json", "%2Fa.json~",
		/* bytes that store_name() leaves as they are */
		"%41.json", "%61.json", "%30.json", "%5F.json", "%2D.json", "msg%5F1.json"};
	char name[400];

	for (size_t i = 0; i < ROWS(bad); i++)
		if (store_name_valid(bad[i]))
			fail_msg("\"%s\" is taken for a name", bad[i]);
	snprintf(name, sizeof(name), "%%sha256-%s.json", hash);
	assert_true(store_name_valid(name));
	name[8] = 'B';
	assert_false(store_name_valid(name));
	snprintf(name, sizeof(name), "%%sha256-%s0.json", hash);
	assert_false(store_name_valid(name));
	snprintf(name, sizeof(name), "%%sha256-%sx.json", hash);
	assert_false(store_name_valid(name));
	snprintf(name, sizeof(name), "%%sha256-%.63s.json", hash);
	assert_false(store_name_valid(name));
	for (int length = 200; length <= 201; length++) {
		snprintf(name, sizeof(name), "%0*d.json", length, 0);
		assert_int_equal(store_name_valid(name), length == 200);
	}
}

/* Every name of three bytes: valid if, and only if, it is the name of what it stands for. */
TEST(a_valid_name_is_exactly_one_that_store_name_makes)
{
	static const char alphabet[] = "%0269AFaf_-./ \n\xff";
	char name[16], id[4];

	for (const char *a = alphabet; *a != '\0'; a++)
		for (const char *b = alphabet; *b != '\0'; b++)
			for (const char *c = alphabet; *c != '\0'; c++) {
				size_t length = 3;
				unsigned byte;
				snprintf(name, sizeof(name), "%c%c%c.json", *a, *b, *c);
				snprintf(id, sizeof(id), "%c%c%c", *a, *b, *c);
				if (*a == '%' && *b != ' ' && *b != '\n' && sscanf(id + 1, "%2x", &byte) == 1) {
					id[0] = (char)byte;
					length = 1;
				}
				bool made = strcmp(name_of(id, length), name) == 0;
				if (store_name_valid(name) != made)
					fail_msg("\"%s\": made is %d", name, made);
			}
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_name_is_the_id_with_every_other_byte_as_percent_and_hex),
		cmocka_unit_test(only_plain_bytes_stand_for_themselves),
		cmocka_unit_test(over_200_bytes_encoded_the_name_is_the_hash),
		cmocka_unit_test(distinct_ids_have_distinct_valid_names_that_stay_in_the_directory),
		cmocka_unit_test(a_name_that_no_id_has_is_not_valid),
		cmocka_unit_test(a_valid_name_is_exactly_one_that_store_name_makes),
	};

	return cmocka_run_group_tests_name("name", tests, NULL, NULL);
}
