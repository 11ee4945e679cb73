#!/bin/sh
# mbedtls3.sh BUILD: builds and tests with the mbedTLS of Debian 13, on any older Debian, as any user. Downloads two
# packages, and checks their signatures, from the Debian mirror of this machine, and unpacks them in BUILD; nothing is
# installed. The shared library works with the C library of Debian 12.
set -eu

suite=trixie
build=$(mkdir -p "$1" && cd "$1" && pwd)
apt=$build/apt
root=$build/root

skip() {
	echo "mbedtls3: not run: $*"
	exit 0
}

command -v apt-get >/dev/null || skip "no apt-get"
# shellcheck disable=SC2016 # apt-get's own placeholder
mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' 'Origin: Debian' \
	'Label: Debian' | head -n 1)
[ -n "$mirror" ] || skip "no Debian mirror in the sources (or no apt-get update yet)"

# A separate configuration of apt: lists and packages of the machine are not used or changed.
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
: >"$apt/status"
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $suite main" \
	>"$apt/sources.list"
private_apt() {
	apt-get -qq -o Dir::Etc::SourceList="$apt/sources.list" -o Dir::Etc::SourceParts=/dev/null \
		-o Dir::State::Lists="$apt/lists" -o Dir::State::Status="$apt/status" \
		-o Dir::Cache="$apt/cache" -o APT::Sandbox::User="$(id -un)" "$@"
}
if ! ls "$apt"/libmbedcrypto16_*.deb >/dev/null 2>&1; then
	private_apt update
	(cd "$apt" && private_apt download libmbedtls-dev libmbedcrypto16)
fi
rm -rf "$root"
for package in "$apt"/*.deb; do
	dpkg-deb -x "$package" "$root"
done

libraries=$root/usr/lib/$(gcc -print-multiarch)
with_it() {
	make -s FULL= WERROR=-Werror OUT="$build/out" BIN="$build/out/" OUT_BIN="$build/out" \
		CC="cc -isystem $root/usr/include -L$libraries -Wl,-rpath,$libraries" "$@" >>"$build/log" 2>&1 || {
		cat "$build/log" >&2
		exit 1
	}
}
: >"$build/log"
with_it "-j$(nproc)" all
with_it "-j$(nproc)" check-unit
with_it check-constant-time
# The program itself prints the version of the library, which must be this one.
ldd "$build/out/psapi-fcgi" | grep -q "libmbedcrypto.so.16 => $libraries" || {
	ldd "$build/out/psapi-fcgi" >&2
	echo "mbedtls3: built against another mbedTLS" >&2
	exit 1
}
cd "$(dirname "$0")/.."
PSAPI_BIN=$build/out /usr/bin/python3 -m pytest -q -p no:cacheprovider --timeout 300 \
	--server socket tests/e2e/test_accept.py tests/e2e/test_refusals.py >"$build/log.e2e" 2>&1 || {
	cat "$build/log.e2e" >&2
	exit 1
}
version=$(sed -n 's/^#define MBEDTLS_VERSION_STRING  *"\(.*\)"/\1/p' "$root/usr/include/mbedtls/build_info.h")
passed=$(sed -n 's/^\[  PASSED  \] \([0-9]*\) test.*/\1/p' "$build/log" | awk '{ n += $1 } END { print n }')
echo "mbedtls3: $version: $passed unit tests passed, $(tail -n 1 "$build/log.e2e")"
