#!/bin/sh
# Prepares build/install for the tests of the installed program:
#   destdir/   make install DESTDIR=
#   *.deb      the package, of this version (also in dist/, by make deb) and of a later one
#   debian/    a Debian 12, from the mirror of this machine's apt. Its cache has the packages that the tests install
#              there without a network
# Everything but debian/ is made anew.
set -eu

cd "$(dirname "$0")/../.."
out=$PWD/build/install
mkdir -p "$out"
rm -rf "$out/destdir" "$out"/*.deb "$out"/*.changes "$out"/*.buildinfo

make -s install DESTDIR="$out/destdir" >"$out/install.log"

version=$(dpkg-parsechangelog -S Version)
make -s deb
cp dist/psapi-fcgi*_"$version"_* "$out"
DEB_BUILD_OPTIONS=nocheck tools/deb.sh "$out" "$version+later1"

[ "$(id -u)" -eq 0 ] || exit 0 # what needs a Debian of its own is for root

# The sources of packages, and the network settings of apt on this machine (a proxy, the validity of lists), without
# those for dpkg.
apt_settings() {
	apt-config dump | grep -E '^Acquire::(http|https|ftp|Check|Max|ForceIPv|Retries)' || :
}
sources=
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources; do
	[ ! -s "$file" ] || ! grep -q bookworm "$file" || sources="$sources $file"
done

# In a mount namespace, which ends all mounts.
make_debian() {
	rm -rf "$out/debian" "$out/debian.new"
	apt_settings >"$out/apt.conf"
	# shellcheck disable=SC2086 # a list of files
	unshare --mount mmdebstrap --quiet --mode=root --variant=minbase --include=systemd-sysv,dbus \
		--skip=cleanup/apt --aptopt="$out/apt.conf" \
		--customize-hook="chroot \"\$1\" sh -ec 'download() { apt-get install -qq -y --download-only \"\$@\"; }
			cd /var/cache/apt/archives
			download -o APT::Install-Recommends=true $1
			download --no-install-recommends $2
			apt-get download -qq $3'" \
		bookworm "$out/debian.new" $sources >"$out/debian.log" 2>&1 || {
		tail -n 40 "$out/debian.log" >&2
		exit 1
	}
	mv "$out/debian.new" "$out/debian"
	echo "$*" >"$out/debian.packages"
}

# depends_of PACKAGE: what it needs of Debian
depends_of() {
	dpkg-deb -f "$out/$1_${version}_"*.deb Depends | sed 's/([^)]*)//g; s/|[^,]*//g; s/,//g; s/psapi-fcgi//g'
}
packages="nginx apache2 logrotate postgresql $(depends_of psapi-fcgi) $(depends_of psapi-fcgi-postgresql)"
# For the ways of installing: what builds, and service managers. The last one conflicts with systemd.
build=$(make -s --no-print-directory print-build-packages)
managers='sudo make cron runit openrc supervisor'
standalone=systemd-standalone-sysusers
[ "$(cat "$out/debian.packages" 2>/dev/null)" = "$packages $build $managers $standalone" ] ||
	make_debian "$packages" "$build $managers" "$standalone"
