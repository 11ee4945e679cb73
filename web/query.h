/* The query of a request to the API: percent-decoded, bounded, and only what is known. */
#ifndef PSAPI_QUERY_H
#define PSAPI_QUERY_H

#include <stdbool.h>
#include <stdint.h>

/* Bytes of a query, and of one value. */
#define QUERY_MAX 4096
#define QUERY_VALUE_MAX 600
/* Rows of an answer: the default, and the most. */
#define QUERY_LIMIT_DEFAULT 50
#define QUERY_LIMIT_MAX 200

enum query_key {
	QUERY_OUTCOME,
	QUERY_STATUS,
	QUERY_TYPE,
	QUERY_NPN,
	QUERY_ID,
	QUERY_REASON,
	QUERY_SINCE,
	QUERY_UNTIL,
	QUERY_AFTER, /* the cursor at which an earlier page ended */
	QUERY_LIMIT,
	QUERY_KEYS
};

struct web_query {
	char value[QUERY_KEYS][QUERY_VALUE_MAX + 1]; /* UTF-8 without control bytes; "": not given */
	int64_t since, until; /* nanoseconds since 1970; 0: not given */
	long limit;
};

/*
 * Read a query string; NULL: an empty one. now: Unix seconds, for ages like 12h. Returns NULL, or
 * what is wrong, static memory: an unknown or repeated key, a wrong escape, a value too long.
 */
const char *query_parse(struct web_query *query, const char *text, int64_t now);

#endif
