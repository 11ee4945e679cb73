/*
 * Owns the form of FastCGI records as they arrive: which record belongs to the request, which
 * is answered at once, and which ends the connection. A connection has one request at a time.
 */
#define _GNU_SOURCE
#include "server/fastcgi_reader.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* FastCGI 1.0, section 8. */
enum {
	VERSION = 1,
	HEADER = 8,
	BEGIN_REQUEST = 1,
	ABORT_REQUEST = 2,
	END_REQUEST = 3,
	PARAMS = 4,
	STDIN = 5,
	DATA = 8,
	GET_VALUES = 9,
	GET_VALUES_RESULT = 10,
	UNKNOWN_TYPE = 11,
	RESPONDER = 1,
	REQUEST_COMPLETE = 0,
	CANT_MPX_CONN = 1,
	UNKNOWN_ROLE = 3
};

enum {
	BEGIN_BODY = 8,
	SMALL = 512,          /* bytes of a record that is answered at once */
	HEAD = HEADER + BEGIN_BODY + HEADER, /* before the variables, see close_head() */
	HEAD_MAX = HEAD + FASTCGI_READER_VARIABLES_MAX + HEADER,
	FIRST_VARIABLES = 2048,
	FIRST_BODY = 4096
};

enum state {
	IDLE,      /* no BEGIN_REQUEST yet */
	VARIABLES, /* PARAMS arrive */
	BODY,      /* STDIN arrives */
	WHOLE
};

/* A buffer that grows. */
struct chunk {
	unsigned char *data;
	size_t length, room;
};

struct fastcgi_reader {
	size_t body_max;
	int connections;
	enum state state;
	unsigned id;
	bool keep;
	/* The record that is arriving. */
	unsigned char header[HEADER];
	size_t header_length;
	size_t left, padding; /* bytes of its content and padding that are missing */
	bool wanted;          /* its content is kept, else dropped */
	unsigned char small[SMALL]; /* content that belongs to neither stream */
	size_t small_length;
	/* The request. */
	struct chunk variables; /* after HEAD bytes, which close_head() fills in */
	struct chunk body;
	unsigned char answer[FASTCGI_READER_ANSWER_SIZE];
	size_t answer_length;
};

struct fastcgi_reader *
fastcgi_reader_new(size_t body_max, int connections)
{
	struct fastcgi_reader *r = calloc(1, sizeof(*r));

	if (r != NULL) {
		r->body_max = body_max;
		r->connections = connections;
	}
	return r;
}

/* Append, in memory of at most max bytes. Returns false without memory or room. */
static bool
append(struct chunk *buffer, const unsigned char *data, size_t n, size_t first, size_t max)
{
	size_t room = buffer->room > 0 ? buffer->room : first, wanted = buffer->length + n;

	if (wanted > max)
		return false;
	while (room < wanted)
		room *= 2;
	room = room < max ? room : max;
	if (room > buffer->room) {
		unsigned char *grown = realloc(buffer->data, room);
		if (grown == NULL)
			return false;
		buffer->data = grown;
		buffer->room = room;
	}
	memcpy(buffer->data + buffer->length, data, n);
	buffer->length = wanted;
	return true;
}

/* ---- names and values, section 3.4 ---- */

struct pair {
	const unsigned char *name, *value;
	size_t name_length, value_length;
};

/* Returns false if the four or one bytes are not all there. */
static bool
read_length(const unsigned char **at, const unsigned char *end, size_t *length)
{
	const unsigned char *p = *at;

	if (p == end || (p[0] >= 0x80 && end - p < 4))
		return false;
	bool wide = p[0] >= 0x80;
	*length = wide ? (size_t)(p[0] & 0x7f) << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3] :
	                 p[0];
	*at += wide ? 4 : 1;
	return true;
}

/* The next pair. Returns false at the end, and where the lengths say more than there is. */
static bool
next_pair(const unsigned char **at, const unsigned char *end, struct pair *pair)
{
	const unsigned char *p = *at;

	if (!read_length(&p, end, &pair->name_length) || !read_length(&p, end, &pair->value_length) ||
	    (size_t)(end - p) < pair->name_length ||
	    (size_t)(end - p) - pair->name_length < pair->value_length)
		return false;
	pair->name = p;
	pair->value = p + pair->name_length;
	*at = pair->value + pair->value_length;
	return true;
}

