# Debian 12 and Debian 13: what this machine is not, in a chroot. Included by the Makefile; not part of
# check-long yet. Needs root and Debian's mirrors.

RELEASE = $(if $(filter bookworm,$(shell . /etc/os-release && echo $$VERSION_CODENAME)),trixie,bookworm)

check-releases:
	@tools/deps.sh mmdebstrap debian-archive-keyring iproute2
	@tests/releases/run.sh $(RELEASE)

.PHONY: check-releases
