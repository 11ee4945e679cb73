/* Owns the table of subcommands: names, functions and help texts. */
#include "commands/table.h"

#define ID_HELP                                                                          \
	"An ID is a webhook-id, or the name or path of an event's file in the spool.\n"

#define TIME_HELP                                                                        \
	"A TIME is a date or an ISO 8601 time (UTC if it has no zone), or an age:\n"             \
	"2025-07-24, 2025-07-24T22:51, 90d, 12h, 30m.\n"

#define SELECT_HELP                                                                      \
	"  --type PREFIX    events of this type, or of those below it: producersync.npn\n"     \
	"  --npn NPN        events of this producer\n"                                         \
	"  --since TIME     events received at that time or later\n"

const struct command table_commands[] = {
	{"secret", "add | list | drop FINGERPRINT", "add, list and drop the endpoint's signing secrets",
	    "  add              ask for a secret on the terminal, without echo, or read it\n"
	    "                   from standard input. White space and quotes around it are\n"
	    "                   removed; a text that cannot be a signing secret is refused,\n"
	    "                   with the reason\n"
	    "  list             fingerprints (the first 8 hex digits of SHA-256 of the key),\n"
	    "                   when each was added, and when it last matched a request, from\n"
	    "                   the attempts log and the rotated ones; requests of psapi send\n"
	    "                   and doctor (msg_psapi...) do not count\n"
	    "  drop FINGERPRINT remove a secret that was rotated out\n"
	    "\n"
	    "The file PSAPI_SECRET_FILE is replaced atomically. It keeps its owner and group;\n"
	    "its mode is 0640 or stricter. A comment line before a secret says when it was\n"
	    "added.\n",
	    secret_main},
	{"adopt", "[--discard]", "accept the requests that arrived before the first secret",
	    "  --discard        remove the requests that match no secret\n"
	    "\n"
	    "Before the first secret (the secret file exists and is empty, no event was ever\n"
	    "accepted) the receiver answers 200 to well-formed requests and holds them. psapi\n"
	    "adopt verifies them after the secret was added: the timestamp of each is\n"
	    "compared with the time when it arrived. Those that a secret proves are accepted.\n"
	    "psapi drain and the receiver do the same. Exit status 1 if a request stays\n"
	    "because it matches no secret.\n",
	    adopt_main},
	{"doctor", "[-q] [--socket SOCKET] [--cacert FILE] [URL]",
	    "find out what is wrong, and how to fix it",
	    "  URL              the endpoint as the portal has it: check it from outside as\n"
	    "                   well (default PSAPI_ENDPOINT_URL)\n"
	    "  --socket SOCKET  where to ask the receiver: unix:/path, 127.0.0.1:port,\n"
	    "                   [::1]:port (default PSAPI_LISTEN)\n"
	    "  --cacert FILE    trust these certificates instead of the system's\n"
	    "  -q, --quiet      print only what is wrong; nothing if all is well\n"
	    "\n"
	    "Prints a line for each check: ok; BAD, with the remedy below it; \"!\", a remark:\n"
	    "it works, but a promise cannot be kept here; or \"-\" if the check does not apply\n"
	    "(in a UTF-8 locale, ticks and crosses); and at the end how many problems and\n"
	    "remarks there are. With --json, \"ok\" is true, false or null, and a remark has\n"
	    "\"remark\":true. Exit status 1 if a check failed. Root becomes the spool's owner\n"
	    "first, to see what the receiver sees. The probes have the type psapi.doctor: the\n"
	    "receiver verifies them and stores them in events/, and never queues them.\n",
	    doctor_main},
	{"send", "[OPTIONS] URL", "send signed test events as the portal does, or wrong ones",
	    "  --type TYPE      producersync.updates_available (default),\n"
	    "                   producersync.npn.activated, producersync.npn.deactivated: the\n"
	    "                   documented examples\n"
	    "  --data JSON      the event's data, for these and any other type\n"
	    "  --file FILE      send this whole event, byte for byte (\"-\": standard input)\n"
	    "  --id ID          the webhook-id (default: a new one for each, msg_psapi...)\n"
	    "  --count N        send N events (default 1)\n"
	    "  --rate N         at most N new events a second\n"
	    "  --parallel N     N requests at a time (default 1)\n"
	    "  --secret-file FILE  sign with these secrets (default PSAPI_SECRET_FILE)\n"
	    "  --unsigned, --tampered, --stale, --wrong-secret\n"
	    "                   a wrong request, which a receiver must refuse with a 4xx (one\n"
	    "                   kind)\n"
	    "  --retries N      without a 2xx answer, try again up to N times as the sender\n"
	    "                   does: same id, new timestamp and signature, after 5 s, 5 min,\n"
	    "                   30 min, 2 h, 5 h, then 10 h, 20 % more or less\n"
	    "  --time-scale X   multiply these waits: 0.001 for a demonstration\n"
	    "  --print          print an equivalent curl command instead of sending\n"
	    "  --cacert FILE    trust these certificates instead of the system's\n"
	    "  --insecure       trust any certificate\n"
	    "\n"
	    "Prints status, milliseconds, webhook-id and reply of each try. psapi send\n"
	    "follows no redirect: the sender counts one as a failure, like an answer after\n"
	    "more than 5 s. Exit status 1 if a last try was not answered as expected: 2xx, or\n"
	    "4xx for a wrong request. Proxies of the environment are used, but never for\n"
	    "loopback. The configuration file is -f FILE here.\n",
	    send_main},
	{"drain", "[-j N] [-v] [[--batch N] -- CMD ARG...]",
	    "run the handler of each event that is due",
	    "  -j, --jobs N     handle N lanes at the same time (default 1). A lane is the\n"
	    "                   events of one NPN, or those without NPN of one type; its\n"
	    "                   events are handled strictly in the order of their timestamps\n"
	    "  -v, --verbose    print a line for each handler run, and its standard error\n"
	    "  --batch N        give up to N events (at most 10000) to one run of CMD\n"
	    "  -- CMD ARG...    run this command for all events, instead of the handlers\n"
	    "\n"
	    "Handlers are programs in PSAPI_HANDLERS, named after an event type or the\n"
	    "beginning of one: producersync.npn.activated, else producersync.npn, else\n"
	    "producersync, else default. The event is on standard input, its file is the last\n"
	    "argument; PSAPI_WEBHOOK_ID, PSAPI_EVENT_TYPE, PSAPI_EVENT_TIMESTAMP, PSAPI_NPN,\n"
	    "PSAPI_RUN_DATE and PSAPI_TRY are set. Exit status 0: done. 75, a signal or a\n"
	    "time-out: a retry later. 126 and 127: a retry later that does not count, for a\n"
	    "program that the handler calls is missing. Another exit status, or no handler:\n"
	    "failed.\n"
	    "\n"
	    "Programs in PSAPI_BATCH_HANDLERS, with the same names, get up to PSAPI_BATCH\n"
	    "events in one run: a line of JSON for each on standard input. They print a line\n"
	    "for each result: ok N, later N [TEXT], failed N [TEXT], or once ok all COUNT.\n"
	    "What they do not report is never done. The more specific handler of both\n"
	    "directories gets an event.\n"
	    "\n"
	    "Prints only the handlers' output and failures. Exit status of drain: 0; 78 if\n"
	    "events wait for a handler to be fixed; 77 if a file in new/ cannot be used, for\n"
	    "it belongs to another user; others of sysexits(3); 1 if none of these, and an\n"
	    "event newly failed.\n",
	    drain_main},
	{"list",
	    "[--new|--failed|--waiting|--all] [SELECTION] [--by-cause]\n"
	    "       psapi list --gaps [--days N]",
	    "list events, in the order in which they arrived",
	    "  --new            events in new/, of which some may wait for a retry\n"
	    "  --waiting        events that wait for a retry\n"
	    "  --failed         events in failed/\n"
	    "  --all            every event that was ever received and not pruned. Without\n"
	    "                   one of these options, the events in new/ and failed/\n"
	    SELECT_HELP
	    "  --by-cause       failed events (with --waiting: those) in groups of one\n"
	    "                   handler and one reason: how many, the first, the last, and\n"
	    "                   one id\n"
	    "  --gaps           days that no producersync.updates_available names (runDate),\n"
	    "                   and whether they are on a weekend. A day counts from 02:00\n"
	    "                   UTC of the next day on. Exit status 1 if there are any.\n"
	    "                   Before the oldest event that is kept, and before the first\n"
	    "                   runDate, it is not known\n"
	    "  --days N         with --gaps: the last N days (default 90)\n"
	    "\n" TIME_HELP,
	    list_main},
	{"show", "[--raw] ID...", "show all information about an event",
	    "  --raw            the signed bytes alone (on a terminal, escaped)\n"
	    "\n"
	    "A JSON body is printed as it was signed, indented; with --json it is the member\n"
	    "\"event\", byte for byte but for line breaks.\n\n" ID_HELP,
	    show_main},
	{"retry",
	    "[--dry-run] ID...|--all [--waiting] [SELECTION]\n"
	    "       [--reason TEXT]",
	    "put failed events back into new/; make waiting retries due at once",
	    "  --all            all that failed, or of those all that match:\n"
	    "  --waiting        events that wait for a retry, instead of failed ones. One\n"
	    "                   that was never tried stays as it is\n"
	    SELECT_HELP
	    "  --reason TEXT    events that failed, or wait, for this reason; it is as list\n"
	    "                   shows it\n"
	    "  --dry-run        say how many, and move nothing\n"
	    "\n"
	    "They are handled by the next drain, as if for the first time. An ID may be that\n"
	    "of an event that failed or waits for a retry. With --json and --all or\n"
	    "--dry-run, how many they are is printed as {\"count\":6}.\n\n" ID_HELP TIME_HELP,
	    retry_main},
	{"replay", "ID...|[--type PREFIX] [--npn NPN] [--since TIME]",
	    "put handled events back into new/, for a handler that had a bug",
	    SELECT_HELP "\n"
	    "Events that are in new/ or failed/ are left as they are. With --json, how many\n"
	    "went back is printed as {\"count\":6}.\n\n" ID_HELP TIME_HELP,
	    replay_main},
	{"done", "ID...", "remove events from new/ or failed/ by hand",
	    "They stay in events/, the archive.\n\n" ID_HELP, done_main},
	{"roster", "[--at TIME] [--csv]", "list the producers that are active, by what the events say",
	    "  --at TIME        as of that time, not of now\n"
	    "  --csv            as comma-separated values, with a line of names above\n"
	    "\n"
	    "Of the activated and deactivated events of an NPN the one with the latest\n"
	    "timestamp counts, in whatever order they arrived, and whether or not they were\n"
	    "handled. Of two with the same timestamp, activated counts. What psapi prune\n"
	    "removes stays counted, for each time. Test events count as well.\n"
	    TIME_HELP,
	    roster_main},
	{"verify", "[--secret-file FILE] [-v] FILE|ID...|--all",
	    "verify again that AgentSync signed the stored events",
	    "  --secret-file FILE  more secrets than the configured ones: of another\n"
	    "                      endpoint, or retired ones (repeatable)\n"
	    "  --all               verify all events of the archive, events/; list those that\n"
	    "                      fail\n"
	    "  -v, --verbose       with --all: list the good ones as well\n"
	    "\n"
	    "Exit status 1 if an event fails.\n" ID_HELP,
	    verify_main},
	{"recover", "", "commit what a crash or a power cut left uncommitted",
	    "Each event of new/ or failed/ that events/ lacks is synced and linked there. The\n"
	    "receiver does the same when it starts, psapi drain in each run, and\n"
	    "psapi-recover.service at boot. It may run at any moment. It repairs no file:\n"
	    "every file in new/ is whole.\n",
	    recover_main},
	{"store", "init | status | import", "set up and look at the database that several hosts share",
	    "  init             make the tables in the database that PSAPI_STORE names; that\n"
	    "                   they are there is fine\n"
	    "  status           its nodes, replication, sizes, what waits\n"
	    "  import           copy the local spool's events with their status; those that\n"
	    "                   are there already stay as they are. It can be interrupted and\n"
	    "                   repeated, and removes nothing from the spool\n"
	    "\n"
	    "PSAPI_STORE=postgresql://USER@HOST1,HOST2/DATABASE on each host; the module is\n"
	    "in the package psapi-fcgi-postgresql. docs/hosts.md shows a whole set-up.\n",
	    store_main},
	{"prune", "--older-than AGE [--dry-run] [--force]", "remove old events that were handled",
	    "  --older-than AGE    events that were received longer ago than this: 90d\n"
	    "  --dry-run           list them, remove nothing\n"
	    "  --force             allow ages under 30d\n"
	    "\n"
	    "Events in new/ or failed/ are kept. What the others say of producers stays\n"
	    "counted in psapi roster. When an event is removed, its id is forgotten: the\n"
	    "portal can send an event again for up to 90 days, and a pruned event is then\n"
	    "accepted and handled again.\n",
	    prune_main},
	{"attempts", "[-f] [-n N] [--outcome OUTCOME] [--since TIME] [--local]",
	    "show the requests that arrived, and their answers",
	    "  -f, --follow     go on with new requests, also when the log is rotated\n"
	    "  -n, --lines N    the last N (default 20; with --since, all)\n"
	    "  --outcome X      accepted, duplicate, held, ignored, rejected or error\n"
	    "  --since TIME     at that time or later\n"
	    "  --local          with PSAPI_STORE: only those of this host\n"
	    "\n"
	    "Reads the attempts log and those that were rotated (attempts.jsonl.1,\n"
	    "-20260131), but no compressed ones, and says where they begin; with PSAPI_STORE,\n"
	    "the copies of all hosts in the database. --json prints the lines as they are,\n"
	    "with \"host\" before those of all hosts.\n"
	    TIME_HELP,
	    attempts_main},
	{"check", "[-w RANGES] [-c RANGES] [-t SECONDS] [--mail]",
	    "a check for Nagios and Icinga, and alerts by mail",
	    "  -w, --warning RANGES   NAME=RANGE,...; of waiting, retrying, failed, held,\n"
	    "                   oldest, daily, drain, free, skew, secrets. A RANGE alone: of\n"
	    "                   waiting\n"
	    "  -c, --critical RANGES  the same. Without them: -w failed=0,held=0,oldest=3600,\n"
	    "                   skew=-60:60 -c daily=93600,drain=600\n"
	    "  -t, --timeout SECONDS  (default 10; with --mail 60)\n"
	    "  --mail           send mail to PSAPI_ALERT_MAILTO when something becomes bad,\n"
	    "                   and when all is well again; request PSAPI_HEARTBEAT_URL.\n"
	    "                   Prints nothing\n"
	    "\n"
	    "Prints one line with performance data. Exit status 0: OK, 1: WARNING, 2:\n"
	    "CRITICAL, 3: UNKNOWN. It is the quick part of psapi doctor: receiver, spool,\n"
	    "disk, secret, handlers, attempts log, refused deliveries, the daily event, what\n"
	    "waits or failed, drain's last run, the clock, and the database of PSAPI_STORE.\n"
	    "It sends no delivery. A RANGE is 10 (0 to 10), 10: (at least 10), ~:10, 5:10, or\n"
	    "@5:10 (not 5 to 10). An empty one switches a limit off: -c daily= for an\n"
	    "endpoint that gets no daily event.\n",
	    check_main},
	{"metrics", "[--output FILE] [CONFIGURATION...]",
	    "print the numbers of endpoints for Prometheus",
	    "  --output FILE    write FILE.new, and rename that: for the textfile collector\n"
	    "                   of node_exporter, whose files end in .prom\n"
	    "\n"
	    "Each configuration file is an endpoint (/etc/psapi/*.conf), whose label is the\n"
	    "file's name without .conf; without one, the endpoint of -f or the default.\n"
	    "Counters begin with the logs that are there, and survive their rotation. Numbers\n"
	    "of what has never happened are absent.\n",
	    metrics_main},
	{"help", "[SUBCOMMAND|TOPIC]", "explain a subcommand",
	    "The topics are setup, options (of all subcommands) and settings.\n", help_main},
	{0},
};
