/* Owns -o, the words for faults of options, and the rule for names that are near. */
#define _GNU_SOURCE
#include "base/option.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/text.h"

bool
option_override(struct option_settings *settings, const char *text)
{
	if (settings->count == OPTION_OVERRIDES_MAX) {
		log_line("-o %s: more than %d settings; use a file", text, OPTION_OVERRIDES_MAX);
		return false;
	}
	settings->overrides[settings->count++] = text;
	return true;
}

void
option_compare(struct option_nearest *nearest, const char *word, const char *name)
{
	size_t distance = text_distance(word, name);

	/* the beginning of a name was meant for it, too */
	if (strlen(word) > 1 && strncmp(word, name, strlen(word)) == 0)
		distance = 1;
	if (distance <= (strlen(name) < 5 ? 1 : 2) && distance < nearest->distance)
		*nearest = (struct option_nearest){name, distance};
}

static bool
is_known(const struct option *names, int value)
{
	while (names->name != NULL && names->val != value)
		names++;
	return names->name != NULL;
}

/* word has two dashes, and maybe an argument. */
static void
explain_unknown(const struct option *names, const char *word, char *what, size_t size)
{
	struct option_nearest nearest = {NULL, SIZE_MAX};
	char plain[64];

	snprintf(plain, sizeof(plain), "%.*s", (int)strcspn(word, "="), word);
	for (; names->name != NULL; names++)
		option_compare(&nearest, plain + strspn(plain, "-"), names->name);
	snprintf(what, size, nearest.name != NULL ? "no such option; did you mean --%s?" :
	    "no such option", nearest.name);
}

const char *
option_explain(const struct option *names, int fault, const char *word, char *what, size_t size)
{
	static char letter[3];

	snprintf(letter, sizeof(letter), "-%c", optopt);
	if (fault == ':') {
		snprintf(what, size, "takes an argument");
		return word[1] == '-' ? word : letter;
	}
	if (optopt != 0 && !is_known(names, optopt)) {
		snprintf(what, size, "no such option");
		return letter;
	}
	if (optopt != 0)
		snprintf(what, size, "takes no argument");
	else
		explain_unknown(names, word, what, size);
	return word;
}

void
option_log(const struct option *names, int fault, const char *word, const char *more)
{
	char what[128];
	const char *about = option_explain(names, fault, word, what, sizeof(what));

	log_line("\"%s\": %s%s %s", about, what, what[strlen(what) - 1] == '?' ? "" : ";", more);
}
