#!/bin/sh
# run.sh BUILD SECONDS TARGET...: fuzzes each target for SECONDS, one per processor at once, from the test vectors and
# from corpus/ (inputs that once broke something). Keeps and names an input that breaks a target: BUILD/crash-TARGET-*.
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

# Called by xargs, for one target.
if [ "$1" = --one ]; then
	fuzz "$2"
	exit
fi
rm -rf "$build/seeds"
/usr/bin/python3 "$here/seeds.py" "$build/seeds"
printf '%s\n' "$@" | xargs -P "$(nproc)" -n 1 "$0" "$build" "$seconds" --one || exit 1
