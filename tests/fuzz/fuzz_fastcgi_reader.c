/*
 * Records of FastCGI in any pieces. Input: a byte, how long a piece is; then the records. In
 * pieces and at once the result must be the same; a head that is handed on has lengths that
 * are right, and memory stays bounded, also where a request is cut off behind any piece.
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>

#include "oracle.h"
#include "server/fastcgi_reader.h"

enum { BODY_MAX = 300, REQUESTS_MAX = 64 };

/* What came out: a sum of it all. */
struct outcome {
	unsigned long sum;
	enum fastcgi_reader_result result;
};

static void
sum_up(struct outcome *outcome, const unsigned char *data, size_t length)
{
	for (size_t i = 0; i < length; i++)
		outcome->sum = outcome->sum * 31 + data[i];
	outcome->sum = outcome->sum * 31 + length;
}

/* The head as libfcgi will read it: BEGIN, one record PARAMS, and its end. */
static void
check_head(const unsigned char *head, size_t length)
{
	size_t content = (size_t)head[20] << 8 | head[21], at = 24, size[2];

	MUST(length == 24 + content + 8 && head[1] == 1 && head[17] == 4 && head[length - 7] == 4);
	while (at < 24 + content) {
		for (int i = 0; i < 2; i++) {
			MUST(at < 24 + content);
			size[i] = head[at];
			if (head[at] < 0x80) {
				at++;
				continue;
			}
			MUST(at + 4 <= 24 + content);
			size[i] = (size_t)(head[at] & 0x7f) << 24 | (size_t)head[at + 1] << 16 |
			    (size_t)head[at + 2] << 8 | head[at + 3];
			at += 4;
		}
		MUST(size[0] + size[1] <= 24 + content - at);
		at += size[0] + size[1];
	}
}

/* cut_off: behind how many pieces the request is cut off; 0: never. */
static struct outcome
read_all(const unsigned char *data, size_t length, size_t piece, unsigned cut_off)
{
	struct fastcgi_reader *reader = fastcgi_reader_new(BODY_MAX, 16384);
	struct outcome outcome = {0, FASTCGI_READER_MORE};
	size_t n;

	MUST(reader != NULL);
	while (length > 0 && outcome.result != FASTCGI_READER_END) {
		size_t left = length < piece ? length : piece;
		length -= left;
		while (left > 0 && outcome.result != FASTCGI_READER_END) {
			outcome.result = fastcgi_reader_take(reader, &data, &left);
			const unsigned char *answer = fastcgi_reader_answer(reader, &n);
			MUST(n <= FASTCGI_READER_ANSWER_SIZE);
			if (n > 0)
				sum_up(&outcome, answer, n);
			MUST(fastcgi_reader_size(reader) <= 65535 + 32 + BODY_MAX + 1 + 4096);
			if (outcome.result != FASTCGI_READER_WHOLE)
				continue;
			const unsigned char *head = fastcgi_reader_head(reader, &n);
			check_head(head, n);
			sum_up(&outcome, head, n);
			const unsigned char *body = fastcgi_reader_body(reader, &n);
			MUST(n <= BODY_MAX + 1);
			sum_up(&outcome, body, n);
			fastcgi_reader_variable(reader, "REMOTE_ADDR", &n);
			fastcgi_reader_next(reader);
		}
		if (cut_off > 0 && --cut_off == 0)
			fastcgi_reader_next(reader);
	}
	fastcgi_reader_free(reader);
	return outcome;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 2)
		return 0;
	struct outcome whole = read_all(data + 1, size - 1, size, 0);
	size_t piece = (size_t)data[0] % 40 + 1;
	struct outcome pieces = read_all(data + 1, size - 1, piece, 0);
	MUST(whole.sum == pieces.sum);
	MUST((whole.result == FASTCGI_READER_END) == (pieces.result == FASTCGI_READER_END));
	read_all(data + 1, size - 1, 4 * piece, data[0] / 40 + 1);
	return 0;
}
