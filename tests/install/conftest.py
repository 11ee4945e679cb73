"""The installed program. Fixtures:

  installed   build/install of prepare.sh
  machine     a booted Debian 12 in a container; the tests in test_machine.py depend on each other, in the
            order of the file
"""

import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "tests" / "e2e")]


@pytest.fixture(scope="session")
def installed():
    return ROOT / "build" / "install"


@pytest.fixture(scope="module")
def machine(installed):
    if os.geteuid() != 0:
        pytest.skip("a Debian of its own can be booted by root only")
    from machine import Machine
    machine = Machine(installed / "debian", installed / "root")
    try:
        machine.boot()
        yield machine
    finally:
        machine.close()
