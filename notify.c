/* Owns the messages to systemd; the only user of libsystemd. */
#include "notify.h"

#include <stddef.h>

#ifdef PSAPI_SYSTEMD

#include <systemd/sd-daemon.h>

void
notify_ready(const char *status)
{
	if (status == NULL)
		sd_notify(0, "READY=1\nSTATUS=");
	else
		sd_notifyf(0, "READY=1\nSTATUS=%s", status);
}

void
notify_failed(const char *why)
{
	sd_notifyf(0, "STATUS=%s", why);
}

#else

void
notify_ready(const char *status)
{
	(void)status;
}

void
notify_failed(const char *why)
{
	(void)why;
}

#endif
