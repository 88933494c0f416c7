"""One engine step: schedule, run, postprocess. Single-threaded and without I/O."""

from collections import deque
from dataclasses import dataclass, field

from lmx.backends.base import Backend, Event, Info, Prefilled, SeqError, SeqSpec, Token
from lmx.engine.intake import Ready
from lmx.engine.text import Detokenizer, StopFinder
from lmx.machines.frames import Finish, SeqStep, Step

IDLE_CHUNK = 512
"""Prompt tokens of one step when nobody decodes: bounded, so that a cancel is."""


@dataclass(slots=True)
class Running:
    """A sequence that the backend computes."""

    ready: Ready
    detokenizer: Detokenizer
    stops: StopFinder
    decoding: bool = False

    def token(self, event: Token) -> tuple[str, Finish | None]:
        """What a new token adds to the text, and whether it ends the sequence."""
        text = self.stops.feed("" if event.reason == "stop" else self.detokenizer.feed(event.token))
        if event.reason is not None and not self.stops.found:
            text += self.stops.feed(self.detokenizer.flush())
            text += self.stops.flush()
        if self.stops.found:
            return text, Finish("stop")
        return text, Finish(event.reason) if event.reason is not None else None


@dataclass
class Engine:
    """The batch of one model: who waits, who runs, and what every step made of them."""

    backend: Backend
    info: Info
    prefill_chunk: int
    _waiting: deque[Ready] = field(default_factory=deque)
    _running: dict[int, Running] = field(default_factory=dict)
    _number: int = 0

    @property
    def idle(self) -> bool:
        return not self._waiting and not self._running

    def insert(self, ready: Ready) -> None:
        self._waiting.append(ready)

    def cancel(self, seq: int) -> None:
        """Forget a sequence; unknown ids are ignored."""
        if self._running.pop(seq, None) is not None:
            self.backend.cancel(seq)
        else:
            self._waiting = deque(ready for ready in self._waiting if ready.seq != seq)

    def step(self) -> Step:
        """Move every running sequence by one token or one chunk of its prompt."""
        self._schedule()
        decoding = any(running.decoding for running in self._running.values())
        events = self.backend.step(self.prefill_chunk if decoding else IDLE_CHUNK)
        self._number += 1
        return Step(self._number, tuple(self._postprocess(events)))

    def _schedule(self) -> None:
        while self._waiting and self.backend.free_slots():
            ready = self._waiting.popleft()
            generation = ready.generation
            stops = StopFinder(generation.stop)
            self._running[ready.seq] = Running(ready, Detokenizer(self.info.token_bytes), stops)
            self.backend.add(
                SeqSpec(
                    id=ready.seq,
                    prompt=ready.prompt,
                    max_tokens=ready.max_tokens,
                    sampling=generation.sampling,
                    stop_ids=frozenset() if generation.ignore_eos else self.info.eos,
                    audit=generation.audit,
                )
            )

    def _postprocess(self, events: list[Event]) -> list[SeqStep]:
        """One report per sequence: a prefill and a token of one step are told together."""
        prefilled = {event.seq: event for event in events if isinstance(event, Prefilled)}
        steps = []
        for event in events:
            match event:
                case Token():
                    steps.append(self._token(event, prefilled.pop(event.seq, None)))
                case SeqError(seq, message):
                    prefilled.pop(seq, None)
                    del self._running[seq]
                    steps.append(SeqStep(seq, finish=Finish("error", message)))
        steps += [SeqStep(left.seq, prefilled=left.done, cached=left.cached) for left in prefilled.values()]
        return steps

    def _token(self, event: Token, prefilled: Prefilled | None) -> SeqStep:
        running = self._running[event.seq]
        running.decoding = True
        text, finish = running.token(event)
        if finish is not None:
            del self._running[event.seq]
            if event.reason is None:
                self.backend.cancel(event.seq)
        return SeqStep(
            seq=event.seq,
            text=text,
            n_tokens=1,
            prefilled=prefilled.done if prefilled else 0,
            cached=prefilled.cached if prefilled else 0,
            token_ids=(event.token,) if running.ready.generation.audit else (),
            finish=finish,
        )
