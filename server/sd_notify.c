/*
 * Owns the messages to systemd; the only user of libsystemd. Loaded when there is somebody to tell,
 * not linked: it brings seven libraries along, which every classic CGI request would load for nothing.
 */
#include "server/sd_notify.h"

#include <stddef.h>

#ifdef PSAPI_SYSTEMD

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <systemd/sd-daemon.h>

#include "base/log.h"

enum { MESSAGE_SIZE = 1024 };

static void
notify(const char *message)
{
	if (getenv("NOTIFY_SOCKET") == NULL)
		return;
	void *library = dlopen("libsystemd.so.0", RTLD_NOW | RTLD_LOCAL);
	__typeof__(&sd_notify) send = library == NULL ? NULL :
	    (__typeof__(&sd_notify))dlsym(library, "sd_notify");
	if (send != NULL)
		send(0, message);
	else
		log_line("systemd cannot be told: %s: install libsystemd, or build with SYSTEMD= and use "
		         "Type=exec", dlerror());
	if (library != NULL)
		dlclose(library);
}

void
sd_notify_ready(const char *status)
{
	char message[MESSAGE_SIZE];

	snprintf(message, sizeof(message), "READY=1\nSTATUS=%s", status == NULL ? "" : status);
	notify(message);
}

void
sd_notify_failed(const char *why)
{
	char message[MESSAGE_SIZE];

	snprintf(message, sizeof(message), "STATUS=%s", why);
	notify(message);
}

#else

void
sd_notify_ready(const char *status)
{
	(void)status;
}

void
sd_notify_failed(const char *why)
{
	(void)why;
}

#endif
