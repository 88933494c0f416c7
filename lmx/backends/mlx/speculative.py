"""One sequence whose next tokens a smaller model guesses: checked by one forward pass, and drawn as without guesses."""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lmx.backends.base import EngineFatal, Event, LoadError, Logprob, Prefilled, SeqError, SeqSpec, Token
from lmx.backends.gate import Gate
from lmx.backends.mlx.handle import CacheHandle, kept
from lmx.backends.mlx.imports import TokenBuffer, greedy_sampler, mx, trim_prompt_cache
from lmx.backends.mlx.model import Model
from lmx.backends.mlx.reading import Reading, scored
from lmx.backends.mlx.sampling import RowSampling

NOTHING = "the constraint leaves nothing that is possible"
CLEAR_STEPS = 512
"""As often as mlx-lm's own batches give back buffers of sizes that have gone by."""


@dataclass(slots=True, eq=False)
class Row:
    """The sequence. `done` of its tokens are in `caches`, `drafted` of them in the draft model's."""

    spec: SeqSpec
    sampling: RowSampling
    caches: list[Any]
    draft_caches: list[Any]
    tokens: list[int]
    context: TokenBuffer
    done: int = 0
    drafted: int = 0
    cached: int = 0
    reading: Reading | None = None
    over: bool = False
    told: bool = False
    """Its prompt was reported as read."""

    @property
    def written(self) -> int:
        return len(self.tokens) - len(self.spec.prompt)

    @property
    def unread(self) -> int:
        """Prompt tokens before the last one, which is computed with the first guesses."""
        return max(0, len(self.spec.prompt) - 1 - self.done)

    def reason(self) -> Any:
        """Why the newest token is the last one; None when it is not."""
        if self.tokens[-1] in self.spec.stop_ids:
            return "stop"
        return "length" if self.written == self.spec.max_tokens else None


