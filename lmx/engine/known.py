"""What is known of prompts: in memory, and on disk behind it. Decides what a new sequence may begin with."""

import time
from collections.abc import Sequence

from lmx.backends.base import Backend, Handle, Info, Reuse
from lmx.engine.disk import DiskTier
from lmx.engine.prefix import Cold, Entry, Match, PrefixCache
from lmx.engine.radix import Array
from lmx.engine.telemetry import Kept
from lmx.machines.types import CacheReport

WORTH_KEEPING = 32
"""Fewer tokens are computed again faster than they are looked after."""
WORTH_SAVING = 256
"""Fewer tokens are computed again faster than they are read from a disk."""
TAIL = 64
"""Tokens that may be lost when a known prompt is given away instead of copied."""


class KnownPrompts:
    """The index of computed prompts, and the traffic between the backend's memory and the disk."""

    def __init__(self, backend: Backend, info: Info, budget: int, disk: DiskTier | None) -> None:
        self._backend = backend
        self._trims = info.prefix == "trim"
        self._disk = disk
        self._budget = budget
        self._price = 0.0
        """Bytes of a token, as the dearest handle so far says; 0 = not known, or not the same for all."""
        self.index = PrefixCache(info.prefix, budget, self._drop, self._superseded, self._spill)
        self._unsaved: dict[int, tuple[Sequence[int], Handle]] = {}
        """What the disk lacks, by the handle's id; the latest comes last."""
        for tokens, cold in disk.scan() if disk else ():
            self.index.put(tokens, cold)

    def beginning(self, prompt: Sequence[int] | Array, *, alone: bool) -> Reuse | None:
        """The longest known beginning of `prompt`. `alone`: nobody else waits for it, so it may be given away."""
        self._note_written()
        self.index.shrink()
        match = self.index.find(prompt)
        while match is not None and not self._usable(match):
            match = self.index.find(prompt)
        if match is None or match.tokens < WORTH_KEEPING:
            return None
        self.index.use(match)
        handle = match.entry.handle
        if alone and self._trims and handle.tokens - match.tokens <= TAIL:
            self._unsaved.pop(id(handle), None)
            return Reuse(self.index.take(match), match.tokens, whole=True)
        return Reuse(handle, match.tokens)

    def reusable(self, prompt: Sequence[int] | Array) -> int:
        """How many tokens of `prompt` need not be computed."""
        match = self.index.find(prompt)
        return match.tokens if match is not None and match.tokens >= WORTH_KEEPING else 0

    def fits(self, tokens: int) -> bool:
        """Whether so many tokens could be kept at all."""
        return tokens * self._price <= self._budget

    def explain(self, prompt: Sequence[int] | Array) -> CacheReport:
        """Why not more of it is known."""
        return self.index.explain(prompt, self.reusable(prompt))

    def keep(self, tokens: Sequence[int], handle: Handle | None) -> None:
        """`handle` covers the beginning of `tokens`."""
        if handle is None:
            return
        if handle.tokens < WORTH_KEEPING:
            self._backend.drop(handle)
            return
        if self._trims:
            self._price = max(self._price, handle.nbytes / handle.tokens)
        covered = tokens[: handle.tokens]
        if self._disk and handle.tokens >= WORTH_SAVING:
            self._unsaved[id(handle)] = (covered, handle)
        self.index.put(covered, handle)
        self.index.shrink()

    def trim(self) -> None:
        """Let go of all that is in memory, and not by way of the disk: that would take memory first."""
        self._unsaved.clear()
        self.index.shrink(0)

    def kept(self) -> Kept:
        disk = self._disk
        return Kept(len(self.index), self.index.nbytes, disk.entries if disk else 0, disk.nbytes if disk else 0)

    @property
    def unsaved(self) -> bool:
        """Whether there is anything that the disk lacks."""
        return bool(self._unsaved)

    @property
    def on_disk(self) -> bool:
        """Whether a prompt may have to be read from there."""
        return self._disk is not None and self._disk.entries > 0

    def save_one(self) -> None:
        """Hand the latest prompt that the disk lacks to the writer, unless that is still busy."""
        self._note_written()
        if self._unsaved and self._disk is not None and self._disk.flush(0.0):
            _, (tokens, handle) = self._unsaved.popitem()
            self._save(tokens, handle)

    def close(self, seconds: float) -> None:
        """Save what can be in so much time."""
        if self._disk is None:
            return
        deadline = time.monotonic() + seconds
        while self._disk.flush(max(0.0, deadline - time.monotonic())) and self._unsaved:
            self.save_one()

    def _save(self, tokens: Sequence[int], handle: Handle) -> None:
        if self._disk is None or not self._disk.wants(tokens, handle.nbytes):
            return
        if chunks := self._backend.save(handle):
            self._disk.write(tokens, chunks)

    def _note_written(self) -> None:
        for tokens, cold in self._disk.written() if self._disk else ():
            self.index.put(tokens, cold)

    def _usable(self, match: Match) -> bool:
        """Whether it can be begun with now. If not it is in the index no more, or no longer as it was."""
        if isinstance(match.entry.handle, Cold):
            self._thaw(match)
            return False
        if match.entry.handle.tokens >= match.tokens:
            return True
        self._drop(self.index.take(match))  # the backend lost its content
        return False

    def _thaw(self, match: Match) -> None:
        """Bring a prompt from the disk into memory; a file that is gone or does not fit is not asked for again."""
        tokens, cold = match.entry.tokens, self.index.take(match)
        data = self._disk.read(cold) if self._disk and isinstance(cold, Cold) else None
        handle = self._backend.restore(data, cold.tokens) if data is not None else None
        if handle is not None and handle.tokens == cold.tokens:
            self.index.put(tokens, cold)
            self.index.put(tokens, handle)
            return
        if handle is not None:
            self._backend.drop(handle)
        self._superseded(cold)

    def _spill(self, entry: Entry) -> None:
        """It is about to be evicted: the last chance to save it."""
        if unsaved := self._unsaved.pop(id(entry.warm), None):
            self._save(*unsaved)

    def _drop(self, handle: Handle) -> None:
        self._unsaved.pop(id(handle), None)
        self._backend.drop(handle)

    def _superseded(self, cold: Handle) -> None:
        if self._disk is not None and isinstance(cold, Cold):
            self._disk.remove(cold)
