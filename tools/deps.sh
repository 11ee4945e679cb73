#!/bin/sh
# Installs those of the Debian packages in the arguments that are missing, with sudo if not root. Does not start their
# services (nginx, postgresql), now or at the next boot: builds and tests must not use port 80 of the machine.
set -eu

missing=
for package in "$@"; do
	dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null | grep -qx installed ||
		missing="$missing $package"
done
[ -n "$missing" ] || exit 0

as_root=
if [ "$(id -u)" -ne 0 ]; then
	command -v sudo >/dev/null || {
		echo "deps: missing:$missing; install them as root: apt-get install$missing" >&2
		exit 77
	}
	as_root=sudo
fi
echo "deps: installing$missing"

policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
	trap '$as_root rm -f "$policy"' EXIT
	trap 'exit 1' HUP INT TERM
	printf '#!/bin/sh\nexit 101\n' | $as_root tee "$policy" >/dev/null
	$as_root chmod 755 "$policy"
fi
# An old list may name files that no longer exist: after a failure it is updated once.
install_missing() {
	# shellcheck disable=SC2086 # a list of packages
	$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
		$missing >"$log" 2>&1
}
# What starts at boot: the links of systemd and of init. dbus is no service for users.
at_boot() {
	find /etc/systemd/system/*.wants /etc/rc[2-5].d -name '*.service' -o -name 'S[0-9]*' 2>/dev/null |
		sed 's|.*/||; s|^S[0-9][0-9]||' | grep -vx 'dbus' | sort -u
}
disable_new_services() {
	at_boot | comm -13 "$before" - | while read -r service; do
		case $service in
		*.*) $as_root systemctl --quiet disable "$service" ;;
		*) $as_root update-rc.d "$service" disable ;;
		esac >/dev/null 2>&1 || echo "deps: cannot disable $service" >&2
	done
}
before=$(mktemp)
at_boot >"$before"
log=$(mktemp)
if ! install_missing; then
	$as_root apt-get update -qq
	install_missing || {
		cat "$log" >&2
		exit 1
	}
fi
disable_new_services
rm -f "$log" "$before"
