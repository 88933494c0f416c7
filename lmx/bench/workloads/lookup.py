"""Guessing by looking the text up: what it brings when the answer stands in the prompt, and what it costs when not."""

import random
from collections.abc import Sequence
from contextlib import ExitStack
from typing import ClassVar

from lmx.bench.lab import Lab, complete
from lmx.bench.sites import Site
from lmx.bench.wire import Answer, BenchError
from lmx.bench.workloads.base import Facts, Ratio, Workload

TOKENS = 200
SLOTS = 4


class Lookup(Workload):
    """Two servers, one with speculation off, answer the same three prompts in turn."""

    name = "lookup"
    about = "the answer stands in the prompt, is new, or is announced by misleading beginnings"
    only_lmx = True
    needs_circle = True
    rounds = 1
    pairs: ClassVar[int] = 3
    gives: ClassVar = {
        "repeat": Ratio("tokens per second ÷ without speculation: the answer stands in the prompt"),
        "other": Ratio("tokens per second ÷ without speculation: nothing repeats itself"),
        "misled": Ratio("tokens per second ÷ without speculation: every guess that the prompt suggests is wrong"),
    }

    def measure(self, lab: Lab, site: Site, seed: str) -> Facts:
        assert lab.bench is not None
        made = prompts(lab.bench.circle, seed)
        rates: dict[str, list[float]] = {f"{task}_{mode}": [] for task in made for mode in ("on", "off")}
        with ExitStack() as stack:
            off = stack.enter_context(lab.serve(slots=SLOTS, speculation="off"))
            on = stack.enter_context(lab.serve(slots=SLOTS, speculation="lookup"))
            for _ in range(self.pairs):
                for task, prompt in made.items():
                    for mode, server in (("on", on), ("off", off)):
                        rates[f"{task}_{mode}"].append(_rate(lab.ask(server, [complete(server, prompt, TOKENS)])[0]))
        return {f"{name}_tokens_per_second": sorted(each)[len(each) // 2] for name, each in rates.items()}

    def ratios(self, facts: Facts, ideal: Facts) -> dict[str, float]:
        rate = "{}_{}_tokens_per_second".format
        return {task: facts[rate(task, "on")] / facts[rate(task, "off")] for task in self.gives}


def prompts(circle: Sequence[int], seed: str) -> dict[str, list[int]]:
    """Each ends with the token after which the model says circle[1:TOKENS + 1]."""
    chance = random.Random(seed)
    said = list(circle[1 : TOKENS + 50])
    others = list(circle[TOKENS + 100 :])
    misleading = [token for at in range(TOKENS) for token in (*circle[at : at + 3], *chance.sample(others, 3))]
    return {
        "repeat": [*said, circle[0]],
        "other": [*chance.sample(others, len(said)), circle[0]],
        "misled": [*misleading, circle[0]],
    }


def _rate(answer: Answer) -> float:
    """Tokens per second after the first one."""
    seconds = answer.ended - answer.first
    if not seconds:
        raise BenchError("nothing was written")
    return (answer.tokens - 1) / seconds
