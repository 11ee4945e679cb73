/* Owns the form of a range. */
#include "doctor/range.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool
parse_number(const char *text, double *number)
{
	char *end;

	if (*text == '\0' || strspn(text, "-+.0123456789") != strlen(text))
		return false;
	*number = strtod(text, &end);
	return *end == '\0';
}

bool
range_parse(struct range *range, const char *text, size_t length)
{
	struct range r = {.start = 0, .end = HUGE_VAL, .set = length > 0};
	char copy[sizeof(r.text)];

	if (length >= sizeof(copy))
		return false;
	memcpy(copy, text, length);
	copy[length] = '\0';
	memcpy(r.text, copy, length + 1);
	r.inside = *copy == '@';
	char *start = copy + r.inside, *colon = strchr(start, ':'), *end = start;
	if (colon != NULL) {
		*colon = '\0';
		end = colon + 1;
	}
	if (colon != NULL && strcmp(start, "~") == 0)
		r.start = -HUGE_VAL;
	else if (colon != NULL && *start != '\0' && !parse_number(start, &r.start))
		return false;
	if ((colon == NULL || *end != '\0') && length > 0 && !parse_number(end, &r.end))
		return false;
	if (r.start > r.end)
		return false;
	*range = r;
	return true;
}

bool
range_alarms(const struct range *range, double value)
{
	bool within = value >= range->start && value <= range->end;

	return range->set && within == range->inside;
}
