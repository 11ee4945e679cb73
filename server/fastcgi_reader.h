/*
 * Reads the records of a FastCGI connection (FastCGI 1.0, section 3.3 to 6) into one whole
 * request, in whatever pieces they arrive. It does no I/O, so it never blocks. Its memory is
 * bounded, and every length that a peer sends is checked.
 */
#ifndef PSAPI_FASTCGI_READER_H
#define PSAPI_FASTCGI_READER_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes of all variables of a request, with their lengths: the content of one record. */
#define FASTCGI_READER_VARIABLES_MAX 65535

/* Values of FCGI_GET_VALUES have 24 bytes each at most; three of them, and the header. */
#define FASTCGI_READER_ANSWER_SIZE 96

struct fastcgi_reader;

enum fastcgi_reader_result {
	FASTCGI_READER_MORE,   /* all bytes were taken, the request is not whole */
	FASTCGI_READER_ANSWER, /* fastcgi_reader_answer() must be sent; then take the rest */
	FASTCGI_READER_WHOLE,  /* the bytes that follow belong to the next request */
	FASTCGI_READER_END     /* send fastcgi_reader_answer(), if there is one, and close */
};

/*
 * A reader for a connection. Of a body it keeps at most body_max + 1 bytes, and drops what
 * follows them. connections: the answer to FCGI_MAX_CONNS. NULL without memory.
 */
struct fastcgi_reader *fastcgi_reader_new(size_t body_max, int connections);
void fastcgi_reader_free(struct fastcgi_reader *reader);

/* Take bytes that arrived: *data and *length are moved behind those that were taken. */
enum fastcgi_reader_result fastcgi_reader_take(struct fastcgi_reader *reader,
    const unsigned char **data, size_t *length);

/* What must be sent: a record about the connection, not about a request. */
const unsigned char *fastcgi_reader_answer(const struct fastcgi_reader *reader, size_t *length);

/* Whether something of a request, or of a record, has arrived, and it is not whole. */
bool fastcgi_reader_has_begun(const struct fastcgi_reader *reader);

/* Whether all variables of the request have arrived, so that it can be answered. */
bool fastcgi_reader_has_variables(const struct fastcgi_reader *reader);

/* Of a request with all variables, the value of one, not terminated; NULL if it is absent. */
const char *fastcgi_reader_variable(const struct fastcgi_reader *reader, const char *name,
    size_t *length);

/*
 * Of a request with all variables: its beginning as a FastCGI peer would send it, one
 * BEGIN_REQUEST and the PARAMS stream. Valid until fastcgi_reader_next().
 */
const unsigned char *fastcgi_reader_head(const struct fastcgi_reader *reader, size_t *length);

/* The body, as far as it was kept. */
const unsigned char *fastcgi_reader_body(const struct fastcgi_reader *reader, size_t *length);

/* Bytes of memory that the request takes. */
size_t fastcgi_reader_size(const struct fastcgi_reader *reader);

/* The request is answered: free it, and be ready for the next one. */
void fastcgi_reader_next(struct fastcgi_reader *reader);

#endif
