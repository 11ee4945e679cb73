/*
 * What psapi drain would do with a directory of handlers: which file an event of each known type,
 * and of an unknown one, would run; which files are named as if they were handlers, and are none.
 */
#ifndef PSAPI_HANDLER_SURVEY_H
#define PSAPI_HANDLER_SURVEY_H

#include <stdbool.h>

#include "base/config.h"

struct handler_survey_finding {
	enum {
		HANDLER_SURVEY_NONE, /* there is no handler, or no such file; text says so */
		HANDLER_SURVEY_OK,
		HANDLER_SURVEY_REMARK,
		HANDLER_SURVEY_FAILED /* events wait, or go to failed/ */
	} result;
	char text[1024];   /* one handler in the words of drain; of more, joined with "; " */
	char remedy[1024]; /* of FAILED and REMARK; a line for each */
};

struct handler_survey {
	struct handler_survey_finding handlers; /* what happens to events */
	struct handler_survey_finding unused;   /* files that no event selects */
};

/*
 * Look at the directory of handlers, and at that of batch handlers if there is one. drained: psapi
 * drain has lately taken handlers from them, so that having none is a fault. File names in the
 * texts are untrusted.
 */
void handler_survey(const struct config *config, bool drained, struct handler_survey *survey);

#endif
