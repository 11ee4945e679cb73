/* server/fastcgi_reader.c: whole requests of any pieces; what is answered, dropped, or the end. */
#include "helpers.h"

#include "server/fastcgi_reader.h"

enum { BODY_MAX = 1000, CONNECTIONS = 77 };

/* Records, as they are sent. */
struct wire {
	unsigned char data[256 * 1024];
	size_t length;
};

static void
add(struct wire *w, unsigned type, unsigned id, const void *content, size_t length)
{
	const unsigned char header[] = {1, (unsigned char)type, (unsigned char)(id >> 8),
	    (unsigned char)id, (unsigned char)(length >> 8), (unsigned char)length, 3, 0};

	memcpy(w->data + w->length, header, 8);
	memcpy(w->data + w->length + 8, content, length);
	memset(w->data + w->length + 8 + length, 'p', 3);
	w->length += 8 + length + 3;
}

static void
add_begin(struct wire *w, unsigned id, int role, int flags)
{
	const unsigned char body[8] = {0, (unsigned char)role, (unsigned char)flags};

	add(w, 1, id, body, sizeof(body));
}

/* BEGIN, the variables A=bc and REMOTE_ADDR=192.0.2.1, a body. */
static void
add_request(struct wire *w, unsigned id, const void *body, size_t length)
{
	static const char variables[] = "\1\2Abc\13\11REMOTE_ADDR192.0.2.1";

	add_begin(w, id, 1, 1);
	add(w, 4, id, variables, sizeof(variables) - 1);
	add(w, 4, id, "", 0);
	add(w, 5, id, body, length);
	add(w, 5, id, "", 0);
}

static struct fastcgi_reader *
new_reader(void)
{
	struct fastcgi_reader *reader = fastcgi_reader_new(BODY_MAX, CONNECTIONS);

	assert_non_null(reader);
	return reader;
}

/* All of it at once. */
static enum fastcgi_reader_result
take(struct fastcgi_reader *reader, const struct wire *w, size_t *left)
{
	const unsigned char *data = w->data;

	*left = w->length;
	return fastcgi_reader_take(reader, &data, left);
}

static void
assert_request(struct fastcgi_reader *reader, unsigned id, const char *body)
{
	static const char variables[] = "\1\2Abc\13\11REMOTE_ADDR192.0.2.1";
	size_t length;
	const unsigned char *got = fastcgi_reader_head(reader, &length);

	assert_int_equal(length, 24 + sizeof(variables) - 1 + 8);
	const unsigned char begin[] = {1, 1, 0, (unsigned char)id, 0, 8, 0, 0, 0, 1, 1};
	const unsigned char end[] = {1, 4, 0, (unsigned char)id, 0, 0, 0, 0};
	assert_memory_equal(got, begin, sizeof(begin));
	assert_memory_equal(got + 24, variables, sizeof(variables) - 1);
	assert_memory_equal(got + length - 8, end, sizeof(end));
	got = fastcgi_reader_body(reader, &length);
	assert_int_equal(length, strlen(body));
	assert_memory_equal(got, body, length);
	const char *address = fastcgi_reader_variable(reader, "REMOTE_ADDR", &length);
	assert_int_equal(length, 9);
	assert_memory_equal(address, "192.0.2.1", 9);
	assert_null(fastcgi_reader_variable(reader, "REMOTE", &length));
}

TEST(whole_in_any_pieces)
{
	static struct wire w;

	w.length = 0;
	add_request(&w, 1, "hello", 5);
	for (size_t piece = 1; piece <= w.length; piece++) {
		struct fastcgi_reader *reader = new_reader();
		enum fastcgi_reader_result result = FASTCGI_READER_MORE;
		for (size_t at = 0; at < w.length; at += piece) {
			const unsigned char *data = w.data + at;
			size_t n = w.length - at < piece ? w.length - at : piece;
			assert_int_equal(result, FASTCGI_READER_MORE);
			assert_int_equal(fastcgi_reader_has_begun(reader), at > 0);
			result = fastcgi_reader_take(reader, &data, &n);
			assert_int_equal(n, 0);
		}
		assert_int_equal(result, FASTCGI_READER_WHOLE);
		assert_request(reader, 1, "hello");
		fastcgi_reader_free(reader);
	}
}

