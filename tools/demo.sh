#!/bin/sh
# make demo: an event from delivery to handler, on loopback and in a directory that is removed at the end: nginx with the
# shipped snippet, the receiver, signed example events, a forgery and a duplicate, the replies, the spool, and psapi
# drain. The sender is openssl and curl.
set -eu

here=$(cd "$(dirname "$0")/.." && pwd)
dir=$(mktemp -d /tmp/psapi-demo.XXXXXX)
port=$(/usr/bin/python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
key=$(openssl rand -hex 24)
nginx_pid='' receiver_pid=''

clean_up() {
	[ -z "$nginx_pid" ] || kill "$nginx_pid" 2>/dev/null || :
	[ -z "$receiver_pid" ] || kill "$receiver_pid" 2>/dev/null || :
	wait
	rm -rf "$dir"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# A headline: bold on a terminal.
bold='' plain=''
[ ! -t 1 ] || bold='\033[1m' plain='\033[0m'
say() {
	printf "\\n$bold%s$plain\\n" "$*"
}

# wait_for FILE: until the socket or file exists, at most 10 s.
wait_for() {
	tries=0
	until [ -e "$1" ]; do
		tries=$((tries + 1))
		[ "$tries" -lt 200 ] || {
			cat "$dir"/*.log >&2
			exit 1
		}
		sleep 0.05
	done
}

# sign ID TIMESTAMP BODY: Standard Webhooks, HMAC-SHA256 of "ID.TIMESTAMP.BODY"
sign() {
	printf '%s.%s.%s' "$1" "$2" "$3" |
		openssl dgst -sha256 -mac HMAC -macopt "hexkey:$key" -binary | openssl base64 -A
}

# send ID BODY [SENT-BODY]: sign BODY, send it (or another one), print the reply
send() {
	now=$(date +%s)
	printf '%-16s ' "$1"
	curl -sS --max-time 10 -w '  HTTP %{http_code}, %{time_total} s\n' -o "$dir/reply" \
		-H "webhook-id: $1" -H "webhook-timestamp: $now" \
		-H "webhook-signature: v1,$(sign "$1" "$now" "$2")" \
		-H 'Content-Type: application/json' --data-binary "${3:-$2}" \
		"http://127.0.0.1:$port/webhooks/psapi" >"$dir/status"
	tr -d '\n' <"$dir/reply"
	cat "$dir/status"
}

say '1. The signing secret, as the portal shows it, in a file (mode 0640)'
printf 'whsec_%s\n' "$(printf %s "$key" | /usr/bin/python3 -c \
	'import base64, sys; print(base64.b64encode(bytes.fromhex(sys.stdin.read())).decode())')" >"$dir/secret"
chmod 0640 "$dir/secret"
sed 's/^\(whsec_....\).*/\1.../' "$dir/secret"

say '2. The receiver, and a private nginx with nginx/psapi.conf'
cat >"$dir/psapi.conf" <<EOF
PSAPI_SPOOL=$dir/spool
PSAPI_SECRET_FILE=$dir/secret
PSAPI_LISTEN=unix:$dir/psapi.sock
PSAPI_MIN_FREE=1048576
EOF
"$here/psapi-fcgi" -t -f "$dir/psapi.conf"
"$here/psapi-fcgi" -f "$dir/psapi.conf" 2>"$dir/receiver.log" &
receiver_pid=$!
sed "s|/run/psapi/psapi.sock|$dir/psapi.sock|" "$here/nginx/psapi.conf" >"$dir/snippet.conf"
user=''
[ "$(id -u)" -ne 0 ] || user='user root;'
cat >"$dir/nginx.conf" <<EOF
$user
daemon off;
worker_processes 1;
pid $dir/nginx.pid;
error_log $dir/nginx.log;
events { worker_connections 64; }
http {
    access_log off;
    client_body_temp_path $dir/body;
    fastcgi_temp_path $dir/fastcgi;
    proxy_temp_path $dir/proxy;
    uwsgi_temp_path $dir/uwsgi;
    scgi_temp_path $dir/scgi;
    server {
        listen 127.0.0.1:$port;
        include $dir/snippet.conf;
    }
}
EOF
wait_for "$dir/psapi.sock"
PATH=$PATH:/usr/sbin nginx -c "$dir/nginx.conf" -p "$dir" 2>"$dir/nginx-start.log" &
nginx_pid=$!
wait_for "$dir/nginx.pid"
echo "listening on http://127.0.0.1:$port/webhooks/psapi"

updates='{"data":{"runDate":"2025-07-24"},"id":"12345","timestamp":"2025-07-24T22:51:05.206Z","type":"producersync.updates_available"}'
activated='{"data":{"activatedAt":"2025-07-25T15:53:01.579Z","npn":"123456789"},"id":"whe_123454321","timestamp":"2025-07-25T15:53:01.579Z","type":"producersync.npn.activated"}'
deactivated='{"data":{"deactivatedAt":"2025-07-25T15:53:01.579Z","npn":"123456789"},"id":"whe_123454321","timestamp":"2025-07-25T15:53:01.579Z","type":"producersync.npn.deactivated"}'

say '3. Three signed events, one of them again, and a forgery'
send msg_updates "$updates"
send msg_activated "$activated"
send msg_deactivated "$deactivated"
send msg_activated "$activated"
send msg_forged "$activated" "$(printf %s "$activated" | sed s/123456789/666666666/)"

say '4. The spool: one file per event, the same file in new/ and events/'
(cd "$dir" && ls -l spool/new spool/events)
say '   spool/new/msg_activated.json: the evidence, then the bytes as they were signed'
cat "$dir/spool/new/msg_activated.json"
say '   spool/attempts.jsonl'
cat "$dir/spool/attempts.jsonl"

say '5. What cron does: psapi drain, with a command for a handler'
"$here/psapi" -f "$dir/psapi.conf" list
# shellcheck disable=SC2016 # the handler's shell expands them
"$here/psapi" -f "$dir/psapi.conf" drain -- /bin/sh -c \
	'echo "handled $PSAPI_EVENT_TYPE ${PSAPI_NPN:+npn $PSAPI_NPN}${PSAPI_RUN_DATE:+of $PSAPI_RUN_DATE} (${1##*/})"' sh
echo "left in new/: $(find "$dir/spool/new" -type f | wc -l), remembered in events/: $(find "$dir/spool/events" -type f | wc -l)"

say '6. Delivered once more: it is still a duplicate'
send msg_activated "$activated"
