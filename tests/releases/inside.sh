#!/bin/sh
# Runs in the chroot of run.sh. Each step has a headline with its time; the first that fails ends it.
set -eu

cd "$(dirname "$0")/../.."
# shellcheck disable=SC1091 # a file of the machine
release=$(. /etc/os-release && echo "$PRETTY_NAME")
log=/var/log/check-releases begin=$(date +%s)
step() {
	echo "$release, $(($(date +%s) - begin)) s: $*"
}
# run COMMAND...: its output is shown only if it fails
run() {
	"$@" >"$log" 2>&1 </dev/null || {
		tail -n 100 "$log"
		echo "$release: $* failed" >&2
		exit 1
	}
}
# What starts at boot, by systemd or init.
at_boot() {
	find /etc/systemd/system /etc/rc[2-5].d -path '*.wants/*' -o -name 'S[0-9]*' |
		grep -E '/S[0-9]|\.(service|socket|timer|path)$' | grep -Ev '/(S[0-9]+dbus|systemd-[^/]*|getty@[^/]*)$' | sort
}
# no_service_since FILE: nothing was enabled since, and nothing of theirs runs.
no_service_since() {
	at_boot | comm -13 "$1" - >/tmp/new
	! grep . /tmp/new || {
		echo "$release: these start at boot now" >&2
		exit 1
	}
	! cat /proc/[0-9]*/comm | grep -E 'nginx|apache2|caddy|lighttpd|haproxy|fcgiwrap|postgres' || {
		echo "$release: these run" >&2
		exit 1
	}
	[ ! -e /usr/sbin/policy-rc.d ]
}

at_boot >/tmp/before
step 'make demo on a bare machine'
run make demo
grep -q 'handled producersync.updates_available' "$log"
grep -q '^deps: installing, ' "$log"
no_service_since /tmp/before

step 'make check in a directory that only root can read'
mkdir /root/private
chmod 0700 /root/private
cp -r Makefile packaging tests tools bench /root/private
if make -C /root/private check >"$log" 2>&1; then exit 1; fi
[ "$(grep -c 'cannot read /root/private' "$log")" -eq 1 ]
if grep 'deps: installing' "$log"; then exit 1; fi

step 'the package, as docs/install.md builds and installs it'
printf 'APT::Get::Assume-Yes "true";\n' >/etc/apt/apt.conf.d/90yes
printf '#!/bin/sh\nexec "$@"\n' >/usr/local/bin/sudo
chmod 755 /usr/local/bin/sudo
sed -n '/^## The Debian package/,/^## The units/p' docs/install.md | awk '/^```/ { inside = !inside; next } inside' >/tmp/recipe
grep -q 'make deb' /tmp/recipe
run env DEB_BUILD_OPTIONS=nocheck sh -eu /tmp/recipe
[ "$(find dist -name '*.deb' | wc -l)" -eq 2 ]
run psapi-fcgi -V
run apt-get purge -qq psapi-fcgi nginx

step "make check, end to end only $FLAGS"
at_boot >/tmp/before
run make check PYTEST_FLAGS="$FLAGS" SECONDS=1
grep -E '^[0-9]+ passed' "$log" || :
no_service_since /tmp/before
step 'all is well'
