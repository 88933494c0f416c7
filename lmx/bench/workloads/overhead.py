"""What lmx itself costs: CPU time of the main process, and time to the first token that is not the worker's."""

from statistics import median
from typing import ClassVar

from lmx.bench.bare.worker import BareWorker
from lmx.bench.lab import CONTEXT, SLOTS, Lab, chat, text, user
from lmx.bench.sites import Site
from lmx.bench.wire import Generate
from lmx.bench.workloads.base import Facts, Ratio, Workload
from lmx.machines.types import ModelSpec

STREAMS, TOKENS = 16, 96
REQUESTS = 40


class Overhead(Workload):
    """The fake backend answers at once. What its worker takes by itself is taken from the TTFT of a server with it."""

    name = "overhead"
    about = "CPU of the main process at 16 streams; what the server adds to a worker's TTFT"
    only_lmx = True
    gives: ClassVar = {
        "cpu": Ratio(
            "CPU time of the main process for a token ÷ the bare loop's time for it, at 16 rows", "lower", 0.0
        ),
        "ttft": Ratio("TTFT beyond the worker's own ÷ the bare loop's time for one token of one row", "lower", 0.0),
    }

    def measure(self, lab: Lab, site: Site, seed: str) -> Facts:
        assert site.process is not None
        before = site.process.cpu_times()
        answers = lab.ask(site, [chat(site, [user(text(64, f"{seed} {row}"))], TOKENS) for row in range(STREAMS)])
        after = site.process.cpu_times()
        cpu = after.user + after.system - before.user - before.system
        return {
            "cpu_microseconds_per_token": 1e6 * cpu / sum(answer.tokens for answer in answers),
            "prompt_tokens": answers[0].prompt,
            **self._added(lab),
        }

    def ideal(self, lab: Lab, facts: Facts) -> Facts:
        length = round(facts["prompt_tokens"])
        batch, single = lab.bare(Generate((length,) * STREAMS, 32)), lab.bare(Generate((length,), 32))
        return {"batch_token": batch.decode / 31 / STREAMS, "single_token": single.decode / 31}

    def ratios(self, facts: Facts, ideal: Facts) -> dict[str, float]:
        return {
            "cpu": facts["cpu_microseconds_per_token"] / 1e6 / ideal["batch_token"],
            "ttft": facts["added_ttft"] / ideal["single_token"],
        }

    def _added(self, lab: Lab) -> Facts:
        chats = [[user(text(8, number))] for number in range(REQUESTS)]
        with lab.serve(fake=True) as fake:
            ttft = median(lab.ask(fake, [chat(fake, messages, 4)])[0].ttft for messages in chats)
        with BareWorker(ModelSpec(name="bench", path="", backend="fake", slots=SLOTS, context=CONTEXT)) as worker:
            own = median(worker.first_token(messages, 4) for messages in chats)
        return {"ttft": ttft, "worker_ttft": own, "added_ttft": ttft - own}
