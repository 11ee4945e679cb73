"""The shipped files for nginx: no warning, and correct in a vhost with unfavourable settings."""

import re
import subprocess

import pytest

from receiver import wait_for
from replies import assert_accepted, assert_refused
from sender import event, signed
from servers import PATH, Nginx, NginxKeepalive
from servers_others import NginxFcgiwrap
from test_kept_connections import open_connections


@pytest.fixture(params=[Nginx, NginxKeepalive], ids=lambda cls: cls.name)
def nginx(request, place):
    with request.param(place) as running:
        yield running


def test_no_warning(nginx):
    checked = subprocess.run(nginx.command("-t"), capture_output=True, text=True,
                             env={"PATH": PATH})
    assert checked.returncode == 0, checked.stderr
    assert not re.search(r"\[(warn|error|emerg)\]", checked.stderr), checked.stderr


def test_only_this_location(nginx):
    request = signed()
    for path in (b"/", b"/webhooks/psapi/", b"/webhooks/psapi/x", b"/webhooks/psapix"):
        with nginx.client.connect() as client:
            client.sendall(b"POST %b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
                           b"Connection: close\r\n\r\n" % path)
            assert nginx.client.answer(client).status in (404, 405), path
    assert_accepted(nginx.send(request))


def test_far_too_large_is_nginxs_own_refusal(nginx, place):
    reply = nginx.send(signed(b"x" * (2 * 1024 * 1024 + 1)))
    assert reply.status == 413 and b"nginx" in reply.body
    assert place.spool.attempts() == []


def test_receiver_is_down(nginx, place):
    """The sender must not get a 2xx. It retries, and nothing is lost."""
    for receiver in place.receivers:
        receiver.stop()
    request = signed()
    assert nginx.send(request).status == 502
    for receiver in place.receivers:
        receiver.start()
    assert_accepted(nginx.send(request))
    place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def hostile(cls):
    """A vhost with a password, error pages and a small limit of its own."""
    class Hostile(cls):
        vhost = """
            client_max_body_size 1k; fastcgi_intercept_errors on; fastcgi_param EVIL yes;
            server {
                listen 127.0.0.1:%%(port)d;
                auth_basic "members"; auth_basic_user_file %%(dir)s/nobody;
                error_page 400 401 405 413 415 503 =200 /error;
                location = /error { return 200 "all is well"; }
                include %s;
            }
            """ % cls.shipped
    return Hostile


@pytest.mark.parametrize("cls", [Nginx, NginxFcgiwrap], ids=lambda cls: cls.name)
def test_snippet_in_a_vhost_with_unfavourable_settings(place, cls):
    (place.dir / "nobody").write_text("")
    with hostile(cls)(place) as nginx:
        request = signed(event("x.large", filler="a" * 300_000))
        assert_accepted(nginx.send(request))
        assert_refused(nginx.send(signed().with_header("webhook-id", None)), "missing_header")
        assert_refused(nginx.send(signed(b" " * 1_048_577)), "body_too_large")


def test_http2(place):
    """The example vhost offers HTTP/2; the receiver gets the same requests."""
    with NginxKeepalive(place) as nginx:
        request = signed(event("x.large", filler="a" * 300_000))
        host, port = nginx.client.address
        arguments = ["curl", "--silent", "--show-error", "--http2", "--data-binary", "@-",
                     "--cacert", place.dir / "cert.pem", "--resolve", f"localhost:{port}:{host}",
                     "--write-out", " %{http_version} %{http_code}"]
        for name, value in request.headers:
            arguments += ["--header", f"{name}: {value.decode()}"]
        done = subprocess.run([*arguments, f"https://localhost:{port}/webhooks/psapi"],
                              input=request.body, capture_output=True, timeout=60)
        assert done.stdout.decode().endswith(" 2 200"), done
        place.spool.assert_queued_once(request.header("webhook-id"), request.body)


def test_second_receiver_takes_over(place):
    """The first receiver has ended: every request is still accepted."""
    with NginxKeepalive(place) as nginx:
        assert_accepted(nginx.send(signed()))
        place.receivers[0].kill()
        for _ in range(10):
            assert_accepted(nginx.send(signed()))
        place.receivers[0].start()
        place.receivers[1].stop()
        for _ in range(10):
            assert_accepted(nginx.send(signed()))


def test_connections_are_kept(place):
    """The receiver still has them open after the answer."""
    with NginxKeepalive(place) as nginx:
        assert_accepted(nginx.send(signed()))
        place.receivers[0].stop()
        place.receivers[0].start()
        for _ in range(30):
            assert_accepted(nginx.send(signed()))
        assert open_connections(place.receivers[0]) > 0


def test_large_bodies_on_kept_connections(place):
    """300 kB on connections that are used again: not one 502."""
    with NginxKeepalive(place) as nginx:
        large = event("x.large", filler="a" * 300_000)
        for n in range(60):
            request = signed(large)
            if n % 3 == 0:      # refused early: unread bytes must not break the connection
                assert_refused(nginx.send(request.with_header("webhook-id", None)),
                               "missing_header")
            assert_accepted(nginx.send(request))
        wait_for(lambda: len(place.spool.names("new")) == 60, "all are there")
