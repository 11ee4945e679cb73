/*
 * The recovery alone, as a program that can be made to fail: recover SPOOL. With ELSEWHERE in the
 * environment the disk is mounted for another time, as after a power cut.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "log.h"
#include "spool.h"

int
statx(int dir, const char *restrict path, int flags, unsigned mask, struct statx *restrict st)
{
	int result = (int)syscall(SYS_statx, dir, path, flags, mask, st);

	if (result == 0 && getenv("ELSEWHERE") != NULL)
		st->stx_mnt_id++;
	return result;
}

int
main(int argc, char **argv)
{
	struct spool spool;
	char why[512];

	log_program("recover");
	if (argc != 2 || spool_open(&spool, argv[1], true, why, sizeof(why)) != 0)
		return 2;
	long recovered = spool_recover(&spool);
	spool_close(&spool);
	return recovered < 0 ? 1 : 0;
}
