#!/bin/sh
# A PostgreSQL for one unit test, on a unix socket in a directory of its own, run by an ordinary user.
#   postgresql.sh start DIRECTORY    prints its connection string
#   postgresql.sh stop DIRECTORY
set -eu
bin=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -1)
[ -x "$bin/initdb" ] || exit 1
dir=$2

as_user() {
	if [ "$(id -u)" = 0 ]; then
		setpriv --reuid=postgres --regid=postgres --clear-groups --inh-caps=-all "$@"
	else
		"$@"
	fi
}

case $1 in
start)
	mkdir -p "$dir"
	chmod 755 "$dir"
	[ "$(id -u)" != 0 ] || chown postgres: "$dir"
	cd "$dir"
	as_user "$bin/initdb" -D "$dir/data" -U psapi -A trust -E UTF8 --locale=C --no-sync >/dev/null 2>&1
	as_user "$bin/pg_ctl" -D "$dir/data" -l "$dir/log" -w -o "-k $dir -c listen_addresses= -c fsync=off" start >/dev/null
	as_user "$bin/createdb" -h "$dir" -U psapi psapi
	echo "host=$dir user=psapi dbname=psapi"
	;;
stop)
	cd "$dir"
	as_user "$bin/pg_ctl" -D "$dir/data" -m immediate stop >/dev/null
	;;
esac
