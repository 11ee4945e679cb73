#!/bin/sh
# make check-releases, tests/releases/run.sh RELEASE: the README's first commands on a bare Debian RELEASE, in a chroot with its own mounts,
# processes and temporary files: make demo, the package as docs/install.md builds it, and make check. Of make check's
# end-to-end tests it runs those of FLAGS, because this machine's own release has run them behind every server.
set -eu

cd "$(dirname "$0")/../.."
[ "$(id -u)" -eq 0 ] || {
	echo 'check-releases: needs root' >&2
	exit 77
}
release=$1
# What depends on the release: servers, file systems, the sandbox, libraries, strace.
export FLAGS="${FLAGS---server socket --server nginx-keepalive --store spool -k 'accept or refusals or nginx or balancer or \
haproxy or apache or doctor or crash or powercut or sandbox or secret_memory or module or man or docs or disk'}"
root=$PWD/build/releases/$release
tests/install/debian.sh "$release" "$PWD/build/debian/$release"
rm -rf "$root"
mkdir -p "$root"
trap 'rm -rf "$root"' EXIT
trap 'exit 1' HUP INT TERM
cp -a "build/debian/$release/." "$root"
source=$root/usr/local/src/psapi-fcgi
mkdir -p "$source"
if [ -e .git ]; then
	git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$source"
else
	tar -c --exclude=./build --exclude=./dist . | tar -x -C "$source"
fi

# The root is a mount of its own, as on a machine.
# shellcheck disable=SC2016 # the inner shell expands them
unshare --mount --pid --fork --kill-child sh -euc '
	mount --make-rprivate /
	mount --bind "$1" "$1"
	cd "$1"
	mount -t proc proc proc
	mount --rbind /sys sys
	mount --rbind /dev dev
	mount -t tmpfs -o mode=755 run run
	[ -s etc/hosts ] || printf "127.0.0.1 localhost\n::1 localhost\n" >etc/hosts
	cp /etc/resolv.conf etc/resolv.conf
	exec chroot . env -i HOME=/root LANG=C.UTF-8 FLAGS="$FLAGS" \
		PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
		/usr/local/src/psapi-fcgi/tests/releases/inside.sh' sh "$root"
