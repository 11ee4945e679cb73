/*
 * What a service manager is told of this process (systemd: Type=notify). Without one
 * (no NOTIFY_SOCKET in the environment) nothing happens; what cannot be sent is logged.
 *
 * Each message opens a socket of its own: call these before seccomp forbids it.
 */
#ifndef PSAPI_SD_NOTIFY_H
#define PSAPI_SD_NOTIFY_H

/* The process serves requests from now on. status: one line for `systemctl status`, or NULL. */
void sd_notify_ready(const char *status);

/* The process ends without having served: why, one line for `systemctl status`. */
void sd_notify_failed(const char *why);

#endif
