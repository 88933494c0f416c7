"""How many prompt tokens a step may read, so that nobody who decodes beside it waits too long for the next token."""

from collections.abc import Iterable

from lmx.backends.base import CHUNKS_TOGETHER

SMALLEST = 32
FIRST = 64
"""Before any step with both is known."""
GROWTH = 4
"""A chunk is at most so many times as long as the one before."""
MARGIN, MOST_MARGIN = 0.05, 0.3
CALM, FALL = 0.95, 0.25
"""What is left of a margin with each step, and how fast a falling cost is followed: what noise leaves room for."""
TOGETHER_SECONDS = 2.0
"""Where nobody decodes, several prompts may be read in one step, for so long at most."""
DOUBT = 1.5
"""What a token may cost more beside decoding rows than alone, until it was seen."""


class ChunkController:
    """Pure: told what every step did and how long it took.

    A step costs decode(rows) + tokens · cost. Both are running means; `cost` follows a rise at once and a fall slowly,
    as it grows with the length of the context. Where decode(rows) was never seen alone, two steps with chunks of
    different length tell it; while it is wrong, `cost` makes up for it, and the chunk settles at the same length. The
    margin below the target is what the predictions were short of lately at most, at least 5 %.
    """

    def __init__(self, target: float, batch_target: float, largest: int) -> None:
        self._target = target
        self._batch_target = batch_target
        self._largest = largest
        self._decode: dict[int, float] = {}
        self._guessed: dict[int, float] = {}
        self._cost = 0.0
        self._latest = (0, 0, 0.0)
        self._short = 0.0

    def chunk(self, decoding: int, reading: Iterable[int] = (), *, batch_only: bool = False) -> int:
        """The next step's prompt tokens, for prompts that have `reading` tokens left.

        `batch_only`: all `decoding` rows are of the class `batch`.
        """
        if decoding == 0:
            return self._alone(sum(min(left, self._largest) for left in reading))
        if not self._cost:
            return min(FIRST, self._largest)
        target = self._batch_target if batch_only else self._target
        goal = target * (1 - min(MOST_MARGIN, max(MARGIN, self._short)))
        beside = self._latest[1]
        wanted = (goal - self._step(decoding)) / (self._cost if beside else self._cost * DOUBT)
        most = GROWTH * beside if beside else self._largest
        return min(self._largest, max(SMALLEST, int(min(wanted, most))))

    def _alone(self, wanted: int) -> int:
        """Short prompts that come together are read together: one after the other, the later ones read in mixed steps.

        A step of many small chunks beside decoding rows takes more for each token, and all of them wait for it.
        """
        bearable = int(TOGETHER_SECONDS / self._cost) if self._cost else self._largest
        return max(self._largest, min(wanted, CHUNKS_TOGETHER * self._largest, bearable))

    def longest(self) -> float | None:
        """Seconds that a step takes at most, as it looks now; None while the cost of a token is not known."""
        if not self._cost:
            return None
        alone = self._largest * self._cost
        return max(alone, min(CHUNKS_TOGETHER * alone, TOGETHER_SECONDS)) + max(self._decode.values(), default=0.0)

    def observe(self, decoding: int, prompt_tokens: int, seconds: float) -> None:
        """What the latest step did: rows that decoded, prompt tokens that it read, and how long it took."""
        if prompt_tokens == 0:
            if decoding:
                before = self._decode.get(decoding, seconds)
                self._decode[decoding] = before + 0.3 * (seconds - before)
        elif decoding == 0:
            self._learn(seconds / prompt_tokens)
        elif prompt_tokens >= SMALLEST or not self._cost:
            self._observe_both(decoding, prompt_tokens, seconds)

    def _observe_both(self, decoding: int, prompt_tokens: int, seconds: float) -> None:
        if self._latest[1]:
            predicted = self._step(decoding) + prompt_tokens * self._cost
            self._short = max(CALM * self._short, min(MOST_MARGIN, seconds / predicted - 1))
        if decoding not in self._decode:
            self._guess(decoding, prompt_tokens, seconds)
        decode = min(self._step(decoding), 0.9 * seconds)
        self._latest = (decoding, max(prompt_tokens, FIRST), seconds)
        self._learn((seconds - decode) / prompt_tokens)

    def _guess(self, decoding: int, prompt_tokens: int, seconds: float) -> None:
        """What decoding takes, from two steps in a row whose chunks differ much."""
        rows, before, took = self._latest
        if rows == decoding and max(before, prompt_tokens) >= 1.5 * min(before, prompt_tokens):
            cost = max(0.0, (seconds - took) / (prompt_tokens - before))
            self._guessed[decoding] = max(0.0, seconds - cost * prompt_tokens)
            self._cost = 0.0

    def _learn(self, cost: float) -> None:
        self._cost = cost if cost > self._cost else self._cost + FALL * (cost - self._cost)

    def _step(self, rows: int) -> float:
        """A step of so many rows without any prompt: as measured, as worked out, or from another number of rows."""
        if rows in self._decode:
            return self._decode[rows]
        if rows in self._guessed or not self._decode:
            return self._guessed.get(rows, 0.0)
        nearest = min(self._decode, key=lambda known: abs(known - rows))
        return self._decode[nearest] * max(1.0, rows / nearest)
