"""A GGUF model loaded for tests of the llama.cpp backend alone, and driven as the engine does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lmx.backends.base import Event, Handle, Info, Prefilled, Reuse, SeqError, SeqSpec, Snapshot, Token
from lmx.backends.llama_cpp import LlamaCppBackend
from lmx.machines.types import ModelSpec, Sampling
from tests.support import guide
from tests.support.contract import go_on

GREEDY = Sampling(temperature=0)
Open = Callable[..., "Driven"]


@dataclass
class Driven:
    """`kept` are the handles of ended sequences, `events` all that was told, both since the load."""

    backend: LlamaCppBackend
    info: Info
    kept: dict[int, Handle] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)

    def run(self, *specs: SeqSpec, chunk: int = 64) -> dict[int, list[int]]:
        """What all that run say to their ends; each is then kept."""
        for spec in specs:
            self.backend.add(spec)
        said: dict[int, list[int]] = {spec.id: [] for spec in specs}
        while step := self.step(chunk):
            for event in step:
                assert not isinstance(event, SeqError), event
                if isinstance(event, Token):
                    said.setdefault(event.seq, []).append(event.token)
        return said

    def step(self, chunk: int = 64) -> list[Event]:
        events = self.backend.step(chunk)
        self.events += events
        for event in events:
            if isinstance(event, Token) and event.reason:
                handle = self.backend.release(event.seq, keep=True)
                assert handle is not None
                self.kept[event.seq] = handle
        return events

    def says(self, prompt: list[int], count: int = 12, reuse: Reuse | None = None) -> list[int]:
        """The greedy tokens of one sequence that nobody keeps."""
        said = self.run(SeqSpec(1_000_000, prompt, count, GREEDY, reuse=reuse))[1_000_000]
        self.backend.drop(self.kept.pop(1_000_000))
        return said

    def computed(self, seq: int, prompt: list[int], count: int = 4) -> tuple[Handle, list[int]]:
        """A kept sequence, and the tokens that it covers."""
        said = self.run(SeqSpec(seq, prompt, count, GREEDY))[seq]
        handle = self.kept.pop(seq)
        return handle, (prompt + said)[: handle.tokens]

    def cached(self, seq: int) -> int:
        """How many tokens of the latest sequence with this id were not computed."""
        return [event.cached for event in self.events if isinstance(event, Prefilled) and event.seq == seq][-1]

    def snapshots(self) -> list[Handle]:
        return [event.handle for event in self.events if isinstance(event, Snapshot)]

    def text(self, words: str) -> list[int]:
        return self.backend.encode(words, special=True)


@contextmanager
def opening() -> Iterator[Open]:
    """A function that opens models; they are closed at the end, and nothing may be running then."""
    opened: list[LlamaCppBackend] = []

    def load(path: Path = guide.GGUF, **changes: object) -> Driven:
        values: dict[str, object] = {"context": 512, "slots": 4, "threads": 1} | changes
        spec = ModelSpec(name="tiny", path=str(path), backend="llama_cpp", **values)  # type: ignore[arg-type]
        opened.append(LlamaCppBackend())
        return Driven(opened[-1], opened[-1].load(spec, go_on))

    yield load
    for backend in opened:
        stats = backend.stats()
        assert (stats.running, stats.kv_used) == (0, 0)
        backend.close()
