# The container image, built with Buildah and run with the settings and mounts of examples/container. Included by the
# Makefile; part of check-long. Needs root, and a kernel that allows it what it allows root on a machine of its own.

CONTAINER_PACKAGES = buildah mmdebstrap debian-archive-keyring nginx python3-yaml

check-container:
	@tools/deps.sh $(CONTAINER_PACKAGES)
	@tests/install/debian.sh trixie build/debian/trixie
	@unshare --mount --pid --fork --kill-child --mount-proc \
		$(PYTHON) -m pytest -q -p no:cacheprovider --timeout 900 tests/container

.PHONY: check-container
