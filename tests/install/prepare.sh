#!/bin/sh
# Prepares build/install for the tests of the installed program:
#   destdir/   make install DESTDIR=
#   *.deb      the package, of this version and of a later one
#   debian/    a Debian 12, from the mirror of this machine's apt. Its cache has the packages that the tests install
#              there without a network
# Everything but debian/ is made anew.
set -eu

cd "$(dirname "$0")/../.."
out=$PWD/build/install
mkdir -p "$out"
rm -rf "$out/destdir" "$out/build" "$out"/*.deb "$out"/*.changes

make -s install DESTDIR="$out/destdir" >"$out/install.log"

# build_package VERSION [OPTION...]: from a copy of the files in git, because dpkg-buildpackage cleans up
build_package() {
	rm -rf "$out/build" && mkdir "$out/build"
	git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$out/build"
	(
		cd "$out/build"
		[ "$1" = "$(dpkg-parsechangelog -S Version)" ] || printf '%s\n' "psapi-fcgi ($1) unstable; urgency=low" '' \
			'  * A later version, for the test of an upgrade.' '' " -- A Test <test@example.org>  $(date -R)" '' |
			cat - debian/changelog >"$out/changelog"
		[ ! -e "$out/changelog" ] || mv "$out/changelog" debian/changelog
		DEB_BUILD_OPTIONS="parallel=2 noautodbgsym ${2-}" dpkg-buildpackage -b -us -uc
	) >"$out/build-$1.log" 2>&1 || {
		tail -n 40 "$out/build-$1.log" >&2
		exit 1
	}
	rm -rf "$out/build"
}

version=$(dpkg-parsechangelog -S Version)
build_package "$version"
build_package "$version+later1" nocheck

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
		--customize-hook="chroot \"\$1\" apt-get install -qq -y --download-only \
			-o APT::Install-Recommends=true $1" \
		bookworm "$out/debian.new" $sources >"$out/debian.log" 2>&1 || {
		tail -n 40 "$out/debian.log" >&2
		exit 1
	}
	mv "$out/debian.new" "$out/debian"
	echo "$1" >"$out/debian.packages"
}

# depends_of PACKAGE: what it needs of Debian
depends_of() {
	dpkg-deb -f "$out/$1_${version}_"*.deb Depends | sed 's/([^)]*)//g; s/|[^,]*//g; s/,//g; s/psapi-fcgi//g'
}
packages="nginx apache2 logrotate postgresql $(depends_of psapi-fcgi) $(depends_of psapi-fcgi-postgresql)"
[ "$(cat "$out/debian.packages" 2>/dev/null)" = "$packages" ] || make_debian "$packages"
