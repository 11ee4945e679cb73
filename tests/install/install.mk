# The installed program: in a DESTDIR, as systemd units, and as a Debian package in a Debian 12 of
# its own. Included by the Makefile; part of check-long.

INSTALL_PACKAGES = debhelper dpkg-dev lintian systemd systemd-container mmdebstrap iproute2 libcmocka-dev

# As root: the directory that the Debian is in, its network (loopback alone), its processes and its
# mounts are the tests' own and end with them, however they end.
OWN_NAMESPACES = $(if $(filter 0,$(shell id -u)),unshare --mount --net --pid --fork --kill-child --mount-proc \
	sh -c 'ip link set lo up && exec "$$@"' sh)

check-install: all
	@tools/deps.sh $(INSTALL_PACKAGES)
	tests/install/prepare.sh
	$(OWN_NAMESPACES) $(PYTHON) -m pytest -q -p no:cacheprovider --timeout 300 tests/install

.PHONY: check-install
