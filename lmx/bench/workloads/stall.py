"""A long prompt arrives beside a running stream: who waits for whom, and how long."""

from itertools import pairwise
from statistics import median
from typing import ClassVar

from lmx.bench.lab import Lab, chat, text, user
from lmx.bench.sites import Site
from lmx.bench.wire import Answer, Generate
from lmx.bench.workloads.base import Facts, Ratio, Workload

LONG_WORDS = 3500
RUNNING_TOKENS = 1200
PROMISED = 0.25
"""Seconds: the pause that lmx promises to keep on a CPU, target_itl_ms's default there."""


class Stall(Workload):
    """The stream runs for 24 pieces, then the long prompt is sent; when that has written 8 tokens, both end."""

    name = "stall"
    about = "a prompt of 3,500 tokens beside a running stream"
    rounds, peer_rounds = 2, 1
    gives: ClassVar = {
        "gap": Ratio("longest pause of the running stream ÷ the pause that lmx promises", "lower"),
        "ttft": Ratio("the long prompt's TTFT beside the stream ÷ its TTFT alone", "lower"),
    }

    def measure(self, lab: Lab, site: Site, seed: str) -> Facts:
        running = chat(site, [user(text(32, f"{seed} running"))], RUNNING_TOKENS, until=1)
        beside = chat(site, [user(text(LONG_WORDS, f"{seed} beside"))], 8, after=(0, 24))
        stream, long = lab.ask(site, [running, beside])
        [alone] = lab.ask(site, [chat(site, [user(text(LONG_WORDS, f"{seed} alone"))], 8)])
        gaps = gaps_within(stream, long.sent, long.first)
        return {
            "gap": max(gaps, default=long.ttft),
            "gap_median": median(gaps or [long.ttft]),
            "gap_before": median(gaps_within(stream, 0.0, long.sent) or [0.0]),
            "ttft_beside": long.ttft,
            "ttft_alone": alone.ttft,
            "prompt_tokens": alone.prompt,
        }

    def ideal(self, lab: Lab, facts: Facts) -> Facts:
        return {"ttft": lab.bare(Generate((round(facts["prompt_tokens"]) or LONG_WORDS,), 1)).prefill}

    def ratios(self, facts: Facts, ideal: Facts) -> dict[str, float]:
        return {"gap": facts["gap"] / PROMISED, "ttft": facts["ttft_beside"] / facts["ttft_alone"]}


def gaps_within(answer: Answer, begin: float, end: float) -> list[float]:
    """Pauses that overlap this time; a pause that never ended counts up to the end of the stream."""
    stamps = [*answer.stamps, answer.ended]
    return [after - before for before, after in pairwise(stamps) if before <= end and after >= begin]
