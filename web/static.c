/*
 * Owns the table of the page's files. The assembler puts them into the program (.incbin), so that
 * no file is opened, and a path can only be one of the table's.
 */
#include "web/static.h"

#include <stdio.h>
#include <string.h>

#include "web/answer.h"

/* NAME_begin to NAME_end: the contents of web/static/FILE. */
#define EMBED(name, file)                                                                          \
	__asm__(".pushsection .rodata\n.globl " #name "_begin\n.hidden " #name "_begin\n" #name        \
	        "_begin:\n.incbin \"web/static/" file "\"\n.globl " #name "_end\n.hidden " #name       \
	        "_end\n" #name "_end:\n.popsection\n");                                                \
	extern const char name##_begin[], name##_end[]

EMBED(static_index, "index.html");
EMBED(static_style, "style.css");
EMBED(static_icon, "icon.svg");
EMBED(static_app, "app.js");
EMBED(static_dom, "dom.js");
EMBED(static_api, "api.js");
EMBED(static_time, "time.js");
EMBED(static_overview, "overview.js");
EMBED(static_list, "list.js");
EMBED(static_event, "event.js");
EMBED(static_act, "act.js");
EMBED(static_testing, "testing.js");
EMBED(static_setup, "setup.js");

#define JAVASCRIPT "text/javascript; charset=utf-8"

static const struct {
	const char *path, *type, *begin, *end;
} files[] = {
	{"/", "text/html; charset=utf-8", static_index_begin, static_index_end},
	{"/style.css", "text/css; charset=utf-8", static_style_begin, static_style_end},
	{"/icon.svg", "image/svg+xml", static_icon_begin, static_icon_end},
	{"/app.js", JAVASCRIPT, static_app_begin, static_app_end},
	{"/dom.js", JAVASCRIPT, static_dom_begin, static_dom_end},
	{"/api.js", JAVASCRIPT, static_api_begin, static_api_end},
	{"/time.js", JAVASCRIPT, static_time_begin, static_time_end},
	{"/overview.js", JAVASCRIPT, static_overview_begin, static_overview_end},
	{"/list.js", JAVASCRIPT, static_list_begin, static_list_end},
	{"/event.js", JAVASCRIPT, static_event_begin, static_event_end},
	{"/act.js", JAVASCRIPT, static_act_begin, static_act_end},
	{"/testing.js", JAVASCRIPT, static_testing_begin, static_testing_end},
	{"/setup.js", JAVASCRIPT, static_setup_begin, static_setup_end},
};

enum { FILES = sizeof(files) / sizeof(files[0]) };

/* The browser asks each time, and is mostly told that it has the file: 304. */
#define HEADERS ANSWER_HEADERS "Cache-Control: no-cache\r\nETag: "

static char etags[FILES][ANSWER_ETAG_SIZE];
static char headers[FILES][sizeof(HEADERS) + ANSWER_ETAG_SIZE + 2];

void
static_init(void)
{
	for (int i = 0; i < FILES; i++) {
		answer_etag(files[i].begin, (size_t)(files[i].end - files[i].begin), etags[i]);
		snprintf(headers[i], sizeof(headers[i]), "%s%.19s\r\n", HEADERS, etags[i]);
	}
}

bool
static_answer(const char *path, const struct request *request, struct reply *reply)
{
	for (int i = 0; i < FILES; i++) {
		if (strcmp(files[i].path, path) != 0)
			continue;
		answer_static(reply, request, files[i].type, headers[i], etags[i], files[i].begin,
		    (size_t)(files[i].end - files[i].begin));
		return true;
	}
	return false;
}
