/*
 * Any query of the page's API: it is refused with a reason, or what was read is within bounds,
 * and is the same again when it is written as a query and read once more.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "oracle.h"
#include "web/query.h"

enum { NOW = 1753397465 };

static const char *const names[QUERY_KEYS] = {
	"outcome", "status", "type", "npn", "id", "reason", "since", "until", "after", "limit"};

/* Every byte escaped. */
static void
add(char *text, const char *name, const char *value)
{
	size_t n = strlen(text) + (size_t)sprintf(text + strlen(text), "&%s=", name);

	for (; *value != '\0'; value++)
		n += (size_t)sprintf(text + n, "%%%02x", (unsigned char)*value);
}

static void
check(const struct web_query *query)
{
	char text[QUERY_MAX * 4] = "";
	struct web_query again;

	MUST(query->limit >= 1 && query->limit <= QUERY_LIMIT_MAX);
	MUST(query->since >= 0 && query->until >= 0);
	for (int i = 0; i < QUERY_KEYS; i++) {
		const char *value = query->value[i];
		MUST(memchr(value, '\0', QUERY_VALUE_MAX + 1) != NULL);
		MUST(text_is_utf8(value, strlen(value)));
		for (const char *p = value; *p != '\0'; p++)
			MUST((unsigned char)*p >= 0x20 && *p != 0x7f);
		if (*value != '\0')
			add(text, names[i], value);
	}
	if (strlen(text) > QUERY_MAX)
		return;
	MUST(query_parse(&again, text, NOW) == NULL);
	MUST(memcmp(again.value, query->value, sizeof(again.value)) == 0);
	MUST(again.since == query->since && again.until == query->until && again.limit == query->limit);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct web_query query;
	char *text = malloc(size + 1);

	memcpy(text, data, size);
	text[size] = '\0';
	const char *wrong = query_parse(&query, text, NOW);
	if (wrong == NULL)
		check(&query);
	else
		MUST(*wrong != '\0');
	free(text);
	return 0;
}
