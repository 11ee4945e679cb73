/* Owns the form of the page's replies: status, headers, ETag. */
#define _GNU_SOURCE
#include "web/answer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

static const struct {
	int status;
	const char *phrase;
} phrases[] = {{200, "OK"}, {304, "Not Modified"}, {400, "Bad Request"}, {403, "Forbidden"},
    {404, "Not Found"}, {405, "Method Not Allowed"}, {409, "Conflict"}, {410, "Gone"},
    {413, "Content Too Large"}, {415, "Unsupported Media Type"}, {502, "Bad Gateway"},
    {503, "Service Unavailable"}};

static void
fill(struct reply *reply, int status, const char *type, const char *header, const char *body,
    size_t length, void *heap)
{
	reply->status = status;
	reply->phrase = "Error";
	for (size_t i = 0; i < sizeof(phrases) / sizeof(phrases[0]); i++)
		if (phrases[i].status == status)
			reply->phrase = phrases[i].phrase;
	reply->type = type;
	reply->header = header;
	reply->body = body;
	reply->length = length;
	reply->heap = heap;
}

static void
answer_with(struct reply *reply, int status, const char *header, const char *text)
{
	json_t *object = json_pack("{s:s}", "error", text);
	char *body = json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII);

	json_decref(object);
	if (body == NULL)
		fill(reply, status, "application/json", header, "{}", 2, NULL);
	else
		fill(reply, status, "application/json", header, body, strlen(body), body);
}

void
answer_error(struct reply *reply, int status, const char *text)
{
	answer_with(reply, status, ANSWER_HEADERS ANSWER_NO_STORE, text);
}

void
answer_method(struct reply *reply, const char *allow)
{
	answer_with(reply, 405, *allow == 'P' ? ANSWER_HEADERS ANSWER_NO_STORE "Allow: POST\r\n" :
	        ANSWER_HEADERS ANSWER_NO_STORE "Allow: GET, HEAD\r\n",
	    *allow == 'P' ? "this path takes POST alone" : "this path takes GET and HEAD alone");
}

void
answer_text(struct reply *reply, const char *type, const char *headers, char *body, size_t length)
{
	if (body == NULL)
		answer_error(reply, 503, "out of memory");
	else
		fill(reply, 200, type, headers, body, length, body);
}

void
answer_etag(const void *data, size_t length, char etag[ANSWER_ETAG_SIZE])
{
	unsigned long long hash = text_hash(TEXT_HASH, data, length);

	snprintf(etag, ANSWER_ETAG_SIZE, "\"%016llx\"", hash);
}

/* A web server that compresses an answer makes the tag a weak one. */
static bool
has_seen(const struct request *request, const char *etag)
{
	const char *seen = request_variable(request, "HTTP_IF_NONE_MATCH");

	if (seen != NULL && strncmp(seen, "W/", 2) == 0)
		seen += 2;
	return seen != NULL && strcmp(seen, etag) == 0;
}

void
answer_json_text(struct reply *reply, const struct request *request, char *body, size_t length)
{
	static const char headers[] = ANSWER_HEADERS ANSWER_NO_STORE "ETag: ";
	char etag[ANSWER_ETAG_SIZE];
	char *grown = body == NULL ? NULL : realloc(body, length + sizeof(headers) + sizeof(etag) + 4);

	if (grown == NULL) {
		free(body);
		answer_error(reply, 503, "out of memory");
		return;
	}
	/* The header is behind the body, in the same memory. */
	answer_etag(grown, length, etag);
	char *header = grown + length;
	snprintf(header, sizeof(headers) + sizeof(etag) + 4, "%s%s\r\n", headers, etag);
	bool seen = has_seen(request, etag);
	fill(reply, seen ? 304 : 200, "application/json", header, grown, seen ? 0 : length, grown);
}

/* 15 digits: those of a time in the log, and not of the nearest double. */
void
answer_json(struct reply *reply, const struct request *request, json_t *object)
{
	char *body = object == NULL ? NULL :
	    json_dumps(object, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(15));

	json_decref(object);
	answer_json_text(reply, request, body, body != NULL ? strlen(body) : 0);
}

void
answer_static(struct reply *reply, const struct request *request, const char *type,
    const char *header, const char *etag, const char *body, size_t length)
{
	bool seen = has_seen(request, etag);

	fill(reply, seen ? 304 : 200, type, header, body, seen ? 0 : length, NULL);
}
