#!/bin/sh
# tests/install/debian.sh RELEASE DIRECTORY [PACKAGE...]: a bare Debian RELEASE (bookworm, trixie) in DIRECTORY, with
# these packages, from the mirrors of this machine's apt and with its network settings (a proxy, the validity of lists).
# dpkg does not sync there, as in Docker's images. Needs root. If DIRECTORY is there, it stays.
set -eu

release=$1 directory=$2
shift 2
[ ! -d "$directory" ] || exit 0
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# shellcheck disable=SC1091 # a file of the machine
here=$(. /etc/os-release && echo "$VERSION_CODENAME")
apt-config dump | grep -E '^Acquire::(http|https|ftp|Check|Max|ForceIPv|Retries)' >"$work/apt.conf" || :
# Only Debian's own archives: those of this machine's release, with the other name.
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list; do
	[ ! -s "$file" ] || ! grep -Eq "debian(-security)?/? *($here|\$)" "$file" || ! grep -q "$here" "$file" ||
		sed "s/\\b$here\\b/$release/g" "$file" >"$work/$(basename "$file")"
done
[ -n "$(find "$work" -name '*.list' -o -name '*.sources')" ] ||
	printf 'deb http://deb.debian.org/debian %s main\n' "$release" >"$work/sources.list"

mkdir -p "$(dirname "$directory")"
rm -rf "$directory.new"
# shellcheck disable=SC2046 # a list of files
unshare --mount mmdebstrap --quiet --mode=root --variant=minbase --include="make$(printf ',%s' "$@")" \
	--aptopt="$work/apt.conf" --dpkgopt='force-unsafe-io' \
	"$release" "$directory.new" $(find "$work" -name "*.list" -o -name "*.sources") >"$directory.log" 2>&1 || {
	tail -n 40 "$directory.log" >&2
	exit 1
}
mv "$directory.new" "$directory"
