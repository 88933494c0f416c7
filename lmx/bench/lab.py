"""What a workload works with: a load client, a bare loop, servers to start, and texts that nobody has seen before."""

import random
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from lmx.bench import models, sites
from lmx.bench.models import BenchModel
from lmx.bench.sites import Site
from lmx.bench.wire import Answer, Answers, Ask, BenchError, Child, Plan, Task, Timing

SAID = (
    "import os sys return value self class for if else try except with open file path name data list dict "
    "string number index result error message request response server source token process state"
)
WORDS = SAID.split()
"""Each is one token of the bench models."""

SLOTS, CONTEXT = 16, 4096
SETTINGS: Mapping[str, Any] = {
    "server.port": 0,
    "admission.queue": 1024,
    "admission.queue_per_client": 1024,
    "admission.max_in_flight": 2048,
}
"""Of every lmx server here: one client may have as many requests as it likes."""


def text(words: int, seed: object) -> str:
    """So many words of no meaning; the same for the same seed."""
    chosen = random.Random(str(seed)).choices(WORDS, k=words)
    return " ".join(chosen)


def user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def system(content: str) -> dict[str, str]:
    return {"role": "system", "content": content}


@dataclass
class Lab:
    """One model under test. Servers and children are started when they are first needed, and ended by `close`."""

    model: Path
    bench: BenchModel | None = None
    """The same model, when it is one of ours."""
    threads: int = 0
    """CPU threads, of the bare loop too; 0 = the number of physical cores."""
    _stack: ExitStack = field(default_factory=ExitStack)

    @property
    def mlx(self) -> bool:
        return self.model.is_dir()

    @cached_property
    def folder(self) -> Path:
        return Path(self._stack.enter_context(tempfile.TemporaryDirectory(prefix="lmx-bench-")))

    @cached_property
    def main(self) -> Site:
        """lmx with the model under test and its default settings, but for room."""
        return self._stack.enter_context(self.serve())

    @cached_property
    def _client(self) -> Child:
        return self._child("lmx.bench.client")

    @cached_property
    def _bare(self) -> Child:
        if self.mlx:
            return self._child("lmx.bench.bare.mlx", str(self.model))
        return self._child("lmx.bench.bare.llama", str(self.model), str(self.threads or sites.physical_cores()))

    @contextmanager
    def serve(
        self, *, model: Path | None = None, state: str = "", fake: bool = False, **defaults: Any
    ) -> Iterator[Site]:
        """Another lmx server; `defaults` are settings of its model, `state` names a folder that outlives it."""
        folder = self.folder / (state or f"state-{random.getrandbits(64):x}")
        folder.mkdir(exist_ok=True)
        values = {"slots": SLOTS, "context": CONTEXT, "threads": self.threads} | defaults
        values |= {"backend": "fake"} if fake else {"path": str(model or self.model)}
        with sites.lmx(SETTINGS, {"bench": values}, folder) as site:
            yield site

    def bare(self, task: Task) -> Timing:
        """What the bare loop needs for this."""
        return self._bare.call(task, Timing)

    def ask(self, site: Site, asks: Sequence[Ask]) -> list[Answer]:
        """Send all and wait for all. Raises BenchError when one of them fails."""
        answers = self.try_to_ask(site, asks)
        for answer in answers:
            if answer.error:
                raise BenchError(f"{site.name}: {answer.error}")
        return answers

    def try_to_ask(self, site: Site, asks: Sequence[Ask]) -> list[Answer]:
        """The same; what fails says so in its answer."""
        return list(self._client.call(Plan(site.url, tuple(asks), site.key), Answers).answers)

    def tiny(self) -> Path:
        """A model whose computing costs next to nothing."""
        return models.cached("tiny", "f16").gguf

    def close(self) -> None:
        self._stack.close()

    def _child(self, module: str, *arguments: str) -> Child:
        child = Child(module, *arguments)
        self._stack.callback(child.close)
        return child


def chat(site: Site, messages: Sequence[Mapping[str, str]], tokens: int, **ask: Any) -> Ask:
    """A streamed, greedy chat; `ask` are fields of Ask."""
    return Ask(body=_body(site, tokens) | {"messages": list(messages)}, **ask)


def complete(site: Site, prompt: Sequence[int], tokens: int) -> Ask:
    """A streamed, greedy completion of token ids."""
    return Ask(path="/v1/completions", body=_body(site, tokens) | {"prompt": list(prompt)})


def _body(site: Site, tokens: int) -> dict[str, Any]:
    fixed = {"temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    return {"model": site.model, "max_tokens": tokens, **fixed, **site.extra}
