#!/bin/sh
# tools/deb.sh DIRECTORY [VERSION]: builds the Debian packages from a copy of the tree, because dpkg-buildpackage changes
# it, and puts them into DIRECTORY, with their .changes and .buildinfo. VERSION: a later one than that of
# debian/changelog, for the test of an upgrade. DEB_BUILD_OPTIONS=nocheck leaves the unit tests out.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
cd "$here"
mkdir -p build "$1"
out=$(cd "$1" && pwd) version=${2-}
if ! command -v dh >/dev/null || ! command -v dpkg-buildpackage >/dev/null; then
	echo 'deb: what builds packages is missing: sudo apt build-dep ./' >&2
	exit 1
fi
work=$(mktemp -d "$here/build/deb.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

mkdir "$work/source"
tar -c --exclude-vcs --exclude=./build --exclude=./dist --exclude=node_modules --exclude=__pycache__ . |
	tar -x -C "$work/source"
cd "$work/source"
[ -z "$version" ] || {
	printf '%s\n' "psapi-fcgi ($version) unstable; urgency=low" '' \
		'  * A later version, for the test of an upgrade.' '' " -- A Test <test@example.org>  $(date -R)" '' |
		cat - debian/changelog >"$work/changelog"
	mv "$work/changelog" debian/changelog
}
echo "deb: building psapi-fcgi $(dpkg-parsechangelog -S Version); this takes a minute or two"
DEB_BUILD_OPTIONS="${DEB_BUILD_OPTIONS-} noautodbgsym" dpkg-buildpackage -b -us -uc -jauto >"$work/log" 2>&1 || {
	tail -n 40 "$work/log" >&2
	exit 1
}
cd "$work"
mv ./*.deb ./*.changes ./*.buildinfo "$out"
(cd "$out" && ls "$PWD"/*"_${version:-$(dpkg-parsechangelog -l "$work/source/debian/changelog" -S Version)}_"*.deb)
