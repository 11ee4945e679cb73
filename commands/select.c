/* Owns the options that select events. */
#include "commands/select.h"

#include <sysexits.h>

#include "base/clock.h"
#include "base/datetime.h"

int
select_option(const struct command_line *line, int option, struct store_filter *filter)
{
	switch (option) {
	case OPTION_TYPE:
		filter->type = optarg;
		return EX_OK;
	case OPTION_NPN:
		filter->npn = optarg;
		return EX_OK;
	case OPTION_SINCE:
		if (datetime_argument(optarg, clock_unix(), &filter->since))
			return EX_OK;
		return command_misused(
		    line, "--since takes 2025-07-24, 2025-07-24T22:51 or an age like 12h", optarg);
	default:
		return EX_USAGE;
	}
}
