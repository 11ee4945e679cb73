"""Fixtures: a place of its own for every test, and the suite's parameter, the server.

  place                 directory, settings, secret, spool; checked and removed afterwards
  server                the test runs once behind each server of servers.py
  direct                the receiver without a web server, over FastCGI (servers.Socket)

  @pytest.mark.settings(PSAPI_X="...")   settings of this test
  @pytest.mark.needs("capability")       skipped, with the reason, where a server lacks it
  --server NAME                          only behind this one (repeatable)
"""

import pytest

from all_servers import SERVERS, reason_to_skip
from receiver import BINARY, HOOKED, NEEDS_HOOK, ROOT, Place


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the long loads, too")
    parser.addoption("--server", action="append", choices=sorted(SERVERS), help="only this server")


def pytest_configure(config):
    config.addinivalue_line("markers", "settings(**settings): settings of the receiver")
    config.addinivalue_line("markers", "needs(*capabilities): what the server must be able to do")
    config.addinivalue_line("markers", "long: a long load; only with --long (make check-long)")
    config.addinivalue_line("markers", "stores: a test of refusals in which something is accepted")
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is missing: run make first (or set PSAPI_BIN)", 2)
    if NEEDS_HOOK and not HOOKED.exists():
        pytest.exit(f"{HOOKED} is missing: make {HOOKED.relative_to(ROOT)}", 2)


def pytest_generate_tests(metafunc):
    if "server" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--server") or list(SERVERS)
        metafunc.parametrize("server", chosen, indirect=True)


def pytest_collection_modifyitems(config, items):
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture
def place(request):
    settings = {}
    for mark in reversed(list(request.node.iter_markers("settings"))):
        settings.update(mark.kwargs)
    place = Place(settings)
    yield place
    place.close()


def start(cls, request):
    needs = [need for mark in request.node.iter_markers("needs") for need in mark.args]
    reason = reason_to_skip(cls.name, needs)
    if reason:
        pytest.skip(reason)
    return cls(request.getfixturevalue("place"))


@pytest.fixture
def server(request):
    with start(SERVERS[request.param], request) as running:
        yield running


@pytest.fixture
def direct(request):
    with start(SERVERS["socket"], request) as running:
        yield running
