"""Fixtures: a place of its own for every test, and the suite's parameters: the server, and the store.

  place                 directory, settings, secret, spool; checked and removed afterwards
  server                the test runs once behind each server of servers.py
  direct                the receiver without a web server, over FastCGI (servers.Socket)

  @pytest.mark.settings(PSAPI_X="...")   settings of this test
  @pytest.mark.needs("capability")       skipped, with the reason, where a server lacks it
  @pytest.mark.each_store                the test runs once over each store: the spool, PostgreSQL
  @pytest.mark.spool_only("reason")      of such a test or module: not over PostgreSQL
  --server NAME, --store NAME            only behind this one, only over this one (repeatable)
"""

import pytest

import postgresql
from all_servers import SERVERS, reason_to_skip
from receiver import BINARY, HOOKED, NEEDS_HOOK, ROOT, Place
from shared_store import Store

STORES = ("spool", "postgresql")
# Web servers make no difference to a store: it is tried with the ways in which requests arrive.
SERVERS_OF_POSTGRESQL = ("socket", "cgi")


def pytest_addoption(parser):
    parser.addoption("--long", action="store_true", help="the long loads, too")
    parser.addoption("--server", action="append", choices=sorted(SERVERS), help="only this server")
    parser.addoption("--store", action="append", choices=STORES, help="only this store")


def pytest_configure(config):
    config.addinivalue_line("markers", "settings(**settings): settings of the receiver")
    config.addinivalue_line("markers", "needs(*capabilities): what the server must be able to do")
    config.addinivalue_line("markers", "each_store: the test runs over each store")
    config.addinivalue_line("markers", "spool_only(reason): it cannot run over PostgreSQL")
    config.addinivalue_line("markers", "long: a long load; only with --long (make check-long)")
    config.addinivalue_line("markers", "stores: a test of refusals in which something is accepted")
    if not BINARY.exists():
        pytest.exit(f"{BINARY} is missing: run make first (or set PSAPI_BIN)", 2)
    if NEEDS_HOOK and not HOOKED.exists():
        pytest.exit(f"{HOOKED} is missing: make {HOOKED.relative_to(ROOT)}", 2)


def pytest_generate_tests(metafunc):
    chosen = metafunc.config.getoption("--server") or list(SERVERS)
    stores = metafunc.config.getoption("--store") or STORES
    each_store = metafunc.definition.get_closest_marker("each_store")
    if each_store and "store" not in metafunc.fixturenames:
        metafunc.fixturenames.append("store")
    if each_store and "server" in metafunc.fixturenames:
        metafunc.parametrize("server, store", [
            (server, store) for store in stores for server in chosen
            if store == "spool" or server in SERVERS_OF_POSTGRESQL], indirect=True)
    elif "server" in metafunc.fixturenames:
        metafunc.parametrize("server", chosen, indirect=True)
    elif each_store:
        metafunc.parametrize("store", stores, indirect=True)


def pytest_collection_modifyitems(config, items):
    if config.getoption("--store") == ["postgresql"]:
        items[:] = [item for item in items if item.get_closest_marker("each_store")]
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


@pytest.fixture(scope="session")
def shared_store():
    store = Store()
    yield store
    store.close()


@pytest.fixture
def store(request):
    """The name of the store; "spool" where a test has no choice."""
    name = getattr(request, "param", "spool")
    if name == "postgresql":
        for reason in (mark.args[0] for mark in request.node.iter_markers("spool_only")):
            pytest.skip(f"postgresql: {reason}")
        if postgresql.why_not():
            pytest.skip(postgresql.why_not())
    return name


@pytest.fixture
def place(request, store):
    settings = {}
    for mark in reversed(list(request.node.iter_markers("settings"))):
        settings.update(mark.kwargs)
    place = Place(settings)
    if store == "postgresql":
        request.getfixturevalue("shared_store").given_to(place)
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
