/* The recovery alone, as a program that can be made to fail: recover SPOOL. */
#include <stdio.h>

#include "log.h"
#include "spool.h"

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