TEST(next_one_behind_it)
{
	struct fastcgi_reader *reader = new_reader();
	static struct wire w;
	const unsigned char *data = w.data;

	w.length = 0;
	add_request(&w, 1, "one", 3);
	size_t first = w.length;
	add_request(&w, 2, "two", 3);
	size_t left = w.length;
	assert_int_equal(fastcgi_reader_take(reader, &data, &left), FASTCGI_READER_WHOLE);
	assert_int_equal(left, w.length - first);
	assert_request(reader, 1, "one");
	fastcgi_reader_next(reader);
	assert_int_equal(fastcgi_reader_size(reader), 0);
	assert_false(fastcgi_reader_has_begun(reader));
	assert_int_equal(fastcgi_reader_take(reader, &data, &left), FASTCGI_READER_WHOLE);
	assert_int_equal(left, 0);
	assert_request(reader, 2, "two");
	fastcgi_reader_free(reader);
}

/* One byte over the limit is kept, and no more; the request is still read to its end. */
TEST(body_is_bounded)
{
	struct fastcgi_reader *reader = new_reader();
	static struct wire w;
	static char body[5000];
	size_t left, length;

	w.length = 0;
	memset(body, 'x', sizeof(body));
	add_request(&w, 1, body, sizeof(body));
	assert_int_equal(take(reader, &w, &left), FASTCGI_READER_WHOLE);
	fastcgi_reader_body(reader, &length);
	assert_int_equal(length, BODY_MAX + 1);
	assert_true(fastcgi_reader_size(reader) <= BODY_MAX + 1 + 4096);
	fastcgi_reader_free(reader);
}

TEST(variables_are_bounded)
{
	static unsigned char pairs[40000] = {0x80, 0, 0x9c, 0x38, 0, 'A'}; /* a name of 39,992 bytes */
	struct fastcgi_reader *reader = new_reader();
	static struct wire w;
	size_t left;

	w.length = 0;
	add_begin(&w, 1, 1, 0);
	add(&w, 4, 1, pairs, 39997);
	assert_int_equal(take(reader, &w, &left), FASTCGI_READER_MORE);
	w.length = 0;
	add(&w, 4, 1, pairs, 39997);
	assert_int_equal(take(reader, &w, &left), FASTCGI_READER_END);
	fastcgi_reader_free(reader);
}

/* Lengths that say more than there is, one of them of CVE-2025-23016. */
TEST(lengths_are_checked)
{
	static const struct {
		const char *pairs;
		size_t length;
	} rows[] = {
#define ROW(text) {text, sizeof(text) - 1}
		ROW("\xff\xff\xff\xff\xff\xff\xff\xff" "xxxxxxxxxxxx"),
		ROW("\x80\0\0\x05\x80\0\0\0ab"),
		ROW("\x7f\x7f" "ab"), ROW("\1\2A"), ROW("\1"), ROW("\x80"), ROW("\x80\0\0"),
		ROW("\1\x80\0\0"), ROW("\2\1A"),
#undef ROW
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct fastcgi_reader *reader = new_reader();
		static struct wire w;
		size_t left;
		w.length = 0;
		add_begin(&w, 1, 1, 0);
		add(&w, 4, 1, rows[i].pairs, rows[i].length);
		add(&w, 4, 1, "", 0);
		assert_int_equal(take(reader, &w, &left), FASTCGI_READER_END);
		fastcgi_reader_free(reader);
	}
}

static void
assert_answer(struct fastcgi_reader *reader, const void *wanted, size_t wanted_length)
{
	size_t length;
	const unsigned char *answer = fastcgi_reader_answer(reader, &length);

	assert_int_equal(length, wanted_length);
	assert_memory_equal(answer, wanted, length);
}

