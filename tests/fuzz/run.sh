#!/bin/sh
# run.sh BUILD SECONDS TARGET...: fuzz each target for so long, as many at once as there are
# processors, from the vectors and from corpus/ (what once broke something). What breaks one is
# kept in BUILD/crash-TARGET-* and named.
set -eu

here=$(dirname "$0")
build=$1
seconds=$2
shift 2

fuzz() {
	found=$build/found/$1
	log=$build/$1.log
	corpus=$here/corpus/$1
	[ -d "$corpus" ] || corpus=
	mkdir -p "$found"
	if ! "$build/fuzz_$1" -max_total_time="$seconds" -timeout=10 -max_len=8192 \
		-print_final_stats=1 \
		-artifact_prefix="$build/crash-$1-" \
		"$found" "$build/seeds/$1" ${corpus:+"$corpus"} >"$log" 2>&1; then
		tail -n 60 "$log" >&2
		echo "fuzz $1: broken, see $log" >&2
		exit 1
	fi
	echo "fuzz $1: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs, no failure"
}

# As xargs calls it, for one.
if [ "$1" = --one ]; then
	fuzz "$2"
	exit
fi
rm -rf "$build/seeds"
/usr/bin/python3 "$here/seeds.py" "$build/seeds"
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 "$0" "$build" "$seconds" --one || exit 1
