"""Where alerts arrive: a sendmail on the PATH that keeps what it gets, and an SMTP server behind the real msmtp."""

import email
import email.policy
import socketserver
import threading
from contextlib import contextmanager

SENDMAIL = """#!/bin/sh
# sendmail(8) as far as it is promised: -t takes the recipients from the headers, -i ends at the end of input alone.
printf '%%s\\n' "$*" >>"%(dir)s/arguments"
%(before)s
draft=$(mktemp "%(dir)s/draft.XXXXXX") && cat >"$draft" && mv "$draft" "$draft.eml"
"""


class Mailbox:
    """`directory/sendmail`. `before`: a line of its script, "exit 75" for one that does not work."""

    def __init__(self, directory):
        self.dir = directory
        self.dir.mkdir()
        self.script()

    def script(self, before=""):
        path = self.dir / "sendmail"
        path.write_text(SENDMAIL % {"dir": self.dir, "before": before})
        path.chmod(0o755)

    def mails(self):
        """All that arrived, parsed, in no order. They are taken out."""
        found = []
        for path in self.dir.glob("*.eml"):
            raw = path.read_bytes()
            assert raw.isascii() and max(map(len, raw.splitlines()), default=0) <= 998, raw
            mail = email.message_from_bytes(raw, policy=email.policy.default)
            assert mail.defects == [] and set(mail.keys()) == {
                "To", "Subject", "Auto-Submitted", "MIME-Version", "Content-Type"}, raw
            found.append(mail)
            path.unlink()
        return found

    def only(self):
        (mail,) = self.mails()
        return mail


class Session(socketserver.StreamRequestHandler):
    def handle(self):
        self.say("220 sink")
        recipients = []
        while line := self.rfile.readline():
            verb = line[:4].upper()
            if verb == b"DATA":
                self.say("354 go on")
                text = b""
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    text += line.removeprefix(b".")
                self.server.mails.append((recipients, text))
                recipients = []
            elif verb == b"RCPT":
                recipients.append(line.decode().split(":", 1)[1].strip())
            elif verb == b"QUIT":
                self.say("221 bye")
                return
            self.say("250 fine")

    def say(self, text):
        self.wfile.write(text.encode() + b"\r\n")


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True

    def __init__(self):
        self.mails = []
        super().__init__(("127.0.0.1", 0), Session)


@contextmanager
def smtp():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