TEST(values)
{
	static const char asked[] = "\17\0FCGI_MPXS_CONNS\5\1OTHERx\16\0FCGI_MAX_CONNS"
	    "\15\0FCGI_MAX_REQS";
	static const char told[] = "\1\12\0\0\0\65\3\0\17\1FCGI_MPXS_CONNS0\16\2FCGI_MAX_CONNS77"
	    "\15\2FCGI_MAX_REQS77\0\0\0";
	struct fastcgi_reader *reader = new_reader();
	static struct wire w;
	size_t left;

	w.length = 0;
	add(&w, 9, 0, asked, sizeof(asked) - 1);
	assert_int_equal(take(reader, &w, &left), FASTCGI_READER_ANSWER);
	assert_int_equal(left, 0);
	assert_answer(reader, told, sizeof(told) - 1);
	assert_false(fastcgi_reader_has_begun(reader));
	w.length = 0;
	add(&w, 9, 0, "", 0);
	assert_int_equal(take(reader, &w, &left), FASTCGI_READER_ANSWER);
	assert_answer(reader, "\1\12\0\0\0\0\0", 8);
	fastcgi_reader_free(reader);
}

/* The same variable often: one answer of bounded size. A record that is too long ends it. */
TEST(many_values)
{
	struct fastcgi_reader *reader = new_reader();
	static struct wire w;
	unsigned char asked[600];
	size_t left, length;

	for (size_t i = 0; i + 15 <= sizeof(asked); i += 15)
		memcpy(asked + i, "\15\0FCGI_MAX_REQS", 15);
	w.length = 0;
	add(&w, 9, 0, asked, 510);
	assert_int_equal(take(reader, &w, &left), FASTCGI_READER_ANSWER);
	fastcgi_reader_answer(reader, &length);
	assert_true(length <= FASTCGI_READER_ANSWER_SIZE);
	w.length = 0;
	add(&w, 9, 0, asked, 600);
	assert_int_equal(take(reader, &w, &left), FASTCGI_READER_END);
	fastcgi_reader_free(reader);
}

TEST(unknown_management_record)
{
	struct fastcgi_reader *reader = new_reader();
	static struct wire w;
	size_t left;

	w.length = 0;
	add(&w, 99, 0, "x", 1);
	assert_int_equal(take(reader, &w, &left), FASTCGI_READER_ANSWER);
	assert_answer(reader, "\1\13\0\0\0\10\0\0\143\0\0\0\0\0\0\0", 16);
	fastcgi_reader_free(reader);
}

/* A second request on the connection while one arrives: it cannot be had, and the first goes on. */
TEST(no_multiplexing)
{
	struct fastcgi_reader *reader = new_reader();
	static struct wire w;
	size_t left;
	const unsigned char *data = w.data;

	w.length = 0;
	add_begin(&w, 1, 1, 1);
	add_begin(&w, 2, 1, 1);
	left = w.length;
	assert_int_equal(fastcgi_reader_take(reader, &data, &left), FASTCGI_READER_ANSWER);
	assert_answer(reader, "\1\3\0\2\0\10\0\0\0\0\0\0\1\0\0\0", 16);
	w.length = 0;
	add(&w, 4, 2, "\1\1Xx", 4);
	add(&w, 5, 2, "x", 1);
	add(&w, 4, 1, "\1\2Abc\13\11REMOTE_ADDR192.0.2.1", 27);
	add(&w, 8, 1, "data", 4);
	add(&w, 4, 1, "", 0);
	add(&w, 5, 1, "body", 4);
	add(&w, 5, 1, "", 0);
	assert_int_equal(take(reader, &w, &left), FASTCGI_READER_WHOLE);
	assert_request(reader, 1, "body");
	fastcgi_reader_free(reader);
}

TEST(aborted)
{
	for (int keep = 0; keep < 2; keep++) {
		struct fastcgi_reader *reader = new_reader();
		static struct wire w;
		size_t left;
		w.length = 0;
		add_begin(&w, 5, 1, keep);
		add(&w, 2, 5, "", 0);
		assert_int_equal(take(reader, &w, &left),
		    keep ? FASTCGI_READER_ANSWER : FASTCGI_READER_END);
		assert_answer(reader, "\1\3\0\5\0\10\0\0\0\0\0\0\0\0\0\0", 16);
		assert_false(fastcgi_reader_has_begun(reader));
		fastcgi_reader_free(reader);
	}
}

