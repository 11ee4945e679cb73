/* Owns memory for secrets. The kernel clears pages before another process gets them. */
#define _GNU_SOURCE
#include "base/securemem.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

static atomic_int first_error;

void *
securemem_new(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	int none = 0;

	if (memory == MAP_FAILED)
		return NULL;
	/* On fault: pages that are never used take no memory. */
	if (mlock2(memory, size, MLOCK_ONFAULT) != 0)
		atomic_compare_exchange_strong(&first_error, &none, errno);
	/* Since Linux 3.4; where it fails, RLIMIT_CORE still holds (sandbox_process()). */
	madvise(memory, size, MADV_DONTDUMP);
	return memory;
}

void
securemem_free(void *memory, size_t size)
{
	if (memory == NULL)
		return;
	explicit_bzero(memory, size);
	munmap(memory, size);
}

int
securemem_error(void)
{
	return atomic_load(&first_error);
}
