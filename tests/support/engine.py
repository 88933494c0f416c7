"""An engine on the fake backend with its intake, stepped by hand."""

from lmx.backends.fake import FakeBackend
from lmx.engine.chunks import ChunkController
from lmx.engine.disk import DiskTier
from lmx.engine.intake import Intake, Ready
from lmx.engine.known import KnownPrompts
from lmx.engine.loop import Engine
from lmx.machines import frames
from lmx.machines.frames import Finish
from lmx.machines.types import CacheReport, Chat, Generation, ModelSpec, Prompt, TokenLogprob


class EngineBench:
    """What the frames of all steps said, by sequence. A clock that a test may move; it ticks when it is read."""

    def __init__(
        self,
        script: str = "",
        *,
        slots: int = 4,
        context: int = 1000,
        chunk: int = 8,
        budget: int = 1_000_000,
        disk: DiskTier | None = None,
    ) -> None:
        spec = ModelSpec(name="m", path="", backend="fake", script=script, slots=slots, context=context)
        self.now = 0.0
        self.backend = FakeBackend()
        self.info = self.backend.load(spec, lambda _: True)
        self.intake = Intake(self.backend, self.info)
        known = KnownPrompts(self.backend, self.info, budget, disk)
        self.engine = Engine(self.backend, self.info, known, ChunkController(1.0, 1.0, chunk), self._tick)
        self.texts: dict[int, str] = {}
        self.tokens: dict[int, int] = {}
        self.cached: dict[int, int] = {}
        self.reports: dict[int, CacheReport] = {}
        self.logprobs: dict[int, list[TokenLogprob]] = {}
        self.prompt_logprobs: dict[int, list[TokenLogprob]] = {}
        self.finished: dict[int, Finish] = {}
        self.order: list[int] = []
        """Sequences in the order of their first token."""

    def _tick(self) -> float:
        self.now += 0.001
        return self.now

    def insert(self, seq: int, prompt: str | Prompt, **fields: object) -> None:
        if isinstance(prompt, str):
            prompt = Chat(({"role": "user", "content": prompt},))
        ready = self.intake.prepare(frames.Insert(seq, Generation(prompt=prompt, **fields)))  # type: ignore[arg-type]
        assert isinstance(ready, Ready), ready
        self.engine.insert(ready)

    def step(self) -> frames.Step:
        step = self.engine.step()
        for did in step.seqs:
            assert did.seq not in self.finished
            self._note(did)
        return step

    def run(self) -> None:
        for _ in range(10_000):
            if self.engine.idle:
                return
            self.step()
        raise AssertionError("it never ends")

    def answer(self, seq: int, prompt: str | Prompt, **fields: object) -> str:
        """One sequence from its prompt to its end."""
        self.insert(seq, prompt, **fields)
        self.run()
        return self.texts[seq]

    def _note(self, did: frames.SeqStep) -> None:
        seq = did.seq
        self.texts[seq] = self.texts.get(seq, "") + did.text
        if did.n_tokens and seq not in self.order:
            self.order.append(seq)
        self.tokens[seq] = self.tokens.get(seq, 0) + did.n_tokens
        self.cached[seq] = self.cached.get(seq, 0) + did.cached
        self.logprobs.setdefault(seq, []).extend(did.logprobs)
        self.prompt_logprobs.setdefault(seq, []).extend(did.prompt_logprobs)
        if did.cache is not None:
            self.reports[seq] = did.cache
        if did.finish is not None:
            self.finished[seq] = did.finish
