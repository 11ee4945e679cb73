/* Owns the parser of queries. It takes nothing that it does not know: no key, no escape. */
#include "web/query.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/datetime.h"
#include "base/text.h"

static const char *const names[QUERY_KEYS] = {[QUERY_OUTCOME] = "outcome",
	[QUERY_STATUS] = "status", [QUERY_TYPE] = "type", [QUERY_NPN] = "npn", [QUERY_ID] = "id",
	[QUERY_REASON] = "reason", [QUERY_SINCE] = "since", [QUERY_UNTIL] = "until",
	[QUERY_AFTER] = "after", [QUERY_LIMIT] = "limit"};

static int
find_key(const char *text, size_t length)
{
	for (int i = 0; i < QUERY_KEYS; i++)
		if (strlen(names[i]) == length && memcmp(names[i], text, length) == 0)
			return i;
	return -1;
}

static int
hex_value(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	    c >= 'a' && c <= 'f'    ? c - 'a' + 10 :
	    c >= 'A' && c <= 'F'    ? c - 'A' + 10 :
	                              -1;
}

/* Decode a value. Returns NULL, or what is wrong. */
static const char *
decode(char value[QUERY_VALUE_MAX + 1], const char *text, size_t length)
{
	size_t n = 0;

	for (size_t i = 0; i < length; i++) {
		int c = text[i] == '+' ? ' ' : (unsigned char)text[i];
		if (c == '%') {
			int high = i + 2 < length ? hex_value(text[i + 1]) : -1;
			int low = high >= 0 ? hex_value(text[i + 2]) : -1;
			if (low < 0)
				return "incomplete percent-encoding";
			c = high * 16 + low;
			i += 2;
		}
		if (c < 0x20 || c == 0x7f)
			return "control character";
		if (n == QUERY_VALUE_MAX)
			return "value too long";
		value[n++] = (char)c;
	}
	value[n] = '\0';
	return text_is_utf8(value, n) ? NULL : "value is not UTF-8";
}

static const char *
read_pair(struct web_query *query, const char *text, size_t length)
{
	const char *equals = memchr(text, '=', length);
	size_t name_length = equals != NULL ? (size_t)(equals - text) : length;
	int key = find_key(text, name_length);

	if (key < 0)
		return "unknown parameter";
	if (query->value[key][0] != '\0')
		return "parameter given twice";
	return equals == NULL ? NULL :
	                        decode(query->value[key], equals + 1, length - name_length - 1);
}

static const char *
read_limit(struct web_query *query)
{
	const char *text = query->value[QUERY_LIMIT];
	char *end;

	query->limit = QUERY_LIMIT_DEFAULT;
	if (*text == '\0')
		return NULL;
	query->limit = strtol(text, &end, 10);
	if (*text < '0' || *text > '9' || *end != '\0')
		return "limit must be a number";
	if (query->limit < 1)
		query->limit = 1;
	if (query->limit > QUERY_LIMIT_MAX)
		query->limit = QUERY_LIMIT_MAX;
	return NULL;
}

static const char *
read_times(struct web_query *query, int64_t now)
{
	const char *since = query->value[QUERY_SINCE], *until = query->value[QUERY_UNTIL];

	if ((*since != '\0' && !datetime_argument(since, now, &query->since)) ||
	    (*until != '\0' && !datetime_argument(until, now, &query->until)))
		return "since and until take 2025-07-24, 2025-07-24T22:51Z or an age like 12h";
	/* 0 stands for: not given. */
	if (*until != '\0' && query->until <= 0)
		query->until = 1;
	if (query->since < 0)
		query->since = 0;
	return NULL;
}

const char *
query_parse(struct web_query *query, const char *text, int64_t now)
{
	const char *wrong = NULL;

	memset(query, 0, sizeof(*query));
	if (text == NULL)
		text = "";
	if (strlen(text) > QUERY_MAX)
		return "query too long";
	while (wrong == NULL && *text != '\0') {
		size_t length = strcspn(text, "&");
		if (length > 0)
			wrong = read_pair(query, text, length);
		text += length + (text[length] == '&');
	}
	if (wrong == NULL)
		wrong = read_limit(query);
	return wrong != NULL ? wrong : read_times(query, now);
}
