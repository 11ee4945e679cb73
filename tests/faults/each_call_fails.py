#!/usr/bin/python3
"""Each call of each scenario that stores or recovers fails once, with EIO and with ENOSPC, or is cut
short: for make coverage, so nothing is judged here. Allocations are left out, for gcov's own fail,
too; so are kills, for the dead count no lines."""

import errno
import multiprocessing
import os

from faults import SCENARIOS, SHORT, Case, calls_of, prepared, run, shim_of


def cases():
    for index, scenario in enumerate(SCENARIOS):
        if not scenario.sends and scenario.name != "recovery":
            continue
        for at, name in enumerate(calls_of(index, "calls"), 1):
            yield Case(index, "calls", at, f"fail={errno.EIO}")
            yield Case(index, "calls", at, f"fail={errno.ENOSPC}")
            if name in SHORT:
                yield Case(index, "calls", at, "short")


def fail(case):
    scenario = SCENARIOS[case.scenario]
    testbed = prepared(scenario)
    try:
        run(testbed, scenario, shim_of(case))
    finally:
        testbed.remove()


def main():
    with multiprocessing.Pool(os.cpu_count()) as pool:
        print(sum(1 for _ in pool.imap_unordered(fail, cases(), chunksize=8)), "calls have failed")


if __name__ == "__main__":
    main()
