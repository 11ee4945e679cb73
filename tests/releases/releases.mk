# Debian 12 and Debian 13: what this machine is not, in a chroot. Included by the Makefile; part of check-long. Needs root
# and Debian's mirrors.

RELEASE = $(if $(filter bookworm,$(shell . /etc/os-release && echo $$VERSION_CODENAME)),trixie,bookworm)
RELEASES_PACKAGES = mmdebstrap debian-archive-keyring iproute2

check-releases:
	@tools/deps.sh $(RELEASES_PACKAGES)
	@tests/releases/run.sh $(RELEASE)

.PHONY: check-releases
