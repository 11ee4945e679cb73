# Tests of the installed program: in a DESTDIR, with systemd, and as a package in a fresh Debian 12. Included by the
# Makefile; part of check-long.

INSTALL_PACKAGES = debhelper dpkg-dev lintian systemd systemd-container mmdebstrap iproute2 libcmocka-dev

# As root: network (loopback only), processes and mounts are in namespaces, which always end with the tests.
OWN_NAMESPACES = $(if $(filter 0,$(shell id -u)),unshare --mount --net --pid --fork --kill-child --mount-proc \
	sh -c 'ip link set lo up && exec "$$@"' sh)

print-build-packages:
	@echo $(BUILD_PACKAGES) $(DEMO_PACKAGES)

check-install: all
	@tools/deps.sh $(INSTALL_PACKAGES)
	tests/install/prepare.sh
	$(OWN_NAMESPACES) $(PYTHON) -m pytest -q -p no:cacheprovider --timeout 300 tests/install

.PHONY: check-install print-build-packages
