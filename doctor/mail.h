/* A mail to the administrator, by the sendmail(8) of this machine. */
#ifndef PSAPI_MAIL_H
#define PSAPI_MAIL_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct mail {
	char *text; /* headers and body; NULL without memory */
	size_t length, room;
};

/*
 * Begin a mail. to: for the header "To:", without line breaks. The subject is from us, but may hold
 * foreign text: it is made harmless, and cut.
 */
void mail_begin(struct mail *mail, const char *to, const char *subject);

/*
 * Append text of any bytes as lines of at most 76 columns, each with the indent before it. Line
 * breaks stay; what is not printable ASCII appears as \xHH.
 */
void mail_put(struct mail *mail, const char *indent, const char *text);

void mail_free(struct mail *mail);

/* Whether there is a sendmail: on the PATH, in /usr/sbin or /usr/lib. */
bool mail_is_possible(void);

/*
 * Give it to sendmail, which gets a minute. Returns 0, or -1 with *error: it was not taken.
 */
int mail_send(const struct mail *mail, struct error *error);

#endif
