"""A prompt whose own log-probabilities are asked for: read with the model itself, before the batch goes on with it."""

from collections.abc import Iterator, Sequence
from typing import Any

from lmx.backends.base import Logprob
from lmx.backends.mlx.imports import Module, mx
from lmx.backends.sampling.logprobs import IMPOSSIBLE

PIECE = 64
"""Tokens whose logits are held at a time: with a large vocabulary they weigh far more than the tokens' KV."""


class Reading:
    """Reads all but the last token; what `caches` hold then, the batch continues. They hold `done` tokens before."""

    def __init__(self, module: Module, prompt: Sequence[int], caches: list[Any], top: int, done: int = 0) -> None:
        self.caches = caches
        self.done = done
        self._module = module
        self._prompt = list(prompt)
        self._top = top
        self._told: list[Logprob] = [Logprob(self._prompt[0], None)]

    @property
    def finished(self) -> bool:
        return self.done == len(self._prompt) - 1

    def read(self, chunk: int) -> None:
        """At most `chunk` tokens more."""
        end = min(self.done + chunk, len(self._prompt) - 1)
        while self.done < end:
            size = min(PIECE, end - self.done)
            self._read(size)
            self.done += size

    def take(self) -> tuple[Logprob, ...]:
        """The log-probabilities that were found since the last call."""
        told, self._told = self._told, []
        return tuple(told)

    def _read(self, size: int) -> None:
        tokens = self._prompt[self.done : self.done + size + 1]
        logits = self._module(mx.array([tokens[:-1]]), cache=self.caches)[0]
        self._told += scored(logits, tokens[1:], self._top)
        mx.eval([cache.state for cache in self.caches])


def scored(logits: mx.array, tokens: Sequence[int], top: int) -> Iterator[Logprob]:
    """Of the tokens that were chosen from these rows of logits."""
    logits = logits.astype(mx.float32)
    logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
    own = mx.take_along_axis(logprobs, mx.array(list(tokens))[:, None], axis=-1)[:, 0]
    count = min(top, logits.shape[-1])
    ids = mx.argpartition(-logprobs, count - 1, axis=-1)[:, :count] if count else mx.zeros((len(tokens), 0), mx.uint32)
    values = mx.take_along_axis(logprobs, ids, axis=-1)
    mx.eval(own, ids, values)
    found: list[Any] = [own.tolist(), ids.tolist(), values.tolist()]
    for token, logprob, best, likely in zip(tokens, *found, strict=True):
        ranked = sorted(zip(best, likely, strict=True), key=lambda pair: (-pair[1], pair[0]))
        yield Logprob(token, max(IMPOSSIBLE, logprob), tuple(pair for pair in ranked if pair[1] > IMPOSSIBLE))
