/* Owns the options that select events. */
#include "commands/select.h"

#include <sysexits.h>

#include "base/clock.h"
#include "base/datetime.h"

int
select_option(const struct command_line *line, int option, struct selection *selection)
{
	switch (option) {
	case OPTION_TYPE:
		selection->type = optarg;
		return EX_OK;
	case OPTION_NPN:
		selection->npn = optarg;
		return EX_OK;
	case OPTION_SINCE:
		if (datetime_argument(optarg, clock_unix(), &selection->since))
			return EX_OK;
		return command_misused(
		    line, "--since takes 2025-07-24, 2025-07-24T22:51 or an age like 12h", optarg);
	default:
		return EX_USAGE;
	}
}
