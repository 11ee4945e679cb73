/*
 * What psapi drain would do with a directory of handlers: which file an event of each known type,
 * and of an unknown one, would run; which files are named as if they were handlers, and are none.
 */
#ifndef PSAPI_HANDLER_SURVEY_H
#define PSAPI_HANDLER_SURVEY_H

struct handler_survey_finding {
	const char *name; /* "handlers": what happens to events; "unused": files that none selects */
	enum {
		HANDLER_SURVEY_NONE, /* there is no handler: it does not apply */
		HANDLER_SURVEY_OK,
		HANDLER_SURVEY_REMARK,
		HANDLER_SURVEY_FAILED /* events wait, or go to failed/ */
	} result;
	char text[1024];   /* one handler in the words of drain; of more, joined with "; " */
	char remedy[1024]; /* of FAILED and REMARK; a line for each */
};

/* Calls visit for each finding, at most two. File names in the texts are untrusted. */
void handler_survey(const char *dir,
    void (*visit)(const struct handler_survey_finding *finding, void *data), void *data);

#endif
