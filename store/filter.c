/* Owns what a filter of events means. PostgreSQL has it once more, as SQL. */
#include <string.h>

#include "store/store.h"

static bool
is_type(const char *type, const char *prefix)
{
	size_t length = strlen(prefix);

	return strncmp(type, prefix, length) == 0 && (type[length] == '\0' || type[length] == '.');
}

bool
store_filter_matches(const struct store_filter *filter, const struct store_item *item)
{
	const struct entry *entry = &item->entry;

	if (filter->statuses != 0 && (filter->statuses & 1U << item->status) == 0)
		return false;
	if (item->invalid != NULL)
		return filter->invalid || (filter->statuses == 0 && filter->type == NULL &&
		    filter->npn == NULL && filter->since == 0);
	return (filter->type == NULL || is_type(entry->event.type, filter->type)) &&
	    (filter->npn == NULL || strcmp(entry->event.npn, filter->npn) == 0) &&
	    entry->received >= filter->since;
}
