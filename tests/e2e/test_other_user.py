"""Another user of the machine, in none of our groups, cannot read, write, replace or link files of the spool or the
secret, or connect to the socket."""

import os
import subprocess
import sys

import pytest

from replies import assert_accepted
from sender import signed

# Tries every operation on its arguments, and prints those that succeed.
NEIGHBOUR = """
import os, socket, sys, tempfile

def attempt(what, function, *arguments):
    try:
        function(*arguments)
        print(what, *arguments)
    except OSError:
        pass

def connect(path):
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)

own = tempfile.mkdtemp()
for number, path in enumerate(sys.argv[1:]):
    parent = os.path.dirname(path)
    attempt("list", os.listdir, path)
    attempt("read", os.open, path, os.O_RDONLY)
    attempt("write", os.open, path, os.O_WRONLY)
    attempt("connect", connect, path)
    attempt("chmod", os.chmod, path, 0o777)
    attempt("link", os.link, path, f"{own}/{number}")
    attempt("symlink", os.symlink, "/etc/passwd", f"{parent}/msg_planted.json")
    attempt("make", os.open, f"{parent}/msg_made.json", os.O_WRONLY | os.O_CREAT)
    attempt("rename", os.rename, path, path + ".away")
"""


def paths_of(place, receiver):
    """All our paths, and in each directory a file that does not exist."""
    found = [str(place.secret_file), str(receiver.path), str(place.spool.path)]
    for folder, directories, files in os.walk(place.spool.path):
        found += [os.path.join(folder, name) for name in directories + files]
        found.append(os.path.join(folder, "nobody.json"))
    return found


def what_works(paths, user):
    done = subprocess.run([sys.executable, "-c", NEIGHBOUR, *paths], user=user, group=user and "nogroup",
                          extra_groups=[] if user else None, capture_output=True, text=True, check=True,
                          cwd="/", env={"PATH": "/usr/bin:/bin"}, timeout=60)
    return done.stdout.splitlines()


def test_other_user(direct, place):
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    request = signed()
    assert_accepted(direct.send(request))
    paths = paths_of(place, direct.receiver)
    assert what_works(paths, "nobody") == []
    assert place.spool.assert_queued_once(request.header("webhook-id"), request.body)
    # The operations are valid: the owner succeeds.
    assert {line.split()[0] for line in what_works(paths, None)} == {
        "list", "read", "write", "connect", "chmod", "link", "symlink", "make", "rename"}
    place.tidy = False      # which left files behind
