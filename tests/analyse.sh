#!/bin/sh
# analyse.sh: gcc -fanalyzer, clang-tidy (.clang-tidy), cppcheck and shellcheck over all there is.
# (The manual pages are linted in tests/e2e/test_man.py.)
# Clean, or exit 1. What is left out is left out with a reason, here or in .clang-tidy.
set -u
sources=$(git ls-files '*.c' | grep -v ^tests/)
scripts=$(git ls-files | grep -E '\.sh$|^\.ci/run$|^handlers/')
failed=0

# commands/attempts.c keeps lines in a ring that it frees at the end: the analyser of gcc 12
# takes the slot that is overwritten (and was freed) for a leak.
for source in $sources; do
	quiet=
	[ "$source" = commands/attempts.c ] && quiet=-Wno-analyzer-malloc-leak
	gcc -std=c11 -pthread -O2 -fanalyzer -Werror $quiet -I. -DPSAPI_VERSION='""' -c -o /dev/null \
		"$source" || failed=1
done
# shellcheck disable=SC2086 # lists of files
{
	clang-tidy --quiet $sources -- -std=c11 -I. -DPSAPI_VERSION='""' 2>/dev/null || failed=1
	cppcheck -q --std=c11 --enable=warning,performance,portability --inline-suppr -I. \
		--error-exitcode=1 $sources || failed=1
	shellcheck $scripts || failed=1
	shellcheck -s bash completion/psapi || failed=1
}
[ "$failed" = 0 ] && echo "analysers: clean"
exit "$failed"
