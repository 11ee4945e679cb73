/*
 * The protocol of batch handlers, psapi-handlers(7): many events on standard input, one JSON
 * object a line, and a line of standard output for each result. Bytes alone: no process, no store.
 */
#ifndef PSAPI_BATCH_PROTOCOL_H
#define PSAPI_BATCH_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>

#include "store/store.h"

/* ---- to the handler ---- */

/* The lines for standard input. */
struct batch_input {
	char *text;
	size_t length, room;
};

/*
 * Append the line of event number n, which was loaded. The event is the signed bytes; a raw CR or
 * LF, which JSON has only between tokens, is a space. Returns 0, or -1 without memory.
 */
int batch_protocol_write(struct batch_input *input, size_t n, const struct store_work *work);

/* ---- from the handler ---- */

/* The most bytes of a result line that are looked at; of a longer one the text is cut. */
#define BATCH_LINE_MAX 1024

/* What became of an event. Of two results of one event the later in this list counts. */
enum batch_verdict { BATCH_NOTHING, BATCH_OK, BATCH_LATER, BATCH_FAILED };

enum batch_line {
	BATCH_OUTPUT,   /* no result: output of the handler */
	BATCH_RESULT,   /* of event n */
	BATCH_ALL,      /* "ok all COUNT": n is COUNT */
	BATCH_MALFORMED /* meant as a result, and none; n: the event that it names, 0: not known */
};

struct batch_result {
	enum batch_line line;
	size_t n;
	enum batch_verdict verdict;
	const char *text; /* why; points into the line; length 0: none */
	size_t length;
};

/*
 * Read a line, without its newline. A line whose first word is ok, later or failed is meant as a
 * result. Numbers are decimal, from 1, without sign and leading zeros. Blanks and a CR at the end
 * do not count.
 */
void batch_protocol_parse(const char *line, size_t length, struct batch_result *result);

/* Cuts standard output into lines. All zero at the beginning. */
struct batch_reader {
	void (*result)(void *data, const struct batch_result *result, const char *line, size_t length);
	void (*output)(void *data, const char *bytes, size_t length); /* with its newlines */
	void *data;
	char line[BATCH_LINE_MAX]; /* the beginning of a line that is not whole */
	size_t length;
	enum { BATCH_BEGIN, BATCH_PASS, BATCH_DROP } rest; /* what happens to the rest of a long line */
};

/* More of standard output: its results are passed on at once, in order, and so is the rest. */
void batch_protocol_read(struct batch_reader *reader, const char *bytes, size_t length);

/*
 * Its end. A last line without a newline is a result only if the output is complete: otherwise it
 * may be the beginning of another result, "ok 1" of "ok 12", and is dropped.
 */
void batch_protocol_end(struct batch_reader *reader, bool complete);

#endif
