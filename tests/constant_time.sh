#!/bin/sh
# constant_time.sh OBJECT BUILD: only mbedtls_ct_memcmp() compares the MAC. Looks up the calls of the functions in
# OBJECT, verify.o. With valgrind, the code is also run with the keys as uninitialised memory (constant_time.c): once
# unchanged, and once with memcmp(3), which must be reported.
set -eu

object=$1
build=$2

# The calls of the functions that see a MAC. (objdump --disassemble=NAME shows those of the functions before it, too.)
calls=$(objdump -dr --no-show-raw-insn "$object" |
	awk '/>:$/ { sees = $2 ~ /^<(verify|find_signature|verify_keyring_sign|mac)[.>]/ } sees' |
	sed -n 's/.*R_X86_64_\(PLT32\|PC32\)[[:space:]]*\([a-z_A-Z0-9]*\).*/\2/p' | sort -u)
echo "$calls" | grep -qx mbedtls_ct_memcmp || {
	echo "constant time: verify() does not call mbedtls_ct_memcmp" >&2
	exit 1
}
forbidden=$(echo "$calls" | grep -Ex '(__)?(mem|str|strn|b|strcase|strncase|timingsafe_mem|timingsafe_b)cmp(_.*)?|memmem|strstr|mbedtls_ssl_.*|mbedtls_mpi_.*' || true)
[ -z "$forbidden" ] || {
	echo "constant time: verify() calls $forbidden" >&2
	exit 1
}

if ! command -v valgrind >/dev/null; then
	echo "constant time: calls are right (not run: no valgrind)"
	exit 0
fi
mkdir -p "$build"
run() {
	${CC:-cc} -std=c11 -g -O2 -I. "$1" -o "$build/constant_time" tests/constant_time.c base/securemem.c base/crypto.c -lmbedcrypto
	valgrind -q --error-exitcode=9 "$build/constant_time" >"$build/constant_time.log" 2>&1
}
run -DCOMPARE=mbedtls_ct_memcmp || {
	cat "$build/constant_time.log" >&2
	echo "constant time: a branch or an index depends on the key" >&2
	exit 1
}
if run -DCOMPARE=memcmp; then
	echo "constant time: memcmp(3) goes unnoticed: the test is blind" >&2
	exit 1
fi
echo "constant time: calls are right, nothing depends on the key, memcmp(3) is noticed"
