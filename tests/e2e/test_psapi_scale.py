"""A large spool: memory depends on the number of entries, not on the size of events.

psapi_scale.py tests the full size, a million events; `make check-scale` runs it.
"""

import pytest

import psapi_scale
from receiver import SANITIZED


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is not ours to measure")
def test_memory_and_time(tmp_path):
    rows = list(psapi_scale.run(tmp_path, 5_000, 1_000))
    assert all(within for *_, within in rows), rows
    assert all(memory < 20 for _, _, memory, _ in rows), rows
