/* Any configuration file: it is refused with a reason, or all settings are within bounds. */
#define _GNU_SOURCE
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/config.h"
#include "oracle.h"

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct config config;
	char path[64];
	struct error error;
	int fd = memfd_create("config", MFD_CLOEXEC);

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	MUST(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	if (config_load(&config, path, NULL, 0, &error) == 0) {
		MUST(*config.spool == '/' && *config.secret_file == '/' && *config.handlers == '/');
		MUST(config.threads >= 1 && config.threads <= 1024 && config.max_body >= 1);
		MUST(config.tolerance >= 1 && config.read_timeout >= 1 && config.min_free >= 0);
		MUST(*config.listen == '\0' || strncmp(config.listen, "unix:/", 6) == 0 ||
		    strncmp(config.listen, "127.0.0.1:", 10) == 0 ||
		    strncmp(config.listen, "[::1]:", 6) == 0);
		config_free(&config);
	} else {
		MUST(*error.text != '\0' && error.status != 0);
	}
	close(fd);
	return 0;
}
