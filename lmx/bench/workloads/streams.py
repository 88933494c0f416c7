"""Very many streams at once, on a model that costs nothing: all of them end well."""

from typing import ClassVar

from lmx.bench.lab import Lab, chat, text, user
from lmx.bench.sites import Site
from lmx.bench.workloads.base import Facts, Ratio, Workload

STREAMS, TOKENS = 256, 24


class Streams(Workload):
    name = "streams"
    about = "256 open streams on a tiny model"
    only_lmx = True
    rounds = 1
    gives: ClassVar = {"ok": Ratio("share of streams that ended well with all their tokens")}

    def measure(self, lab: Lab, site: Site, seed: str) -> Facts:
        with lab.serve(model=lab.tiny(), slots=32, context=512) as server:
            asks = [chat(server, [user(text(16, f"{seed} {number}"))], TOKENS) for number in range(STREAMS)]
            answers = lab.try_to_ask(server, asks)
        well = [answer for answer in answers if not answer.error and answer.tokens == TOKENS]
        return {
            "well": len(well),
            "ttft_worst": max(answer.ttft for answer in answers),
            "seconds": max(answer.ended for answer in answers),
        }

    def ratios(self, facts: Facts, ideal: Facts) -> dict[str, float]:
        return {"ok": facts["well"] / STREAMS}
