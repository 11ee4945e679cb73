/*
 * What a service manager is told of this process (systemd: Type=notify). Without one
 * (no NOTIFY_SOCKET in the environment), or built without libsystemd, nothing happens.
 *
 * Each message opens a socket of its own: to be called before the process gives up the
 * right to open any.
 */
#ifndef PSAPI_SD_NOTIFY_H
#define PSAPI_SD_NOTIFY_H

/* It serves from now on; with less than all is well if status, a line, is not NULL. */
void sd_notify_ready(const char *status);

/* It will not be ready: why, a line, is what `systemctl status` shows of it. */
void sd_notify_failed(const char *why);

#endif
