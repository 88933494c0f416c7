"""Log-probabilities of the tokens of one sequence, found without waiting for the device."""

from collections import deque
from typing import Any

from lmx.backends.base import Logprob
from lmx.backends.mlx.imports import mx
from lmx.backends.sampling.logprobs import IMPOSSIBLE


class Scores:
    """Keeps the model's logits until the token that was chosen from them is known."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._logits: mx.array | None = None
        self._found: deque[tuple[mx.array, ...]] = deque()

    def see(self, tokens: mx.array, logits: mx.array) -> None:
        """The logits of the next token; `tokens` end with the token before it."""
        if self._logits is not None:
            found = self._scores(self._logits, tokens[-1:])
            # Now, so that it is computed before the next forward pass and not behind it.
            mx.async_eval(*found)  # type: ignore[no-untyped-call]
            self._found.append(found)
        self._logits = logits

    def take(self) -> Logprob | None:
        """Those of the next token in order."""
        if not self._found:
            return None
        lists: list[Any] = [part.tolist() for part in self._found.popleft()]
        (token,), (logprob,), ids, values = lists
        ranked = sorted(zip(ids, values, strict=True), key=lambda pair: (-pair[1], pair[0]))
        possible = tuple(pair for pair in ranked if pair[1] > IMPOSSIBLE)
        return Logprob(token, max(IMPOSSIBLE, logprob), possible)

    def _scores(self, logits: mx.array, token: mx.array) -> tuple[mx.array, ...]:
        row = logits[0].astype(mx.float32)
        row = row - mx.logsumexp(row)
        count = min(self._count, row.size)
        ids = mx.argpartition(-row, count - 1)[:count] if count else mx.zeros(0, mx.uint32)
        return token, row[token], ids, row[ids]