static bool
is_named(const struct pair *pair, const char *name)
{
	return pair->name_length == strlen(name) && memcmp(pair->name, name, pair->name_length) == 0;
}

/*
 * Where the variables begin and end. Once all have arrived, close_head() has put the header of an
 * empty record after them.
 */
static const unsigned char *
variables_of(const struct fastcgi_reader *r, const unsigned char **end)
{
	size_t behind = fastcgi_reader_has_variables(r) ? HEADER : 0;

	*end = r->variables.data + r->variables.length - behind;
	return r->variables.data + HEAD;
}

/* Whether all lengths are right. libfcgi 2.4.2, which reads them next, adds them as int. */
static bool
are_pairs(const struct fastcgi_reader *r)
{
	const unsigned char *end, *at = variables_of(r, &end);
	struct pair pair;

	while (at != end)
		if (!next_pair(&at, end, &pair))
			return false;
	return true;
}

const char *
fastcgi_reader_variable(const struct fastcgi_reader *r, const char *name, size_t *length)
{
	const unsigned char *end, *at = variables_of(r, &end);
	struct pair pair;

	while (at != end && next_pair(&at, end, &pair)) {
		if (!is_named(&pair, name))
			continue;
		*length = pair.value_length;
		return (const char *)pair.value;
	}
	return NULL;
}

/* ---- records that we send ---- */

static void
put_header(unsigned char *to, unsigned type, unsigned id, size_t length, size_t padding)
{
	const unsigned char header[HEADER] = {VERSION, (unsigned char)type, (unsigned char)(id >> 8),
	    (unsigned char)id, (unsigned char)(length >> 8), (unsigned char)length,
	    (unsigned char)padding, 0};

	memcpy(to, header, HEADER);
}

/* END_REQUEST, or UNKNOWN_TYPE: eight bytes; number is the status, or the type. */
static void
answer_short(struct fastcgi_reader *r, unsigned type, unsigned id, unsigned number)
{
	memset(r->answer, 0, sizeof(r->answer));
	put_header(r->answer, type, id, 8, 0);
	r->answer[HEADER + (type == END_REQUEST ? 4 : 0)] = (unsigned char)number;
	r->answer_length = HEADER + 8;
}

/* Section 4.1: the values of those requested variables that are known. */
static void
answer_values(struct fastcgi_reader *r)
{
	static const char *const names[] = {"FCGI_MAX_CONNS", "FCGI_MAX_REQS", "FCGI_MPXS_CONNS"};
	const unsigned char *at = r->small, *end = r->small + r->small_length;
	unsigned char *to = r->answer + HEADER;
	bool told[3] = {false};
	struct pair pair;

	while (next_pair(&at, end, &pair)) {
		for (int i = 0; i < 3; i++) {
			char value[12];
			if (told[i] || !is_named(&pair, names[i]))
				continue;
			told[i] = true;
			size_t n = (size_t)snprintf(value, sizeof(value), "%d", i < 2 ? r->connections : 0);
			*to++ = (unsigned char)pair.name_length;
			*to++ = (unsigned char)n;
			memcpy(to, pair.name, pair.name_length);
			memcpy(to + pair.name_length, value, n);
			to += pair.name_length + n;
		}
	}
	size_t length = (size_t)(to - r->answer) - HEADER, padding = (8 - length % 8) % 8;
	memset(to, 0, padding);
	put_header(r->answer, GET_VALUES_RESULT, 0, length, padding);
	r->answer_length = HEADER + length + padding;
}

const unsigned char *
fastcgi_reader_answer(const struct fastcgi_reader *r, size_t *length)
{
	*length = r->answer_length;
	return r->answer;
}

/*
 * All variables have arrived: add the record headers with which a FastCGI peer would send them.
 * Returns false without memory.
 */
