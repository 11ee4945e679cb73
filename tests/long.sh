#!/bin/sh
# long.sh "PART..." "PART...": makes the parts of a word one after the other, and the words side by side: what waits for
# time-outs and restarts beside what computes. NAME=VALUE among the parts is for make, with those that follow. A part's
# output is shown at its end, with its seconds; a failed part does not stop the other words, and the end of its output is
# shown again, as the last. For check-long in the Makefile, which sets MAKE and LOGS.
set -u

if [ "$1" = --one-after-the-other ]; then
	shift
	flags=
	for part in "$@"; do
		case $part in
		*=*)
			flags="$flags $part"
			continue
			;;
		esac
		begin=$(date +%s)
		# shellcheck disable=SC2086 # a list of words
		"$MAKE" "$part" $flags >"$LOGS/$part" 2>&1 </dev/null
		result=$?
		cat "$LOGS/$part"
		echo "check-long: $part: $(($(date +%s) - begin)) s"
		[ $result = 0 ] || {
			echo "$part" >>"$LOGS/failed"
			exit 1
		}
	done
	exit 0
fi
rm -rf "$LOGS"
mkdir -p "$LOGS"
# shellcheck disable=SC2016 # what the inner shell expands
printf '%s\n' "$@" | xargs -P "$#" -I '{}' sh -c '"$0" --one-after-the-other {}' "$0" && exit 0
while read -r part; do
	echo "check-long: $part failed; the end of its output:"
	tail -n 100 "$LOGS/$part"
done <"$LOGS/failed"
exit 1
