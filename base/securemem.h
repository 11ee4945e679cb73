/*
 * Memory for signing secrets: pages of their own that are not swapped out, not part of
 * a core dump, and wiped before they are given back.
 */
#ifndef PSAPI_SECUREMEM_H
#define PSAPI_SECUREMEM_H

#include <stddef.h>

/* size > 0 bytes, all zero, for securemem_free(). NULL with errno without memory. */
void *securemem_new(size_t size);

/* Wipe and give back what securemem_new(size) returned; NULL is fine. */
void securemem_free(void *memory, size_t size);

/*
 * 0 while all of it could be locked, else the errno of the first mlock2(2) that failed
 * (ENOMEM, EPERM: RLIMIT_MEMLOCK is too small): what was meant to be locked may be
 * swapped out, and is otherwise as good.
 */
int securemem_error(void);

#endif