static bool
close_head(struct fastcgi_reader *r)
{
	unsigned char end[HEADER];
	size_t size = r->variables.length - HEAD;

	put_header(end, PARAMS, r->id, 0, 0);
	if (!append(&r->variables, end, HEADER, FIRST_VARIABLES, HEAD_MAX))
		return false;
	unsigned char *head = r->variables.data;
	memset(head, 0, HEAD);
	put_header(head, BEGIN_REQUEST, r->id, BEGIN_BODY, 0);
	head[HEADER + 1] = RESPONDER;
	head[HEADER + 2] = r->keep ? 1 : 0;
	put_header(head + HEADER + BEGIN_BODY, PARAMS, r->id, size, 0);
	return true;
}

const unsigned char *
fastcgi_reader_head(const struct fastcgi_reader *r, size_t *length)
{
	*length = r->variables.length;
	return r->variables.data;
}

/* ---- records that arrive ---- */

static unsigned
type_of(const struct fastcgi_reader *r)
{
	return r->header[1];
}

static unsigned
id_of(const struct fastcgi_reader *r)
{
	return (unsigned)r->header[2] << 8 | r->header[3];
}

/* Whether the record belongs to this stream of the current request. */
static bool
is_stream(const struct fastcgi_reader *r, unsigned type, enum state state)
{
	return type_of(r) == type && id_of(r) == r->id && r->state == state;
}

void
fastcgi_reader_next(struct fastcgi_reader *r)
{
	/* Of a request that was cut off, the rest of a record may still come. */
	if (is_stream(r, PARAMS, VARIABLES) || is_stream(r, STDIN, BODY))
		r->wanted = false;
	free(r->variables.data);
	free(r->body.data);
	r->variables = r->body = (struct chunk){0};
	r->state = IDLE;
}

void
fastcgi_reader_free(struct fastcgi_reader *r)
{
	if (r == NULL)
		return;
	fastcgi_reader_next(r);
	free(r);
}

/* A header has arrived. Returns false if the connection must be closed. */
static bool
begin_record(struct fastcgi_reader *r)
{
	unsigned type = type_of(r), id = id_of(r);

	r->left = (size_t)r->header[4] << 8 | r->header[5];
	r->padding = r->header[6];
	r->small_length = 0;
	r->wanted = true;
	if (r->header[0] != VERSION)
		return false;
	if (id == 0 || type == BEGIN_REQUEST)
		return r->left <= SMALL && (type != BEGIN_REQUEST || (id != 0 && r->left == BEGIN_BODY));
	/* Records of an unknown request, and records that are not needed, are dropped. */
	if (r->state == IDLE || id != r->id || type == DATA || type == ABORT_REQUEST) {
		r->wanted = false;
		return true;
	}
	return is_stream(r, PARAMS, VARIABLES) || is_stream(r, STDIN, BODY);
}

static bool
take_variables(struct fastcgi_reader *r, const unsigned char *data, size_t n)
{
	return append(&r->variables, data, n, FIRST_VARIABLES, HEAD_MAX - HEADER);
}

/* One byte more than the limit is kept, so that the program sees that the body is too large. */
static bool
take_body(struct fastcgi_reader *r, const unsigned char *data, size_t n)
{
	size_t room = r->body_max + 1 - r->body.length;

	return append(&r->body, data, n < room ? n : room, FIRST_BODY, r->body_max + 1);
}

/* Content of the record. Returns false if the connection must be closed. */
static bool
take_content(struct fastcgi_reader *r, const unsigned char *data, size_t n)
{
	if (!r->wanted)
		return true;
	if (is_stream(r, PARAMS, VARIABLES))
		return take_variables(r, data, n);
	if (is_stream(r, STDIN, BODY))
		return take_body(r, data, n);
	if (n > SMALL - r->small_length)
		return false;
	memcpy(r->small + r->small_length, data, n);
	r->small_length += n;
	return true;
}

