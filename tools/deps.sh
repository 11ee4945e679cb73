#!/bin/sh
# Installs those of the Debian packages in the arguments that are missing, with sudo if not root, and shows how far it
# is. No service starts, now or at the next boot: builds and tests need no nginx on port 80 of the machine. What was
# enabled before stays enabled.
set -eu

# install_packages runs apt-get as root: percentages on the standard output, all else on the standard error.
# An old list may name files that no longer exist: after a failure, the lists are updated once.
as_root_install='
	export DEBIAN_FRONTEND=noninteractive
	get() { apt-get -qq -y -o DPkg::Lock::Timeout=300 "$@" 3>&1 >&2; }
	install() { get -o APT::Status-Fd=3 --no-install-recommends install "$@"; }
	install "$@" || {
		echo "dlstatus:0:0:updating the lists of packages"
		get update && install "$@"
	}
	echo "exit:$?"'

# show_progress: prints the percentages of apt-get, on a terminal in one line that changes. Returns apt-get's status.
show_progress() {
	shown='' return=1
	while IFS=: read -r kind what percent text; do
		percent=${percent%%.*}
		case $kind in
		dlstatus) now="downloading, $percent %" ;;
		pmstatus) now="installing, $percent %" ;;
		exit) return=$what ;;
		esac
		[ "$percent" != 0 ] || now=${text:-$now}
		if [ -t 1 ]; then
			printf '\r\033[Kdeps: %.60s' "$now"
		elif [ "$kind $((${percent:-0} / 25))" != "$shown" ] && [ "$kind" != exit ]; then
			echo "deps: $now"
			shown="$kind $((percent / 25))"
		fi
	done
	[ ! -t 1 ] || printf '\r\033[K'
	return "$return"
}

# The units and init scripts that start at boot. Those of systemd and dbus stay: a machine needs them.
at_boot() {
	find /etc/systemd/system/*.wants /etc/systemd/system/*.requires /etc/rc[2-5].d -type l 2>/dev/null |
		sed -nE 's#.*/rc.\.d/S[0-9][0-9]##p; s#.*/([^/]*\.(service|socket|timer|path))$#\1#p' |
		grep -Ev '^(dbus|systemd-|getty@)' | sort -u
}

disable_new_services() {
	at_boot | comm -13 "$work/before" - | while read -r service; do
		case $service in
		*.*) if command -v systemctl; then
			$as_root systemctl --quiet disable "$service"
		else
			# It wants to be called by dpkg.
			$as_root env DPKG_MAINTSCRIPT_PACKAGE=psapi-fcgi deb-systemd-helper disable "$service"
		fi ;;
		*) $as_root update-rc.d "$service" disable ;;
		esac >/dev/null 2>&1 || echo "deps: cannot disable $service: it will start at the next boot" >&2
	done
}

# While packages are installed, a policy forbids them to start their services. One of the administrator's that would
# allow it is put aside.
policy=/usr/sbin/policy-rc.d mark='by make deps of psapi-fcgi'
forbid_starts() {
	if [ -e "$policy" ] && ! grep -q "$mark" "$policy"; then
		status=0
		"$policy" nginx start >/dev/null 2>&1 || status=$?
		[ "$status" -ne 101 ] || return 0
		$as_root mv "$policy" "$policy.aside"
	fi
	forbidden=yes
	printf '#!/bin/sh\n# %s\nexit 101\n' "$mark" | $as_root tee "$policy" >/dev/null
	$as_root chmod 755 "$policy"
}

clean_up() {
	disable_new_services
	if [ -n "$forbidden" ]; then
		$as_root rm -f "$policy"
		[ ! -e "$policy.aside" ] || $as_root mv "$policy.aside" "$policy"
	fi
	rm -rf "$work"
}

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

work=$(mktemp -d) forbidden=
at_boot >"$work/before"
trap clean_up EXIT
trap 'exit 1' HUP INT TERM
forbid_starts
# shellcheck disable=SC2086 # a list of packages
$as_root sh -c "$as_root_install" sh $missing 2>"$work/log" | show_progress || {
	cat "$work/log" >&2
	echo "deps: apt-get could not install$missing" >&2
	exit 1
}
