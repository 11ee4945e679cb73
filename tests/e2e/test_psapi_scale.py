"""A spool that is large, in proportion: memory grows by the entry, not by the event.

The whole size, a million events, is psapi_scale.py's, run by hand or by `make check-scale`.
"""

import pytest

import psapi_scale
from receiver import SANITIZED


@pytest.mark.skipif(SANITIZED, reason="a sanitizer's own memory is not ours to measure")
def test_memory_and_time(tmp_path):
    rows = list(psapi_scale.run(tmp_path, 20_000, 4_000))
    assert all(within for *_, within in rows), rows
    # A hundredth of the size may need a hundredth of what the limit leaves over a small process.
    assert all(memory < 40 for _, _, memory, _ in rows), rows
    assert rows[0][1] < psapi_scale.FIRST_HANDLER_S / 2, rows[0]
