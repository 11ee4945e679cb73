/* Owns the memory of a reply. */
#include "base/reply.h"

#include <stdlib.h>

void
reply_free(struct reply *reply)
{
	free(reply->heap);
	reply->heap = NULL;
}
