"""Requests that come all at once: how much of the bare loop's speed is left over HTTP."""

from typing import ClassVar

from lmx.bench.lab import Lab, chat, text, user
from lmx.bench.sites import Site
from lmx.bench.wire import Generate
from lmx.bench.workloads.base import Facts, Ratio, Workload

WORDS = 64


class Rows(Workload):
    """`rows` requests together, each of a few words; the bare loop reads and decodes as many in one batch."""

    rows: ClassVar[int]
    tokens: ClassVar[int]
    gives: ClassVar = {"speed": Ratio("time of the bare loop for the same work ÷ time from the first byte to the last")}

    def measure(self, lab: Lab, site: Site, seed: str) -> Facts:
        asks = [chat(site, [user(text(WORDS, f"{seed} {row}"))], self.tokens) for row in range(self.rows)]
        answers = lab.ask(site, asks)
        seconds = max(answer.ended for answer in answers) - min(answer.sent for answer in answers)
        tokens = sum(answer.tokens for answer in answers)
        return {
            "seconds": seconds,
            "prompt_tokens": sum(answer.prompt for answer in answers),
            "tokens": tokens,
            "steps": max(answer.tokens for answer in answers) - 1,
            "tokens_per_second": tokens / seconds,
            "ttft": max(answer.ttft for answer in answers),
        }

    def ideal(self, lab: Lab, facts: Facts) -> Facts:
        length = round(facts["prompt_tokens"] / self.rows) or WORDS
        timing = lab.bare(Generate((length,) * self.rows, self.tokens))
        return {
            "prompt_tokens": length * self.rows,
            "read_token": timing.prefill / (length * self.rows),
            "step": timing.decode / (self.tokens - 1),
            "seconds": timing.prefill + timing.decode,
            "tokens_per_second": self.tokens * self.rows / (timing.prefill + timing.decode),
        }

    def ratios(self, facts: Facts, ideal: Facts) -> dict[str, float]:
        """By rates, since another server may count other tokens in the same text, none at all, or stop earlier."""
        prompt = facts["prompt_tokens"] or ideal["prompt_tokens"]
        seconds = prompt * ideal["read_token"] + facts["steps"] * ideal["step"]
        return {"speed": seconds / facts["seconds"]}


class Solo(Rows):
    name = "solo"
    about = "one request of 64 words and 128 tokens"
    rows, tokens, rounds = 1, 128, 5


class Conc8(Rows):
    name = "conc8"
    about = "8 requests at once, 96 tokens each"
    rows, tokens = 8, 96


class Conc16(Rows):
    name = "conc16"
    about = "16 requests at once, 96 tokens each"
    rows, tokens, peer_rounds = 16, 96, 1