static enum fastcgi_reader_result
begin_request(struct fastcgi_reader *r)
{
	static const unsigned char head[HEAD];
	unsigned role = (unsigned)r->small[0] << 8 | r->small[1];

	if (r->state != IDLE) {
		answer_short(r, END_REQUEST, id_of(r), CANT_MPX_CONN);
		return id_of(r) == r->id ? FASTCGI_READER_END : FASTCGI_READER_ANSWER;
	}
	if (role != RESPONDER) {
		answer_short(r, END_REQUEST, id_of(r), UNKNOWN_ROLE);
		return FASTCGI_READER_END;
	}
	r->id = id_of(r);
	r->keep = (r->small[2] & 1) != 0;
	r->state = VARIABLES;
	return take_variables(r, head, HEAD) ? FASTCGI_READER_MORE : FASTCGI_READER_END;
}

static enum fastcgi_reader_result
abort_request(struct fastcgi_reader *r)
{
	if (r->state == IDLE || id_of(r) != r->id)
		return FASTCGI_READER_MORE;
	answer_short(r, END_REQUEST, r->id, REQUEST_COMPLETE);
	fastcgi_reader_next(r);
	return r->keep ? FASTCGI_READER_ANSWER : FASTCGI_READER_END;
}

/* A record is complete. */
static enum fastcgi_reader_result
end_record(struct fastcgi_reader *r)
{
	unsigned type = type_of(r);
	bool empty = r->header[4] == 0 && r->header[5] == 0;

	if (type == BEGIN_REQUEST)
		return begin_request(r);
	if (id_of(r) == 0) {
		if (type == GET_VALUES)
			answer_values(r);
		else
			answer_short(r, UNKNOWN_TYPE, 0, type);
		return FASTCGI_READER_ANSWER;
	}
	if (type == ABORT_REQUEST)
		return abort_request(r);
	if (!empty || !r->wanted)
		return FASTCGI_READER_MORE;
	if (r->state == VARIABLES && (!are_pairs(r) || !close_head(r)))
		return FASTCGI_READER_END;
	r->state = r->state == VARIABLES ? BODY : WHOLE;
	return r->state == WHOLE ? FASTCGI_READER_WHOLE : FASTCGI_READER_MORE;
}

static size_t
smaller(size_t a, size_t b)
{
	return a < b ? a : b;
}

/*
 * Take bytes of the header, the content or the padding. Returns false if the connection must be
 * closed.
 */
static bool
take_piece(struct fastcgi_reader *r, const unsigned char *data, size_t length, size_t *taken)
{
	if (r->header_length < HEADER) {
		*taken = smaller(HEADER - r->header_length, length);
		memcpy(r->header + r->header_length, data, *taken);
		r->header_length += *taken;
		return r->header_length < HEADER || begin_record(r);
	}
	if (r->left > 0) {
		*taken = smaller(r->left, length);
		r->left -= *taken;
		return take_content(r, data, *taken);
	}
	*taken = smaller(r->padding, length);
	r->padding -= *taken;
	return true;
}

enum fastcgi_reader_result
fastcgi_reader_take(struct fastcgi_reader *r, const unsigned char **data, size_t *length)
{
	enum fastcgi_reader_result result = FASTCGI_READER_MORE;
	size_t taken;

	r->answer_length = 0;
	while (*length > 0 && result == FASTCGI_READER_MORE) {
		if (!take_piece(r, *data, *length, &taken))
			return FASTCGI_READER_END;
		*data += taken;
		*length -= taken;
		if (r->header_length < HEADER || r->left > 0 || r->padding > 0)
			continue;
		r->header_length = 0;
		result = end_record(r);
	}
	return result;
}

/* ---- the request ---- */

bool
fastcgi_reader_has_begun(const struct fastcgi_reader *r)
{
	return (r->state != IDLE && r->state != WHOLE) || r->header_length > 0;
}

bool
fastcgi_reader_has_variables(const struct fastcgi_reader *r)
{
	return r->state == BODY || r->state == WHOLE;
}

const unsigned char *
fastcgi_reader_body(const struct fastcgi_reader *r, size_t *length)
{
	*length = r->body.length;
	return r->body.data;
}

size_t
fastcgi_reader_size(const struct fastcgi_reader *r)
{
	return r->variables.room + r->body.room;
}
