"""The server is stopped and started again: what was computed before is found on disk."""

import time
from typing import ClassVar

from lmx.bench.lab import Lab, chat, system, text, user
from lmx.bench.sites import Site
from lmx.bench.wire import Answer
from lmx.bench.workloads.base import Facts, Ratio, Workload

WORDS = 2090
SETTLE_SECONDS = 2.0
"""Writing is off the hot path: it has this time before the server is told to stop."""
DISK_BYTES = 4_000_000_000


class Restart(Workload):
    name = "restart"
    about = "the first request after a restart, its prompt known from before"
    only_lmx = True
    rounds = 2
    gives: ClassVar = {"ttft": Ratio("TTFT with the prompt on disk ÷ TTFT of a new prompt of this length", "lower")}

    def measure(self, lab: Lab, site: Site, seed: str) -> Facts:
        state = f"restart-{seed}".replace(" ", "-")
        with lab.serve(state=state, disk_cache_bytes=DISK_BYTES) as before:
            self._ask(lab, before, f"{seed} known", "first")
            time.sleep(SETTLE_SECONDS)
        with lab.serve(state=state, disk_cache_bytes=DISK_BYTES) as after:
            new = self._ask(lab, after, f"{seed} new", "first")
            known = self._ask(lab, after, f"{seed} known", "second")
        return {"ttft_known": known.ttft, "ttft_new": new.ttft, "cached_tokens": known.cached}

    def ratios(self, facts: Facts, ideal: Facts) -> dict[str, float]:
        return {"ttft": facts["ttft_known"] / facts["ttft_new"]}

    def _ask(self, lab: Lab, site: Site, shared: str, question: str) -> Answer:
        return lab.ask(site, [chat(site, [system(text(WORDS, shared)), user(text(20, question))], 4)])[0]
