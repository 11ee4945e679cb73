"""A spool that is large, in proportion: memory grows by the entry, not by the event.

The whole size, a million events, is psapi_scale.py's, run by hand or by `make check-scale`.
"""

import pytest

import psapi_scale
from receiver import SANITIZED


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is not ours to measure")
def test_memory_and_time(tmp_path):
    rows = list(psapi_scale.run(tmp_path, 5_000, 1_000))
    assert all(within for *_, within in rows), rows
    assert all(memory < 20 for _, _, memory, _ in rows), rows
