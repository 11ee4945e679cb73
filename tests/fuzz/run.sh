#!/bin/sh
# run.sh BUILD SECONDS TARGET...: fuzz each target for so long, from the vectors and from
# corpus/ (what once broke something). What breaks one is kept in BUILD/crash-TARGET-* and named.
set -eu

here=$(dirname "$0")
build=$1
seconds=$2
shift 2
rm -rf "$build/seeds"
/usr/bin/python3 "$here/seeds.py" "$build/seeds"
for target in "$@"; do
	found=$build/found/$target
	log=$build/$target.log
	corpus=$here/corpus/$target
	[ -d "$corpus" ] || corpus=
	mkdir -p "$found"
	if ! "$build/fuzz_$target" -max_total_time="$seconds" -timeout=10 -max_len=8192 \
		-print_final_stats=1 \
		-artifact_prefix="$build/crash-$target-" \
		"$found" "$build/seeds/$target" ${corpus:+"$corpus"} >"$log" 2>&1; then
		tail -n 60 "$log" >&2
		echo "fuzz $target: broken, see $log" >&2
		exit 1
	fi
	echo "fuzz $target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") runs, no failure"
done
