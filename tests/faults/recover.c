/*
 * The recovery alone, as a program that can be made to fail: recover SPOOL [later]. Later: the
 * machine has started again since the spool was written to.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdbool.h>
#include <string.h>

#include "base/log.h"
#include "store/spool/spool.h"

static bool later;

/* The names of this boot and of no boot at all, proc_sys_kernel(5). */
int
open(const char *path, int flags, ...)
{
	if (strcmp(path, "/proc/sys/kernel/random/boot_id") == 0 && later)
		path = "/proc/sys/kernel/random/uuid";
	return openat(AT_FDCWD, path, flags, 0);
}

int
main(int argc, char **argv)
{
	struct spool spool;
	char why[512];

	log_program("recover");
	later = argc == 3;
	if (argc < 2 || spool_open(&spool, argv[1], true, why, sizeof(why)) != 0)
		return 2;
	long recovered = spool_recover(&spool);
	spool_close(&spool);
	return recovered < 0 ? 1 : 0;
}
