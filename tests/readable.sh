#!/bin/sh
# Run by root, the tests start web servers as www-data, which must be able to read the checkout and the directory of
# temporary files: below /root (0700), for example, it cannot. Says so in one line, and what to do.
set -eu

[ "$(id -u)" -eq 0 ] || exit 0 # the servers are the same user's then

as_web_server() {
	setpriv --reuid=www-data --regid=www-data --clear-groups "$@"
}

# check DIRECTORY: all directories of its path may be entered, and it may be read
check() {
	path=''
	old_ifs=$IFS IFS=/
	for part in $1; do
		path=$path${part:+/$part}
		as_web_server test -x "${path:-/}" || refuse "$1" "$path"
	done
	IFS=$old_ifs
	as_web_server test -r "$1" || refuse "$1" "$1"
}

refuse() {
	echo "make: as root, the tests run web servers as www-data, which cannot read $1 ($2 has mode $(stat -c %a "$2")):" \
		"use a directory that everybody can read, such as /usr/local/src, or an ordinary user" >&2
	exit 77
}

check "$(pwd -P)"
check "$(realpath "${TMPDIR:-/tmp}")"