TEST(unknown_role)
{
	struct fastcgi_reader *reader = new_reader();
	static struct wire w;
	size_t left;

	w.length = 0;
	add_begin(&w, 1, 2, 1);
	assert_int_equal(take(reader, &w, &left), FASTCGI_READER_END);
	assert_answer(reader, "\1\3\0\1\0\10\0\0\0\0\0\0\3\0\0\0", 16);
	fastcgi_reader_free(reader);
}

/* What no server sends. */
TEST(broken)
{
	static const struct {
		const char *data;
		size_t length;
	} rows[] = {
#define ROW(text) {text, sizeof(text) - 1}
		ROW("\0\0\0\0\0\0\0\0"), ROW("GET / HTTP/1.1\r\n\r\n"), ROW("\x09\1\0\1\0\0\0\0"),
		ROW("\1\1\0\1\0\2\0\0\0\1"), ROW("\1\1\0\0\0\10\0\0\0\1\0\0\0\0\0\0"),
		/* STDIN before the variables end, PARAMS after them, BEGIN of the same request twice */
		ROW("\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0\1\5\0\1\0\0\0\0"),
		ROW("\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0\1\4\0\1\0\0\0\0\1\4\0\1\0\0\0\0"),
		ROW("\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0\1\1\0\1\0\10\0\0\0\1\0\0\0\0\0\0"),
#undef ROW
	};

	for (size_t i = 0; i < ROWS(rows); i++) {
		struct fastcgi_reader *reader = new_reader();
		const unsigned char *data = (const unsigned char *)rows[i].data;
		size_t left = rows[i].length;
		assert_int_equal(fastcgi_reader_take(reader, &data, &left), FASTCGI_READER_END);
		fastcgi_reader_free(reader);
	}
}

/* Records of requests that are not known, before one begins. */
TEST(others_are_dropped)
{
	struct fastcgi_reader *reader = new_reader();
	static struct wire w;
	size_t left;

	w.length = 0;
	add(&w, 5, 9, "x", 1);
	add(&w, 2, 9, "", 0);
	add(&w, 42, 9, "x", 1);
	add_request(&w, 1, "", 0);
	assert_int_equal(take(reader, &w, &left), FASTCGI_READER_WHOLE);
	assert_int_equal(left, 11); /* an empty STDIN record is the end already: one too many */
	assert_request(reader, 1, "");
	fastcgi_reader_free(reader);
}

/* Cut off at each byte, for lack of time or memory: what still comes of a request is dropped. */
TEST(rest_of_one_that_was_cut_off)
{
	static char body[BODY_MAX + 1];
	static struct wire w;

	memset(body, 'x', BODY_MAX);
	w.length = 0;
	add_request(&w, 1, body, BODY_MAX);
	size_t cut_off = w.length;
	add_request(&w, 1, "next", 4);
	for (size_t at = 8 + 8 + 3; at < cut_off; at++) {
		struct fastcgi_reader *reader = new_reader();
		const unsigned char *data = w.data;
		size_t left = at;
		assert_int_equal(fastcgi_reader_take(reader, &data, &left), FASTCGI_READER_MORE);
		fastcgi_reader_next(reader);
		left = w.length - at;
		assert_int_equal(fastcgi_reader_take(reader, &data, &left), FASTCGI_READER_WHOLE);
		assert_int_equal(left, 0);
		assert_request(reader, 1, "next");
		fastcgi_reader_free(reader);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole_in_any_pieces),
		cmocka_unit_test(next_one_behind_it),
		cmocka_unit_test(body_is_bounded),
		cmocka_unit_test(variables_are_bounded),
		cmocka_unit_test(lengths_are_checked),
		cmocka_unit_test(values),
		cmocka_unit_test(many_values),
		cmocka_unit_test(unknown_management_record),
		cmocka_unit_test(no_multiplexing),
		cmocka_unit_test(aborted),
		cmocka_unit_test(unknown_role),
		cmocka_unit_test(broken),
		cmocka_unit_test(others_are_dropped),
		cmocka_unit_test(rest_of_one_that_was_cut_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
