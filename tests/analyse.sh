#!/bin/sh
# analyse.sh: runs gcc -fanalyzer, clang-tidy (.clang-tidy), cppcheck and shellcheck on all sources and scripts.
# (tests/e2e/test_man.py lints the manual pages.) Exits with 1 after any finding. A check that is left out has its
# reason here or in .clang-tidy.
set -u
sources=$(git ls-files '*.c' | grep -v ^tests/)
scripts=$(git ls-files | grep -E '\.sh$|^\.ci/run$|^examples/(handlers/|reconcile$)' | xargs grep -L '^#!.*python')
pq=$(pkg-config --variable=includedir libpq || pg_config --includedir)
export pq
failed=0

# Four files keep strings in a list, and free them at the end: the analyser of gcc 12 loses sight of them there, and
# reports a leak. _GNU_SOURCE is for bench/; the other files define it themselves.
analyse() {
	quiet=
	case $1 in commands/attempts.c | commands/command.c | store/entry.c | store/postgresql/attempts.c) quiet=-Wno-analyzer-malloc-leak ;; esac
	gcc -std=c11 -pthread -O2 -fanalyzer -Werror $quiet -I. -isystem "$pq" -D_GNU_SOURCE= -DPSAPI_VERSION='""' \
		-c -o /dev/null "$1"
}
if [ "${1-}" = --one ]; then
	analyse "$2"
	exit
fi
echo "$sources" | xargs -P "$(nproc)" -n 1 "$0" --one || failed=1
# shellcheck disable=SC2086,SC2016 # lists of files; what the inner shell expands
{
	echo "$sources" | xargs -P "$(nproc)" -n 8 sh -c \
		'clang-tidy --quiet "$@" -- -std=c11 -I. -isystem "$pq" -D_GNU_SOURCE= -DPSAPI_VERSION=\"\" 2>/dev/null' \
		sh || failed=1
	cppcheck -q --std=c11 --enable=warning,performance,portability --inline-suppr -I. \
		--error-exitcode=1 $sources || failed=1
	shellcheck $scripts || failed=1
	shellcheck -s bash packaging/completion/psapi || failed=1
}
[ "$failed" = 0 ] && echo "analysers: clean"
exit "$failed"
