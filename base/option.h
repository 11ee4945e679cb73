/*
 * The options that all programs share, and what is wrong with an option, in words: getopt_long(3)
 * names neither the option that was meant nor where to read more.
 */
#ifndef PSAPI_OPTION_H
#define PSAPI_OPTION_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OPTION_OVERRIDES_MAX 64

/* What -f and -o say, as config_load() takes it. Begin with all zero. */
struct option_settings {
	const char *file; /* NULL: the default */
	const char *overrides[OPTION_OVERRIDES_MAX];
	size_t count;
};

/* Add "KEY=VALUE", which must live as long. Returns false if it is one too many, and logs it. */
bool option_override(struct option_settings *settings, const char *text);

/* The name that is nearest to a word. Begin with {NULL, SIZE_MAX}; NULL: none is near. */
struct option_nearest {
	const char *name;
	size_t distance;
};

/* Compare the word with one more name. The beginning of a name is near, too. */
void option_compare(struct option_nearest *nearest, const char *word, const char *name);

/*
 * Explain a fault of getopt_long(3), called with opterr 0 and letters that begin with ':': the '?'
 * or ':' that it returned for word, argv[optind - 1]. Writes what is wrong, like "no such option;
 * did you mean --test?", and returns what it is about: word, or the letter in it. The text that is
 * returned is static.
 */
const char *option_explain(const struct option *names, int fault, const char *word, char *what,
    size_t size);

/* The same as a line of the log: '"--tets": no such option; did you mean --test? MORE'. */
void option_log(const struct option *names, int fault, const char *word, const char *more);

#endif
