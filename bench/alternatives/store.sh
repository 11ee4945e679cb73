#!/bin/sh
# For adnanh/webhook: store.sh ID TIMESTAMP SIGNATURE BODY. Its own rules check signatures over the
# body alone, so this script does it. One file per event, synced, each id once.
set -eu
key=$(printf %s "${BENCH_SECRET#whsec_}" | base64 -d | od -An -tx1 | tr -d ' \n')
mac=$(printf '%s.%s.%s' "$1" "$2" "$4" |
	openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | base64)
case " $3 " in *" v1,$mac "*) ;; *) exit 1 ;; esac
age=$(($(date +%s) - $2))
[ "$age" -le 300 ] && [ "$age" -ge -300 ]
name=$(printf %s "$1" | tr -c 'A-Za-z0-9_-' _)
file=$BENCH_DIRECTORY/$name.json
[ ! -e "$file" ] || exit 0
draft=$BENCH_DIRECTORY/.$$
printf %s "$4" >"$draft"
sync "$draft"
ln "$draft" "$file" 2>/dev/null || true
rm "$draft"
sync "$BENCH_DIRECTORY"
