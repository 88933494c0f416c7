"""Many simulated hours of trouble, or one again: `scripts/chaos --seeds 10000`, `scripts/chaos --seed 52`."""

import argparse
import os
import sys
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from time import monotonic

from tests.chaos.simulated.hour import Outcome, outcome


def run(seeds: Iterable[int], jobs: int) -> list[Outcome]:
    """Every seed's outcome, in processes of their own."""
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        return list(pool.map(outcome, seeds, chunksize=5))


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/chaos", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many hours are simulated")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, help="replay this one, with its traceback")
    asked = parser.parse_args()
    if asked.seed is not None:
        print(outcome(asked.seed, loud=True).line())
        return 0
    began = monotonic()
    outcomes = run(range(asked.first, asked.first + asked.seeds), asked.jobs)
    for one in outcomes:
        if one.violation:
            print(one.line())
    bad = sum(bool(one.violation) for one in outcomes)
    kills, asks = sum(one.deaths for one in outcomes), sum(one.requests for one in outcomes)
    spent = monotonic() - began
    print(f"{len(outcomes)} hours, {asks} requests, {kills} dead workers, {bad} violations, {spent:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
