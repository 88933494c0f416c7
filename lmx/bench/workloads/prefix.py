"""Many questions behind one long system prompt: what a question costs when the prompt is known."""

from statistics import median
from typing import ClassVar

from lmx.bench.lab import Lab, chat, system, text, user
from lmx.bench.sites import Site
from lmx.bench.wire import Extend
from lmx.bench.workloads.base import Facts, Ratio, Workload

SHARED_WORDS, QUESTION_WORDS = 2090, 18
QUESTIONS = 6
SHARED, NEW = 2100, 25
"""In tokens, with what the bench models' chat template adds: ten before the question, seven behind it."""


class Prefix(Workload):
    name = "prefix"
    about = "2,100 shared tokens, then 25 new ones each time"
    gives: ClassVar = {"ttft": Ratio("TTFT ÷ the bare loop's pass over the 25 tokens on the same cache", "lower")}

    def measure(self, lab: Lab, site: Site, seed: str) -> Facts:
        shared = system(text(SHARED_WORDS, f"{seed} shared"))
        questions = [text(QUESTION_WORDS, f"{seed} {number}") for number in range(QUESTIONS + 1)]
        answers = [lab.ask(site, [chat(site, [shared, user(question)], 4)])[0] for question in questions]
        later = answers[1:]
        return {
            "ttft": median(answer.ttft for answer in later),
            "ttft_first": answers[0].ttft,
            "prompt_tokens": later[0].prompt,
            "cached_tokens": median(answer.cached for answer in later),
        }

    def ideal(self, lab: Lab, facts: Facts) -> Facts:
        return {"ttft": lab.bare(Extend(SHARED, NEW)).prefill}

    def ratios(self, facts: Facts, ideal: Facts) -> dict[str, float]:
        return {"ttft": facts["ttft"] / ideal["ttft"]}
