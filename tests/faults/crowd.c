/*
 * psapi-fcgi as one of a crowd: classic CGI, with the journal that FastCGI has, ready before the
 * event comes. At the end it is closed; or CROWD=dies, as after kill -9; or CROWD=turns: it
 * is emptied first.
 */
#include <stdlib.h>
#include <string.h>

#include "store/spool/journal.h"

int __real_spool_open(struct spool *spool, const char *path, bool create, char *why, size_t size);
int __wrap_spool_open(struct spool *spool, const char *path, bool create, char *why, size_t size);
void __real_spool_close(struct spool *spool);
void __wrap_spool_close(struct spool *spool);

int
__wrap_spool_open(struct spool *spool, const char *path, bool create, char *why, size_t size)
{
	int result = __real_spool_open(spool, path, create, why, size);

	if (result == 0) {
		spool->journal = journal_open(spool);
		if (spool->journal != NULL)
			journal_prepare(spool->journal);
		spool->storing = 100;
	}
	return result;
}

void
__wrap_spool_close(struct spool *spool)
{
	const char *end = getenv("CROWD");

	if (spool->journal != NULL && end != NULL && strcmp(end, "turns") == 0)
		journal_turn(spool->journal);
	if (end == NULL || strcmp(end, "closes") == 0)
		journal_close(spool->journal);
	__real_spool_close(spool);
}