class Speculative:
    """What Batch is to the backend, for one row and two models."""

    def __init__(self, model: Model, draft: Model, draft_tokens: int) -> None:
        """Raises LoadError for models whose caches cannot be cut back to what was right."""
        if model.prefix != "trim" or draft.prefix != "trim":
            reason = "wrong guesses cannot be taken back from recurrent layers and sliding windows"
            raise LoadError(f"{reason}; leave `draft` out")
        self._model = model
        self._draft = draft
        self._row: Row | None = None
        self._steps = 0
        self.gate = Gate(draft_tokens)

    @property
    def running(self) -> int:
        return int(self._row is not None)

    @property
    def free(self) -> int:
        return 1 - self.running

    @property
    def kv_used(self) -> int:
        return self._row.done if self._row is not None else 0

    @property
    def nbytes(self) -> int:
        return sum(cache.nbytes for cache in self._row.caches + self._row.draft_caches) if self._row is not None else 0

    def new_cache(self) -> list[Any]:
        """Of both models, as handles hold them."""
        return self._model.new_cache() + self._draft.new_cache()

    def add(self, spec: SeqSpec) -> None:
        cached = 0 if spec.reuse is None or spec.prompt_logprobs else spec.reuse.tokens
        caches = self.new_cache()
        if spec.reuse is not None and cached:
            handle: Any = spec.reuse.handle
            caches = handle.beginning(cached, whole=spec.reuse.whole)
        own = len(self._model.new_cache())
        row = Row(spec, RowSampling(spec), caches[:own], caches[own:], list(spec.prompt), _context(spec))
        row.done = row.drafted = row.cached = cached
        if spec.prompt_logprobs:
            row.reading = Reading(self._model.module, spec.prompt, row.caches, spec.logprobs or 0)
        self._row = row

    def step(self, chunk: int) -> list[Event]:
        row = self._row
        if row is None or row.over:
            return []
        try:
            return [self._read(row, chunk)] if row.unread else list(self._decode(row))
        except (RuntimeError, ValueError) as error:
            raise EngineFatal(f"a step of mlx-lm failed: {error}") from error

    def release(self, seq: int, *, keep: bool) -> CacheHandle | None:
        handle = self.snapshot(seq) if keep else None
        if self._row is not None and self._row.spec.id == seq:
            self._row = None
        return handle

    def snapshot(self, seq: int) -> CacheHandle | None:
        row = self._row
        if row is None or row.spec.id != seq or not row.done:
            return None
        if row.drafted < row.done:  # it was not asked for a while
            self._draft.module(mx.array([row.tokens[row.drafted : row.done]]), cache=row.draft_caches)
            row.drafted = row.done
        return kept(row.caches + row.draft_caches, row.done)

    def close(self) -> None:
        self._row = None

    def _read(self, row: Row, chunk: int) -> Prefilled:
        size = min(chunk, row.unread)
        tokens = mx.array([row.tokens[row.done : row.done + size]])
        if row.reading is not None:
            row.reading.read(size)
        else:
            self._model.module(tokens, cache=row.caches)
        self._draft.module(tokens, cache=row.draft_caches)
        mx.eval([cache.state for cache in row.caches + row.draft_caches])
        mx.clear_cache()
        row.done += size
        row.drafted += size
        return Prefilled(row.spec.id, row.done, row.cached, row.reading.take() if row.reading is not None else ())

    def _decode(self, row: Row) -> Iterator[Event]:
        spec = row.spec
        if not row.told:
            row.told = True
            logprobs = row.reading.take() if row.reading is not None else ()
            yield Prefilled(spec.id, len(spec.prompt), row.cached, logprobs)
        row.over = spec.max_tokens == 0
        if not row.over:
            yield from self._guess(row)

    def _guess(self, row: Row) -> Iterator[Event]:
        """The tokens of one forward pass: right guesses, and the one that follows them."""
        began = time.perf_counter()
        count = min(self.gate.want(1), row.spec.max_tokens - row.written - 1)
        inputs = self._guesses(row, count)
        logits = self._model.module(inputs[None], cache=row.caches)[0]
        row.done += 1 + count
        mx.async_eval(logits, inputs)  # type: ignore[no-untyped-call]
        found: Any = inputs[1:].tolist()
        events = list(self._checked(row, logits, found))
        self._take_back(row)
        accepted = min(len(events) - 1, count)
        self.gate.observe(1, count, accepted, time.perf_counter() - began)
        self._steps += 1
        if self._steps % CLEAR_STEPS == 0:
            mx.clear_cache()
        if isinstance(events[-1], SeqError):
            self._row = None
        yield from events

    def _guesses(self, row: Row, count: int) -> mx.array:
        """The newest token and what the draft model thinks will follow; it first reads what it has not seen yet."""
        tokens = [mx.array(row.tokens[-1:], mx.uint32)]
        if not count:
            return tokens[0]
        unseen = mx.array(row.tokens[row.drafted :], mx.uint32)
        row.drafted = len(row.tokens) + count - 1
        for _ in range(count):
            logits = self._draft.module(unseen[None], cache=row.draft_caches)[0, -1:, : self._model.width]
            unseen = mx.argmax(logits, axis=-1)
            tokens.append(unseen)
        return mx.concatenate(tokens)

    def _checked(self, row: Row, logits: mx.array, guesses: list[int]) -> Iterator[Token | SeqError]:
        """Draw at each place as if there were no guesses, as long as they are right."""
        drawn: Any = self._greedy(row, logits)
        for place in range(len(guesses) + 1):
            token = drawn[place] if drawn is not None else self._drawn(row, logits[place : place + 1])
            fault = row.sampling.fault()
            if fault or token is None:
                yield SeqError(row.spec.id, fault or NOTHING)
                return
            row.tokens.append(token)
            reason = row.reason()
            row.over = reason is not None
            yield Token(row.spec.id, token, reason, self._logprob(row, logits[place : place + 1]))
            if row.over or place == len(guesses) or token != guesses[place]:
                return

    def _greedy(self, row: Row, logits: mx.array) -> Any:
        """All places at once, where nothing but the logits counts."""
        if row.sampling.processors or row.sampling.sampler is not greedy_sampler:
            return None
        return mx.argmax(logits, axis=-1).tolist()

    def _logprob(self, row: Row, logits: mx.array) -> Logprob | None:
        """Of the newest token. RowSampling tells it one token later, which is too late where there is no look-ahead."""
        top = row.spec.logprobs
        row.sampling.logprob()
        return None if top is None else next(scored(logits, row.tokens[-1:], top))

    def _drawn(self, row: Row, logits: mx.array) -> int | None:
        """The next token; None when a constraint leaves none that is possible."""
        context = row.context.update_and_fetch(mx.array(row.tokens[-1:]))  # type: ignore[no-untyped-call]
        for processor in row.sampling.processors:
            logits = processor(context, logits)
        token: Any = row.sampling.sampler(logits - mx.logsumexp(logits, axis=-1, keepdims=True)).item()
        excluded: Any = row.spec.mask is not None and logits[0, token].item() == -math.inf
        return None if excluded else int(token)

    def _take_back(self, row: Row) -> None:
        """Both caches end before the newest token, which the next step computes."""
        known = len(row.tokens) - 1
        trim_prompt_cache(row.caches, row.done - known)
        row.done = known
        if row.drafted > known:
            trim_prompt_cache(row.draft_caches, row.drafted - known)
            row.drafted = known


def _context(spec: SeqSpec) -> TokenBuffer:
    """What the processors see is the prompt and all that was written; the newest token is added when it is fed."""
    return TokenBuffer(spec.prompt[:-1])  # type: ignore[no-untyped-call]
