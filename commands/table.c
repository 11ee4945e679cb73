/* The table of subcommands: dispatch and all help come from here. */
#include "commands/table.h"

#include <stddef.h>

#define ID_HELP                                                                          \
	"An ID is a webhook-id, or the name or path of an event's file in the spool.\n"

#define TIME_HELP                                                                        \
	"A TIME is a date or an ISO 8601 time, in UTC unless it says otherwise, or an age:\n" \
	"2025-07-24, 2025-07-24T22:51, 90d, 12h, 30m.\n"

#define SELECT_HELP                                                                      \
	"  --type PREFIX    events of this type, or of those below it: producersync.npn\n"     \
	"  --npn NPN        events of this producer\n"                                         \
	"  --since TIME     events received at that time or later\n"

const struct command table_commands[] = {
	{"secret", "add | list | drop FINGERPRINT", "add, list and drop the endpoint's signing secrets",
	    "  add              ask for a secret on the terminal, without echo, or read it from\n"
	    "                   standard input. White space and quotes around it are dropped;\n"
	    "                   what cannot be a signing secret is refused with the reason\n"
	    "  list             fingerprints (the first 8 hex digits of SHA-256 of the key), when\n"
	    "                   each was added, and when it last matched a request, from the\n"
	    "                   attempts log and the one before it (attempts.jsonl.1); those of\n"
	    "                   psapi send and doctor (msg_psapi...) do not count\n"
	    "  drop FINGERPRINT one that was rotated out\n"
	    "\n"
	    "PSAPI_SECRET_FILE is replaced atomically; it keeps its owner and group, and its mode\n"
	    "is never wider than 0640. When a secret was added is a comment line before it.\n",
	    secret_main},
	{"adopt", "[--discard]", "accept what arrived before the secret was there",
	    "  --discard        remove what no secret proves\n"
	    "\n"
	    "While the secret file is there and empty, and nothing was ever accepted, well-formed\n"
	    "requests are answered 200 and held. With the secret added, each is verified as of\n"
	    "its time of arrival and accepted as if it had just arrived; psapi drain and the\n"
	    "receiver do that, too. Exit status 1 if any stays, for no secret proves it.\n",
	    adopt_main},
	{"doctor", "[--socket SOCKET] [--cacert FILE] [URL]", "find what is wrong, and say what mends it",
	    "  URL              the endpoint, as the portal has it: looked at from outside, too\n"
	    "  --socket SOCKET  ask the receiver there: unix:/path, 127.0.0.1:port, [::1]:port\n"
	    "                   (default PSAPI_LISTEN)\n"
	    "  --cacert FILE    trust these certificates instead of the system's\n"
	    "\n"
	    "A line for each check: ok, BAD with a remedy below it, or \"-\" where it does not\n"
	    "apply (UTF-8 has ticks and crosses). With --json, \"ok\" is true, false or null. Exit\n"
	    "status 1 if anything is bad. As root it looks with the eyes of the spool's owner.\n"
	    "Its probes have the type psapi.doctor: the receiver proves and stores them in\n"
	    "events/, and never queues them.\n",
	    doctor_main},
	{"send", "[OPTIONS] URL", "send signed test events, or wrong ones, as the portal does",
	    "  --type TYPE      producersync.updates_available (default), producersync.npn.activated,\n"
	    "                   producersync.npn.deactivated: the documented examples\n"
	    "  --data JSON      the event's data, for these and any other type\n"
	    "  --file FILE      the whole event instead, byte for byte (\"-\": standard input)\n"
	    "  --id ID          the webhook-id (default: a new one for each, msg_psapi...)\n"
	    "  --count N        so many events (default 1)\n"
	    "  --rate N         at most N new ones a second\n"
	    "  --parallel N     N at a time (default 1)\n"
	    "  --secret-file FILE  sign with these secrets (default PSAPI_SECRET_FILE)\n"
	    "  --unsigned, --tampered, --stale, --wrong-secret\n"
	    "                   what a receiver must refuse with a 4xx (one of them)\n"
	    "  --retries N      try again up to N times what is not answered 2xx, as the sender\n"
	    "                   does: same id, new timestamp and signature, after 5 s, 5 min,\n"
	    "                   30 min, 2 h, 5 h, then 10 h, 20 % more or less\n"
	    "  --time-scale X   shorten these waits for a demonstration: 0.001\n"
	    "  --print          print an equivalent curl command instead of sending\n"
	    "  --cacert FILE    trust these certificates instead of the system's\n"
	    "  --insecure       trust any certificate\n"
	    "\n"
	    "Prints status, milliseconds, webhook-id and reply of each try. No redirect is\n"
	    "followed: the sender counts it as a failure, and likewise what takes over 5 s.\n"
	    "Exit status 1 if a last try was not answered as expected: 2xx, or 4xx for the wrong\n"
	    "kinds. Proxies of the environment are used, but never for loopback. The\n"
	    "configuration file is -f FILE here.\n",
	    send_main},
	{"drain", "[-j N] [-v] [-- CMD ARG...]", "run the handler of each event that is due",
	    "  -j, --jobs N     handle N lanes side by side (default 1). A lane is the events of\n"
	    "                   one NPN, or those of one type that have none; in a lane, events\n"
	    "                   are handled one by one, in the order of their timestamps\n"
	    "  -v, --verbose    a line for each handler run, and what it wrote to standard error\n"
	    "  -- CMD ARG...    this command for all events, instead of the handlers\n"
	    "\n"
	    "Handlers are programs in PSAPI_HANDLERS, named after an event type or the\n"
	    "beginning of one: producersync.npn.activated, else producersync.npn, else\n"
	    "producersync, else default. The event is on standard input, its file is the last\n"
	    "argument; PSAPI_WEBHOOK_ID, PSAPI_EVENT_TYPE, PSAPI_EVENT_TIMESTAMP, PSAPI_NPN,\n"
	    "PSAPI_RUN_DATE and PSAPI_TRY are set. Exit status 0: done. 75, a signal or a time-out:\n"
	    "again later. Anything else, or no handler: failed.\n"
	    "\n"
	    "Prints only what handlers print, and what fails. Exit status: 0; 1 if an event newly\n"
	    "failed; 78 if events wait for a handler to be mended; others of sysexits(3).\n",
	    drain_main},
	{"list", "[--new|--failed|--waiting|--all] [--type PREFIX] [--npn NPN] [--since TIME]",
	    "list events, in the order in which they arrived",
	    "  --new            those in new/, of which some may wait for a retry\n"
	    "  --waiting        those that wait for a retry\n"
	    "  --failed         those that need a look\n"
	    "  --all            every event ever received; without any of these: what is in\n"
	    "                   new/ and failed/\n" SELECT_HELP "\n" TIME_HELP,
	    list_main},
	{"show", "[--raw] ID...", "show all that is known of an event",
	    "  --raw            the signed bytes alone (on a terminal, escaped)\n"
	    "\n" ID_HELP,
	    show_main},
	{"retry", "ID...|--all", "put failed events back to new",
	    "  --all            all of them\n"
	    "\n"
	    "They are handled by the next drain, as if for the first time.\n\n" ID_HELP, retry_main},
	{"replay", "ID...|[--type PREFIX] [--npn NPN] [--since TIME]",
	    "put handled events back to new, for a handler that had a bug",
	    SELECT_HELP "\n"
	    "What waits in new/ or failed/ is left as it is.\n\n" ID_HELP TIME_HELP,
	    replay_main},
	{"done", "ID...", "take events out of new or failed by hand",
	    "They stay in events/, the archive.\n\n" ID_HELP, done_main},
	{"verify", "[--secret-file FILE] [-v] FILE|ID...|--all",
	    "prove again that AgentSync signed what is stored",
	    "  --secret-file FILE  secrets beside the configured ones: of another endpoint, or\n"
	    "                      retired ones (repeatable)\n"
	    "  --all               all events; those that fail are listed\n"
	    "  -v, --verbose       with --all: list the good ones as well\n"
	    "\n"
	    "Exit status 1 if any fails.\n" ID_HELP,
	    verify_main},
	{"prune", "--older-than AGE [--dry-run] [--force]", "forget old events that were handled",
	    "  --older-than AGE    received longer ago than this: 90d\n"
	    "  --dry-run           list them, remove nothing\n"
	    "  --force             also under 30d\n"
	    "\n"
	    "What waits in new/ or failed/ is kept. An id pruned is an id forgotten: AgentSync\n"
	    "keeps payloads for up to 90 days, and what somebody re-sends from the portal\n"
	    "after it was pruned is accepted, and handled, once more.\n",
	    prune_main},
	{"attempts", "[-f] [-n N] [--outcome OUTCOME] [--since TIME]",
	    "show what was delivered, and how it was answered",
	    "  -f, --follow     go on with what is appended, across rotation\n"
	    "  -n, --lines N    the last N (default 20; with --since, all)\n"
	    "  --outcome X      accepted, duplicate, held, ignored, rejected or error\n"
	    "  --since TIME     at that time or later\n"
	    "\n" TIME_HELP,
	    attempts_main},
	{"help", "[SUBCOMMAND]", "explain a subcommand", "", help_main},
	{0},
};
